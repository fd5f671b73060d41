"""Build the feature table of some observations: read once, index by bucket, walk, and hand out or write."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from convpredict.engines.buckets import EventStore, read_events
from convpredict.engines.local import map_buckets
from convpredict.errors import DataError
from convpredict.history.history import TIMESTAMP, History

from .declarations import FeatureColumn
from .event_columns import Coding, EventPlan, code_values, plan_events, walk_events
from .feature_set import FeatureSet
from .index import Bucket, index_events
from .lead_columns import CrossLeadTables, lead_columns

BUCKET_EVENTS = 4_000_000
_CELLS_PER_PIECE = 20_000_000
Progress = Callable[[float], None]


@dataclass(frozen=True)
class BuildStatistics:
    """What a build took. The parts overlap in threads: their seconds are busy seconds and may exceed the whole."""

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


@dataclass
class Stopwatch:
    """Busy seconds by part of a build, added up over threads."""

    seconds: dict[str, float] = field(default_factory=dict)
    events: int = 0
    buckets: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begin


@dataclass(frozen=True)
class Observed:
    """Observations as arrays: lead_row int32 and cutoff int64 µs, sorted by both, beside the table."""

    table: pa.Table
    lead_rows: npt.NDArray[np.int32]
    cutoffs: npt.NDArray[np.int64]

    @classmethod
    def from_table(cls, table: pa.Table, n_leads: int) -> Observed:
        """Check the table (lead_row, lead_id, cutoff). Raises DataError if it is not sorted or names unknown leads."""
        lead_rows = table["lead_row"].cast(pa.int32()).to_numpy()
        cutoffs = table["cutoff"].cast(TIMESTAMP).cast(pa.int64()).to_numpy()
        steps = np.diff(lead_rows)
        if bool(((steps < 0) | ((steps == 0) & (np.diff(cutoffs) < 0))).any()):
            raise DataError(
                "the observations are not sorted by (lead_row, cutoff), so each lead cannot be walked once; "
                "sort them first"
            )
        if len(lead_rows) and (lead_rows[0] < 0 or lead_rows[-1] >= n_leads):
            raise DataError(
                f"the observations name lead_row {lead_rows[0]} to {lead_rows[-1]}, but the history has "
                f"{n_leads} leads; make them from the same history"
            )
        return cls(table.select(["lead_row", "lead_id", "cutoff"]), lead_rows, cutoffs)

    def last_cutoffs(self, n_leads: int) -> npt.NDArray[np.int64]:
        """The last cutoff of every lead; the smallest int64 for leads that are not observed."""
        last = np.full(n_leads, np.iinfo(np.int64).min, np.int64)
        last[self.lead_rows] = self.cutoffs
        return last


@dataclass(frozen=True)
class Piece:
    """Some consecutive observations and the bucket that holds their leads' events."""

    bucket: Bucket
    begin: int
    end: int


def feature_schema(columns: Sequence[FeatureColumn], lead_id: pa.DataType) -> pa.Schema:
    """Schema of a feature table: lead_id, cutoff, float32 per number, dictionary<int32, string> per category."""
    category = pa.dictionary(pa.int32(), pa.string())
    fields = [
        pa.field(column.name, pa.float32(), nullable=False)
        if column.type == "number"
        else pa.field(column.name, category)
        for column in columns
    ]
    return pa.schema([pa.field("lead_id", lead_id), pa.field("cutoff", TIMESTAMP), *fields])


