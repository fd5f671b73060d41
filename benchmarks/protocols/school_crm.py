"""school_crm: converts within 30 days; beside hand-set points, a plain LightGBM and an AutoML ensemble."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convpredict.evaluation.segments import calibration_by_month

from .rows import Row, TrainedRun, row, trained

PROTOCOL = "weekly cutoffs, up to 120 days old, converts within 30 days, test cutoffs from 2024-03-18"
PLAIN = {"auc": 0.871, "average_precision": 0.056, "log_loss": 0.02223}
"""A plain LightGBM on the same protocol (the data folder's README)."""

AUTOML: dict[str, float] = {}
"""FLAML, twelve minutes of wall time on a shared machine: ``benchmarks/automl.py``, same rows and features."""

RATIO = (0.8, 1.25)


def measure(data: Path) -> list[Row]:
    """Trained once; each figure beside each reference, then the calibration ratio of each month."""
    with trained("school_crm", data) as run:
        return [*_beside_the_scorecard(run), *_beside_models(run), *_by_month(run)]


def _beside_the_scorecard(run: TrainedRun) -> list[Row]:
    rows = []
    for metric, sign in (("log_loss", -1), ("average_precision", 1), ("auc", 1), ("captured_top_5pct", 1)):
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


def _beside_models(run: TrainedRun) -> list[Row]:
    rows = []
    for name, figures in (("plain LightGBM", PLAIN), ("AutoML ensemble (FLAML, 12 min)", AUTOML)):
        for metric, figure in figures.items():
            value, low, high = run.entry(metric)
            better = value <= figure if metric == "log_loss" else value >= figure
            rows.append(row("school_crm", PROTOCOL, metric, value, low, high, figure, name, met=better))
    return rows


def _by_month(run: TrainedRun) -> list[Row]:
    frame = run.predictions
    by_month = calibration_by_month(
        frame["label"].to_numpy(np.float64), frame["p"].to_numpy(), frame["cutoff"], frame["lead_id"]
    )
    value, low, high = run.entry("calibration_ratio")
    months = [
        row(
            "school_crm",
            PROTOCOL,
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
        row("school_crm", PROTOCOL, "predicted / observed", value, low, high, 1.0, "perfect calibration"),
        *months,
    ]
