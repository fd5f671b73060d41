"""What every column adds to a lead's logit: trees, logistic part and calibration in one account.

Columns add up exactly on the raw logit z = (1 - w) * mean tree logit + w * logistic logit, where SHAP values of the
trees, averaged over the seeds, meet the centred terms of the logistic part. The calibrator g bends that scale. Let
z0 be the raw logit that a row starts from, P what a row's columns add for a conversion and N what they take away,
so that z = z0 + P - N. The two sides share what the calibrated logit gains, g(z) - g(z0), by Shapley's rule:

    P' = ((g(z0 + P) - g(z0)) + (g(z) - g(z0 - N))) / 2
    N' = ((g(z0) - g(z0 - N)) + (g(z0 + P) - g(z))) / 2

and each column gets its share of its side: c * P' / P, or c * N' / N. As g never falls, no column changes its sign;
g(z0) and all contributions add up to the logit of the exported probability, whatever g is. Where g is a straight
line this is the same as scaling with its slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from convpredict.errors import BundleError
from convpredict.features.declarations import FeatureColumn

from .bundle import Bundle
from .calibration import Calibrator, Floats, clip_logit
from .conversion import ConversionModel
from .inputs import Table
from .shap import TreeExplainer

_CHUNK_ROWS = 16_384


@dataclass(frozen=True)
class Contributions:
    """Contributions to the calibrated logit, one row per lead.

    ``base + values.sum(axis=1)`` is the logit of the exported probability, up to rounding (1e-9). ``values``
    has shape (rows, ``names``); ``base`` is the same for all rows.
    """

    base: float
    names: tuple[str, ...]
    values: Floats

    def grouped(self, groups: Sequence[str]) -> Contributions:
        """Sums over the columns of equal group (one per name), groups in order of first appearance.

        >>> parts = Contributions(-2.0, ("a", "b", "c"), np.array([[1.0, -0.5, 0.25]]))
        >>> parts.grouped(["calls", "source", "calls"])
        Contributions(base=-2.0, names=('calls', 'source'), values=array([[ 1.25, -0.5 ]]))
        """
        names = tuple(dict.fromkeys(groups))
        values = np.zeros((len(self.values), len(names)))
        for position, group in enumerate(groups):
            values[:, names.index(group)] += self.values[:, position]
        return Contributions(self.base, names, values)


class Explainer:
    """Explains one fitted model; its trees are prepared once, for any number of rows.

    Raises BundleError where the model has linear trees or averages its trees.

    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"calls": rng.poisson(3.0, 400)})
    >>> model = ConversionModel(seeds=1, n_estimators=20).fit(X, X["calls"] + rng.normal(size=400) > 4)
    >>> parts = Explainer(model).contributions(X)
    >>> bool(np.allclose(parts.base + parts.values.sum(axis=1), model.decision_function(X), atol=1e-9))
    True
    """

    def __init__(self, model: ConversionModel | Bundle) -> None:
        bundle = model if isinstance(model, Bundle) else None
        self.model: ConversionModel = bundle.model if bundle is not None else model  # type: ignore[assignment]
        self.names = tuple(column.name for column in self.model.encoder_.columns)
        trees = self.model.trees_
        self._trees = [TreeExplainer(text, trees.n_features) for text in trees.texts]

    @property
    def raw_base(self) -> float:
        """The raw logit that every row starts from: the mean of the model's rows."""
        base = sum(trees.bias for trees in self._trees) / len(self._trees)
        logistic, share = self.model.logistic_, self.model.logistic_weight_
        if logistic is None:
            return base
        return (1 - share) * base + share * (logistic.intercept + sum(logistic.centres))

    def contributions(self, features: Table, *, n_jobs: int | None = None) -> Contributions:
        """Contribution of every column the model reads; ``features`` may be a frame with further columns.

        Raises BundleError where the frame lacks a column.
        """
        if isinstance(features, pd.DataFrame):
            missing = [name for name in self.names if name not in features.columns]
            if missing:
                raise BundleError(
                    f"the feature table lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}, "
                    "which the model reads; build it with bundle.feature_set"
                )
            features = features[list(self.names)]
        raw = self._raw_contributions(features, n_jobs)
        base, values = calibrated(self.model.calibrator_, self.raw_base, self.model.raw_logit(features), raw)
        return Contributions(base, self.names, values)

    def _raw_contributions(self, features: Table, n_jobs: int | None) -> Floats:
        encoder, logistic, share = self.model.encoder_, self.model.logistic_, self.model.logistic_weight_
        result = np.zeros((len(features), len(self.names)))
        for start in range(0, len(features), _CHUNK_ROWS):
            matrix = encoder.encode(features, slice(start, start + _CHUNK_ROWS))
            part = result[start : start + len(matrix)]
            for trees in self._trees:
                part += trees.explain(matrix, n_jobs=n_jobs)
            part /= len(self._trees)
            if logistic is not None:
                centres = np.array(logistic.centres or (0.0,))
                part *= 1 - share
                part += share * (logistic.contributions(matrix) - centres)
        return result


def contributions(model: ConversionModel | Bundle, features: Table) -> Contributions:
    """Contributions of every column of every row: see :class:`Explainer`, which is quicker for many calls."""
    return Explainer(model).contributions(features)


def concept_contributions(
    parts: Contributions, columns: Sequence[FeatureColumn]
) -> tuple[Contributions, npt.NDArray[np.intp]]:
    """Contributions summed by concept, and each column's position among the concepts.

    ``columns`` are those of the model, as ``bundle.feature_set.model_columns``.
    """
    concept_of = {column.name: column.concept for column in columns}
    groups = [concept_of[name] for name in parts.names]
    grouped = parts.grouped(groups)
    return grouped, np.array([grouped.names.index(group) for group in groups], dtype=np.intp)


def calibrated(calibrator: Calibrator, raw_base: float, raw: Floats, parts: Floats) -> tuple[float, Floats]:
    """Base and contributions on the calibrated logit, of contributions to the raw logit.

    ``raw`` is each row's raw logit, equal to ``raw_base + parts.sum(axis=1)`` up to rounding.
    """
    gain = np.maximum(parts, 0.0).sum(axis=1)
    loss = -np.minimum(parts, 0.0).sum(axis=1)
    ends = (np.full_like(raw, raw_base), raw, raw_base + gain, raw_base - loss)
    start, end, high, low = (calibrator.transform_logit(clip_logit(z)) for z in ends)
    gained = ((high - start) + (end - low)) / 2
    lost = ((start - low) + (high - end)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        for_factor = np.where(gain > 0, gained / gain, 0.0)
        against_factor = np.where(loss > 0, lost / loss, 0.0)
    values = np.where(parts > 0, parts * for_factor[:, None], parts * against_factor[:, None])
    base = float(calibrator.transform_logit(clip_logit(np.array([raw_base])))[0])
    return base, values
