"""Cut a history's interactions into buckets of leads, read once, in memory bounded by the bucket.

The interactions are scanned once in batches. Strings become int32 codes, rows that no observation can see
are dropped, and each batch is ordered by *cell*, a narrow range of leads. More events than one bucket may
hold go to a temporary file, column by column. A bucket is a run of neighbouring cells, gathered from every
batch.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from convpredict.history.history import History, position_in

from .local import map_buckets

Ints = npt.NDArray[np.int64]
BUCKET_EVENTS = 4_000_000
_TASK_EVENTS = 250_000
_BATCH_ROWS = 1_000_000
_MAX_CELLS = 1_000
_MANY_EVENTS = 1_000_000
_FEW_VALUES = 40


@dataclass(frozen=True)
class Events:
    """Interactions of the leads ``lead_begin <= lead_row < lead_end``, in the order of the source.

    ``lead`` is lead_row - lead_begin; times are int64 µs; ``visible_at`` is ``None`` where no record is late;
    ``codes`` holds one int32 array per category column (-1: missing), an index into the values of the store;
    ``numbers`` one float64 array per numeric attribute (NaN: missing).
    """

    lead_begin: int
    lead_end: int
    lead: npt.NDArray[np.int32]
    occurred_at: Ints
    visible_at: Ints | None
    tie: Ints
    codes: Mapping[str, npt.NDArray[np.int32]]
    numbers: Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class BucketRange:
    """A bucket before it is loaded: a range of leads, of observations and of cells, and its number of events."""

    lead_begin: int
    lead_end: int
    observation_begin: int
    observation_end: int
    cell_begin: int
    cell_end: int
    n_events: int


class Dictionary:
    """Text values of one category column and their codes, in the order in which they were first met.

    >>> dictionary = Dictionary()
    >>> dictionary.encode(pa.array(["call", None, "visit", "call"])).tolist()
    [0, -1, 1, 0]
    >>> dictionary.values.to_pylist()
    ['call', 'visit']
    """

    def __init__(self) -> None:
        self.values: pa.Array = pa.array([], pa.string())

    def encode(self, column: pa.Array) -> npt.NDArray[np.int32]:
        """Codes of a string (or dictionary) column; unseen values are appended to the dictionary.

        An int16 column holds the positions of values that are all known already, from 1 on.
        """
        if pa.types.is_int16(column.type):
            positions = column.fill_null(0) if column.null_count else column
            found: npt.NDArray[np.int32] = np.subtract(_numpy(positions), 1, dtype=np.int32)
            return found
        encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        local = encoded.dictionary.cast(pa.string())
        lookup = pc.index_in(local, value_set=self.values)
        if lookup.null_count:
            fresh = local.filter(pc.and_(pc.is_null(lookup), pc.is_valid(local)))
            self.values = pa.concat_arrays([self.values, fresh])
            lookup = pc.index_in(local, value_set=self.values)
        codes = np.append(_numpy(lookup.fill_null(-1)).astype(np.int32), np.int32(-1))
        indices = encoded.indices.cast(pa.int32())
        if indices.null_count:
            indices = indices.fill_null(len(local))
        elif np.array_equal(codes[:-1], np.arange(len(local))):
            return _numpy(indices)
        result: npt.NDArray[np.int32] = np.take(codes, _numpy(indices), mode="clip")
        return result


@njit(cache=True, nogil=True)
def _order_by_cell(
    lead: Any, visible_at: Any, last_cutoff: Any, shift: int, n_cells: int
) -> Any:  # pragma: no cover - compiled
    """Positions of the rows that some observation can see, ordered by cell, and where each cell starts."""
    starts = np.zeros(n_cells + 1, np.int64)
    cells = np.empty(len(lead), np.int32)
    for i in range(len(lead)):
        cells[i] = lead[i] >> shift if visible_at[i] < last_cutoff[lead[i]] else -1
        if cells[i] >= 0:
            starts[cells[i] + 1] += 1
    for cell in range(n_cells):
        starts[cell + 1] += starts[cell]
    cursor = starts[:-1].copy()
    order = np.empty(starts[n_cells], np.int64)
    for i in range(len(lead)):
        if cells[i] >= 0:
            order[cursor[cells[i]]] = i
            cursor[cells[i]] += 1
    return order, starts


@dataclass(frozen=True)
class _Block:
    """One batch: its cells' first rows, and its columns in memory or their places in the temporary file."""

    starts: Ints
    columns: tuple[npt.NDArray[Any], ...] = ()
    places: tuple[int, ...] = ()


