"""How a scoring that was retrained as time went on would have done, night by night: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from convpredict.config.base import Duration
from convpredict.config.training import EvaluationConfig

from .calls import replay_calls, state_calls
from .comparison import evaluate
from .metrics import auc, average_precision, captured_in_top, log_loss
from .segments import calibration_by_month

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
DRIFT_BINS = 10
_MANY_ROWS = 1_000_000
_FEWER_RESAMPLES = 100
_TOP_SHARE = 0.05


@dataclass(frozen=True)
class NightlyRows:
    """One row per open lead and night, as arrays of equal length, with what each night's model was.

    ``night``: position in ``nights``; ``p``: probability; ``points``: of the scorecard, or None; ``label``: 1,
    0, or -1 where the outcome is not known; ``trained_at``: of the model of each night; ``reference``: per night,
    the probabilities of that model on its training rows, and of how many leads those rows are.
    """

    nights: Sequence[datetime]
    trained_at: Sequence[datetime]
    reference: Sequence[tuple[Floats, int]]
    night: NDArray[Any] = field(repr=False)
    lead: NDArray[Any] = field(repr=False)
    p: Floats = field(repr=False)
    points: Floats | None = field(repr=False)
    label: NDArray[np.int8] = field(repr=False)


@dataclass(frozen=True)
class BacktestJudgement:
    """What a backtest says: ``nights`` and ``months`` as tables, ``summary`` safe for JSON, ``sentences``."""

    nights: pd.DataFrame = field(repr=False)
    months: pd.DataFrame = field(repr=False)
    summary: dict[str, Any] = field(repr=False)
    sentences: tuple[str, ...]

    def figure(self) -> Figure:
        """AUC, predicted against observed conversions, conversions on the call list and drift, over the nights."""
        from .plots_backtest import draw_nights

        return draw_nights(self.nights)


def score_drift(
    reference: ArrayLike, scores: ArrayLike, *, reference_leads: int | None = None
) -> tuple[float, float]:
    """Population stability index of scores against those of the training rows, and the same without chance.

    Ten bins of equal mass of the reference. Of two samples from one distribution the index is about
    ``(bins - 1) (1/n + 1/m)`` by chance; the second number has that taken off (and is not below 0). Below .1
    counts as stable, above .25 as a shift.

    Parameters
    ----------
    reference, scores : arrays of shape (m,) and (n,)
    reference_leads : of how many leads the reference is, where rows repeat leads (default: m)

    Source: Yurdakul & Naranjo (2020), Statistical properties of the population stability index, Journal of
    Risk Model Validation 14.

    >>> same = np.linspace(0, 1, 1000)
    >>> score_drift(same, same)
    (0.0, 0.0)
    >>> round(score_drift(same, same**2)[1], 1)
    0.4
    """
    old, new = np.asarray(reference, np.float64), np.asarray(scores, np.float64)
    if not len(old) or not len(new):
        return float("nan"), float("nan")
    edges = np.unique(np.quantile(old, np.arange(1, DRIFT_BINS) / DRIFT_BINS))
    bins = len(edges) + 1
    count_old = np.bincount(np.searchsorted(edges, old), minlength=bins)
    count_new = np.bincount(np.searchsorted(edges, new), minlength=bins)
    share_old = (count_old + 0.5) / (len(old) + 0.5 * bins)
    share_new = (count_new + 0.5) / (len(new) + 0.5 * bins)
    index = float(((share_new - share_old) * np.log(share_new / share_old)).sum())
    by_chance = (bins - 1) * (1 / len(new) + 1 / (reference_leads or len(old)))
    return index, max(0.0, index - by_chance)


def judge_nights(rows: NightlyRows, config: EvaluationConfig, *, horizon: str) -> BacktestJudgement:
    """Judge every night, every month and all nights together; nights without known outcomes show drift only.

    Drift needs scores of the night and of training rows; without any, ``largest_drift`` is None and not told of.

    Intervals resample leads. Every open lead takes its place on a call list, but only those whose outcome is
    known are counted as hits and enter AUC, log loss and calibration.
    """
    starts = np.argsort(rows.night, kind="stable")
    bounds = np.searchsorted(rows.night[starts], np.arange(len(rows.nights) + 1))
    table = pd.DataFrame(
        [
            _judge_night(rows, number, starts[bounds[number] : bounds[number + 1]], config)
            for number in range(len(rows.nights))
        ]
    )
    judged, drift = rows.label >= 0, table["drift"].dropna()
    cutoff = pd.Series(pd.DatetimeIndex(list(rows.nights)))
    summary: dict[str, Any] = {
        "nights": len(rows.nights),
        "first_night": rows.nights[0].isoformat(),
        "last_night": rows.nights[-1].isoformat(),
        "judged_nights": int((table["judged"] > 0).sum()),
        "models": len(set(rows.trained_at)),
        "scores": len(rows.p),
        "horizon": horizon,
        "largest_drift": float(drift.max()) if len(drift) else None,
    }
    months = pd.DataFrame()
    sentences: tuple[str, ...] = (
        f"{len(rows.nights)} nights from {rows.nights[0]:%Y-%m-%d} to {rows.nights[-1]:%Y-%m-%d}, "
        f"{summary['models']} models, {len(rows.p):,} scores of {len(np.unique(rows.lead)):,} leads.",
    )
    if 0 < int((rows.label == 1).sum()) < int(judged.sum()):
        at = cutoff.iloc[rows.night[judged]].reset_index(drop=True)
        config = _affordable(config, int(judged.sum()))
        summary |= _judge_together(rows, judged, at, config, Duration(horizon).days)
        months = calibration_by_month(
            rows.label[judged], rows.p[judged], at, rows.lead[judged], confidence=config.confidence
        )
        sentences = (
            state_calls(summary["calls"], confidence=config.confidence),
            *sentences,
            *_state(summary),
        )
    else:
        why = "No outcome is known yet" if len(rows.p) else "No lead was scored on any of these nights"
        sentences = (*sentences, f"{why}, so nothing {'but drift ' if len(drift) else ''}can be told.")
    return BacktestJudgement(table, months, summary, sentences)


def _affordable(config: EvaluationConfig, rows: int) -> EvaluationConfig:
    """Fewer resamples for millions of rows, whose intervals are narrow anyway."""
    if rows <= _MANY_ROWS:
        return config
    return config.model_copy(update={"resamples": min(config.resamples, _FEWER_RESAMPLES)})


def _judge_together(
    rows: NightlyRows,
    judged: NDArray[np.bool_],
    at: pd.Series[Any],
    config: EvaluationConfig,
    horizon_days: float,
) -> dict[str, Any]:
    points = rows.points[judged] if rows.points is not None else None
    label, p, lead = rows.label[judged].astype(np.float64), rows.p[judged], rows.lead[judged]
    together = evaluate(label, p, points, None, lead, config, cutoff=at, part="all")["all"]
    calls = replay_calls(
        label,
        p,
        points,
        lead,
        at,
        horizon_days=horizon_days,
        calls_per_week=config.calls_per_week,
        resamples=config.resamples,
        confidence=config.confidence,
        seed=config.seed,
    )
    return {"all": together, "calls": calls}


def _judge_night(
    rows: NightlyRows, number: int, own: NDArray[np.intp], config: EvaluationConfig
) -> dict[str, Any]:
    night, trained_at = rows.nights[number], rows.trained_at[number]
    judged = own[rows.label[own] >= 0]
    label, p = rows.label[judged].astype(np.float64), rows.p[judged]
    index, drift = score_drift(
        rows.reference[number][0], rows.p[own], reference_leads=rows.reference[number][1]
    )
    calls = config.calls_per_week or max(1, round(_TOP_SHARE * len(own)))
    hit = rows.label == 1
    entry: dict[str, Any] = {
        "night": night,
        "trained_at": trained_at,
        "model_age_days": (night - trained_at).total_seconds() / 86_400,
        "open_leads": len(own),
        "judged": len(judged),
        "conversions": int(label.sum()),
        "expected": float(p.sum()) if len(judged) else float("nan"),
        "calls": min(calls, len(own)),
        "psi": index,
        "drift": drift,
    }
    known = len(judged) > 0
    both = 0 < entry["conversions"] < len(judged)
    entry["ratio"] = entry["expected"] / label.sum() if entry["conversions"] else float("nan")
    entry["log_loss"] = log_loss(label, p) if known else float("nan")
    for name, score in (("model", rows.p), ("scorecard", rows.points)):
        if score is None:
            continue
        entry[f"auc_{name}"] = auc(label, score[judged]) if both else float("nan")
        entry[f"average_precision_{name}"] = average_precision(label, score[judged]) if both else float("nan")
        entry[f"captured_top_5pct_{name}"] = (
            captured_in_top(label, score[judged], _TOP_SHARE) if both else float("nan")
        )
        share = entry["calls"] / len(own) if len(own) else 1.0
        found = captured_in_top(hit[own], score[own], share) * hit[own].sum() if both else 0.0
        entry[f"found_{name}"] = found if known else float("nan")
    return entry


def _state(summary: dict[str, Any]) -> tuple[str, ...]:
    """Sentences on ranking and calibration over all nights together, and on drift where it is known."""
    found = summary["all"]
    model, level = found["model"], f"{100 * found['interval']['confidence']:.4g} %"
    own = model["auc"]
    text = f"AUC over all nights {own['value']:.3f} [{level} interval {_span(own, 3)}]"
    if "scorecard" in found:
        gap = found["difference"]["auc"]
        text += (
            f", the points {found['scorecard']['auc']['value']:.3f}: {gap['value']:+.3f} [{_span(gap, 3)}]"
        )
    ratio, drift = model["calibration_ratio"], summary["largest_drift"]
    told = "" if drift is None else f"; largest drift of the scores {drift:.2f} (above .25 is a shift)"
    return (
        f"{text}.",
        f"The models predicted {ratio['value']:.2f} times the conversions that came [{_span(ratio, 2)}]{told}.",
    )


def _span(entry: dict[str, float | None], digits: int) -> str:
    low, high = entry["low"], entry["high"]
    if low is None or high is None:
        return "too few conversions for an interval"
    return f"{low:.{digits}f} to {high:.{digits}f}"
