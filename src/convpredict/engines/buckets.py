"""Cut a history's interactions into buckets of leads, read once, in memory bounded by the bucket.

The interactions are scanned once in batches. Strings become int32 codes, rows that no observation can see are
dropped, and each batch is ordered by *cell* (a narrow range of leads). With more than one bucket the batches go to a
temporary file, column by column; a bucket is then a run of neighbouring cells, loaded from every batch.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from convpredict.history.history import History

Ints = npt.NDArray[np.int64]
CELLS_PER_BUCKET = 8


@dataclass(frozen=True)
class Events:
    """Interactions of the leads ``lead_begin <= lead_row < lead_end``, in the order of the source.

    ``lead`` is lead_row - lead_begin; times are int64 µs; ``visible_at`` is ``None`` where no record is late;
    ``codes`` holds one int32 array per category column (-1: missing), an index into the store's dictionary;
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
    """A bucket before it is loaded: a range of leads, the cells that hold it, and its number of events."""

    lead_begin: int
    lead_end: int
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
        """Codes of a string (or dictionary) column; unseen values are appended to the dictionary."""
        encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        local = encoded.dictionary.cast(pa.string())
        lookup = pc.index_in(local, value_set=self.values)
        if lookup.null_count:
            fresh = local.filter(pc.and_(pc.is_null(lookup), pc.is_valid(local)))
            self.values = pa.concat_arrays([self.values, fresh])
            lookup = pc.index_in(local, value_set=self.values)
        codes = np.append(lookup.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32), np.int32(-1))
        indices = encoded.indices.cast(pa.int32()).fill_null(len(local))
        result: npt.NDArray[np.int32] = codes[indices.to_numpy(zero_copy_only=False)]
        return result


