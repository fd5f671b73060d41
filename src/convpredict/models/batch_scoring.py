"""Score record batches of features directly: the numbers of ``Bundle.predict``, to the bit, without a data frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import expit

from ..errors import BundleError
from .bundle import Bundle
from .calibration import Floats, clip_logit
from .encoding import Encoder


@dataclass(frozen=True)
class BatchScorer:
    """A bundle's model for its first horizon and its scorecard, ready for many batches from several threads.

    The batches come from :func:`~convpredict.features.batches.map_features` with the bundle's feature set.
    """

    bundle: Bundle

    def probability(self, batch: pa.RecordBatch) -> Floats:
        """Probability of the outcome within the first horizon, for each row."""
        model = self.bundle.model
        matrix = encode_batch(model.encoder_, batch)
        logit = model.trees_.raw_logit(matrix, n_threads=1)
        if model.logistic_ is not None:
            share = model.logistic_weight_
            logit = (1 - share) * logit + share * model.logistic_.logit(matrix)
        return np.asarray(expit(model.calibrator_.transform_logit(clip_logit(logit))))

    def points(self, batch: pa.RecordBatch) -> Floats | None:
        """The scorecard's points of each row; None where the bundle has no scorecard."""
        card = self.bundle.scorecard
        if card is None:
            return None
        read = list(dict.fromkeys(term.column for term in card.terms or ()))
        return np.asarray(card.points(batch.select(read).to_pandas()))


def encode_batch(encoder: Encoder, batch: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """The matrix that ``Encoder.encode`` would make of a feature table, (rows, columns) by columns.

    Raises BundleError where a column is missing or its categories are not in the order of the model's codes.
    """
    matrix = np.empty((batch.num_rows, len(encoder.columns)), np.float32, order="F")
    for i, column in enumerate(encoder.columns):
        position = batch.schema.get_field_index(column.name)
        if position < 0:
            raise BundleError(f"the feature table lacks {column.name}, which the model reads; build it anew")
        values = batch.column(position)
        if column.type == "category":
            if tuple(values.dictionary.to_pylist()) != column.categories:
                raise BundleError(
                    f"the categories of {column.name} are not those that the model was fitted on"
                )
            matrix[:, i] = values.indices.fill_null(len(column.categories)).to_numpy(zero_copy_only=False)
        else:
            matrix[:, i] = values.to_numpy(zero_copy_only=False)
    return matrix
