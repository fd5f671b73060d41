"""Rows of leads in files: found in every format that can be read, erased from Parquet and CSV."""

from __future__ import annotations

import csv
import gzip
import os
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...files import replacing
from .names import LeadNames

_BATCH_ROWS = 65_536
_CHUNK = 64 << 20
_TEXT = frozenset(
    (
        ".json",
        ".csv",
        ".tsv",
        ".txt",
        ".html",
        ".yaml",
        ".yml",
        ".md",
        ".log",
        ".jsonl",
        ".prom",
        ".py",
        ".svg",
        "",
    )
)
_DUCKDB_MAGIC, _SQLITE_MAGIC, _PARQUET_MAGIC = b"DUCK", b"SQLite format 3\0", b"PAR1"


def files_below(root: Path) -> Iterator[Path]:
    """Every file below a folder, hidden ones too, or the file itself; symbolic links to folders are not followed."""
    if root.is_file():
        yield root
    for folder, folders, names in os.walk(root):
        folders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def erase_rows(path: Path, names: LeadNames, found: set[str] | None = None) -> int:
    """Write a Parquet or CSV file anew without the rows of the leads; tells how many are gone.

    A reader sees the old file or the new one. Other files are left alone. The ids that the rows held join ``found``.
    """
    kind = _kind(path)
    whose = found if found is not None else set()
    if kind == "parquet":
        return _erase_parquet(path, names, whose)
    return _erase_csv(path, names, whose) if path.suffix in (".csv", ".tsv") else 0


def count_found(path: Path, names: LeadNames) -> tuple[int, str]:
    """How many rows, lines or places of a file hold one of the ids, and how it was looked at.

    Tables are decoded and looked at value by value; of every file that is no table the bytes are looked at too.
    """
    kind = _kind(path)
    if kind == "parquet":
        rows = sum(int(names.in_table(table).sum()) for table in _parquet_tables(path, names))
        within = _found_in_schema(path, names) or _found_in_bytes(path, names)
        return (rows, "rows") if rows else (within, "bytes")
    if kind == "database":
        rows, within = _found_in_database(path, names)
        stale = 0 if rows or within else _found_in_bytes(path, names, alone=False)
        return (rows, "rows") if rows or not stale else (stale, "bytes")
    if kind == "gzip":
        with gzip.open(path, "rb") as packed:
            return _found_in_member(path.name.removesuffix(".gz"), packed.read(), names), "lines"
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            return sum(_found_in_member(each, archive.read(each), names) for each in members), "lines"
    if kind == "csv":
        rows = len(_csv_hits(_read_lines(path), _delimiter(path.suffix), names))
        return (rows, "rows") if rows else (_found_in_text(_read(path), names), "lines")
    if kind == "text":
        return _found_in_text(_read(path), names), "lines"
    return _found_in_bytes(path, names), "bytes"


