"""Work that is safe bucket by bucket: each finished bucket of rows is one Parquet file, and is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...files import write_file, write_json


@dataclass(frozen=True)
class Bucket:
    """Finished rows ``begin`` to ``end``, and what was noted about them."""

    number: int
    begin: int
    end: int
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class BucketStore:
    """Buckets of consecutive rows, finished in order, as ``<n>.parquet`` and ``<n>.json`` in a folder.

    A bucket counts as finished once its JSON is there, which is written last and holds the checksum of the rows.
    """

    folder: Path

    def finished(self) -> list[Bucket]:
        """The finished buckets from the first row on, without a gap. What follows a damaged one is removed."""
        found: list[Bucket] = []
        while (bucket := self._read_note(len(found), found[-1].end if found else 0)) is not None:
            found.append(bucket)
        for path in self.folder.glob("*.json"):
            if path.stem.isdigit() and int(path.stem) >= len(found):
                path.unlink()
        return found

    def add(self, table: pa.Table, begin: int, number: int, notes: Mapping[str, Any]) -> Bucket:
        """Write the rows from ``begin`` on as the bucket of that number; it is finished when this returns."""
        path = self._rows(number)
        write_file(path, lambda file: pq.write_table(table, file, compression="zstd", compression_level=1))
        bucket = Bucket(number, begin, begin + table.num_rows, notes)
        note = {"begin": bucket.begin, "end": bucket.end, "sha256": _sha256(path), "notes": notes}
        write_json(note, self._note(number))
        return bucket

    def read(self, schema: pa.Schema) -> pa.Table:
        """The rows of all finished buckets, in order; ``schema`` is theirs, for when there is none."""
        tables = [pq.read_table(self._rows(bucket.number)) for bucket in self.finished()]
        return pa.concat_tables([schema.empty_table(), *tables])

    def fill(
        self, batches: Iterable[tuple[pa.Table, Mapping[str, Any]]], least_rows: int, total: int
    ) -> Iterator[Bucket]:
        """Write batches, which continue the finished rows, as further buckets of at least ``least_rows`` each.

        The last bucket may be smaller. Batches are whole in their bucket: their notes cannot be cut. Yields each
        bucket when it is safe.
        """
        done = self.finished()
        begin, number = (done[-1].end, done[-1].number + 1) if done else (0, 0)
        tables: list[pa.Table] = []
        notes: list[Mapping[str, Any]] = []
        for table, note in batches:
            tables.append(table)
            notes.append(note)
            rows = sum(one.num_rows for one in tables)
            if rows >= least_rows or begin + rows == total:
                bucket = self.add(pa.concat_tables(tables), begin, number, {"batches": notes})
                begin, number = bucket.end, number + 1
                tables, notes = [], []
                yield bucket

    def _rows(self, number: int) -> Path:
        return self.folder / f"{number}.parquet"

    def _note(self, number: int) -> Path:
        return self.folder / f"{number}.json"

    def _read_note(self, number: int, begin: int) -> Bucket | None:
        try:
            stored = json.loads(self._note(number).read_text(encoding="utf-8"))
            sound = stored["begin"] == begin and stored["sha256"] == _sha256(self._rows(number))
            return Bucket(number, begin, int(stored["end"]), stored["notes"]) if sound else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
