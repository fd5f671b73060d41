"""Rows whose horizon has not ended: completed with what is known of them, neither left out nor taken for negatives.

A row that converted early is a positive. One that has not is completed with q = P(converts in the rest of the
horizon | not in the part that has elapsed), and is learnt from twice: as a positive with weight q and as a negative
with weight 1 - q. With p the probability for the whole horizon and G(e) the share of a horizon's conversions that are
known a time e after the cutoff,

    q = p (1 - G(e)) / (1 - p G(e)).

p comes from a model of rows whose horizon has ended, moved on the logit by the constant that explains how many of the
newer rows have converted so far, so that a change of the rate in the last weeks is followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.interpolate import CubicSpline
from scipy.special import expit

from .calibration import Floats, clip_logit
from .calibrator_choice import group_codes

if TYPE_CHECKING:
    from .conversion import ConversionModel

Integers = npt.NDArray[np.int64]

LEVEL_SCALE = 0.15
LEVEL_FREEDOM = 2.0
"""The prior of a change of level on the logit is Student's t: from one horizon to the next a conversion rate mostly
moves by a few percent, and at times by half. Small changes in small numbers are shrunk, clear ones are followed."""

POSITIVES_PER_STRATUM = 100
_MOST_STRATA = 5
_COARSE = np.linspace(-3.0, 3.0, 61)
_FINE = np.linspace(-3.0, 3.0, 1201)


@dataclass(frozen=True)
class DevelopmentCurve:
    """G(e): the share of a horizon's conversions that are known a time e after the cutoff, by strata of the logit.

    Likely converters convert early, so one curve for all would be wrong at both ends. ``edges``: the logits
    between the strata; ``delays_us``: per stratum the sorted times (µs) from cutoff to knowledge.
    """

    edges: Floats
    delays_us: tuple[Integers, ...]

    @classmethod
    def learn(cls, logit: npt.ArrayLike, known_after_us: npt.ArrayLike) -> DevelopmentCurve:
        """Learn it from the positives among rows whose horizon has ended, one entry per row.

        Raises ValueError without any.

        >>> curve = DevelopmentCurve.learn([0.0, 0.0, 0.0, 0.0], [1, 2, 3, 4])
        >>> curve.share(np.zeros(3), np.array([1, 3, 9])).round(2).tolist()
        [0.1, 0.5, 0.9]
        """
        z, delay = np.asarray(logit, np.float64), np.asarray(known_after_us, np.int64)
        if not len(z):
            raise ValueError("a development curve needs conversions to learn from; got no positive row")
        n_strata = int(np.clip(len(z) // POSITIVES_PER_STRATUM, 1, _MOST_STRATA))
        edges = np.unique(np.quantile(z, np.arange(1, n_strata) / n_strata))
        stratum = np.searchsorted(edges, z, side="right")
        delays = [np.sort(delay[stratum == number]) for number in range(len(edges) + 1)]
        return cls(edges, tuple(each if len(each) else np.sort(delay) for each in delays))

    def share(self, logit: npt.ArrayLike, elapsed_us: npt.ArrayLike) -> Floats:
        """G(e) of each row, strictly between 0 and 1: (number known before e + 1/2) / (number + 1)."""
        z, elapsed = np.asarray(logit, np.float64), np.asarray(elapsed_us, np.int64)
        stratum = np.searchsorted(self.edges, z, side="right")
        result = np.empty(len(z))
        for number, delays in enumerate(self.delays_us):
            rows = stratum == number
            result[rows] = (np.searchsorted(delays, elapsed[rows]) + 0.5) / (len(delays) + 1)
        return result


@dataclass(frozen=True)
class Completion:
    """Rows whose horizon has not ended, completed.

    ``probability``
        of an outcome within the whole horizon, given all that is known: 1 where it came, q elsewhere.
    ``level_shift``
        by how much (logit) the newer rows lie above the model's level.
    ``expected``
        the number of outcomes to expect of these rows at their level: what a model fitted on them must add up to.
    """

    probability: Floats
    level_shift: float
    expected: float


def complete_rows(
    logit: npt.ArrayLike,
    converted: npt.ArrayLike,
    elapsed_us: npt.ArrayLike,
    curve: DevelopmentCurve,
    *,
    groups: npt.ArrayLike | None = None,
    prior_shift: float = 0.0,
) -> Completion:
    """Complete rows from a model's calibrated logits, what is known of each, and how long it was followed.

    ``converted`` (bool): the outcome is known to have come; ``groups``: lead ids, whose rows count as
    dependent; ``prior_shift``: the change of level (logit) that was seen before these rows.

    >>> curve = DevelopmentCurve.learn(np.zeros(99), np.arange(99))
    >>> done = complete_rows(np.zeros(4), [True, False, False, False], np.full(4, 50), curve)
    >>> done.probability.round(2).tolist()
    [1.0, 0.33, 0.33, 0.33]
    """
    z = clip_logit(logit)
    hit = np.asarray(converted, np.bool_)
    share = curve.share(z, elapsed_us)
    shift = _estimate_shift(z, hit, share, group_codes(groups, len(z)), prior_shift)
    p = expit(z + shift)
    q = p * (1 - share) / (1 - p * share)
    return Completion(np.where(hit, 1.0, q), shift, float(p.sum()))


def estimate_level(logit: npt.ArrayLike, label: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> float:
    """By how much (logit) known labels lie above calibrated logits, shrunk to 0 where there are few.

    >>> z = np.full(4_000, np.log(1 / 9))
    >>> round(estimate_level(z, np.arange(4_000) % 5 == 0), 2)  # a fifth instead of a tenth: ln(2.25)
    0.8
    """
    z = clip_logit(logit)
    return _estimate_shift(z, np.asarray(label) > 0, np.ones(len(z)), group_codes(groups, len(z)), 0.0)


def _estimate_shift(
    z: Floats, hit: npt.NDArray[np.bool_], share: Floats, group: Integers, prior: float
) -> float:
    """Posterior mean of the shift d where row i has converted with probability expit(z_i + d) G_i.

    The log likelihood is divided by the design effect: the rows of one lead tell much the same.
    """
    if not len(z):
        return prior
    seen = expit(z + prior) * share
    clustered = float(np.sum(np.bincount(group, hit - seen) ** 2))
    effect = max(1.0, clustered / float(np.sum(seen * (1 - seen))))
    likelihood = np.empty(len(_COARSE))
    for i, change in enumerate(_COARSE):
        logit = z + prior + change
        hits = float(np.logaddexp(0.0, -logit[hit]).sum())
        likelihood[i] = (float(np.log1p(-expit(logit[~hit]) * share[~hit]).sum()) - hits) / effect
    density = CubicSpline(_COARSE, likelihood)(_FINE)
    density -= (LEVEL_FREEDOM + 1) / 2 * np.log1p((_FINE / LEVEL_SCALE) ** 2 / LEVEL_FREEDOM)
    weight = np.exp(density - density.max())
    return prior + float(weight @ _FINE / weight.sum())


@dataclass(frozen=True)
class OpenRows:
    """Rows whose horizon has not ended: features, lead ids, and what is known (see ``training.Outcomes``)."""

    X: pd.DataFrame
    groups: npt.NDArray[Any]
    converted: npt.NDArray[np.bool_]
    elapsed_us: Integers


@dataclass(frozen=True)
class EndedRows:
    """Rows whose horizon has ended: features, labels (0 or 1), when a conversion was known (µs after the cutoff).

    ``unseen`` marks the rows that the model has not learnt from (None: none of them); the development curve is
    taken from these where they hold conversions enough, as predictions of rows learnt from are too sure.
    """

    X: pd.DataFrame
    label: npt.NDArray[np.int8]
    known_after_us: Integers
    unseen: npt.NDArray[np.bool_] | None = None

    @property
    def developed(self) -> npt.NDArray[np.bool_]:
        """The conversions from which the development curve is learnt."""
        hits: npt.NDArray[np.bool_] = self.label == 1
        later = hits if self.unseen is None else np.logical_and(hits, self.unseen)
        return later if later.sum() >= POSITIVES_PER_STRATUM else hits


def refit_completed(
    model: ConversionModel, ended: EndedRows, still_open: OpenRows, *, prior_shift: float
) -> ConversionModel:
    """Learn again from both: open rows are completed by the model as it is, and set its level.

    ``prior_shift`` is the change of level (logit) that was seen between what the model learnt from and the open
    rows, see :func:`estimate_level`.
    """
    hits = ended.developed
    curve = DevelopmentCurve.learn(model.decision_function(ended.X[hits]), ended.known_after_us[hits])
    completed = complete_rows(
        model.decision_function(still_open.X),
        still_open.converted,
        still_open.elapsed_us,
        curve,
        groups=still_open.groups,
        prior_shift=prior_shift,
    )
    q = completed.probability
    return model.refit(
        pd.concat([ended.X, still_open.X, still_open.X]),
        np.concatenate([ended.label, np.ones(len(q), np.int8), np.zeros(len(q), np.int8)]),
        np.concatenate([np.ones(len(ended.label)), q, 1 - q]),
        level=(still_open.X, completed.expected),
    )
