"""Feature tables in batches: read the interactions once, then index and walk bucket after bucket in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from convpredict.engines.buckets import BUCKET_EVENTS, BucketRange, EventStore, read_events
from convpredict.engines.local import map_buckets
from convpredict.errors import DataError
from convpredict.history.history import TIMESTAMP, History

from .declarations import FeatureColumn
from .event_columns import Matrices, walk_events
from .event_plan import Coding, EventPlan, code_values, plan_events
from .feature_set import FeatureSet
from .index import Bucket, index_events
from .lead_columns import CrossLeadTables, lead_columns

Progress = Callable[[float], None]
Result = TypeVar("Result")
_CELLS_PER_BATCH = 4_000_000
_LEAST_ROWS = 256
_LEAST_BUCKETS = 8


@dataclass
class Stopwatch:
    """Busy seconds by part of a build, added up over threads, and what was read."""

    seconds: dict[str, float] = field(default_factory=dict)
    events: int = 0
    buckets: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time until the block ends to ``part``."""
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
        """Take the columns lead_row, lead_id and cutoff of a table.

        Raises DataError if it is not sorted by (lead_row, cutoff), or names leads that do not exist.
        """
        table = table.select(["lead_row", "lead_id", "cutoff"]).combine_chunks()
        lead_rows = table["lead_row"].cast(pa.int32()).to_numpy()
        cutoffs = table["cutoff"].cast(TIMESTAMP).cast(pa.int64()).to_numpy()
        steps = np.diff(lead_rows)
        if bool(((steps < 0) | ((steps == 0) & (np.diff(cutoffs) < 0))).any()):
            raise DataError(
                "the observations are not sorted by (lead_row, cutoff), so a lead cannot be walked in one go; "
                "sort them first"
            )
        if len(lead_rows) and (lead_rows[0] < 0 or lead_rows[-1] >= n_leads):
            raise DataError(
                f"the observations name lead_row {lead_rows[0]} to {lead_rows[-1]}, but the history has {n_leads} "
                "leads, so they belong to another one; make them from this history"
            )
        return cls(table, lead_rows, cutoffs)


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a feature table. ``matrices`` hold its memory and may be filled again once it is gone."""

    rows: pa.RecordBatch
    matrices: Matrices


class MatrixPool:
    """Matrices to fill again, which spares the system handing out and clearing memory for every batch."""

    def __init__(self) -> None:
        self._free: list[Matrices] = []
        self._lock = threading.Lock()

    def take(self) -> Matrices | None:
        """Matrices that nobody uses any more, if there are any."""
        with self._lock:
            return self._free.pop() if self._free else None

    def give(self, matrices: Matrices) -> None:
        """Hand matrices back whose batch is gone."""
        with self._lock:
            self._free.append(matrices)


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
) -> Iterator[pa.RecordBatch]:
    """Yield the feature table of the observations in record batches, in their order, in bounded memory.

    Parameters as in :func:`~convpredict.features.build.build_features`.
    """
    batches = iterate_batches(
        history, observations, feature_set, bucket_events=bucket_events, n_jobs=n_jobs, progress=progress
    )
    for batch in batches:
        yield batch.rows


def iterate_batches(
    history: History,
    observations: pa.Table,
    feature_set: FeatureSet,
    *,
    bucket_events: int,
    n_jobs: int | None,
    progress: Progress | None = None,
    spill_dir: Path | None = None,
    watch: Stopwatch | None = None,
    pool: MatrixPool | None = None,
) -> Iterator[Batch]:
    """Yield batches whose memory can be given back to ``pool``."""
    watch = watch or Stopwatch()
    observed = Observed.from_table(observations, history.n_leads)
    plan = plan_events(feature_set.columns, feature_set.vocabularies)
    with watch.measure("tables"):
        tables = CrossLeadTables.build(history, feature_set)
    rows = max(_LEAST_ROWS, _CELLS_PER_BATCH // max(1, len(feature_set.columns)))
    with watch.measure("read"):
        store = read_events(
            history,
            observed.lead_rows,
            observed.cutoffs,
            categories=plan.read_categories,
            numbers=plan.read_numbers,
            known=plan.vocabularies,
            bucket_events=bucket_events,
            bucket_observations=rows,
            spill_dir=spill_dir,
        )
    with store:
        watch.events, watch.buckets = store.n_events, len(store.buckets)
        schema = feature_schema(feature_set.columns, observed.table.schema.field("lead_id").type)
        coding = code_values(plan, {name: store.values(name) for name in plan.read_categories})
        builder = _Builder(
            history, observed, feature_set.columns, plan, coding, tables, schema, store, watch, pool
        )
        wanted = [bucket for bucket in store.buckets if bucket.observation_begin < bucket.observation_end]
        done = 0
        for batches in map_buckets(lambda bucket: builder.build(bucket, rows), wanted, n_jobs, ahead=6):
            for batch in batches:
                done += batch.rows.num_rows
                yield batch
            if progress is not None:
                progress(done / len(observed.cutoffs))


def map_features(
    history: History,
    requests: Sequence[tuple[pa.Table, FeatureSet]],
    function: Callable[[int, pa.RecordBatch], Result],
    *,
    bucket_events: int = BUCKET_EVENTS,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, int, Result]]:
    """Apply a function to the feature tables of several (observations, feature set), reading the history once.

    The interactions are read and indexed once for all requests, however many there are. ``function`` gets the
    number of the request and a record batch, in the thread that built it; the batch's memory is filled again
    afterwards, so nothing may keep it. Yields the number of the request, the
    position of the batch's first row among its observations, and the result. Parameters otherwise as in
    :func:`~convpredict.features.build.build_features`.
    """
    watch = Stopwatch()
    observed = [Observed.from_table(table, history.n_leads) for table, _ in requests]
    plans = [plan_events(wanted.columns, wanted.vocabularies) for _, wanted in requests]
    lead_rows, cutoffs = _all_observations(observed, history.n_leads)
    known: dict[str, tuple[str, ...]] = {}
    for plan in plans:
        for name, values in plan.vocabularies.items():
            known[name] = tuple(dict.fromkeys((*known.get(name, ()), *values)))
    most_columns = max((len(wanted.columns) for _, wanted in requests), default=1)
    rows = max(_LEAST_ROWS, _CELLS_PER_BATCH // max(1, most_columns))
    store = read_events(
        history,
        lead_rows,
        cutoffs,
        categories=tuple(dict.fromkeys(name for plan in plans for name in plan.read_categories)),
        numbers=tuple(dict.fromkeys(name for plan in plans for name in plan.read_numbers)),
        known=known,
        bucket_events=bucket_events,
        bucket_observations=max(rows, min(rows * len(requests), len(lead_rows) // _LEAST_BUCKETS)),
    )
    with store:
        pools: dict[tuple[int, int], MatrixPool] = {}
        builders: list[_Builder] = []
        tables: CrossLeadTables | None = None
        for (table, wanted), one, plan in zip(requests, observed, plans, strict=True):
            tables = CrossLeadTables.build(history, wanted, shared=tables)
            schema = feature_schema(wanted.columns, table.schema.field("lead_id").type)
            coding = code_values(plan, {name: store.values(name) for name in plan.read_categories})
            pool = pools.setdefault((len(plan.numbers), len(plan.categories)), MatrixPool())
            builders.append(
                _Builder(history, one, wanted.columns, plan, coding, tables, schema, store, watch, pool)
            )

        def work(bucket_range: BucketRange) -> list[tuple[int, int, Result]]:
            bucket = index_events(store.load(bucket_range))
            results = []
            for number, builder in enumerate(builders):
                leads = (bucket_range.lead_begin, bucket_range.lead_end)
                first, end = map(int, np.searchsorted(builder.observed.lead_rows, leads))
                for batch in builder.walk(bucket, first, end, rows):
                    results.append((number, first, function(number, batch.rows)))
                    first += batch.rows.num_rows
                    if builder.pool is not None:
                        builder.pool.give(batch.matrices)
            return results

        wanted_buckets = [b for b in store.buckets if b.observation_begin < b.observation_end]
        for done, results in enumerate(map_buckets(work, wanted_buckets, n_jobs), 1):
            yield from results
            if progress is not None:
                progress(done / len(wanted_buckets))


def _all_observations(
    observed: Sequence[Observed], n_leads: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The lead of every observation of several requests, ascending, each with the lead's last cutoff of all (µs)."""
    count, last = np.zeros(n_leads, np.int64), np.full(n_leads, np.iinfo(np.int64).min, np.int64)
    for one in observed:
        count += np.bincount(one.lead_rows, minlength=n_leads)
        own = last.copy()
        own[one.lead_rows] = one.cutoffs
        np.maximum(last, own, out=last)
    return np.repeat(np.arange(n_leads, dtype=np.int32), count), np.repeat(last, count)


