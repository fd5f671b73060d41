"""How fast features are built: python benchmarks/features.py [--quick] [--cold] [--scaling]; prints a table.

The history comes from the simulator, its interactions in time order, as an event log has them (``--order lead``: lead
by lead), in Parquet. Each line is measured in a process of its own: loading and validating the history, then the build
with its parts (busy seconds; they overlap), the whole build with its CPU seconds, the peak memory, and the ratio to
DuckDB's ``select lead_id, count(*) ... group by lead_id`` over the same file, timed right before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

DAY_US = 86_400_000_000
SETTINGS = ("leads", "events", "cutoffs", "columns", "order", "bucket_events", "n_jobs")


def folder_of(options: dict[str, Any]) -> Path:
    return Path(options["data"]) / f"{options['leads']}_{options['events']}_{options['order']}"


def generate(options: dict[str, Any]) -> Path:
    """Simulate the history, unless it is there, and write its interactions in the wanted order."""
    target = folder_of(options)
    if (target / "interactions.parquet").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    size = (options["leads"], options["events"] / options["leads"], target)
    write_simulation(*size)
    if options["order"] == "time":
        (target / "interactions.parquet").rename(target / "by_lead.parquet")
        duckdb.connect().execute(
            f"COPY (SELECT * FROM '{target}/by_lead.parquet' ORDER BY occurred_at) "
            f"TO '{target}/by_time.parquet' (FORMAT parquet, COMPRESSION zstd)"
        )
        (target / "by_lead.parquet").unlink()
        (target / "by_time.parquet").rename(target / "interactions.parquet")
    return target


def write_simulation(leads: int, interactions_per_lead: float, target: Path) -> None:
    from convpredict.config.history import SimulatorConfig
    from convpredict.history.simulator import simulate

    simulate(SimulatorConfig(leads=leads, interactions_per_lead=interactions_per_lead), target)


def open_history(folder: Path) -> Any:
    from convpredict.config.load import parse_project
    from convpredict.history.load import load_history

    tables = ("leads", "interactions", "conversions")
    content = {
        "name": "benchmark",
        "sources": {name: {"file": f"{name}.parquet"} for name in tables},
        "history": {
            "leads": {"source": "leads"},
            "interactions": {
                "source": "interactions",
                "attributes": {"topic": "category", "duration_seconds": "number"},
            },
            "conversions": {"source": "conversions"},
        },
    }
    return load_history(parse_project(content, data=folder).config, folder)


def declare(history: Any, n_columns: int) -> Any:
    """About 150 columns over all families."""
    from convpredict.config.base import Duration
    from convpredict.config.features import (
        AgeFeature,
        AggregateFeature,
        CalendarFeature,
        CountFeature,
        DecayedFeature,
        DistinctFeature,
        GapFeature,
        LastKindsFeature,
        RecencyFeature,
        ShareFeature,
        TopicFeature,
        TrendFeature,
    )
    from convpredict.features.feature_set import FeatureSet
    from convpredict.features.vocabulary import learn_vocabularies

    week, month, quarter = Duration("7d"), Duration("30d"), Duration("90d")
    declarations = [
        CountFeature(windows=(week, month, quarter, "all")),
        CountFeature(windows=(week, month, quarter, "all"), by="kind"),
        AggregateFeature(
            attribute="duration_seconds", functions=("sum", "mean", "max", "last"), windows=(month, "all")
        ),
        RecencyFeature(),
        RecencyFeature(by="kind"),
        AgeFeature(of="first"),
        DecayedFeature(half_lives=(week, month)),
        DecayedFeature(half_lives=(week,), by="kind"),
        DistinctFeature(windows=(week, month, "all")),
        DistinctFeature(of="topic", windows=(month, quarter, "all")),
        GapFeature(),
        LastKindsFeature(),
        TrendFeature(short=week, long=quarter),
        TrendFeature(short=week, long=quarter, by="kind"),
        ShareFeature(of="hour"),
        TopicFeature(of="topic"),
        AgeFeature(),
        CalendarFeature(),
        AggregateFeature(attribute="duration_seconds", functions=("sum",), windows=(month, "all"), by="kind"),
        CountFeature(windows=(month, "all"), by="topic"),
        AgeFeature(of="first", by="kind"),
    ]
    vocabularies = learn_vocabularies(history, until=history.known_until, max_values=30, min_count=10)
    full = FeatureSet.declare(declarations, vocabularies)
    if n_columns >= len(full.columns):
        return full
    return FeatureSet(full.declarations, full.vocabularies, full.columns[:n_columns])


def observe(history: Any, cutoffs: int) -> Any:
    """``cutoffs`` instants a lead, evenly spread over the year after its creation."""
    import numpy as np
    import pyarrow as pa

    from convpredict.history.history import TIMESTAMP

    created_at = history.leads["created_at"].cast(pa.int64()).to_numpy()
    ages = np.arange(1, cutoffs + 1) * (365 * DAY_US) // cutoffs
    rows = np.repeat(np.arange(history.n_leads, dtype=np.int32), cutoffs)
    return pa.table(
        {
            "lead_row": rows,
            "lead_id": history.leads["lead_id"].take(pa.array(rows)),
            "cutoff": pa.array((created_at[:, None] + ages).ravel()).cast(TIMESTAMP),
        }
    )


def measure_floor(folder: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of ``count(*) group by lead_id``: the faster of three runs."""
    connection = duckdb.connect()
    best = (float("inf"), 0.0)
    for _ in range(3):
        begin, used = time.perf_counter(), time.process_time()
        connection.sql(
            f"SELECT lead_id, count(*) FROM '{folder}/interactions.parquet' GROUP BY lead_id"
        ).to_arrow_table()
        best = min(best, (time.perf_counter() - begin, time.process_time() - used))
    return best