def _kind(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(_PARQUET_MAGIC) or path.suffix == ".parquet":
        return "parquet"
    if head.startswith(_SQLITE_MAGIC) or head[8:12] == _DUCKDB_MAGIC:
        return "database"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if path.suffix in (".csv", ".tsv"):
        return "csv"
    return "text" if path.suffix.lower() in _TEXT else "other"


def _parquet_tables(path: Path, names: LeadNames | None = None) -> Iterator[pa.Table]:
    """The rows of a Parquet file; with ``names`` only the columns that may hold an id."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        columns = None if names is None else names.columns_of(file.schema_arrow)
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            yield pa.Table.from_batches([batch])


def _found_in_schema(path: Path, names: LeadNames) -> int:
    """How many of the ids stand in the names and notes (metadata) of a Parquet file's columns."""
    schema = pq.read_schema(path)
    texts = [str(schema), *_notes(schema)]
    return len({lead for text in texts for lead in names.in_bytes(text.encode())})


def _notes(of: Any) -> Iterator[str]:
    """The metadata of a schema or field, and of all fields within."""
    for key, value in (of.metadata or {}).items():
        if key != b"ARROW:schema":
            yield f"{key.decode('utf-8', 'replace')} {value.decode('utf-8', 'replace')}"
    fields = of if isinstance(of, pa.Schema) else _fields_of(of.type)
    for field in fields:
        yield from _notes(field)


def _fields_of(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_nested(kind) else []


def _erase_parquet(path: Path, names: LeadNames, found: set[str]) -> int:
    """A file that cannot be read stays as it is: the search that follows says so."""
    try:
        if not any(names.in_table(table).any() for table in _parquet_tables(path, names)):
            return 0
    except (pa.ArrowException, OSError):
        return 0
    erased = 0
    with replacing(path) as partial:
        mode = path.stat().st_mode
        with pq.ParquetWriter(
            partial, pq.read_schema(path), compression="zstd", write_page_checksum=True
        ) as writer:
            for table in _parquet_tables(path):
                gone = names.in_table(table)
                erased += int(gone.sum())
                found |= names.ids_in(table.filter(pa.array(gone)))
                writer.write_table(table.filter(pa.array(~gone)))
        partial.chmod(mode & 0o777)
    return erased


def _read_lines(path: Path) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(file)


def _csv_hits(lines: list[str], delimiter: str, names: LeadNames) -> list[int]:
    """Which lines of a CSV file hold an id in a column of ids."""
    head = next(csv.reader(lines[:1], delimiter=delimiter), [])
    if len(head) == 1 and ";" in head[0]:
        delimiter = ";"
        head = next(csv.reader(lines[:1], delimiter=delimiter), [])
    places = [i for i, name in enumerate(head) if name.strip().lower() in names.columns]
    hits: list[int] = []
    if not places:
        return hits
    reader = csv.reader(lines, delimiter=delimiter)
    begin = 0
    wanted = set(names.ids)
    for row in reader:
        if begin and any(place < len(row) and row[place].strip() in wanted for place in places):
            hits += range(begin, reader.line_num)
        begin = reader.line_num
    return hits


def _erase_csv(path: Path, names: LeadNames, found: set[str]) -> int:
    lines = _read_lines(path)
    hits = _csv_hits(lines, _delimiter(path.suffix), names)
    if not hits:
        return 0
    gone = set(hits)
    found |= {lead for i in gone for lead in names.in_line(lines[i])}
    with (
        replacing(path) as partial,
        open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        file.writelines(line for i, line in enumerate(lines) if i not in gone)
        partial.chmod(path.stat().st_mode & 0o777)
    return len(hits)


def _delimiter(suffix: str) -> str:
    return "\t" if suffix == ".tsv" else ","


def _found_in_member(name: str, content: bytes, names: LeadNames) -> int:
    """How many lines of a packed file hold an id."""
    text, suffix = content.decode("utf-8", "replace"), Path(name).suffix
    if suffix in (".csv", ".tsv"):
        hits = len(_csv_hits(text.splitlines(keepends=True), _delimiter(suffix), names))
        if hits:
            return hits
    return _found_in_text(text, names)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _found_in_text(text: str, names: LeadNames) -> int:
    if not names.in_text(text):
        return 0
    return sum(bool(names.in_text(line)) for line in text.splitlines()) or 1


def _found_in_bytes(path: Path, names: LeadNames, *, alone: bool = True) -> int:
    """How many of the ids stand in a file, read in pieces that overlap."""
    longest = max((len(lead.encode()) for lead in names.telling), default=0) + 2
    found: set[str] = set()
    tail = b""
    with open(path, "rb") as file:
        while longest > 2 and (piece := file.read(_CHUNK)):
            found.update(names.in_bytes(tail + piece, alone=alone))
            tail = (tail + piece)[-longest:]
    return len(found)


def _found_in_database(path: Path, names: LeadNames) -> tuple[int, int]:
    """Rows of a DuckDB or SQLite file that hold an id, and texts that hold one within something longer."""
    with open(path, "rb") as file:
        is_sqlite = file.read(16) == _SQLITE_MAGIC
    return _found_in_sqlite(path, names) if is_sqlite else _found_in_duckdb(path, names)


def _found_in_sqlite(path: Path, names: LeadNames) -> tuple[int, int]:
    rows = within = 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            quoted = table.replace('"', '""')
            cursor = connection.execute(f'SELECT * FROM "{quoted}"')
            columns = [str(entry[0]).lower() for entry in cursor.description]
            for row in cursor:
                texts = [value for value in row if isinstance(value, str)]
                is_id = any(
                    str(value) in names.ids
                    for name, value in zip(columns, row, strict=True)
                    if name in names.columns
                )
                rows += is_id or any(text in names.words or names.in_text(text) for text in texts)
                within += any(lead in text for text in texts for lead in names.telling)
    return rows, within


def _found_in_duckdb(path: Path, names: LeadNames) -> tuple[int, int]:
    import duckdb

    rows = within = 0
    with closing(duckdb.connect(str(path), read_only=True)) as connection:
        tables = connection.execute(
            "SELECT database_name, schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
        ).fetchall()
        for place in tables:
            quoted = ".".join('"' + part.replace('"', '""') + '"' for part in place)
            for batch in connection.sql(f"SELECT * FROM {quoted}").to_arrow_reader(_BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                hits = names.in_table(table)
                rows += int(hits.sum())
                within += int(_texts_with(table.filter(pa.array(~hits)), names))
    return rows, within


def _texts_with(table: pa.Table, names: LeadNames) -> bool:
    """Whether a text of the table holds a telling id within something longer."""
    import pyarrow.compute as pc

    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            for lead in names.telling:
                if pc.any(pc.match_substring(column, lead)).as_py():
                    return True
    return bool(np.any([_in_nested(column, names) for column in table.columns]))


def _in_nested(column: pa.ChunkedArray, names: LeadNames) -> bool:
    if not pa.types.is_nested(column.type):
        return False
    text = str(column.to_pylist())
    return any(lead in text for lead in names.telling)