@dataclass(frozen=True)
class _Builder:
    """Everything that turns a bucket into batches; safe to use from several threads."""

    history: History
    observed: Observed
    columns: Sequence[FeatureColumn]
    plan: EventPlan
    coding: Coding
    tables: CrossLeadTables
    schema: pa.Schema
    store: EventStore
    watch: Stopwatch
    pool: MatrixPool | None

    def build(self, bucket_range: BucketRange, rows: int) -> list[Batch]:
        """The batches of one bucket, of at most ``rows`` observations each."""
        with self.watch.measure("index"):
            bucket = index_events(self.store.load(bucket_range))
        return list(self.walk(bucket, bucket_range.observation_begin, bucket_range.observation_end, rows))

    def walk(self, bucket: Bucket, first: int, end: int, rows: int) -> Iterator[Batch]:
        """Batches of at most ``rows`` of the observations from ``first`` to ``end``, whose leads a bucket holds."""
        for begin in range(first, end, rows):
            part = slice(begin, min(begin + rows, end))
            with self.watch.measure("kernels"):
                matrices = walk_events(
                    bucket,
                    self.observed.lead_rows[part],
                    self.observed.cutoffs[part],
                    self.plan,
                    self.coding,
                    reuse=self.pool.take() if self.pool is not None else None,
                )
            observations = self.observed.table.slice(part.start, part.stop - part.start)
            with self.watch.measure("tables"):
                arrays = lead_columns(self.history, self.tables, observations, self.columns)
            names = [column.name for column in (*self.plan.numbers, *self.plan.categories)]
            arrays.update(zip(names, (*matrices.numbers, *matrices.categories), strict=True))
            yield Batch(self._record_batch(observations, arrays), matrices)

    def _record_batch(self, observations: pa.Table, arrays: Mapping[str, npt.NDArray[Any]]) -> pa.RecordBatch:
        n = observations.num_rows
        ids = [observations["lead_id"], observations["cutoff"].cast(TIMESTAMP)]
        out = [column.combine_chunks() if column.num_chunks != 1 else column.chunk(0) for column in ids]
        for column in self.columns:
            values = arrays[column.name][:n]
            if column.type == "number":
                out.append(pa.array(values))
            else:
                codes = pa.array(values, mask=values < 0)
                out.append(pa.DictionaryArray.from_arrays(codes, pa.array(column.categories, pa.string())))
        return pa.RecordBatch.from_arrays(out, schema=self.schema)
