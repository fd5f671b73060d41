"""The model beside the scorecard on the same observations: the content of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convpredict.config.training import EvaluationConfig

from .calibration import Calibration
from .inputs import check_labels, to_instants
from .ranking import Ranking
from .resampling import Resampled, Statistic, code_leads, interval, resample_leads

Floats = NDArray[np.float64]

CALIBRATION_NAMES = (
    "log_loss",
    "brier",
    "smooth_calibration_error",
    "binned_calibration_error",
    "calibration_slope",
    "calibration_intercept",
    "calibration_ratio",
)
INFLATED_BY_CHANCE = frozenset({"smooth_calibration_error", "binned_calibration_error"})


def captured_name(share: float) -> str:
    """Name of the captured share of converters at a top share.

    >>> captured_name(.05), captured_name(.005)
    ('captured_top_5pct', 'captured_top_0_5pct')
    """
    return f"captured_top_{100 * share:.10g}pct".replace(".", "_")


def metric_names(config: EvaluationConfig, *, probabilities: bool = True) -> list[str]:
    """Names of the metrics in the order of ``metrics.json``; without probabilities those of rankings only.

    >>> metric_names(EvaluationConfig(), probabilities=False)[:3]
    ['auc', 'average_precision', 'captured_top_1pct']
    """
    ranking = ["auc", "average_precision", *map(captured_name, config.top_shares)]
    return [*ranking, *CALIBRATION_NAMES] if probabilities else ranking


def evaluate(
    label: ArrayLike,
    p_model: ArrayLike,
    scorecard_points: ArrayLike | None,
    p_scorecard: ArrayLike | None,
    lead_ids: Any,
    config: EvaluationConfig | None = None,
    *,
    cutoff: Any = None,
    part: str = "test",
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Judge the model, the scorecard and their difference on the same observations, resampling leads.

    Parameters
    ----------
    label : array of shape (rows,), 1 where the lead converted within the horizon, else 0
    p_model : array of shape (rows,), probabilities of the model
    scorecard_points : array of shape (rows,), points as kept by hand: they rank. None: no scorecard
    p_scorecard : array of shape (rows,), probabilities fitted to the points on earlier data: they are what
    the
        scorecard's log loss, Brier and calibration are computed from. None: rankings only
    lead_ids : ids of shape (rows,), text or integers
    config : resamples, confidence, top shares, calibration bins, seed
    cutoff : instants of shape (rows,), for the span in ``counts``
    part : the key that the result stands under (``test``, ``calibrate``, ``train``)
    progress : called with the share done

    Returns
    -------
    ``{part: {"model": .., "scorecard": .., "difference": .., "counts": .., "interval": ..}}``, the first
    three ``{metric: {"value": .., "low": .., "high": ..}}``, safe for JSON: None stands for undefined, and
    for an end that has no bound. The difference is model minus scorecard on the same resamples. Join
    parts with ``|``.

    Raises ``ValueError`` where :mod:`.metrics` does, and for missing lead ids.

    Examples
    --------
    >>> config = EvaluationConfig(resamples=50)
    >>> result = evaluate([0, 0, 1, 1], [.1, .4, .35, .8], [0, 5, 5, 9], None, list("abcd"), config)
    >>> result["test"]["model"]["auc"]["value"], result["test"]["scorecard"]["auc"]["value"]
    (0.75, 0.875)
    >>> result["test"]["counts"]["positives"]
    2
    """
    config = config or EvaluationConfig()
    y = check_labels(label)
    _check_rows("lead_ids", lead_ids, len(y))
    model = _statistic(y, p_model, p_model, config)
    names = metric_names(config)
    statistics = [model]
    if scorecard_points is not None:
        statistics.append(_statistic(y, scorecard_points, p_scorecard, config))
    both = resample_leads(
        lambda weight: np.concatenate([statistic(weight) for statistic in statistics]),
        lead_ids,
        resamples=config.resamples,
        seed=config.seed,
        progress=progress,
    )
    result: dict[str, Any] = {"model": _entries(names, _columns(both, 0, len(names)), config)}
    if scorecard_points is not None:
        shared = metric_names(config, probabilities=p_scorecard is not None)
        scorecard = _columns(both, len(names), len(shared))
        of_model = _columns(both, 0, len(shared))
        with np.errstate(invalid="ignore"):
            difference = Resampled(of_model.value - scorecard.value, of_model.draws - scorecard.draws)
        result["scorecard"] = _entries(shared, scorecard, config)
        result["difference"] = _entries(shared, difference, config, floor=None)
    result["counts"] = count_observations(y, lead_ids, cutoff)
    result["interval"] = {
        "confidence": config.confidence,
        "resamples": config.resamples,
        "resampled": "leads",
        "seed": config.seed,
    }
    return {part: result}


def count_observations(label: Floats, lead_ids: Any, cutoff: Any = None) -> dict[str, Any]:
    """Rows, leads, positive rows, converting leads, base rate (positives / rows) and span of the cutoffs.

    >>> count_observations(np.array([0., 1., 1.]), ["a", "b", "b"])["converting_leads"]
    1
    """
    codes, leads = code_leads(lead_ids)
    positives = int(label.sum())
    counts: dict[str, Any] = {
        "rows": len(label),
        "leads": leads,
        "positives": positives,
        "converting_leads": len(np.unique(codes[label > 0])),
        "base_rate": positives / len(label),
    }
    if cutoff is not None:
        _check_rows("cutoff", cutoff, len(label))
        instants = to_instants(cutoff)
        counts |= {"first_cutoff": instants.min().isoformat(), "last_cutoff": instants.max().isoformat()}
    return counts


def _statistic(label: Floats, score: ArrayLike, p: ArrayLike | None, config: EvaluationConfig) -> Statistic:
    ranking = Ranking(label, score)
    shares = config.top_shares
    if p is None:
        return lambda weight: ranking.statistics(shares, weight)
    calibration = Calibration(label, p, bins=config.calibration_bins)
    return lambda weight: np.concatenate([ranking.statistics(shares, weight), calibration.statistics(weight)])


def _columns(resampled: Resampled, start: int, count: int) -> Resampled:
    return Resampled(resampled.value[start : start + count], resampled.draws[:, start : start + count])


def _entries(
    names: list[str], resampled: Resampled, config: EvaluationConfig, *, floor: float | None = 0.0
) -> dict[str, dict[str, float | None]]:
    entries = {}
    for k, name in enumerate(names):
        method: Literal["percentile", "basic"] = "basic" if name in INFLATED_BY_CHANCE else "percentile"
        value = float(resampled.value[k])
        low, high = interval(value, resampled.draws[:, k], config.confidence, method=method)
        if method == "basic" and floor is not None and low < floor:
            low = floor
        entries[name] = {"value": _finite(value), "low": _finite(low), "high": _finite(high)}
    return entries


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _check_rows(name: str, values: Any, rows: int) -> None:
    if len(values) != rows:
        raise ValueError(
            f"'{name}' has {len(values)} rows and 'label' has {rows}; "
            "they must describe the same observations"
        )
