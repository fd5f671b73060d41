"""Expected values of two models against the revenue that followed, paired, by resampling leads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpredict.config.training import EvaluationConfig

from .calls import replay_calls
from .comparison import count_observations
from .model_comparison import FEWEST_CONVERTING_LEADS, entry_of
from .resampling import interval, resample_leads

Floats = NDArray[np.float64]

TOTAL_ERROR = "total_error"
GINI = "normalised_gini"
CALLED = "called_revenue"
VALUE_FIGURES = {TOTAL_ERROR: -1, GINI: 1, CALLED: 1}
"""What is compared, and 1 where larger is better."""

_MOST_RESAMPLES = 200
_LARGEST_ERROR = math.log(1e6)
"""Stands for the infinite error of a predicted total of zero or less, so that it can be told and compared."""


@dataclass(frozen=True)
class ValuePair:
    """Observations whose horizon and value window the data covers to their ends, each of shape (rows,).

    ``label``: 1 where the outcome came within the horizon; ``revenue``: what it brought within the value horizon, 0
    without it; both models' expected values, in the currency of the data; ``lead_ids`` and ``cutoff``.
    """

    label: Floats = field(repr=False)
    revenue: Floats = field(repr=False)
    challenger: Floats = field(repr=False)
    champion: Floats = field(repr=False)
    lead_ids: Any = field(repr=False)
    cutoff: Any = field(repr=False)


def compare_values(
    pair: ValuePair, config: EvaluationConfig | None = None, *, horizon_days: float = 30.0
) -> dict[str, Any]:
    """How well the expected values of two models foretold the revenue, on the same resamples of the leads.

    Returns, safe for JSON, ``counts``, ``judged`` (False: fewer than ten leads brought revenue, or all of it was paid
    back, and there are no figures), ``not_finite`` (only where a side's values are not all numbers: how many of which;
    there are no figures then either), the ``total_ratio`` (predicted over actual total) and ``normalised_gini`` of
    ``challenger`` and ``champion``, the ``called_revenue`` of each (revenue per quarter of the leads that weekly call
    lists in the order of the expected value would have held, see :func:`.calls.replay_calls`), and under
    ``difference`` (challenger minus champion, each ``value``, ``low``, ``high``)

    ``total_error``: of \\|ln(total ratio)\\|, smaller is better: twice too much is as wrong as half of it; at most
    ln(1,000,000), which is also that of a total of zero or less;
    ``normalised_gini`` and ``called_revenue``: larger is better.

    The three intervals hold together, each with a third of the error (Bonferroni). At most 200 resamples are drawn.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = np.tile([0.0, 0, 1, 0, 1], 60)
    >>> truth = np.tile([1.0, 2, 60, 3, 90], 60)
    >>> at = np.datetime64("2024-01-01") + np.arange(300) % 28 * np.timedelta64(1, "D")
    >>> pair = ValuePair(label, label * truth, label * truth, rng.permutation(truth), np.arange(300), at)
    >>> found = compare_values(pair)["difference"]
    >>> found["normalised_gini"]["low"] > 0, found["called_revenue"]["low"] > 0
    (True, True)
    """
    config = config or EvaluationConfig()
    config = config.model_copy(update={"resamples": min(config.resamples, _MOST_RESAMPLES)})
    leads = np.asarray(pair.lead_ids)
    result: dict[str, Any] = {"counts": _counts(pair, leads), "judged": False}
    sides = {"challenger": pair.challenger, "champion": pair.champion}
    broken = {side: int(np.sum(~np.isfinite(values))) for side, values in sides.items()}
    if any(broken.values()):
        return {**result, "not_finite": {side: count for side, count in broken.items() if count}}
    if result["counts"]["converting_leads"] < FEWEST_CONVERTING_LEADS or pair.revenue.sum() <= 0:
        return result
    confidence = 1 - (1 - config.confidence) / len(VALUE_FIGURES)
    own, *orders = (_Gini(pair.revenue, order_by) for order_by in (pair.revenue, *sides.values()))

    def statistic(weight: Floats | None) -> Floats:
        w = np.ones(len(leads)) if weight is None else weight
        total, most = float(w @ pair.revenue), own.of(w)
        if total <= 0 or not most > 0:
            return np.full(2 * len(sides), np.nan)
        return np.array(
            [*(float(w @ p) / total for p in sides.values()), *(order.of(w) / most for order in orders)]
        )

    drawn = resample_leads(statistic, leads, resamples=config.resamples, seed=config.seed)
    ratios, ginis = (np.vstack([drawn.value[at], drawn.draws[:, at]]) for at in (slice(0, 2), slice(2, 4)))
    errors = _total_errors(ratios)
    for position, side in enumerate(sides):
        result[side] = {
            "total_ratio": _entry(ratios[:, position], config.confidence),
            GINI: _entry(ginis[:, position], config.confidence),
        }
    result["difference"] = {
        TOTAL_ERROR: _entry(errors[:, 0] - errors[:, 1], confidence),
        GINI: _entry(ginis[:, 0] - ginis[:, 1], confidence),
    }
    called = replay_calls(
        pair.label,
        pair.challenger,
        pair.champion,
        leads,
        pair.cutoff,
        horizon_days=horizon_days,
        calls_per_week=config.calls_per_week,
        amount=pair.revenue,
        resamples=config.resamples,
        confidence=confidence,
        seed=config.seed,
    )["amount"]
    for side, name in (("challenger", "model"), ("champion", "scorecard")):
        result[side][CALLED] = called[name]["value"]
    result["difference"][CALLED] = entry_of(**called["difference"])
    result["judged"] = True
    result["interval"] = {
        "confidence": config.confidence,
        "resamples": config.resamples,
        "of_each": confidence,
    }
    return result


def _total_errors(ratios: Floats) -> Floats:
    """|ln| of predicted over actual totals, finite where they are defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(ratios <= 0, np.inf, np.abs(np.log(ratios)))
    return np.asarray(np.minimum(errors, _LARGEST_ERROR), np.float64)


class _Gini:
    """The Gini coefficient of the revenue in one order (see :func:`.value_metrics.normalised_gini`), sorted once for
    all resamples."""

    def __init__(self, revenue: Floats, order_by: Floats) -> None:
        self._order = np.argsort(order_by, kind="stable")
        ranked = order_by[self._order]
        self._revenue = revenue[self._order]
        self._starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def of(self, weight: Floats) -> float:
        """Its value with rows counted ``weight`` times."""
        w = weight[self._order]
        mass, revenue = (np.add.reduceat(each, self._starts) for each in (w, w * self._revenue))
        with np.errstate(divide="ignore", invalid="ignore"):
            curve = np.concatenate([[0.0], np.cumsum(revenue)]) / revenue.sum()
        return 1.0 - float(np.sum(mass * (curve[1:] + curve[:-1]))) / float(mass.sum())


def _counts(pair: ValuePair, leads: NDArray[Any]) -> dict[str, Any]:
    if not len(leads):
        return {"rows": 0, "leads": 0, "positives": 0, "converting_leads": 0, "revenue": 0.0}
    brought = (pair.revenue != 0).astype(np.float64)
    return {**count_observations(brought, leads, pair.cutoff), "revenue": math.fsum(pair.revenue)}


def _entry(values: Floats, confidence: float) -> dict[str, float | None]:
    """The first is the value, the others its draws."""
    return entry_of(float(values[0]), *interval(float(values[0]), values[1:], confidence))
