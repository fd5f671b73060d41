"""Score record batches of features directly: the numbers of ``Bundle.predict``, to the bit, without a data frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import expit

from ..config.base import Duration
from ..errors import BundleError, DataError
from .bundle import Bundle
from .calibration import Floats, clip_logit
from .conversion import ConversionModel
from .encoding import Encoder
from .horizons import non_decreasing
from .profile import ProfileCounts
from .profile_kernels import HASH_START, hash_column

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ScoredBatch:
    """All that a bundle says of some rows, an entry per row in each array.

    ``probabilities`` (float64) by horizon, from the shortest to the longest, never falling; ``value`` with the ends
    of its interval (float64; None where the bundle predicts none); ``points`` (float64) and ``grades`` (text) of the
    scorecard (None without one); ``score`` (int16, 0 to 100, see :meth:`.Profile.score`) and ``counts`` (None without
    a profile); ``features_hash`` (uint64), see :func:`hash_rows`.
    """

    probabilities: dict[Duration, Floats]
    features_hash: npt.NDArray[np.uint64] = field(repr=False)
    value: Floats | None = field(default=None, repr=False)
    value_low: Floats | None = field(default=None, repr=False)
    value_high: Floats | None = field(default=None, repr=False)
    points: Floats | None = field(default=None, repr=False)
    grades: npt.NDArray[np.object_] | None = field(default=None, repr=False)
    score: npt.NDArray[np.int16] | None = field(default=None, repr=False)
    counts: ProfileCounts | None = field(default=None, repr=False)

    @property
    def rows(self) -> int:
        """How many rows were scored."""
        return len(self.features_hash)

    def to_table(self) -> pa.Table:
        """The arrays as a table: p_convert_<horizon>, features_hash, and of value, value_low, value_high,
        scorecard_points and score those that there are. Grades follow from the points."""
        columns: dict[str, Any] = {
            f"p_convert_{horizon}": values for horizon, values in self.probabilities.items()
        }
        rest = {
            "features_hash": self.features_hash,
            "value": self.value,
            "value_low": self.value_low,
            "value_high": self.value_high,
            "scorecard_points": self.points,
            "score": self.score,
        }
        columns |= {name: values for name, values in rest.items() if values is not None}
        return pa.table({name: pa.array(values) for name, values in columns.items()})

    @classmethod
    def from_table(cls, table: pa.Table, bundle: Bundle, counts: ProfileCounts | None = None) -> ScoredBatch:
        """Restore what :meth:`to_table` gave of this bundle, to the bit. Raises BundleError for another one's table."""
        wanted = _empty(bundle).to_table().schema
        if not table.schema.equals(wanted):
            raise BundleError(
                f"these rows were not scored by the bundle '{bundle.name}' (expected the columns "
                f"{', '.join(wanted.names)}, got {', '.join(table.schema.names)}); score them again"
            )

        def column(name: str) -> Any:
            return np.array(table[name].to_numpy()) if name in table.schema.names else None

        points = column("scorecard_points")
        return cls(
            {horizon: column(f"p_convert_{horizon}") for horizon in bundle.horizons},
            column("features_hash"),
            column("value"),
            column("value_low"),
            column("value_high"),
            points,
            bundle.scorecard.grade(points) if bundle.scorecard is not None else None,
            column("score"),
            counts,
        )


ScoredRows = ScoredBatch
"""Scored rows of a whole list: batches put together by :func:`assemble`."""