def iterate_features(
    history: History,
    observations: pa.Table,
    feature_set: FeatureSet,
    *,
    bucket_events: int = BUCKET_EVENTS,
    n_jobs: int | None = None,
    progress: Progress | None = None,
    spill_dir: Path | None = None,
    stopwatch: Stopwatch | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the feature table of the observations in record batches, in their order, in bounded memory.

    ``observations`` has lead_row int32, lead_id, cutoff (UTC), sorted by (lead_row, cutoff). ``progress`` is called
    with the share done, from 0 to 1.
    """
    watch = stopwatch or Stopwatch()
    observed = Observed.from_table(observations, history.n_leads)
    schema = feature_schema(feature_set.columns, observations.schema.field("lead_id").type)
    plan = plan_events(feature_set.columns, feature_set.vocabularies)
    with watch("tables"):
        tables = CrossLeadTables.build(history, feature_set)
    with watch("read"):
        store = read_events(
            history,
            observed.last_cutoffs(history.n_leads),
            categories=plan.read_categories,
            numbers=plan.read_numbers,
            bucket_events=bucket_events,
            spill_dir=spill_dir,
        )
    with store:
        watch.buckets = len(store.buckets)
        watch.events = sum(bucket.n_events for bucket in store.buckets)
        coding = code_values(plan, {name: store.values(name) for name in plan.read_categories})

        def compute(piece: Piece) -> pa.RecordBatch:
            rows = observed.table.slice(piece.begin, piece.end - piece.begin)
            with watch("kernels"):
                arrays = _event_arrays(piece, observed, plan, coding)
            with watch("tables"):
                arrays |= lead_columns(history, tables, rows, feature_set.columns)
            return _record_batch(rows, feature_set.columns, arrays, schema)

        rows = max(1024, _CELLS_PER_PIECE // max(1, len(feature_set.columns)))
        done = 0
        for batch in map_buckets(compute, _pieces(store, observed, rows, watch), n_jobs):
            yield batch
            done += batch.num_rows
            if progress is not None:
                progress(done / len(observed.cutoffs))


def _pieces(store: EventStore, observed: Observed, rows: int, watch: Stopwatch) -> Iterator[Piece]:
    """Load and index one bucket after the other, and cut its observations into pieces of at most ``rows``."""
    for bucket_range in store.buckets:
        begin, end = np.searchsorted(
            observed.lead_rows, [bucket_range.lead_begin, bucket_range.lead_end]
        ).tolist()
        if begin == end:
            continue
        with watch("index"):
            bucket = index_events(store.load(bucket_range))
        for start in range(begin, end, rows):
            yield Piece(bucket, start, min(start + rows, end))


def _event_arrays(
    piece: Piece, observed: Observed, plan: EventPlan, coding: Coding
) -> dict[str, npt.NDArray[Any]]:
    part = slice(piece.begin, piece.end)
    numbers, categories = walk_events(
        piece.bucket, observed.lead_rows[part], observed.cutoffs[part], plan, coding
    )
    arrays: dict[str, npt.NDArray[Any]] = {}
    arrays.update(zip((column.name for column in plan.numbers), numbers, strict=True))
    arrays.update(zip((column.name for column in plan.categories), categories, strict=True))
    return arrays


def _record_batch(
    rows: pa.Table,
    columns: Sequence[FeatureColumn],
    arrays: Mapping[str, npt.NDArray[Any]],
    schema: pa.Schema,
) -> pa.RecordBatch:
    out = [_whole(rows["lead_id"]), _whole(rows["cutoff"].cast(TIMESTAMP))]
    for column in columns:
        values = arrays[column.name]
        if column.type == "number":
            out.append(pa.array(values))
        else:
            codes = pa.array(values, mask=values < 0)
            out.append(pa.DictionaryArray.from_arrays(codes, pa.array(column.categories, pa.string())))
    return pa.RecordBatch.from_arrays(out, schema=schema)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


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

    Columns: lead_id, cutoff, then float32 per number (missing: NaN) and dictionary<int32, string> per category
    (missing: null). Raises DataError if the observations are not sorted by (lead_row, cutoff).
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

    The file appears whole or not at all: it is written beside its place, synced and renamed.
    """
    begin = time.perf_counter()
    watch = Stopwatch()
    schema = feature_schema(feature_set.columns, observations.schema.field("lead_id").type)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    rows = 0
    try:
        with open(partial, "wb") as file:
            with pq.ParquetWriter(file, schema, **_parquet_options(schema)) as writer:
                for batch in iterate_features(
                    history,
                    observations,
                    feature_set,
                    bucket_events=bucket_events,
                    n_jobs=n_jobs,
                    progress=progress,
                    spill_dir=path.parent,
                    stopwatch=watch,
                ):
                    with watch("write"):
                        writer.write_table(pa.Table.from_batches([batch]), row_group_size=batch.num_rows)
                    rows += batch.num_rows
            with watch("write"):
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return BuildStatistics(
        rows=rows,
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


def _parquet_options(schema: pa.Schema) -> dict[str, object]:
    texts = [
        field.name for field in schema if not pa.types.is_floating(field.type) and field.name != "cutoff"
    ]
    return {"compression": "lz4", "use_dictionary": texts, "write_statistics": ["lead_id", "cutoff"]}


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
