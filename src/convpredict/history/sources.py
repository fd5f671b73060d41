"""Sources opened in DuckDB: Parquet stays where it is and is scanned lazily, everything else is read once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from ..config.history import DuckdbSource, FileSource, PostgresSource
from ..config.messages import nearest
from ..errors import ConfigError, DataError
from .csv_files import CsvContent, quoted, read_csv_files
from .postgres import read_postgres
from .watched_files import WatchedFiles, is_glob, matching_files

_CHUNK_BYTES = 1 << 22
_WAL = ".wal"
"""Ending of the write-ahead log beside a DuckDB file, which holds what was not yet written into it."""
_PARQUET = {".parquet", ".pq"}
_CSV = {".csv", ".txt", ".tsv"}


@dataclass(frozen=True)
class RawTable:
    """Rows as they came: a SQL relation, an expression for the 1-based row number, column names and DuckDB types.

    Messages call it ``label`` (its key in the configuration) and ``origin`` (its file); ``lazy`` relations are
    scanned at every use.
    """

    relation: str
    row: str
    columns: Mapping[str, str]
    label: str
    origin: str
    lazy: bool = False


@dataclass
class OpenedSource:
    """A raw table with the digest of what was read and the malformed lines that were kept apart.

    ``watched`` are the files behind it as they were when the digest was taken; None where there are none.
    """

    raw: RawTable
    digest: str
    csv: CsvContent | None = None
    warnings: list[str] = field(default_factory=list)
    watched: WatchedFiles | None = None


def open_source(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: FileSource | DuckdbSource | PostgresSource,
    data_dir: Path,
) -> OpenedSource:
    """Make a source readable as the relation ``source."name"`` (see :class:`OpenedSource`)."""
    label = f"sources.{name}"
    target = f"source.{quoted(name)}"
    if isinstance(source, PostgresSource):
        return open_arrow(
            connection, target, read_postgres(source, label), label=label, origin=f"source '{name}'"
        )
    if isinstance(source, DuckdbSource):
        return _open_duckdb(connection, target, source, data_dir, label)
    watched = WatchedFiles.of(data_dir, source.file)
    files = _files(source.file, data_dir, label)
    digest = _digest_files(files)
    origin = files[0].name if len(files) == 1 else source.file
    if _format(source, files[0], label) == "parquet":
        raw = _open_parquet(connection, target, files, label, origin)
        return OpenedSource(raw, digest, watched=watched)
    content = read_csv_files(
        connection,
        target,
        files,
        label=label,
        delimiter=source.delimiter,
        encoding=source.encoding,
        repeated=source.repeated_columns,
    )
    skipped = [row - position for position, (_, row, _) in enumerate(content.malformed)]
    row = "rowid + 1" if not skipped else f"rowid + 1 + len(list_filter({skipped}, lambda k: k <= rowid + 1))"
    raw = RawTable(target, row, describe(connection, target), label, origin)
    digest = hashlib.sha256(f"{digest} {source.encoding} {source.delimiter}".encode()).hexdigest()
    renamed = [f"{label}: {entry}" for entry in content.renamed]
    return OpenedSource(raw, digest, content, renamed, watched)


def open_arrow(
    connection: duckdb.DuckDBPyConnection,
    target: str,
    data: pa.Table | pa.RecordBatchReader,
    *,
    label: str,
    origin: str,
) -> OpenedSource:
    """Copy Arrow data into the DuckDB table ``target``, with the digest of its IPC stream."""
    digest = hashlib.sha256()
    sink = pa.PythonFile(_HashSink(digest), mode="w")
    reader = data.to_reader(max_chunksize=1 << 20) if isinstance(data, pa.Table) else data
    schema = reader.schema
    duplicate = {name for name in schema.names if [n.lower() for n in schema.names].count(name.lower()) > 1}
    if duplicate:
        raise DataError(
            f"{label}: the column name {', '.join(sorted(duplicate))} appears more than once; rename one."
        )
    connection.register("incoming_arrow", schema.empty_table())
    connection.execute(f"CREATE TABLE {target} AS SELECT * FROM incoming_arrow")
    connection.unregister("incoming_arrow")
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            connection.register("incoming_arrow", pa.Table.from_batches([batch]))
            connection.execute(f"INSERT INTO {target} SELECT * FROM incoming_arrow")
            connection.unregister("incoming_arrow")
    return OpenedSource(
        RawTable(target, "rowid + 1", describe(connection, target), label, origin), digest.hexdigest()
    )


def describe(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """Column names and DuckDB types of a relation, in order."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


class _HashSink:
    """A writable file object that hashes what it is given."""

    closed = False

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        return None

    def close(self) -> None:
        return None