@njit(cache=True, nogil=True)
def _order_by_cell(
    lead: Any, visible_at: Any, last_cutoff: Any, leads_per_cell: int, n_cells: int
) -> Any:  # pragma: no cover - compiled
    """Positions of the rows that some observation can see, ordered by cell, and where each cell starts."""
    starts = np.zeros(n_cells + 1, np.int64)
    for i in range(len(lead)):
        if visible_at[i] < last_cutoff[lead[i]]:
            starts[lead[i] // leads_per_cell + 1] += 1
    for cell in range(n_cells):
        starts[cell + 1] += starts[cell]
    cursor = starts[:-1].copy()
    order = np.empty(starts[n_cells], np.int64)
    for i in range(len(lead)):
        if visible_at[i] < last_cutoff[lead[i]]:
            cell = lead[i] // leads_per_cell
            order[cursor[cell]] = i
            cursor[cell] += 1
    return order, starts


@dataclass(frozen=True)
class _Block:
    """One batch: its cells' first rows, and its columns in memory or their places in the temporary file."""

    starts: Ints
    columns: tuple[npt.NDArray[Any], ...] = ()
    places: tuple[tuple[int, np.dtype[Any]], ...] = ()


@dataclass
class EventStore:
    """The encoded interactions of a history, ready to be loaded bucket by bucket. Use it as a context manager."""

    categories: tuple[str, ...]
    numbers: tuple[str, ...]
    n_leads: int
    leads_per_cell: int
    late: bool
    dictionaries: dict[str, Dictionary]
    buckets: list[BucketRange] = field(default_factory=list)
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
            self._file = None

    def values(self, column: str) -> list[str]:
        """The text values of a category column, in the order of their codes."""
        texts: list[str] = self.dictionaries[column].values.to_pylist()
        return texts

    def load(self, bucket: BucketRange) -> Events:
        """Read one bucket. Safe to call from several threads."""
        columns = [np.empty(bucket.n_events, dtype) for dtype in self._dtypes()]
        position = 0
        for block in self._blocks:
            begin, end = int(block.starts[bucket.cell_begin]), int(block.starts[bucket.cell_end])
            for number, column in enumerate(columns):
                target = column[position : position + end - begin]
                if block.columns:
                    target[:] = block.columns[number][begin:end]
                elif end > begin:
                    offset, dtype = block.places[number]
                    self._read(target, offset + begin * dtype.itemsize)
            position += end - begin
        lead, occurred_at, tie = columns[0], columns[1], columns[2]
        lead -= np.int32(bucket.lead_begin)
        first = 4 if self.late else 3
        middle = first + len(self.categories)
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

    def _read(self, target: npt.NDArray[Any], offset: int) -> None:
        assert self._file is not None  # noqa: S101 - blocks without columns exist only beside a file
        view = memoryview(target).cast("B")
        while len(view):
            size = os.preadv(self._file.fileno(), [view], offset)
            if size == 0:
                raise OSError("the temporary file of interactions ended early; is the disk full?")
            view = view[size:]
            offset += size

    def append(self, batch: pa.RecordBatch, last_cutoff: Ints, n_cells: int) -> None:
        """Encode one batch of :meth:`History.scan`, order it by cell and keep it."""
        lead = _numpy(batch.column("lead_row"))
        occurred_at = _numpy(batch.column("occurred_at"))
        visible_at = _numpy(batch.column("visible_at")) if self.late else occurred_at
        order, starts = _order_by_cell(lead, visible_at, last_cutoff, self.leads_per_cell, n_cells)
        columns = [lead, occurred_at, _numpy(batch.column("tie"))]
        if self.late:
            columns.append(visible_at)
        columns += [self.dictionaries[name].encode(batch.column(name)) for name in self.categories]
        columns += [_finite(batch.column(name)) for name in self.numbers]
        kept = tuple(column[order] for column in columns)
        if self._file is None:
            self._blocks.append(_Block(starts, kept))
            return
        places = []
        for column in kept:
            places.append((self._file.tell(), column.dtype))
            self._file.write(memoryview(column).cast("B"))
        self._blocks.append(_Block(starts, places=tuple(places)))

    def cut(self, n_cells: int, bucket_events: int) -> None:
        """Join neighbouring cells into buckets of at most ``bucket_events`` events (a cell is never cut)."""
        if self._file is not None:
            self._file.flush()
        sizes = np.zeros(n_cells, np.int64)
        for block in self._blocks:
            sizes += np.diff(block.starts)
        begin, events = 0, 0
        for cell, size in enumerate(sizes.tolist()):
            if events and events + size > bucket_events:
                self._add_bucket(begin, cell, events)
                begin, events = cell, 0
            events += size
        self._add_bucket(begin, n_cells, events)

    def _add_bucket(self, begin: int, end: int, n_events: int) -> None:
        first, last = begin * self.leads_per_cell, min(end * self.leads_per_cell, self.n_leads)
        self.buckets.append(BucketRange(first, last, begin, end, n_events))


def _numpy(column: pa.Array) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def _finite(column: pa.Array) -> npt.NDArray[np.float64]:
    """Numbers as float64: missing and infinite ones as NaN, and no negative zero."""
    array = np.array(column.to_numpy(zero_copy_only=False), np.float64)
    array[~np.isfinite(array)] = np.nan
    array += 0.0
    return array


def read_events(
    history: History,
    last_cutoff: Ints,
    *,
    categories: Sequence[str] = (),
    numbers: Sequence[str] = (),
    bucket_events: int = 4_000_000,
    spill_dir: Path | None = None,
) -> EventStore:
    """Read the interactions of a history once and cut them into buckets of leads.

    ``last_cutoff`` (int64 µs, one per lead) is the last cutoff at which the lead is observed, or the smallest int64 if
    it never is: rows that become visible at or after it are dropped. ``categories`` and ``numbers`` name the columns to
    keep (``kind`` or attributes). A bucket holds about ``bucket_events`` events; with more than one, the events pass
    through a temporary file in ``spill_dir``.
    """
    expected = max(1, -(-history.n_interactions // bucket_events))
    n_cells = 1 if expected == 1 else max(1, min(history.n_leads, expected * CELLS_PER_BUCKET))
    leads_per_cell = max(1, -(-history.n_leads // n_cells))
    n_cells = max(1, -(-history.n_leads // leads_per_cell))
    store = EventStore(
        tuple(categories),
        tuple(numbers),
        history.n_leads,
        leads_per_cell,
        history.has_late_records,
        {name: Dictionary() for name in categories},
    )
    if n_cells > 1:
        store._file = tempfile.TemporaryFile(dir=spill_dir)
    try:
        attributes = [name for name in (*categories, *numbers) if name != "kind"]
        where = f"visible_at < {int(last_cutoff.max())}" if len(last_cutoff) else "false"
        for batch in history.scan(attributes, where=where):
            store.append(batch, last_cutoff, n_cells)
        store.cut(n_cells, bucket_events)
    except BaseException:
        store.close()
        raise
    return store
