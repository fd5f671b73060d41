"""Made-up runs to report on: leads seen every week, with a known probability, points, value and segment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from convpredict.config.training import EvaluationConfig
from convpredict.evaluation.comparison import evaluate
from convpredict.evaluation.report.inputs import ReportInputs

HOSTILE = "<script>window.hacked = true</script>"


def predictions(leads: int = 240, weeks: int = 8, seed: int = 0, *, tied: bool = False) -> pd.DataFrame:
    """One row per lead and week until the lead converts; scores without ties unless ``tied``."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(leads):
        level = rng.normal(-3.2, 1.3)
        for week in range(int(rng.integers(0, 3)), weeks):
            p = float(1 / (1 + np.exp(-(level + rng.normal(0, 0.3)))))
            label = int(rng.random() < p)
            points = level + rng.normal(0, 1.5)
            rows.append(
                {
                    "lead_id": f"lead-{number:04d}-x",
                    "cutoff": pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(days=7 * week),
                    "label": label,
                    "p": p,
                    "scorecard_points": round(points) if tied else points,
                    "expected_value": 250.0 * p,
                    "revenue": 300.0 * label if label else np.nan,
                }
            )
            if label:
                break
    return pd.DataFrame(rows)


def metrics_of(frame: pd.DataFrame, *, resamples: int = 60) -> dict:
    points = frame.get("scorecard_points")
    p_card = None if points is None else 1 / (1 + np.exp(-points.to_numpy(float)))
    return evaluate(
        frame["label"],
        frame["p"],
        points,
        p_card,
        frame["lead_id"],
        EvaluationConfig(resamples=resamples),
        cutoff=frame["cutoff"],
    )


def plain_inputs(frame: pd.DataFrame | None = None, **changes: object) -> ReportInputs:
    """The core alone."""
    frame = predictions() if frame is None else frame
    inputs = ReportInputs(
        name="made up",
        run_id="run-1",
        horizon="30d",
        metrics=metrics_of(frame),
        predictions=frame,
        resamples=50,
    )
    return replace(inputs, **changes)


def full_inputs(frame: pd.DataFrame | None = None, **changes: object) -> ReportInputs:
    """Every section, with a hostile name wherever a name comes from data."""
    inputs = plain_inputs(frame)
    rows = len(inputs.predictions)
    source = np.array(["web", "fair", HOSTILE, "rare"])[np.arange(rows) % 7 % 4]
    entry = {"value": 0.61, "low": 0.52, "high": 0.69}
    full = replace(
        inputs,
        segments=pd.DataFrame({"source": source, "country": np.where(np.arange(rows) % 2, "DE", None)}),
        manifest={
            "known_until": "2024-06-01T00:00:00Z",
            "labels": ["label_30d"],
            "leads": {"total": 300, "undated_conversion": 7},
            "observations": {"excluded": {"too_old": 12}, "set_aside": {"immature": 1234}},
            "parts": {
                "train": {
                    "observations": 4321,
                    "leads": 99,
                    "first_cutoff": "2023-01-01T00:00:00Z",
                    "last_cutoff": "2023-09-01T00:00:00Z",
                    "labels": {"label_30d": {"positives": 88, "share": 0.02}},
                }
            },
            "versions": {"convpredict": "0.1.0"},
            "config_digest": "abc",
        },
        validation={
            "tables": {
                "leads": {
                    "read": 1000,
                    "accepted": 990,
                    "duplicates": 3,
                    "quarantined": {HOSTILE: 7},
                    "notes": {},
                }
            },
            "leads": 990,
            "converted": 80,
            "undated": 7,
            "lost": 1,
            "warnings": ["the export is cut"],
        },
        model_card={"trees": 150, "calibrator": "beta", "log_loss_of_the_calibrators": {"none": 0.0743}},
        importance=pd.DataFrame(
            {
                "concept": ["meetings", HOSTILE, "age"],
                "importance": [0.5, 0.25, 0.1],
                "label": ["meetings in 7 days", "", "age"],
                "direction": ["higher is likelier", "higher is less likely", "by value"],
            }
        ),
        leakage={
            "findings": [
                {
                    "name": f"late_filled:{HOSTILE}",
                    "severity": "severe",
                    "columns": ["x"],
                    "evidence": "93 % of the converted have it.",
                    "remedy": "Leave it out.",
                    "waived": False,
                }
            ],
            "examined": {"leads": 990},
            "unknown_waivers": ["nothing:here"],
        },
        value={
            "deciles": {
                "rows": [20.0] * 10,
                "predicted": [1000.0 / k for k in range(1, 11)],
                "actual": [1100.0 / k for k in range(1, 10)] + [0.0],
            },
            "expected_value": {
                "model": {"normalised_gini": entry, "spearman": 0.2, "rmse": 1234.5},
                "zero": {
                    "normalised_gini": {"value": None, "low": None, "high": None},
                    "spearman": None,
                    "rmse": 2.0,
                },
            },
            "value": {"model": {"spearman": 0.3}, "complete_share": 0.75, "coverage": 0.81},
        },
        horizons={"7d": {"auc": entry, "counts": {"rows": 5, "converting_leads": 2}}, "300d": None},
        calls_per_week=20,
        currency="EUR",
        notes=("A note from the run.",),
        test_looks=3,
    )
    return replace(full, **changes)