def _files(pattern: str, data_dir: Path, label: str) -> list[Path]:
    """The files that a path or glob names, sorted; a missing one is an error with the nearest name."""
    path = data_dir / pattern
    found = matching_files(data_dir, pattern)
    if not is_glob(pattern):
        if path.is_dir():
            raise DataError(
                f"{label}.file: {path} is a folder; name a file in it, or use a glob like '{pattern}/*.csv'."
            )
        if not path.is_file():
            names = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
            raise DataError(
                f"{label}.file: there is no file {path}.{nearest(path.name, names)} "
                "Correct the name, or give the data folder with --data."
            )
    elif not found:
        raise DataError(
            f"{label}.file: no file in {data_dir} matches '{pattern}'; correct it or give --data."
        )
    for entry in found:
        if entry.stat().st_size == 0:
            raise DataError(f"{label}.file: {entry} is empty (0 bytes); export it again.")
    return found


def _format(source: FileSource, path: Path, label: str) -> str:
    if source.format is not None:
        return source.format
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
    if last in _PARQUET:
        return "parquet"
    if last in _CSV:
        return "csv"
    raise ConfigError(
        f"{label}.format: '{path.name}' does not say what it is; add 'format: csv' or 'format: parquet'."
    )


def _open_parquet(
    connection: duckdb.DuckDBPyConnection, target: str, files: list[Path], label: str, origin: str
) -> RawTable:
    listing = "[" + ", ".join("'" + str(file.resolve()).replace("'", "''") + "'" for file in files) + "]"
    relation = f"read_parquet({listing})"
    try:
        columns = describe(connection, relation)
        sizes = dict(
            connection.execute(f"SELECT file_name, num_rows FROM parquet_file_metadata({listing})").fetchall()
        )
    except duckdb.Error as error:
        raise DataError(f"{label}: {origin} is no readable Parquet file: {first_line(error)}") from error
    connection.execute(f"CREATE VIEW {target} AS SELECT * FROM {relation}")
    row = "file_row_number + 1"
    if len(files) > 1:
        starts = [0]
        for file in files[:-1]:
            starts.append(starts[-1] + int(sizes[str(file.resolve())]))
        row = f"file_row_number + 1 + {starts}[(file_index + 1)::INTEGER]"
    return RawTable(relation, row, columns, label, origin, lazy=True)


def _open_duckdb(
    connection: duckdb.DuckDBPyConnection, target: str, source: DuckdbSource, data_dir: Path, label: str
) -> OpenedSource:
    watched = WatchedFiles.of(data_dir, source.duckdb, (_WAL,))
    path = _files(source.duckdb, data_dir, label)[0]
    log = path.with_name(path.name + _WAL)
    digest = _digest_files([path, log] if log.is_file() else [path])
    location = str(path).replace("'", "''")
    try:
        connection.execute(f"ATTACH '{location}' AS attached (READ_ONLY)")
    except duckdb.Error as error:
        raise DataError(f"{label}: {path} is no readable DuckDB database: {first_line(error)}") from error
    try:
        tables = [
            (row[0], row[1])
            for row in connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables "
                "WHERE table_catalog = 'attached' ORDER BY 1, 2"
            ).fetchall()
        ]
        wanted = tuple(source.table.rsplit(".", 1)) if "." in source.table else ("main", source.table)
        if wanted not in tables:
            names = [table if schema == "main" else f"{schema}.{table}" for schema, table in tables]
            raise DataError(
                f"{label}.table: {path.name} has no table or view '{source.table}'.{nearest(source.table, names)} "
                f"It has: {', '.join(names) or 'nothing'}."
            )
        relation = f"attached.{quoted(wanted[0])}.{quoted(wanted[1])}"
        connection.execute(f"CREATE TABLE {target} AS SELECT * FROM {relation}")
    except duckdb.Error as error:
        raise DataError(
            f"{label}: '{source.table}' in {path.name} cannot be read: {first_line(error)}"
        ) from error
    finally:
        connection.execute("DETACH attached")
    raw = RawTable(target, "rowid + 1", describe(connection, target), label, f"{path.name}:{source.table}")
    digest = hashlib.sha256(f"{digest} {'.'.join(wanted)}".encode()).hexdigest()
    return OpenedSource(raw, digest, watched=watched)


def first_line(error: Exception) -> str:
    """The first informative line of a database message, without its error class."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.split(" Error: ", 1)[-1].rstrip(".") + "."


def without_values(error: Exception) -> str:
    """:func:`first_line` without the value that it complains of, which may be a lead's own data.

    >>> without_values(ValueError("Conversion Error: Could not convert string 'a@b.c' to INT32"))
    'Could not convert string ... to INT32.'
    """
    return re.sub(
        r"""(?<=string )'.*'|(?<=string )".*"|(?<=format: )".*?"|(?<=value )\S+""", "...", first_line(error)
    )


def _digest_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        digest.update(b"\0")
    return digest.hexdigest()