def build(options: argparse.Namespace) -> dict[str, float]:
    """One build in this process."""
    begin = time.perf_counter()
    from convpredict.features.build import write_features

    folder = folder_of(vars(options))
    imported = time.perf_counter()
    history = open_history(folder)
    loaded = time.perf_counter()
    feature_set = declare(history, options.columns)
    observations = observe(history, options.cutoffs)
    out = folder / f"features_{os.getpid()}.parquet"
    used = time.process_time()
    try:
        statistics = write_features(
            history,
            observations,
            feature_set,
            out,
            bucket_events=options.bucket_events,
            n_jobs=options.n_jobs,
        )
    finally:
        out.unlink(missing_ok=True)
    return {
        "columns": statistics.columns,
        "rows": statistics.rows,
        "buckets": statistics.buckets,
        "load": loaded - imported,
        "read": statistics.read_seconds,
        "index": statistics.index_seconds,
        "kernels": statistics.kernel_seconds,
        "write": statistics.write_seconds,
        "whole": statistics.seconds,
        "cpu": time.process_time() - used,
        "file_gb": statistics.bytes / 1e9,
        "peak_gb": statistics.peak_memory_bytes / 1e9,
        "total": time.perf_counter() - begin,
    }


def run(options: dict[str, Any], cache: str | None = None) -> dict[str, float]:
    """One build in a process of its own, with compiled kernels from ``cache``."""
    arguments = [
        f"--{name.replace('_', '-')}={options[name]}"
        for name in (*SETTINGS, "data")
        if options[name] is not None
    ]
    environment = os.environ if cache is None else {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


HEAD = (
    f"{'leads':>9} {'cutoffs':>7} {'columns':>7} {'buckets':>7} | {'load':>5} | {'read':>5} {'index':>5} "
    f"{'kernels':>7} {'write':>5} | {'whole s':>7} {'CPU s':>6} {'us/obs':>6} {'peak GB':>7} {'file GB':>7} | "
    f"{'floor s':>7} {'CPU s':>5} {'ratio':>5} {'of CPU':>6}"
)


def report(options: argparse.Namespace, **changes: Any) -> None:
    """Generate, measure and print one line."""
    settings = {**vars(options), **changes}
    folder = generate(settings)
    before = measure_floor(folder)
    found = run(settings)
    floor, floor_cpu = min(before, measure_floor(folder))
    print(
        f"{settings['leads']:>9,} {settings['cutoffs']:>7} {found['columns']:>7} {found['buckets']:>7} | "
        f"{found['load']:>5.1f} | {found['read']:>5.2f} {found['index']:>5.2f} {found['kernels']:>7.2f} "
        f"{found['write']:>5.2f} | {found['whole']:>7.2f} {found['cpu']:>6.2f} "
        f"{found['whole'] / found['rows'] * 1e6:>6.2f} {found['peak_gb']:>7.2f} {found['file_gb']:>7.2f} | "
        f"{floor:>7.2f} {floor_cpu:>5.2f} {found['whole'] / floor:>5.1f} {found['cpu'] / floor_cpu:>6.1f}",
        flush=True,
    )


def report_cold(options: argparse.Namespace) -> None:
    """A small run with an empty and with a filled cache of compiled kernels, from process start to end."""
    small = {**vars(options), "leads": 1_000, "events": 20_000}
    generate(small)
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold, kernels compiled", "warm, kernels cached"):
            begin, before = time.perf_counter(), os.times()
            run(small, cache)
            seconds, after = time.perf_counter() - begin, os.times()
            used = sum(after[2:4]) - sum(before[2:4])
            print(f"{name:<24} {seconds:>6.2f} s, {used:>6.2f} s of CPU", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leads", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=20_000_000, help="interactions, about")
    parser.add_argument("--cutoffs", type=int, default=3)
    parser.add_argument(
        "--columns", type=int, default=150, help="build the first so many of about 150 columns"
    )
    parser.add_argument("--order", choices=("time", "lead"), default="time", help="order of the interactions")
    parser.add_argument("--bucket-events", type=int, default=4_000_000)
    parser.add_argument("--n-jobs", type=int)
    parser.add_argument("--data", default=str(Path(tempfile.gettempdir()) / "convpredict_benchmark"))
    parser.add_argument("--quick", action="store_true", help="100,000 leads")
    parser.add_argument(
        "--scaling", action="store_true", help="also 1/10 of the leads, 52 cutoffs, small buckets"
    )
    parser.add_argument("--cold", action="store_true", help="only the start: kernels compiled, and cached")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(build(options)))
        return
    if options.quick:
        options.leads, options.events = 100_000, 2_000_000
    if options.cold:
        report_cold(options)
        return
    print(HEAD)
    report(options)
    if options.scaling:
        report(options, leads=options.leads // 10, events=options.events // 10)
        report(options, leads=options.leads // 10, events=options.events // 10, cutoffs=52)
        report(options, bucket_events=options.bucket_events // 4)
        report(options, order="lead")


if __name__ == "__main__":
    main()