@dataclass(frozen=True)
class BatchScorer:
    """A bundle's models and its scorecard, ready for many batches from several threads.

    The batches come from :func:`~convpredict.features.batches.map_features` with the bundle's feature set. Every
    number is that of ``Bundle.predict_horizons``, ``predict_value`` and the scorecard, to the bit, and a row's do not
    depend on the rows around it.
    """

    bundle: Bundle

    def score(self, batch: pa.RecordBatch) -> ScoredBatch:
        """Everything the bundle says of each row.

        Raises BundleError where a column is missing or its categories are others, DataError where a number is infinite.
        """
        bundle = self.bundle
        matrices = _Encoded(batch)
        matrix = matrices.of(bundle.model.encoder_)
        hashes = hash_rows(matrix, bundle.model.encoder_)
        first = _probability(bundle.model, matrix)
        probabilities = {bundle.horizon: first}
        for horizon, model in bundle.further.items():
            probabilities[horizon] = _probability(model, matrices.of(model.encoder_))
        value = low = high = None
        if bundle.value is not None:
            value = bundle.value.predict_encoded(matrices.of(bundle.value.encoder_))
            low, high = bundle.value.interval_.at(value)
        points, card, profile = self.points(batch), bundle.scorecard, bundle.profile
        return ScoredBatch(
            non_decreasing(bundle.horizon, probabilities),
            hashes,
            value,
            low,
            high,
            points,
            card.grade(points) if card is not None and points is not None else None,
            profile.score(first) if profile is not None else None,
            profile.count(matrix, first) if profile is not None else None,
        )

    def probability(self, batch: pa.RecordBatch) -> Floats:
        """Probability of the outcome within the first horizon, for each row."""
        return _probability(self.bundle.model, encode_batch(self.bundle.model.encoder_, batch))

    def points(self, batch: pa.RecordBatch) -> Floats | None:
        """The scorecard's points of each row; None where the bundle has no scorecard."""
        card = self.bundle.scorecard
        if card is None:
            return None
        read = list(dict.fromkeys(term.column for term in card.terms or ()))
        return np.asarray(card.points(batch.select(read).to_pandas()))


def assemble(pieces: Sequence[ScoredBatch], bundle: Bundle) -> ScoredRows:
    """One list from consecutive batches of this bundle; no batches give an empty one. Counts add up."""
    if len(pieces) == 1:
        return pieces[0]
    if not pieces:
        return _empty(bundle)
    counts = None
    if bundle.profile is not None:
        counts = bundle.profile.empty()
        for piece in pieces:
            counts = counts + piece.counts if piece.counts is not None else counts
    together = pa.concat_tables([piece.to_table() for piece in pieces])
    return ScoredBatch.from_table(together, bundle, counts)


def hash_rows(matrix: Matrix, encoder: Encoder) -> npt.NDArray[np.uint64]:
    """A uint64 for each row of an encoded matrix (float32), which stands for all of its model inputs.

    Starting from ``h = 0x9E3779B97F4A7C15``, every column in the model's order, seen as the 32 bits b of its float
    (every NaN as 0x7FC00000, -0.0 as 0.0), is mixed in: ``h = (h xor b) * 0xBF58476D1CE4E5B9 mod 2**64``, then
    ``h = h xor (h >> 32)``. Each step takes different h to different ones, so rows that differ in one column never
    share a hash; rows that differ in several do by chance only, once in about 2**64 pairs. It is no cryptographic hash.

    Raises DataError for an infinite number, which no model input is.
    """
    hashes = np.full(len(matrix), HASH_START, np.uint64)
    for place, column in enumerate(encoder.columns):
        bits = np.ascontiguousarray(matrix[:, place], np.float32).view(np.uint32)
        if hash_column(bits, hashes):
            raise DataError(
                f"the model input {column.name} holds an infinite number, which no probability can be computed from; "
                "correct the source, or cap the attribute"
            )
    return hashes


def encode_batch(encoder: Encoder, batch: pa.RecordBatch) -> Matrix:
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


class _Encoded:
    """A batch encoded once for all models that read the same columns."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self._matrices: list[tuple[Encoder, Matrix]] = []

    def of(self, encoder: Encoder) -> Matrix:
        """The matrix that a model reads."""
        for known, matrix in self._matrices:
            if known is encoder or known == encoder:
                return matrix
        self._matrices.append((encoder, encode_batch(encoder, self._batch)))
        return self._matrices[-1][1]


def _probability(model: ConversionModel, matrix: Matrix) -> Floats:
    logit = model.trees_.raw_logit(matrix, n_threads=1)
    if model.logistic_ is not None:
        share = model.logistic_weight_
        logit = (1 - share) * logit + share * model.logistic_.logit(matrix)
    return np.asarray(expit(model.calibrator_.transform_logit(clip_logit(logit))))


def _empty(bundle: Bundle) -> ScoredBatch:
    """The scores of no rows."""
    none, card, profile = np.zeros(0), bundle.scorecard, bundle.profile
    amount = none if bundle.value is not None else None
    return ScoredBatch(
        dict.fromkeys(bundle.horizons, none),
        np.zeros(0, np.uint64),
        amount,
        amount,
        amount,
        none if card is not None else None,
        np.zeros(0, np.object_) if card is not None else None,
        np.zeros(0, np.int16) if profile is not None else None,
        profile.empty() if profile is not None else None,
    )
