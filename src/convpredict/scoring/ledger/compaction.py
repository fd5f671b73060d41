"""Rewriting the files of a ledger: merging finished months, erasing leads. The index decides what readers see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ...errors import DataError
from .index import Index, LedgerFile, changing
from .ledger import (
    ROW_GROUP,
    Snapshot,
    as_ids,
    check_rows,
    drop_replaced,
    readable,
    reason_of,
    schema_of,
    unified,
    with_rows_left,
    write_rows,
)

_RANGE_ROWS = 1_000_000


def compact(folder: Path) -> list[str]:
    """Merge the runs of every finished month into one file; tells the months that were merged.

    The merged file is written first, then the index names it in place of the others in one step, then these are
    deleted: whenever the process dies, a reader sees every run exactly once, and the next writer tidies up.

    Raises DataError where the rows of a run are not those that were appended; its month stays as it is.
    """
    merged = []
    with changing(folder) as index:
        for month in _finished(index):
            parts = [file for file in index.files if _month(index, file) == month]
            if len(parts) == 1 and parts[0].is_merged:
                continue
            for part in parts:
                if not part.is_merged:
                    check_rows(folder, index, part)
            runs = [run for file in parts for run in file.runs]
            file = LedgerFile(f"months/{month}.{index.next_file}.parquet", tuple(sorted(runs)))
            schema = unified([schema_of(folder / part.path) for part in parts])
            told = [index.runs[run] for run in file.runs]
            write_rows(folder / file.path, _merged(folder, parts), schema, told)
            index = drop_replaced(folder, index, index.with_files(parts, (file,)))
            merged.append(month)
    return merged


def erase(folder: Path, lead_ids: Sequence[Any], unread: dict[str, str] | None = None) -> int:
    """Write every file that holds one of the leads anew without them; tells how many scores are gone.

    With ``unread`` files that cannot be read are told there and left as they are.
    """
    if not folder.is_dir():
        return 0
    erased: Counter[str] = Counter()
    with changing(folder) as former:
        index = former
        for file in former.files:
            try:
                index, found = _erased(folder, index, file, lead_ids)
            except (DataError, FileNotFoundError) as error:
                if unread is None:
                    raise
                unread[str(folder / file.path)] = reason_of(error)
                continue
            erased += found
        drop_replaced(folder, former, index)
    return sum(erased.values())


def _erased(
    folder: Path, index: Index, file: LedgerFile, lead_ids: Sequence[Any]
) -> tuple[Index, Counter[str]]:
    """Write a file anew without the leads, if it holds any: the index that names it, and the rows by run."""
    found = _found(folder / file.path, lead_ids)
    if not found:
        return index, found
    kind, name = file.path.split("/")
    stem = name.rsplit(".", 2)[0]
    new = LedgerFile(f"{kind}/{stem}.{index.next_file}.parquet", file.runs)
    index = index.with_files((file,), (new,)).with_runs(
        [with_rows_left(index.runs[run], count) for run, count in found.items()]
    )
    schema = schema_of(folder / file.path).remove_metadata()
    told = [index.runs[run] for run in file.runs]
    write_rows(folder / new.path, _without(folder / file.path, lead_ids), schema, told)
    return index, found


def _finished(index: Index) -> list[str]:
    months = sorted({run.month for run in index.runs.values()})
    return months[:-1]


def _month(index: Index, file: LedgerFile) -> str:
    return index.runs[file.runs[0]].month


def _merged(folder: Path, parts: Sequence[LedgerFile]) -> Iterator[pa.Table]:
    """The rows of several files, sorted by lead and cutoff, range by range of the leads."""
    paths = [folder / part.path for part in parts]
    snapshot = Snapshot(paths, None, None, None)
    cuts = _cuts(paths)
    lead = ds.field("lead_id")
    for low, high in zip([None, *cuts], [*cuts, None], strict=True):
        above = None if low is None else lead >= low
        below = None if high is None else lead < high
        inside = above if below is None else below if above is None else above & below
        rows = snapshot.read(inside)
        keys = [("lead_id", "ascending"), ("cutoff", "ascending"), ("run_id", "ascending")]
        yield rows.take(pc.sort_indices(rows, keys))


def _cuts(paths: Sequence[Path]) -> list[Any]:
    """Leads at which to cut, so that about a million rows of all files lie between two of them.

    The first lead of every row group of the sorted files tells how the leads are spread.
    """
    starts: list[tuple[Any, int]] = []
    for path in paths:
        with readable(path), pq.ParquetFile(path) as file:
            position = file.schema_arrow.get_field_index("lead_id")
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                statistics = group.column(position).statistics
                if statistics is None or not statistics.has_min_max:
                    continue
                starts.append((statistics.min, group.num_rows))
    cuts: list[Any] = []
    rows = 0
    for lead, count in sorted(starts):
        if rows >= _RANGE_ROWS and (not cuts or lead > cuts[-1]):
            cuts.append(lead)
            rows = 0
        rows += count
    return cuts


def _found(path: Path, lead_ids: Sequence[Any]) -> Counter[str]:
    """How many rows of a file belong to the leads, by run."""
    snapshot = Snapshot([path], None, lead_ids, ["run_id"])
    return Counter(snapshot.read()["run_id"].to_pylist())


def _without(path: Path, lead_ids: Sequence[Any]) -> Iterator[pa.Table]:
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        ids = as_ids(lead_ids, file.schema_arrow.field("lead_id").type)
        for batch in file.iter_batches(batch_size=ROW_GROUP):
            rows = pa.Table.from_batches([batch])
            yield rows.filter(pc.invert(pc.is_in(rows["lead_id"], value_set=ids)))
