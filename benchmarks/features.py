"""How fast features are built: python benchmarks/features.py [--quick] [--cold] [--scaling]; prints a table.

The data are Parquet files with int64 lead ids, generated once into --data. Each line is measured in a
process of its own: a build with its parts (busy seconds; they overlap), the whole, the peak memory, and
the ratio to DuckDB's ``select lead_id, count(*) ... group by lead_id`` over the same file, timed right
before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

KINDS = ("page_view", "email_open", "email_click", "form", "call", "meeting", "webinar", "chat")
START_US = 1_672_531_200_000_000  # 2023-01-01
DAY_US = 86_400_000_000
DAYS = 365


def generate(folder: Path, leads: int, events: int, late: float) -> Path:
    """Write leads.parquet and interactions.parquet, in time order as an event log would be, unless they are there."""
    target = folder / f"{leads}_{events}_{late:g}"
    if (target / "interactions.parquet").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    connection.execute(
        f"""COPY (SELECT range * 3 + 7 AS lead_id,
                make_timestamp({START_US} + (hash(range + 5) % {DAYS // 2} * {DAY_US})::BIGINT) AS created_at
            FROM range({leads})) TO '{target}/leads.parquet'"""
    )
    kinds = ", ".join(f"'{kind}'" for kind in KINDS)
    connection.execute(
        f"""COPY (
            WITH drawn AS (
                SELECT range AS i, hash(range) AS h, hash(range + 77777777) AS g FROM range({events})
            ),
            event AS (SELECT *, {START_US} + (i * {DAYS * DAY_US / events})::BIGINT AS us FROM drawn)
            SELECT (h % {leads})::BIGINT * 3 + 7 AS lead_id, make_timestamp(us) AS occurred_at,
                CASE WHEN g % 100000 < {late * 100_000}
                    THEN make_timestamp(us + (g // 7 % {5 * DAY_US})::BIGINT) END AS recorded_at,
                [{kinds}][1 + least(g % 8, g // 11 % 8)::INT] AS kind, 'topic_' || (g // 1000 % 12) AS topic,
                round((g % 100000) / 100.0, 2) AS amount
            FROM event ORDER BY i) TO '{target}/partial' (FORMAT parquet, COMPRESSION zstd)"""
    )
    (target / "partial").rename(target / "interactions.parquet")
    return target


def open_history(folder: Path, late: bool) -> Any:
    """A history whose interactions are a view over the Parquet file, joined with the leads."""
    import pyarrow as pa

    from convpredict.history.history import TIMESTAMP, History, empty

    connection = duckdb.connect()
    leads = connection.sql(
        f"SELECT lead_id, created_at FROM '{folder}/leads.parquet' ORDER BY lead_id"
    ).to_arrow_table()
    created = leads["created_at"].cast(pa.timestamp("us")).cast(TIMESTAMP)
    leads = pa.table({"lead_id": leads["lead_id"], "created_at": created})
    leads = leads.append_column("lost_at", pa.nulls(len(leads), TIMESTAMP))
    connection.execute(
        f"""CREATE TABLE leads AS SELECT lead_id, (row_number() OVER (ORDER BY lead_id) - 1)::INT AS lead_row
            FROM '{folder}/leads.parquet'"""
    )
    visible = "greatest(occurred_at, recorded_at)" if late else "occurred_at"
    connection.execute(
        f"""CREATE VIEW interactions AS SELECT lead_row, epoch_us(occurred_at) AS occurred_at,
                epoch_us({visible}) AS visible_at, file_row_number AS tie, kind, topic, amount
            FROM read_parquet('{folder}/interactions.parquet', file_row_number = true) JOIN leads USING (lead_id)"""
    )
    count = connection.execute(f"SELECT count(*) FROM '{folder}/interactions.parquet'").fetchone()[0]
    return History(
        connection,
        leads,
        empty("conversions"),
        empty("revenue"),
        empty("spend"),
        empty("attribute_changes"),
        {},
        {"topic": "category", "amount": "number"},
        datetime.fromtimestamp((START_US + DAYS * DAY_US) / 1e6, UTC),
        count,
        "benchmark",
        late,
    )


def declare(n_columns: int) -> Any:
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
    from convpredict.features.vocabulary import Vocabularies

    week, month, quarter = Duration("7d"), Duration("30d"), Duration("90d")
    declarations = [
        CountFeature(windows=(week, month, quarter, "all")),
        CountFeature(windows=(week, month, quarter, "all"), by="kind"),
        AggregateFeature(
            attribute="amount", functions=("sum", "mean", "max", "last"), windows=(month, "all")
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
        AggregateFeature(attribute="amount", functions=("sum",), windows=(month, "all"), by="kind"),
        CountFeature(windows=(month, "all"), by="topic"),
        AgeFeature(of="first", by="kind"),
    ]
    types = {("interactions", "topic"): "category", ("interactions", "amount"): "number"}
    vocabularies = Vocabularies(
        {
            ("interactions", "kind"): KINDS,
            ("interactions", "topic"): tuple(f"topic_{number}" for number in range(12)),
        },
        {("interactions", "kind"): "category", **types},
    )
    full = FeatureSet.declare(declarations, vocabularies)
    if n_columns >= len(full.columns):
        return full
    return FeatureSet(full.declarations, full.vocabularies, full.columns[:n_columns])


def observe(history: Any, cutoffs: int) -> Any:
    """``cutoffs`` instants a lead, evenly spread over the second half of the year."""
    import numpy as np
    import pyarrow as pa

    from convpredict.history.history import TIMESTAMP

    half = DAYS * DAY_US // 2
    instants = START_US + half + np.arange(1, cutoffs + 1) * half // cutoffs
    rows = np.repeat(np.arange(history.n_leads, dtype=np.int32), cutoffs)
    return pa.table(
        {
            "lead_row": rows,
            "lead_id": history.leads["lead_id"].take(pa.array(rows)),
            "cutoff": pa.array(np.tile(instants, history.n_leads)).cast(TIMESTAMP),
        }
    )


def measure_floor(folder: Path) -> float:
    """Seconds of ``count(*) group by lead_id``: the faster of two runs."""
    connection = duckdb.connect()
    best = float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        connection.sql(
            f"SELECT lead_id, count(*) FROM '{folder}/interactions.parquet' GROUP BY lead_id"
        ).to_arrow_table()
        best = min(best, time.perf_counter() - begin)
    return best


def build(options: argparse.Namespace) -> dict[str, float]:
    """One build in this process."""
    begin = time.perf_counter()
    from convpredict.features.build import write_features

    folder = Path(options.data) / f"{options.leads}_{options.events}_{options.late:g}"
    history = open_history(folder, options.late > 0)
    feature_set = declare(options.columns)
    observations = observe(history, options.cutoffs)
    ready = time.perf_counter()
    used = os.times()
    out = folder / f"features_{os.getpid()}.parquet"
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
    done = os.times()
    return {
        "columns": statistics.columns,
        "rows": statistics.rows,
        "buckets": statistics.buckets,
        "read": statistics.read_seconds,
        "index": statistics.index_seconds,
        "kernels": statistics.kernel_seconds,
        "write": statistics.write_seconds,
        "whole": statistics.seconds,
        "cpu": done.user + done.system - used.user - used.system,
        "gigabytes": statistics.bytes / 1e9,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "start": ready - begin,
        "total": time.perf_counter() - begin,
    }


def run(folder: str, **options: Any) -> dict[str, float]:
    """One build in a process of its own."""
    arguments = [
        f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None
    ]
    command = [sys.executable, __file__, "--child", f"--data={folder}", *arguments]
    environment = {**os.environ}
    environment.update({} if "numba_cache" not in options else {"NUMBA_CACHE_DIR": options["numba_cache"]})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


HEAD = (
    f"{'leads':>9} {'events':>10} {'cutoffs':>7} {'columns':>7} {'buckets':>7} | {'read':>6} {'index':>6} "
    f"{'kernels':>7} {'write':>6} | {'whole s':>7} {'cpu s':>6} {'peak GB':>7} {'file GB':>7} {'us/obs':>6} "
    f"{'floor s':>7} {'ratio':>6}"
)


def report(options: argparse.Namespace, **changes: Any) -> None:
    """Generate, measure and print one line."""
    settings = {**{name: getattr(options, name) for name in SETTINGS}, **changes}
    folder = generate(Path(options.data), settings["leads"], settings["events"], settings["late"])
    before = measure_floor(folder)
    found = run(options.data, **settings)
    floor = min(before, measure_floor(folder))
    print(
        f"{settings['leads']:>9,} {settings['events']:>10,} {settings['cutoffs']:>7} {found['columns']:>7} "
        f"{found['buckets']:>7} | {found['read']:>6.2f} {found['index']:>6.2f} {found['kernels']:>7.2f} "
        f"{found['write']:>6.2f} | {found['whole']:>7.2f} {found['cpu']:>6.2f} {found['peak_gb']:>7.2f} "
        f"{found['gigabytes']:>7.2f} {found['whole'] / found['rows'] * 1e6:>6.2f} {floor:>7.2f} "
        f"{found['whole'] / floor:>6.1f}",
        flush=True,
    )


def report_cold(options: argparse.Namespace) -> None:
    """A small run with an empty and with a filled cache of compiled kernels, process start to end."""
    small = {name: getattr(options, name) for name in SETTINGS}
    small.update(leads=1_000, events=20_000)
    generate(Path(options.data), small["leads"], small["events"], small["late"])
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold, kernels compiled", "warm, kernels cached"):
            begin = time.perf_counter()
            run(options.data, **small, numba_cache=cache)
            print(f"{name:<24} {time.perf_counter() - begin:>6.2f} s")


SETTINGS = ("leads", "events", "cutoffs", "columns", "late", "bucket_events", "n_jobs")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leads", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--cutoffs", type=int, default=3)
    parser.add_argument("--columns", type=int, default=1_000, help="build the first so many columns")
    parser.add_argument("--late", type=float, default=0.0, help="share of late records")
    parser.add_argument("--bucket-events", type=int, default=4_000_000)
    parser.add_argument("--n-jobs", type=int)
    parser.add_argument("--data", default=str(Path(tempfile.gettempdir()) / "convpredict_benchmark"))
    parser.add_argument("--quick", action="store_true", help="100,000 leads")
    parser.add_argument(
        "--scaling", action="store_true", help="also 52 cutoffs, 1/10 of the leads, late records"
    )
    parser.add_argument(
        "--cold", action="store_true", help="only the start: compiling the kernels, and cached"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--numba-cache", help=argparse.SUPPRESS)
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
        report(options, late=0.2)
        report(options, bucket_events=options.bucket_events // 4)


if __name__ == "__main__":
    main()