@dataclass
class EventStore:
    """The encoded interactions of a history, ready to be loaded bucket by bucket; a context manager."""

    categories: tuple[str, ...]
    numbers: tuple[str, ...]
    n_leads: int
    cell_shift: int
    late: bool
    buckets: list[BucketRange] = field(default_factory=list)
    _dictionaries: dict[str, Dictionary] = field(default_factory=dict)
    _blocks: list[_Block] = field(default_factory=list)
    _file: BinaryIO | None = None

    def __enter__(self) -> EventStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the events and remove the temporary file."""
        self._blocks.clear()
        if self._file is not None:
            self._file.close()

    @property
    def n_cells(self) -> int:
        """Number of cells; a cell holds ``1 << cell_shift`` leads."""
        return max(1, -(-self.n_leads >> self.cell_shift))

    @property
    def n_events(self) -> int:
        """Number of events kept."""
        return sum(bucket.n_events for bucket in self.buckets)

    def values(self, column: str) -> list[str]:
        """The text values of a category column, in the order of their codes."""
        texts: list[str] = self._dictionaries[column].values.to_pylist()
        return texts

    def load(self, bucket: BucketRange) -> Events:
        """Read one bucket. Safe to call from several threads."""
        columns = [np.empty(bucket.n_events, dtype) for dtype in self._dtypes()]
        position = 0
        for block in self._blocks:
            begin, end = int(block.starts[bucket.cell_begin]), int(block.starts[bucket.cell_end])
            for number, column in enumerate(columns):
                target = column[position : position + end - begin]
                if self._file is None:
                    target[:] = block.columns[number][begin:end]
                elif end > begin:
                    _read(self._file, target, block.places[number] + begin * column.dtype.itemsize)
            position += end - begin
        first = 4 if self.late else 3
        middle = first + len(self.categories)
        lead, occurred_at, tie = columns[:3]
        lead -= np.int32(bucket.lead_begin)
        return Events(
            bucket.lead_begin,
            bucket.lead_end,
            lead,
            occurred_at,
            columns[3] if self.late else None,
            tie,
            dict(zip(self.categories, columns[first:middle], strict=True)),
            dict(zip(self.numbers, columns[middle:], strict=True)),
        )

    def _dtypes(self) -> list[Any]:
        times = [np.int64] * (3 if self.late else 2)
        return [np.int32, *times, *[np.int32] * len(self.categories), *[np.float64] * len(self.numbers)]

    def append(self, batch: pa.RecordBatch, last_cutoff: Ints, pool: Executor) -> None:
        """Encode one batch of :meth:`History.scan`, order it by cell and keep it.

        Rows are dropped that become visible at or after their lead's ``last_cutoff``.
        """
        lead = _numpy(batch.column("lead_row"))
        seen = _numpy(batch.column("visible_at" if self.late else "occurred_at"))
        order, starts = _order_by_cell(lead, seen, last_cutoff, self.cell_shift, self.n_cells)
        names = ["lead_row", "occurred_at", "tie", *(["visible_at"] if self.late else [])]

        def keep(name: str) -> npt.NDArray[Any]:
            column = batch.column(name)
            values: npt.NDArray[Any]
            if name in self._dictionaries:
                values = self._dictionaries[name].encode(column)
            else:
                values = _finite(column) if name in self.numbers else _numpy(column)
            taken: npt.NDArray[Any] = np.take(values, order, mode="clip")
            return taken

        kept = tuple(pool.map(keep, (*names, *self.categories, *self.numbers)))
        if self._file is None:
            self._blocks.append(_Block(starts, columns=kept))
            return
        places = []
        for column in kept:
            places.append(self._file.tell())
            if len(column):
                self._file.write(column.data)
        self._blocks.append(_Block(starts, places=tuple(places)))

    def cut(self, lead_rows: npt.NDArray[np.int32], bucket_events: int, bucket_observations: int) -> None:
        """Join neighbouring cells into buckets while they stay within both limits; a cell is never cut."""
        if self._file is not None:
            self._file.flush()
        sizes = np.zeros(self.n_cells, np.int64)
        for block in self._blocks:
            sizes += np.diff(block.starts)
        leads = np.minimum(np.arange(self.n_cells + 1) << self.cell_shift, self.n_leads)
        observations = np.searchsorted(lead_rows, leads)
        events = np.concatenate(([0], np.cumsum(sizes)))
        begin = 0
        for end in range(1, self.n_cells + 1):
            full = end < self.n_cells and (
                events[end + 1] - events[begin] > bucket_events
                or observations[end + 1] - observations[begin] > bucket_observations
            )
            if full or end == self.n_cells:
                bounds = (*leads[[begin, end]], *observations[[begin, end]], begin, end)
                self.buckets.append(BucketRange(*map(int, (*bounds, events[end] - events[begin]))))
                begin = end


def read_events(
    history: History,
    lead_rows: npt.NDArray[np.int32],
    cutoffs: Ints,
    *,
    categories: Sequence[str] = (),
    numbers: Sequence[str] = (),
    known: Mapping[str, Sequence[str]] | None = None,
    bucket_events: int = BUCKET_EVENTS,
    bucket_observations: int = 100_000,
    spill_dir: Path | None = None,
) -> EventStore:
    """Read the interactions of a history once and cut them into buckets of leads.

    ``lead_rows`` and ``cutoffs`` (int64 µs) are the observations, sorted by both: interactions that none of a
    lead's observations can see are dropped. ``categories`` and ``numbers`` name the columns to keep (``kind``
    or attributes); ``known`` lists values that they are likely to have, which only makes it faster.
    At most ``bucket_events`` events are held in memory at once; if there are more they pass
    through a temporary file in ``spill_dir``. Buckets are smaller than that, so that they suit a CPU's cache.
    """
    task_events = min(bucket_events, max(_TASK_EVENTS, history.n_interactions // _MAX_CELLS))
    n_cells = max(history.n_interactions // task_events, len(lead_rows) // bucket_observations, 1)
    n_cells = max(min(n_cells, _MAX_CELLS), history.n_interactions // bucket_events, 1)
    store = EventStore(
        tuple(categories),
        tuple(numbers),
        history.n_leads,
        max(0, (history.n_leads // n_cells).bit_length() - 1),
        history.has_late_records,
    )
    store._dictionaries.update((name, Dictionary()) for name in categories)
    if history.n_interactions > bucket_events:
        store._file = tempfile.TemporaryFile(dir=spill_dir)  # noqa: SIM115 - closed by the store
    last_cutoff = np.full(history.n_leads, np.iinfo(np.int64).min, np.int64)
    last_cutoff[lead_rows] = cutoffs
    try:
        attributes = [name for name in (*categories, *numbers) if name != "kind"]
        where = f"visible_at < {int(cutoffs.max())}" if len(cutoffs) else "false"
        positions = _known_values(history, categories, known or {})
        for name, values in positions.items():
            store._dictionaries[name].values = pa.array(values, pa.string())
        batches = history.scan(attributes, where=where, batch_rows=_BATCH_ROWS, positions=positions)
        with ThreadPoolExecutor(2, thread_name_prefix="encode") as pool:
            encode = partial(store.append, last_cutoff=last_cutoff, pool=pool)
            # one batch is encoded, column by column, while the next is read
            for _ in map_buckets(encode, batches, 1, ahead=1, inline=False):
                pass
        store.cut(lead_rows, task_events, bucket_observations)
    except BaseException:
        store.close()
        raise
    return store


def _known_values(
    history: History, categories: Sequence[str], known: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Every value of the category columns that have few, when the interactions are many and read from a file.

    Such columns cross from DuckDB as small integers. It is not worth a look at the values otherwise, and a
    table in memory has no dictionaries that would make finding their positions cheap.
    """
    views = "SELECT 1 FROM duckdb_views() WHERE view_name = 'interactions' AND NOT internal"
    if history.n_interactions < _MANY_EVENTS or not history.query(views).num_rows:
        return {}
    found = {}
    for name in categories:
        likely = list(known.get(name, ()))
        if len(likely) > _FEW_VALUES:
            continue
        others = f'SELECT DISTINCT "{name}" AS v FROM interactions WHERE "{name}" IS NOT NULL'
        if likely:
            others += f" AND {position_in(likely, name)} IS NULL"
        rest = history.query(f"{others} LIMIT {_FEW_VALUES + 1}")["v"].to_pylist()
        if len(likely) + len(rest) <= _FEW_VALUES:
            found[name] = [*likely, *sorted(rest)]
    return found


def _read(file: BinaryIO, target: npt.NDArray[Any], offset: int) -> None:
    view = target.data.cast("B")
    while len(view):
        size = os.preadv(file.fileno(), [view], offset)
        if size == 0:
            raise OSError("the temporary file of interactions ended early; is the disk full?")
        view = view[size:]
        offset += size


def _numpy(column: pa.Array) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def _finite(column: pa.Array) -> npt.NDArray[np.float64]:
    """Numbers as float64: missing and infinite ones as NaN, and no negative zero."""
    array = np.array(column.to_numpy(zero_copy_only=False), np.float64)
    array[~np.isfinite(array)] = np.nan
    array += 0.0
    return array
