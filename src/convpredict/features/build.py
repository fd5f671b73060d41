"""Build the feature table of some observations, in memory or as a Parquet file."""

from __future__ import annotations

import os
import resource
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from convpredict.engines.buckets import BUCKET_EVENTS
from convpredict.files import sync
from convpredict.history.history import History

from .batches import Batch, MatrixPool, Progress, Stopwatch, feature_schema, iterate_batches, iterate_features
from .feature_set import FeatureSet

_ROWS_PER_GROUP = 100_000


@dataclass(frozen=True)
class BuildStatistics:
    """What a build took. The parts run in several threads: their busy seconds may add up to more than ``seconds``."""

    rows: int
    columns: int
    events: int
    buckets: int
    bytes: int
    seconds: float
    read_seconds: float
    index_seconds: float
    table_seconds: float
    kernel_seconds: float
    write_seconds: float
    peak_memory_bytes: int


def build_features(
    history: History,
    observations: pa.Table,
    feature_set: FeatureSet,
    *,
    bucket_events: int = BUCKET_EVENTS,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """The feature table of the observations, in their order, in memory.

    ``observations`` has the columns lead_row int32, lead_id and cutoff (UTC), sorted by (lead_row, cutoff). At most
    ``bucket_events`` interactions are held at once; ``n_jobs`` threads compute (all CPUs by default); ``progress`` is
    called with the share done, from 0 to 1. The result does not depend on either of the three.

    Columns: lead_id, cutoff, then float32 per number (missing: NaN) and dictionary<int32, string> per category
    (missing: null). Raises DataError if the observations are not sorted or name leads that do not exist.
    """
    schema = feature_schema(feature_set.columns, observations.schema.field("lead_id").type)
    batches = iterate_features(
        history, observations, feature_set, bucket_events=bucket_events, n_jobs=n_jobs, progress=progress
    )
    return pa.Table.from_batches(list(batches), schema)


def write_features(
    history: History,
    observations: pa.Table,
    feature_set: FeatureSet,
    path: Path,
    *,
    bucket_events: int = BUCKET_EVENTS,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> BuildStatistics:
    """Write the feature table of the observations to a Parquet file, in memory bounded by the bucket.

    Parameters as in :func:`build_features`. The file appears whole or not at all: it is written beside its place,
    synced and renamed.
    """
    begin = time.perf_counter()
    watch, pool = Stopwatch(), MatrixPool()
    schema = feature_schema(feature_set.columns, observations.schema.field("lead_id").type)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    batches = iterate_batches(
        history,
        observations,
        feature_set,
        bucket_events=bucket_events,
        n_jobs=n_jobs,
        progress=progress,
        spill_dir=path.parent,
        watch=watch,
        pool=pool,
    )
    try:
        with (
            pq.ParquetWriter(partial, schema, **_parquet_options(schema)) as writer,
            _Syncing(partial) as syncing,
        ):
            waiting: list[Batch] = []
            for batch in batches:
                waiting.append(batch)
                if sum(held.rows.num_rows for held in waiting) >= _ROWS_PER_GROUP:
                    _write_group(writer, waiting, watch, pool)
                    syncing.start()
            _write_group(writer, waiting, watch, pool)
        with watch.measure("write"):
            sync(partial)
            os.replace(partial, path)
            sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return BuildStatistics(
        rows=observations.num_rows,
        columns=len(feature_set.columns),
        events=watch.events,
        buckets=watch.buckets,
        bytes=path.stat().st_size,
        seconds=time.perf_counter() - begin,
        read_seconds=watch.seconds.get("read", 0.0),
        index_seconds=watch.seconds.get("index", 0.0),
        table_seconds=watch.seconds.get("tables", 0.0),
        kernel_seconds=watch.seconds.get("kernels", 0.0),
        write_seconds=watch.seconds.get("write", 0.0),
        peak_memory_bytes=_peak_memory_bytes(),
    )


def _write_group(writer: pq.ParquetWriter, waiting: list[Batch], watch: Stopwatch, pool: MatrixPool) -> None:
    """Write the waiting batches as one row group and give their memory back."""
    if not waiting:
        return
    with watch.measure("write"):
        table = pa.Table.from_batches([batch.rows for batch in waiting])
        writer.write_table(table, row_group_size=table.num_rows)
    for batch in waiting:
        pool.give(batch.matrices)
    waiting.clear()


def _parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """No dictionaries and statistics for floats: they cost more than they save; lz4 halves what the disk sees."""
    keys = ["lead_id", "cutoff"]
    categories = [entry.name for entry in schema if pa.types.is_dictionary(entry.type)]
    return {"compression": "lz4", "use_dictionary": ["lead_id", *categories], "write_statistics": keys}


class _Syncing:
    """Hands the file to the disk while it is still being written, so that little is left to wait for at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._running: Future[None] | None = None

    def __enter__(self) -> _Syncing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if self._running is not None and kind is None:
            self._running.result()

    def start(self) -> None:
        """Sync what has been written so far, unless the disk is still busy with an earlier call."""
        if self._running is not None:
            if not self._running.done():
                return
            self._running.result()
        self._running = self._thread.submit(sync, self._path)


def _peak_memory_bytes() -> int:
    """Most memory that this process has held; a child's ``ru_maxrss`` would begin with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if peaks:
            return int(peaks[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
