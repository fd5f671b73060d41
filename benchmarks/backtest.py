"""What many nights cost beside one: python benchmarks/backtest.py [--leads 100000] [--events 20] [--train-leads N].

The history comes from the simulator. One model (150 trees of 7 leaves, two seeds) is trained, on another history of
``--train-leads`` where that is given; then one night is scored as the nightly job does it, one night by the pass over
many nights, and 52 weekly nights under 13 models (that model again and again: the cost is that of different ones).
Simulation and training run in processes of their own, so that neither their time nor their memory is counted. Prints
seconds and, for a machine that others use too, CPU seconds, each also in single nights of the same repeat.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pickle
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
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
    parser.add_argument("--train-leads", type=int, help="leads of the history that is trained on (--leads)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options)


def nights_of(history: Any, project: Any) -> list[datetime]:
    last = history.known_until - timedelta(microseconds=project.config.labels.horizons[0].microseconds)
    return [last - timedelta(days=7 * week) for week in reversed(range(NIGHTS))]


def make_history(folder: Path, leads: int, events: float) -> None:
    folder.mkdir()
    simulate(SimulatorConfig(leads=leads, interactions_per_lead=events), folder)


def trained(folder: Path, max_age: str) -> bytes:
    project = project_of(folder, max_age, "2025-12-31")
    history = load_history(project.config, project.data_dir)
    return pickle.dumps(train_as_of(history, project, nights_of(history, project)[0])[0])


def apart(function: Any, *arguments: Any) -> Any:
    """The function's result, from a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run(parent: Path, options: argparse.Namespace) -> None:
    folder = learnt_from = parent / "scored"
    apart(make_history, folder, options.leads, options.events)
    if options.train_leads:
        learnt_from = parent / "trained"
        apart(make_history, learnt_from, options.train_leads, options.events)
    bundle = pickle.loads(apart(trained, learnt_from, options.max_age))
    project = project_of(folder, options.max_age, "2025-12-31")
    history = load_history(project.config, project.data_dir)
    nights = nights_of(history, project)
    max_age = Duration(options.max_age)
    plan = plan_retrainings(nights, RETRAIN_WEEKS * 7 * 86_400_000_000)
    stretches = [Stretch(bundle, own[0], tuple(own)) for own in plan]
    middle = nights[NIGHTS // 2]
    calls: dict[str, Any] = {
        "one night, nightly job": lambda: (
            score_open_leads(history, bundle, as_of=middle, max_age=max_age).table.num_rows
        ),
        "one night, shared pass": lambda: len(
            score_nights(history, [Stretch(bundle, middle, (middle,))], max_age=max_age).p
        ),
        f"{NIGHTS} nights, {len(plan)} models": lambda: len(
            score_nights(history, stretches, max_age=max_age).p
        ),
    }
    seconds: dict[str, list[float]] = {what: [] for what in calls}
    cpu: dict[str, list[float]] = {what: [] for what in calls}
    rows: dict[str, int] = {}
    peak: dict[str, float] = {}
    for repeat in range(options.repeats + 1):
        for what, call in calls.items():
            begin, cpu_begin = time.perf_counter(), time.process_time()
            rows[what] = call()
            if repeat:  # the first one compiles the kernels
                seconds[what].append(time.perf_counter() - begin)
                cpu[what].append(time.process_time() - cpu_begin)
            peak.setdefault(what, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    print(
        f"{options.leads:,} leads, {history.n_interactions:,} interactions, {len(bundle.feature_set)} columns, "
        f"max_age {options.max_age}; best of {options.repeats}, nights: median of the repeats\n"
    )
    single = "one night, nightly job"
    print(f"{'':<26}{'scores':>12}{'seconds':>10}{'nights':>9}{'CPU s':>9}{'nights':>9}{'peak GB':>9}")
    for what in calls:
        cells = f"{what:<26}{rows[what]:>12,}"
        for width, took in ((10, seconds), (9, cpu)):
            ratio = statistics.median(a / b for a, b in zip(took[what], took[single], strict=True))
            cells += f"{min(took[what]):>{width}.2f}{ratio:>9.2f}"
        print(f"{cells}{peak[what]:>9.2f}")
    print("\nNights are single nights of the nightly job; the peak is that of the process up to there.")


if __name__ == "__main__":
    main()
