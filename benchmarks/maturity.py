"""Are recent leads, whose horizon has not ended, of use without bias?

    python benchmarks/maturity.py [--leads 20000] [--seeds 3] [--json]

Simulates funnels whose conversion hazard changes some weeks before the test part begins (all channels, one channel,
or not at all), trains thrice, and compares on the test part with the truth and with the labels:

    complete     recent rows completed with what is known of them (the default)
    mature only  rows whose horizon had ended when the test part begins
    naive        recent rows that have not converted taken for negatives

Expected log loss and the ratio of the summed probabilities are against the true probabilities of the simulator, the
last two columns against the labels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from copy import copy
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from convpredict.config.history import ChannelDrift, SimulatorConfig
from convpredict.config.load import parse_project
from convpredict.evaluation.metrics import log_loss
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate, simulation_config_tables
from convpredict.models.conversion import ConversionModel
from convpredict.models.fitting import fit_conversion_model, refit_on_completed_rows
from convpredict.training.training_set import TrainingSet, build_training_set

SIZE = {"n_estimators": 150, "num_leaves": 7, "logistic_weight": 0.3, "seeds": 2}
"""Set by hand, so that all ways learn alike and no time goes into choosing it."""

TEST_DAY = 450
HORIZON_DAYS = 30
SCENARIOS = {
    "no shift": None,
    "all x 0.5, 30 days before": ChannelDrift(channel="any", from_day=TEST_DAY - 30, factor=0.5),
    "all x 0.5, 60 days before": ChannelDrift(channel="any", from_day=TEST_DAY - 60, factor=0.5),
    "all x 2, 30 days before": ChannelDrift(channel="any", from_day=TEST_DAY - 30, factor=2.0),
    "organic_search x 0.3, 30 days before": ChannelDrift(
        channel="organic_search", from_day=TEST_DAY - 30, factor=0.3
    ),
    "organic_search x 3, 60 days before": ChannelDrift(
        channel="organic_search", from_day=TEST_DAY - 60, factor=3.0
    ),
}


@dataclass(frozen=True)
class Row:
    """Figures of one way to learn on one simulated funnel."""

    scenario: str
    seed: int
    way: str
    true_log_loss: float
    sum_over_truth: float
    log_loss: float
    sum_over_labels: float


def measure(n_leads: int, seed: int, scenario: str, folder: Path) -> list[Row]:
    """All ways on one simulated funnel."""
    simulator = SimulatorConfig(leads=n_leads, seed=seed, days=540, drift=SCENARIOS[scenario])
    truth = simulate(simulator, folder)
    test_from = simulator.start + timedelta(days=TEST_DAY)
    project = parse_project(
        {
            "name": "maturity",
            "data": str(folder),
            **simulation_config_tables(simulator),
            "observations": {"cutoffs": {"every": "7d"}, "max_age": "120d"},
            "labels": {"horizons": [f"{HORIZON_DAYS}d"]},
            "split": {"test_from": test_from.isoformat()},
            "model": SIZE,
        }
    )
    history = load_history(project.config, project.data_dir, require=("conversions",))
    training_set = build_training_set(history, project)
    part = training_set.part("test")
    label = training_set.y("test").to_numpy().astype(float)
    true_p = truth.true_probability(
        part["lead_id"].to_numpy(), part["cutoff"].to_numpy(), project.config.labels.horizons[0]
    )
    config = project.config.model
    first = fit_conversion_model(training_set, config.model_copy(update={"refit": False}))
    rows = []
    for way in ("complete", "mature only", "naive"):
        model = _refit(first, training_set, way)
        p = model.predict_proba(training_set.X("test"))[:, 1]
        rows.append(
            Row(
                scenario,
                seed,
                way,
                float(-np.mean(true_p * np.log(p) + (1 - true_p) * np.log1p(-p))),
                float(p.sum() / true_p.sum()),
                log_loss(label, p),
                float(p.sum() / label.sum()),
            )
        )
    return rows


def _refit(first: ConversionModel, training_set: TrainingSet, way: str) -> ConversionModel:
    model = copy(first)
    if way == "complete":
        return refit_on_completed_rows(model, training_set)
    X, y = training_set.X("development"), training_set.y("development")
    newest = training_set.X("calibrate"), training_set.y("calibrate")
    if way == "naive":
        recent = training_set.X("recent")
        early = (training_set.outcomes("recent").label == 1).astype(np.int8)
        X, y = pd.concat([X, recent]), np.concatenate([y, early])
        newest = pd.concat([newest[0], recent]), np.concatenate([newest[1], early])
    return model.refit(X, y, recent=newest)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leads", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=11)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[Row] = []
    if not arguments.json:
        heads = f"{'true log loss':>15}{'/ truth':>9}{'log loss':>10}{'/ labels':>9}"
        print(f"{'scenario':>38}{'seed':>6}{'way':>13}{heads}")
    for scenario in arguments.scenario or SCENARIOS:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                found = measure(arguments.leads, seed, scenario, Path(folder))
            rows += found
            if not arguments.json:
                _show(found)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print("\nmean over seeds; the error of the ratio is |ln(ratio)|")
    for scenario in dict.fromkeys(row.scenario for row in rows):
        for way in ("complete", "mature only", "naive"):
            mine = [row for row in rows if (row.scenario, row.way) == (scenario, way)]
            loss = np.mean([row.true_log_loss for row in mine])
            off: Any = np.mean([abs(np.log(row.sum_over_truth)) for row in mine])
            print(f"{scenario:>38}{way:>19}{loss:>15.5f}{off:>9.3f}")


def _show(rows: list[Row]) -> None:
    for row in rows:
        print(
            f"{row.scenario:>38}{row.seed:>6}{row.way:>13}{row.true_log_loss:>15.5f}{row.sum_over_truth:>9.3f}"
            f"{row.log_loss:>10.5f}{row.sum_over_labels:>9.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
