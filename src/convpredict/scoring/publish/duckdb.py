"""Scores as a table of a DuckDB file, replaced in one transaction."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ...errors import PublishError
from ...files import sync
from .protocol import (
    PUBLICATIONS,
    Publication,
    Published,
    as_text,
    check_scores,
    decide,
    done,
    unowned,
)

_POLL_SECONDS = 0.2
_IS_WANTED = "CAST(lead_id AS VARCHAR) IN (SELECT unnest(?))"
_BUSY = ("could not set lock", "different configuration", "conflicting lock")


class DuckdbPublisher:
    """A table of a DuckDB file, and beside it ``convpredict_publications``, which says what the table holds.

    DuckDB lets one process write, or any number read: while readers have the file open, a publication waits ``wait``
    seconds, and fails then. ``table`` may name a schema (``crm.scores``), which must exist. ``shown`` is the name of
    the file in messages.
    """

    def __init__(
        self, path: Path, table: str = "scores", shown: str | None = None, wait: float = 60.0
    ) -> None:
        self.path = path
        self.schema, _, self.table = table.rpartition(".")
        self.schema = self.schema or "main"
        self._place = f"table {table} of the DuckDB file {shown or path}"
        self._wait = wait

    def describe(self) -> str:
        """The table and its file in words."""
        return self._place

    def publish(self, scores: pa.Table, publication: Publication, *, older_ok: bool = False) -> Published:
        """Replace the table and its record in one transaction; see Publisher."""
        check_scores(scores, publication)
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as connection:
            self._clean()
            step = decide(publication, self._current(connection), self._place, older_ok=older_ok)
            if step == "publish":
                connection.register("convpredict_incoming", scores)
                _rows(connection, "BEGIN TRANSACTION")
                _rows(
                    connection,
                    f"CREATE OR REPLACE TABLE {self._target} AS SELECT * FROM convpredict_incoming",
                )
                self._record(connection, publication)
                _rows(connection, "COMMIT")
        return done(self._place, publication, changed=step == "publish", current=step != "older")

    def current(self) -> Publication | None:
        """The record beside the table, its rows counted."""
        if not self.path.exists():
            return None
        with self._open(read_only=True) as connection:
            return self._current(connection)

    def kept(self, run_id: str) -> Publication | None:
        """The record beside the table, if it is that run's: the table holds one run."""
        current = self.current()
        return current if current is not None and current.run_id == run_id else None

    def erase(self, lead_ids: Sequence[object]) -> int:
        """Delete the rows, then write the whole file anew: DuckDB leaves deleted rows, and those of former nights, in
        the file's free blocks. Everything else in the file is carried over. See Publisher."""
        if not self.path.exists():
            return 0
        with self._open() as connection:
            self._clean()
            gone = self._delete(connection, as_text(lead_ids))
            self._rebuild(connection)
        return gone

    def find(self, lead_ids: Sequence[object]) -> list[str]:
        """The table, if it holds one of the leads."""
        if not self.path.exists():
            return []
        with self._open(read_only=True) as connection:
            if not self._exists(connection, self.table):
                return []
            hit = _rows(
                connection, f"SELECT 1 FROM {self._target} WHERE {_IS_WANTED} LIMIT 1", [as_text(lead_ids)]
            )
        return [self._place] if hit else []

    @property
    def _target(self) -> str:
        return f"{_quoted(self.schema)}.{_quoted(self.table)}"

    @property
    def _publications(self) -> str:
        return f"{_quoted(self.schema)}.{PUBLICATIONS}"

    def _exists(self, connection: duckdb.DuckDBPyConnection, table: str) -> bool:
        sql = (
            "SELECT 1 FROM information_schema.tables WHERE table_catalog = current_database() "
            "AND lower(table_schema) = lower(?) AND lower(table_name) = lower(?)"
        )
        return bool(_rows(connection, sql, [self.schema, table]))

    def _current(self, connection: duckdb.DuckDBPyConnection) -> Publication | None:
        if not self._exists(connection, self.table):
            return None
        rows = _rows(connection, f"SELECT count(*) FROM {self._target}")[0][0]
        found = []
        if self._exists(connection, PUBLICATIONS):
            sql = (
                f"SELECT run_id, name, epoch_us(cutoff), content_hash, erased FROM {self._publications} "
                "WHERE table_name = ?"
            )
            found = _rows(connection, sql, [self.table])
        if not found:
            if rows:
                raise unowned(self._place)
            return None
        run_id, name, cutoff, content_hash, erased = found[0]
        at = pa.scalar(cutoff, pa.timestamp("us", "UTC")).as_py().astimezone(UTC)
        return Publication(run_id, name, at, rows, content_hash, erased)

    def _record(self, connection: duckdb.DuckDBPyConnection, publication: Publication) -> None:
        _rows(
            connection,
            f"CREATE TABLE IF NOT EXISTS {self._publications} (table_name VARCHAR, run_id VARCHAR, name VARCHAR, "
            "cutoff TIMESTAMPTZ, rows BIGINT, content_hash VARCHAR, erased BIGINT)",
        )
        _rows(connection, f"DELETE FROM {self._publications} WHERE table_name = ?", [self.table])
        values = publication.to_dict()
        columns = ("run_id", "name", "cutoff", "rows", "content_hash", "erased")
        _rows(
            connection,
            f"INSERT INTO {self._publications} VALUES (?, ?, ?, CAST(? AS TIMESTAMPTZ), ?, ?, ?)",
            [self.table, *(values[column] for column in columns)],
        )

    def _delete(self, connection: duckdb.DuckDBPyConnection, lead_ids: list[str]) -> int:
        current = self._current(connection)
        if current is None:
            return 0
        _rows(connection, "BEGIN TRANSACTION")
        deleted = _rows(connection, f"DELETE FROM {self._target} WHERE {_IS_WANTED}", [lead_ids])
        gone = int(deleted[0][0])
        self._record(connection, current.without(gone))
        _rows(connection, "COMMIT")
        return gone

    def _rebuild(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Copy what the file holds into a new one, which takes its place while the old one is still locked."""
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.rebuild")
        own = str(_rows(connection, "SELECT current_database()")[0][0])
        _rows(connection, "CHECKPOINT")
        _rows(connection, f"ATTACH {_literal(partial)} AS convpredict_rebuilt")
        try:
            _rows(connection, f"COPY FROM DATABASE {_quoted(own)} TO convpredict_rebuilt")
            if _row_counts(connection, own) != _row_counts(connection, "convpredict_rebuilt"):
                raise PublishError(
                    f"{self._place}: the rows were deleted, but the file could not be copied whole, so that their "
                    "bytes may still lie in its free blocks. Export the other tables of this file, and give "
                    "convpredict a file of its own."
                )
            _rows(connection, "DETACH convpredict_rebuilt")
            shutil.copymode(self.path, partial)
            sync(partial)
            os.replace(partial, self.path)
            sync(self.path.parent)
        finally:
            partial.unlink(missing_ok=True)

    def _clean(self) -> None:
        """Remove the parts of a rebuilt file that a killed erasure left; called while the file is locked."""
        for path in self.path.parent.glob(f".{self.path.name}.*.rebuild*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def _open(self, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the file, waiting for those who hold it; it is closed at the end of the block."""
        until = time.monotonic() + self._wait
        with self._explained():
            while True:
                try:
                    connection = duckdb.connect(str(self.path), read_only=read_only)
                    break
                except (duckdb.IOException, duckdb.ConnectionException) as error:
                    if not any(text in str(error).lower() for text in _BUSY):
                        raise
                    if time.monotonic() >= until:
                        raise PublishError(
                            f"{self._place}: another process has kept the file open for {self._wait:g} s, and DuckDB "
                            "lets nobody write while somebody reads. Readers still see what they saw. Close the "
                            "connections to the file (or let readers use Parquet or PostgreSQL), and run again."
                        ) from None
                time.sleep(_POLL_SECONDS)
            with connection:
                yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise PublishError(
                f"{self._place}: {reason} Readers still see one whole night. Check the disk, its free space and the "
                "rights on the file, and run again."
            ) from error


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """All that a statement gives, so that nothing of it is left open on the connection."""
    return connection.execute(sql, list(parameters)).fetchall()


def _row_counts(connection: duckdb.DuckDBPyConnection, database: str) -> list[tuple[str, str, int]]:
    """Schema, table and number of rows of every table of an attached database."""
    tables = _rows(
        connection,
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL",
        [database],
    )
    names = [
        (schema, table, f"{_quoted(database)}.{_quoted(schema)}.{_quoted(table)}") for schema, table in tables
    ]
    return [
        (schema, table, _rows(connection, f"SELECT count(*) FROM {name}")[0][0])
        for schema, table, name in names
    ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
