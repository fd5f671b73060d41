"""How close does the model come to the simulator's true probabilities, and how much of it is missed?

    python benchmarks/recovery.py [--leads 50000] [--seed 1] [--json]

Simulates a funnel, trains on it exactly as ``convpredict train`` does, and compares model, scorecard and truth on the
same test observations: log loss against the labels, and the sums of the probabilities against each other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from convpredict.config.history import SimulatorConfig
from convpredict.config.load import parse_project
from convpredict.evaluation.metrics import auc, log_loss
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate, simulation_config_tables
from convpredict.models.fitting import fit_conversion_model, fit_scorecard
from convpredict.models.scorecard import Scorecard
from convpredict.training.training_set import build_training_set

SCORECARD = {
    "name": "points set by feeling",
    "rules": [
        {"kind": "email_click", "points": 5},
        {"kind": "download", "points": 10},
        {"kind": "webinar", "points": 15},
        {"kind": "meeting", "points": 25},
        {"kind": "demo_request", "points": 30},
    ],
}


def measure(n_leads: int, seed: int, folder: Path, n_jobs: int | None = None) -> dict[str, Any]:
    """Figures of one simulated funnel of ``n_leads`` leads."""
    simulator = SimulatorConfig(leads=n_leads, seed=seed)
    truth = simulate(simulator, folder)
    project = parse_project(
        {
            "name": "recovery",
            "data": str(folder),
            **simulation_config_tables(simulator),
            "observations": {"cutoffs": {"every": "7d"}, "max_age": "120d"},
            "scorecard": SCORECARD,
        }
    )
    history = load_history(project.config, project.data_dir, require=("conversions",))
    card = Scorecard(project.config.scorecard)
    begin = time.perf_counter()
    training_set = build_training_set(history, project, extra_features=card.declarations())
    built = time.perf_counter()
    model = fit_conversion_model(training_set, project.config.model, n_jobs=n_jobs)
    fitted = time.perf_counter()
    label = training_set.y("test").to_numpy().astype(float)
    part = training_set.part("test")
    p = {
        "truth": truth.true_probability(
            part["lead_id"].to_numpy(), part["cutoff"].to_numpy(), project.config.labels.horizons[0]
        ),
        "model": model.predict_proba(training_set.X("test"))[:, 1],
        "scorecard": fit_scorecard(training_set, card).predict_proba(part)[:, 1],
        "base rate": np.full(len(label), training_set.y("development").mean()),
    }
    return {
        "leads": n_leads,
        "train_rows": len(training_set.part("development")),
        "test_rows": len(label),
        "test_positives": int(label.sum()),
        "build_seconds": built - begin,
        "fit_seconds": fitted - built,
        "capacity": str(model.capacity_),
        "calibrator": type(model.calibrator_).__name__,
        "rows": {
            name: {
                "log_loss": log_loss(label, values),
                "log_loss_ratio": log_loss(label, values) / log_loss(label, p["truth"]),
                "auc": auc(label, values),
                "sum_over_truth": float(values.sum() / p["truth"].sum()),
                "sum_over_labels": float(values.sum() / label.sum()),
                "rms_logit_error": float(np.sqrt(np.mean((_logit(values) - _logit(p["truth"])) ** 2))),
            }
            for name, values in p.items()
        },
    }


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leads", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments.leads, arguments.seed, Path(folder))
    if arguments.json:
        print(json.dumps(result))
        return
    rows = result.pop("rows")
    print(
        ", ".join(
            f"{key} {value:,.1f}" if isinstance(value, float) else f"{key} {value}"
            for key, value in result.items()
        )
    )
    names = list(next(iter(rows.values())))
    print(f"{'':>12}" + "".join(f"{name:>18}" for name in names))
    for label, entries in rows.items():
        print(f"{label:>12}" + "".join(f"{entries[name]:>18.4f}" for name in names))


if __name__ == "__main__":
    main()
