"""Two models on the same observations: metrics of both and of their difference, with intervals by resampling leads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convpredict.config.training import EvaluationConfig

from .calibration import Calibration
from .comparison import captured_name, count_observations
from .inputs import to_series
from .ranking import Ranking
from .resampling import code_leads, interval, resample_leads
from .segment_quality import FEWEST_LEADS, MISSING, OTHERS

Floats = NDArray[np.float64]

FEWEST_CONVERTING_LEADS = 10
"""A segment in which fewer leads convert is shown, and has no say."""
LARGEST_SEGMENTS = 8


def compare_models(
    label: ArrayLike,
    p_challenger: ArrayLike,
    p_champion: ArrayLike,
    lead_ids: Any,
    config: EvaluationConfig | None = None,
    *,
    cutoff: Any = None,
    segments: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Log loss, ranking and calibration of two models and of their difference, over all and by segment.

    Parameters
    ----------
    label : array of shape (rows,), 1 where the lead converted within the horizon, else 0
    p_challenger, p_champion : arrays of shape (rows,), probabilities of the two models for the same rows
    lead_ids : ids of shape (rows,): all rows of a lead are drawn together
    config : resamples, confidence, top shares, seed
    cutoff : instants of shape (rows,), for the span in ``counts``
    segments : by name, a column of shape (rows,); of each the eight largest values are told apart
    progress : called with the share done

    Returns
    -------
    Safe for JSON: ``challenger``, ``champion`` and ``difference`` (challenger minus champion on the same resamples),
    each ``{metric: {"value", "low", "high"}}``; ``counts``; ``interval``; ``segments``: a list of ``segment``,
    ``value``, ``rows``, ``leads``, ``converting_leads``, ``log_loss`` (the difference, smaller is better for the
    challenger). The intervals of the captured shares hold together, all at once with the stated confidence, and so
    do those of the segments: with many looked at, one of them would else seem worse by chance alone.

    Examples
    --------
    >>> found = compare_models([0, 1, 0, 1] * 9, [.2, .9, .1, .8] * 9, [.5] * 36, range(36))
    >>> found["difference"]["log_loss"]["high"] < 0, found["difference"]["auc"]["value"]
    (True, 0.5)
    """
    config = config or EvaluationConfig()
    sides = [_Side(label, p, config) for p in (p_challenger, p_champion)]
    y = sides[0].calibration.label
    codes, n_leads = code_leads(lead_ids)
    groups = [group for name, column in (segments or {}).items() for group in _groups(name, column, codes, y)]
    gap = sides[0].losses - sides[1].losses
    member = np.column_stack([group.rows for group in groups]) if groups else np.zeros((len(y), 0), np.bool_)
    segment_gap = np.asarray(member * gap[:, None], np.float64)

    # Sums by lead make a resample cost as much as there are leads, and not rows, for the segments.
    gap_of_lead = _sum_by(codes, segment_gap, n_leads)
    rows_of_lead = _sum_by(codes, member.astype(np.float64), n_leads)
    first_row = np.unique(codes, return_index=True)[1]

    def statistic(weight: Floats | None) -> Floats:
        times = np.ones(n_leads) if weight is None else weight[first_row]
        with np.errstate(invalid="ignore", divide="ignore"):
            by_segment = (times @ gap_of_lead) / (times @ rows_of_lead)
        return np.concatenate([*(side.statistics(weight) for side in sides), by_segment])

    drawn = resample_leads(
        statistic, lead_ids, resamples=config.resamples, seed=config.seed, progress=progress
    )
    names = metric_names(config)
    k = len(names)
    result: dict[str, Any] = {}
    for position, side in enumerate(("challenger", "champion")):
        here = slice(position * k, (position + 1) * k)
        result[side] = _entries(names, drawn.value[here], drawn.draws[:, here], config.confidence)
    with np.errstate(invalid="ignore"):
        value, draws = (
            drawn.value[:k] - drawn.value[k : 2 * k],
            drawn.draws[:, :k] - drawn.draws[:, k : 2 * k],
        )
    result["difference"] = _entries(names, value, draws, config.confidence)
    captured = [i for i, name in enumerate(names) if name.startswith("captured_")]
    together = simultaneous_intervals(value[captured], draws[:, captured], config.confidence)
    for i, ends in zip(captured, together, strict=True):
        result["difference"][names[i]] = entry_of(value[i], *ends)
    result["counts"] = count_observations(y, lead_ids, cutoff)
    result["interval"] = {
        "confidence": config.confidence,
        "resamples": config.resamples,
        "resampled": "leads",
        "seed": config.seed,
    }
    result["segments"] = _segment_entries(groups, drawn.value[2 * k :], drawn.draws[:, 2 * k :], config)
    return result


def metric_names(config: EvaluationConfig) -> list[str]:
    """Names of the metrics that two models are compared by.

    >>> metric_names(EvaluationConfig(top_shares=(.05,)))
    ['log_loss', 'auc', 'captured_top_5pct', 'calibration_ratio']
    """
    return ["log_loss", "auc", *map(captured_name, config.top_shares), "calibration_ratio"]


