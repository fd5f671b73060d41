"""Rows that break the contract, set apart with the reason and the source row, so that nothing is lost silently."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from ..files import replacing
from .csv_files import quoted
from .sources import RawTable


@dataclass
class QuarantineFile:
    """Writes ``<folder>/<table>.parquet``: reason, source_row (1-based), then the source's columns as they
    came.

    A file of an earlier run is removed when its table has no bad row any more. Without a folder nothing is
    written.
    """

    folder: Path | None
    written: dict[str, str] = field(default_factory=dict)

    def write(self, connection: duckdb.DuckDBPyConnection, table: str, raw: RawTable, bad: str) -> None:
        """Write the source rows named by the relation ``bad`` (_row, _reason), or remove a stale file."""
        columns = ", ".join(f"r.{quoted(name)} AS {quoted(_free(name))}" for name in raw.columns)
        self._write(
            connection,
            table,
            f"SELECT b._reason AS reason, b._row AS source_row, {columns} FROM {bad} b "
            f"JOIN (SELECT *, {raw.row} AS _row FROM {raw.relation}) r ON r._row = b._row ORDER BY b._row",
            int(_one(connection, f"SELECT count(*) FROM {bad}")),
        )

    def write_lines(self, connection: duckdb.DuckDBPyConnection, source: str, lines: pa.Table) -> None:
        """Write malformed CSV lines (reason, source_row, line) as ``source_<name>.parquet``."""
        connection.register("incoming_lines", lines)
        try:
            self._write(connection, f"source_{source}", "SELECT * FROM incoming_lines", lines.num_rows)
        finally:
            connection.unregister("incoming_lines")

    def _write(self, connection: duckdb.DuckDBPyConnection, table: str, select: str, rows: int) -> None:
        if self.folder is None:
            return
        path = self.folder / f"{table}.parquet"
        if not rows:
            path.unlink(missing_ok=True)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            location = str(partial).replace("'", "''")
            connection.execute(f"COPY ({select}) TO '{location}' (FORMAT parquet, COMPRESSION zstd)")
        self.written[table] = str(path)


def _free(name: str) -> str:
    return f"{name}_source" if name.lower() in {"reason", "source_row", "_row"} else name


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    rows = connection.execute(sql).fetchall()
    return int(rows[0][0]) if rows else 0
