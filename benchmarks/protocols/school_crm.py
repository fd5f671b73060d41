"""school_crm: converts within 30 days; beside hand-set points, a plain LightGBM and an AutoML ensemble."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convpredict import workflows
from convpredict.evaluation.segments import calibration_by_month

from .rows import ROOT, Row, TrainedRun, row, trained

PROTOCOL = "weekly cutoffs, up to 120 days old, converts within 30 days, test cutoffs from 2024-03-18"
PLAIN = {"auc": 0.871, "average_precision": 0.056, "log_loss": 0.02223}
"""A plain LightGBM on the same protocol (the data folder's README)."""

AUTOML = {"auc": 0.8865, "average_precision": 0.06255, "log_loss": 0.02570}
"""FLAML 2.7 with a stacked ensemble, twelve minutes of search on a busy machine: ``benchmarks/automl.py --minutes 12``.

Same rows and features. That script also gives the paired difference to a run's test predictions. Validated forward in
time instead, FLAML chose a linear model: .8628, .0295, .02359.
"""

SIGNS = {"log_loss": -1, "average_precision": 1, "auc": 1, "captured_top_5pct": 1}
"""Whether more or less of a metric is better."""

RATIO = (0.8, 1.25)
LAST_MONTH = "2024-05-06"
RETRAINED = f"the same, trained again with what was known by {LAST_MONTH}, test cutoffs from then"


def measure(data: Path) -> list[Row]:
    """Each figure beside each reference, then the calibration ratio of each month, of one model and of a newer one."""
    with trained("school_crm", data) as run:
        rows = [*_beside_the_scorecard(run), *_beside_models(run), *_by_month(run, PROTOCOL)]
    # A nightly job would not score May with a model of March: the same measure for one that is trained again.
    rows += _beside_learnt_points(data)
    with trained("school_crm", data, [f"split.test_from={LAST_MONTH}T00:00:00Z"]) as run:
        return [*rows, *_by_month(run, RETRAINED)]


def _beside_the_scorecard(run: TrainedRun) -> list[Row]:
    rows = []
    for metric, sign in SIGNS.items():
        value, low, high = run.entry(metric, "difference")
        name = f"{metric}, ours minus the scorecard's"
        worst = None if low is None or high is None else min(sign * low, sign * high)
        rows.append(
            row(
                "school_crm",
                PROTOCOL,
                name,
                value,
                low,
                high,
                0.0,
                "hand-set points",
                met=worst is not None and worst > 0,
            )
        )
    return rows


def _beside_learnt_points(data: Path) -> list[Row]:
    """Ours less a card of whole points that is learnt on the same rows (``convpredict scorecard learn``).

    There is no bar: each line says what its interval supports.
    """
    learnt = workflows.learn_points(ROOT / "configs/school_crm.yaml", data=data / "school_crm")
    protocol = f"{PROTOCOL}; beside {learnt.metrics['choice']['rules']} learnt rules"
    rows = []
    for metric, sign in SIGNS.items():
        gap, card = (learnt.metrics["model"][who][metric] for who in ("difference", "scorecard"))
        name = f"{metric}, ours minus the learnt points'"
        ends = [sign * gap[end] for end in ("low", "high") if gap[end] is not None]
        verdict = (
            "better" if ends and min(ends) > 0 else "worse" if ends and max(ends) < 0 else "not told apart"
        )
        figures = gap["value"], gap["low"], gap["high"]
        of = f"learnt points ({card['value']:.5f}): {verdict}"
        rows.append(row("school_crm", protocol, name, *figures, 0.0, of))
    return rows


def _beside_models(run: TrainedRun) -> list[Row]:
    rows = []
    for name, figures in (("plain LightGBM", PLAIN), ("AutoML ensemble (FLAML, 12 min)", AUTOML)):
        for metric, figure in figures.items():
            value, low, high = run.entry(metric)
            better = value <= figure if metric == "log_loss" else value >= figure
            rows.append(row("school_crm", PROTOCOL, metric, value, low, high, figure, name, met=better))
    return rows


def _by_month(run: TrainedRun, protocol: str) -> list[Row]:
    frame = run.predictions
    by_month = calibration_by_month(
        frame["label"].to_numpy(np.float64), frame["p"].to_numpy(), frame["cutoff"], frame["lead_id"]
    )
    value, low, high = run.entry("calibration_ratio")
    months = [
        row(
            "school_crm",
            protocol,
            f"predicted / observed, {month.month}",
            month.ratio,
            month.ratio_low,
            month.ratio_high,
            1.0,
            f"within {RATIO[0]}-{RATIO[1]}",
            met=RATIO[0] <= month.ratio <= RATIO[1],
        )
        for month in by_month.itertuples()
    ]
    return [
        row("school_crm", protocol, "predicted / observed", value, low, high, 1.0, "perfect calibration"),
        *months,
    ]