def simultaneous_intervals(value: Floats, draws: Floats, confidence: float) -> list[tuple[float, float]]:
    """Intervals of several statistics that hold together, all at once, with the given confidence.

    Shape (k,) and (resamples, k). Each is the value plus and minus its standard error times the quantile of the
    largest standardised deviation in a resample. A statistic that never varies has an interval of no width. NaN for
    both ends where the value, or more than a tenth of the draws, are undefined.

    Source: Davison & Hinkley (1997), Bootstrap methods and their application, 5.2 (studentised); Romano & Wolf
    (2005), Exact and approximate stepdown methods for multiple hypothesis testing, JASA 100 (the maximum).

    >>> draws = np.random.default_rng(0).normal(size=(4000, 20))
    >>> ends = simultaneous_intervals(np.zeros(20), draws, .95)
    >>> bool(2.8 < ends[0][1] < 3.3)  # 1.96 for one alone; 3.02 for twenty that are independent
    True
    """
    if not len(value):
        return []
    defined = ~np.isnan(value) & (np.isnan(draws).mean(axis=0) <= 0.1)
    deviation = np.where(np.isnan(draws), 0.0, draws - value)
    error = np.sqrt((deviation**2).mean(axis=0))
    varies = defined & (error > 0)
    largest = np.abs(deviation[:, varies] / error[varies]).max(axis=1) if varies.any() else np.zeros(1)
    reach = float(np.quantile(largest, confidence, method="higher")) * error
    nan = float("nan")
    return [
        (float(value[i] - reach[i]), float(value[i] + reach[i])) if defined[i] else (nan, nan)
        for i in range(len(value))
    ]


def losses_of(calibration: Calibration) -> Floats:
    """The log loss of each row."""
    tiny = np.finfo(np.float64).eps
    clipped = np.clip(calibration.p, tiny, 1 - tiny)
    return np.asarray(-np.where(calibration.label > 0, np.log(clipped), np.log1p(-clipped)))


def entry_of(value: float, low: float, high: float) -> dict[str, float | None]:
    """A statistic with its interval, safe for JSON: None for what is not finite."""
    return {"value": _finite(value), "low": _finite(low), "high": _finite(high)}


class _Side:
    """One model: its statistics for any row weights, and the log loss of each row."""

    def __init__(self, label: ArrayLike, p: ArrayLike, config: EvaluationConfig) -> None:
        self.calibration = Calibration(label, p)
        self._ranking = Ranking(label, p)
        self._shares = config.top_shares
        self.losses = losses_of(self.calibration)

    def statistics(self, weight: Floats | None) -> Floats:
        auc, _, *captured = self._ranking.statistics(self._shares, weight)
        calibration = self.calibration
        return np.array([calibration.log_loss(weight), auc, *captured, calibration.ratio(weight)])


@dataclass(frozen=True)
class _Group:
    segment: str
    value: str
    rows: NDArray[np.bool_]
    n_leads: int
    converting_leads: int


def _groups(name: str, column: Any, codes: NDArray[np.intp], label: Floats) -> list[_Group]:
    """The largest values of a segment, those of fewer than ten leads gathered with the others."""
    values = to_series(column).astype("object")
    values = values.where(values.notna(), MISSING).astype(str)
    counts = values.value_counts()
    ranked = sorted(counts.index, key=lambda value: (-counts[value], value))
    kept = [v for v in ranked if len(np.unique(codes[(values == v).to_numpy()])) >= FEWEST_LEADS]
    kept = kept[:LARGEST_SEGMENTS]
    told = values.where(values.isin(kept), OTHERS)
    found = []
    for value in [*kept, *([OTHERS] if len(kept) < len(ranked) else [])]:
        rows = (told == value).to_numpy()
        converting = len(np.unique(codes[rows & (label > 0)]))
        found.append(_Group(name, value, rows, len(np.unique(codes[rows])), converting))
    return found


def _sum_by(codes: NDArray[np.intp], columns: Floats, count: int) -> Floats:
    total = [np.bincount(codes, weights=column, minlength=count) for column in columns.T]
    return np.column_stack(total) if total else np.zeros((count, 0))


def _segment_entries(
    groups: Sequence[_Group], value: Floats, draws: Floats, config: EvaluationConfig
) -> list[dict[str, Any]]:
    judged = [k for k, group in enumerate(groups) if group.converting_leads >= FEWEST_CONVERTING_LEADS]
    together = simultaneous_intervals(value[judged], draws[:, judged], config.confidence)
    ends = dict(zip(judged, together, strict=True))
    nan = float("nan")
    return [
        {
            "segment": group.segment,
            "value": group.value,
            "rows": int(group.rows.sum()),
            "leads": group.n_leads,
            "converting_leads": group.converting_leads,
            "log_loss": entry_of(value[k], *ends.get(k, (nan, nan))),
        }
        for k, group in enumerate(groups)
    ]


def _entries(names: Sequence[str], value: Floats, draws: Floats, confidence: float) -> dict[str, Any]:
    return {
        name: entry_of(value[i], *interval(float(value[i]), draws[:, i], confidence))
        for i, name in enumerate(names)
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
