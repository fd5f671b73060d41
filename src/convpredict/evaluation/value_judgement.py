"""Expected values judged on the test part: on every observation, and on the converted leads alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpredict.config.training import EvaluationConfig, LabelsConfig
from convpredict.features.time_rule import MICROSECONDS_PER_DAY
from convpredict.models.value import ValueModel
from convpredict.training.labels import label_column
from convpredict.training.training_set import TrainingSet

from .resampling import interval, resample_leads
from .value_metrics import (
    coverage,
    decile_mape,
    decile_table,
    mae,
    normalised_gini,
    rmse,
    spearman,
    total_ratio,
)

Floats = NDArray[np.float64]
Metric = Callable[..., float]
METRICS: Mapping[str, Metric] = {
    "total_ratio": total_ratio,
    "normalised_gini": normalised_gini,
    "spearman": spearman,
    "decile_mape": decile_mape,
    "rmse": rmse,
    "mae": mae,
}
RANKING = ("normalised_gini", "spearman", "decile_mape")
_SAME = 1e-9
_WITH_INTERVAL = ("total_ratio", "normalised_gini")
_MOST_RESAMPLES = 200


def judge_value(
    training_set: TrainingSet,
    model: ValueModel,
    probability: Floats,
    labels: LabelsConfig,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """What the test part says about expected values; ``probability`` is that of its rows, in their order.

    ``expected_value``
        P x value on all test observations against the revenue that followed (0 where nobody converted within the
        horizon), for the ``model``, for ``same_value`` (P x the mean value: what the value model adds shows beside
        it) and for ``zero``.
    ``value``
        the value of the converted rows against their revenue, each lead counting one, for the ``model`` and
        ``same_value``; and ``coverage`` and mean width of the interval over the complete windows. Where the model
        has one value for all, ``one_value_for_all`` is True and the metrics that rank are None.
    ``deciles``
        rows, predicted and actual total by decile of the expected value, the highest first.
    ``mean_above_interval``
        share of the test observations whose value, a mean, lies above its own interval: so it does where a few
        customers bring most of the revenue.

    With ``outcome: purchase`` the value is the expected value, of all rows, whatever their ``probability``:
    ``value`` is None, ``converted_rows`` are those who bought within the value horizon, and the coverage stands
    with ``expected_value``; what is left of an open window is taken to come evenly.

    Where value windows are still open at the end of the data, predictions are taken times the share of the revenue
    that is expected by then (``DevelopmentCurve``), so that they stand against revenue of the same span;
    ``complete_share`` says how many converted rows had a complete window. Units: the currency of the data.
    """
    part = training_set.part("test")
    customers = labels.outcome == "purchase"
    amount = np.nan_to_num(part["revenue"].to_numpy(np.float64))
    label = amount != 0 if customers else part[label_column(training_set.horizons[0])].to_numpy() == 1
    revenue = np.where(label, amount, 0.0)
    value = model.predict(training_set.X("test"))
    low, high = model.predict_interval(training_set.X("test"))
    followed = _followed(training_set, labels, label)
    if customers:
        share, probability = followed, np.ones(len(part))
    else:
        share = np.ones(len(part)) if model.development_ is None else model.development_.at(followed)
    mean = float(np.average(value, weights=probability)) if probability.sum() > 0 else float(value.mean())
    lead = part["lead_id"].to_numpy()
    expected = {
        "model": probability * value * share,
        "same_value": probability * mean * share,
        "zero": np.zeros(len(part)),
    }
    result: dict[str, Any] = {
        "counts": {"rows": len(part), "converted_rows": int(label.sum())},
        "expected_value": {
            name: _metrics(revenue, predicted, lead, None, config) for name, predicted in expected.items()
        },
        "deciles": {
            name: column.tolist() for name, column in decile_table(revenue, expected["model"]).items()
        },
        "value": None,
        "mean_above_interval": float(np.mean(value > high)),
    }
    if customers:
        rows = np.ones(len(part))
        result["expected_value"] |= _coverage(revenue, low, high, rows, followed >= 1.0)
    elif label.any():
        _, code, count = np.unique(lead[label], return_inverse=True, return_counts=True)
        weight = 1.0 / count[code]
        mean_value = float(np.average(value[label], weights=weight))
        same = np.full(int(label.sum()), mean_value) * share[label]
        result["counts"]["converted_leads"] = len(count)
        result["value"] = {
            "model": _metrics(revenue[label], (value * share)[label], lead[label], weight, config),
            "same_value": _metrics(revenue[label], same, lead[label], weight, config),
            **_coverage(revenue[label], low[label], high[label], weight, followed[label] >= 1.0),
        }
        if np.ptp(value) <= _SAME * float(np.abs(value).max()):
            _without_ranking(result["value"])
    return result


def _followed(training_set: TrainingSet, labels: LabelsConfig, label: NDArray[np.bool_]) -> Floats:
    """Share of the value window that the data covers; without a conversion, as if it had come halfway."""
    assert labels.value_horizon is not None
    part = training_set.part("test")
    length = labels.value_horizon.microseconds
    end = np.datetime64(training_set.known_by("test").replace(tzinfo=None), "us")
    cutoff = part["cutoff"].dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    since = (end - cutoff).astype(np.int64).astype(np.float64)
    if labels.outcome == "conversion":
        since = since - training_set.horizons[0].days * MICROSECONDS_PER_DAY / 2
        since = np.where(label, part["revenue_followed_us"].to_numpy(np.float64), since)
    return np.asarray(np.clip(since / length, 0.0, 1.0), np.float64)


def _without_ranking(judged: dict[str, Any]) -> None:
    """Where the value is one for all, the development share would be all that ranks the rows: no such figures."""
    judged["one_value_for_all"] = True
    for who in ("model", "same_value"):
        for name in RANKING:
            whole = isinstance(judged[who][name], dict)
            judged[who][name] = {"value": None, "low": None, "high": None} if whole else None


def _coverage(
    revenue: Floats, low: Floats, high: Floats, weight: Floats, complete: NDArray[np.bool_]
) -> dict[str, Any]:
    figures: dict[str, Any] = {"complete_share": float(np.average(complete, weights=weight))}
    if complete.any():
        ends = (low[complete], high[complete])
        figures["coverage"] = coverage(revenue[complete], *ends, weight=weight[complete])
        figures["mean_width"] = float(np.average(ends[1] - ends[0], weights=weight[complete]))
    return figures


def _metrics(
    actual: Floats, predicted: Floats, lead: NDArray[Any], weight: Floats | None, config: EvaluationConfig
) -> dict[str, Any]:
    """Each metric, those that are comparable across data with an interval from resampling leads."""
    own = np.ones(len(actual)) if weight is None else weight
    result: dict[str, Any] = {name: metric(actual, predicted, weight=own) for name, metric in METRICS.items()}
    drawn = resample_leads(
        lambda times: np.array(
            [
                METRICS[name](actual, predicted, weight=own if times is None else own * times)
                for name in _WITH_INTERVAL
            ]
        ),
        lead,
        resamples=min(config.resamples, _MOST_RESAMPLES),
        seed=config.seed,
    )
    for position, name in enumerate(_WITH_INTERVAL):
        ends = interval(float(drawn.value[position]), drawn.draws[:, position], config.confidence)
        result[name] = {"value": result[name], "low": ends[0], "high": ends[1]}
    return {
        name: {end: _plain(number) for end, number in entry.items()}
        if isinstance(entry, dict)
        else _plain(entry)
        for name, entry in result.items()
    }


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
