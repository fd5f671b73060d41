"""What many nights cost beside one: python benchmarks/backtest.py [--leads 100000] [--events 20]; prints a table.

The history comes from the simulator. One model (150 trees of 7 leaves, two seeds) is trained; then one night is scored
as the nightly job does it, one night by the pass over many nights, and 52 weekly nights under 13 models (that model
again and again: the cost is that of different ones). Training is not counted.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from convpredict.config.base import Duration
from convpredict.config.history import SimulatorConfig
from convpredict.config.load import parse_project
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.scoring.nights import Stretch, score_nights
from convpredict.scoring.scores import score_open_leads
from convpredict.workflows.backtesting import plan_retrainings, train_as_of

NIGHTS, RETRAIN_WEEKS = 52, 4
TABLES = ("leads", "interactions", "conversions", "revenue", "spend")


def project_of(folder: Path, max_age: str, known_until: str) -> Any:
    history: dict[str, Any] = {name: {"source": name} for name in TABLES}
    history["leads"]["attributes"] = {
        "industry": "category",
        "country": "category",
        "channel": "category",
        "employees": "number",
    }
    history["interactions"]["attributes"] = {"topic": "category", "duration_seconds": "number"}
    history["known_until"] = known_until
    content = {
        "name": "benchmark",
        "data": str(folder),
        "sources": {name: {"file": f"{name}.parquet"} for name in TABLES},
        "history": history,
        "observations": {"cutoffs": {"every": "28d"}, "max_age": max_age},
        "model": {"n_estimators": 150, "num_leaves": 7, "logistic_weight": 0.3, "seeds": 2},
    }
    return parse_project(content, data=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leads", type=int, default=100_000)
    parser.add_argument("--events", type=float, default=20.0, help="interactions per lead")
    parser.add_argument("--max-age", default="180d")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options)


def run(folder: Path, options: argparse.Namespace) -> None:
    config = SimulatorConfig(leads=options.leads, interactions_per_lead=options.events)
    simulate(config, folder)
    project = project_of(folder, options.max_age, "2025-12-31")
    history = load_history(project.config, project.data_dir)
    last = history.known_until - timedelta(microseconds=project.config.labels.horizons[0].microseconds)
    nights = [last - timedelta(days=7 * week) for week in reversed(range(NIGHTS))]
    bundle, _ = train_as_of(history, project, nights[0])
    max_age = Duration(options.max_age)
    plan = plan_retrainings(nights, RETRAIN_WEEKS * 7 * 86_400_000_000)
    stretches = [Stretch(bundle, own[0], own) for own in plan]
    middle = nights[NIGHTS // 2]
    seconds: dict[str, list[float]] = {}
    rows: dict[str, int] = {}

    def measure(what: str, call: Any) -> None:
        begin = time.perf_counter()
        rows[what] = call()
        seconds.setdefault(what, []).append(time.perf_counter() - begin)

    for repeat in range(options.repeats + 1):
        measure(
            "one night, nightly job",
            lambda: score_open_leads(history, bundle, as_of=middle, max_age=max_age).table.num_rows,
        )
        measure(
            "one night, shared pass",
            lambda: len(score_nights(history, [Stretch(bundle, middle, (middle,))], max_age=max_age).p),
        )
        measure(
            f"{NIGHTS} nights, {len(plan)} models",
            lambda: len(score_nights(history, stretches, max_age=max_age).p),
        )
        if repeat == 0:
            seconds.clear()
    print(
        f"{options.leads:,} leads, {history.n_interactions:,} interactions, {len(bundle.feature_set)} columns, "
        f"max_age {options.max_age}; best of {options.repeats}\n"
    )
    single = min(seconds["one night, nightly job"])
    print(f"{'':<28}{'scores':>12}{'seconds':>10}{'nights':>9}")
    for what, took in seconds.items():
        print(f"{what:<28}{rows[what]:>12,}{min(took):>10.2f}{min(took) / single:>9.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nThe last column counts single nights of the nightly job; peak memory {peak:.1f} GB.")


if __name__ == "__main__":
    main()
