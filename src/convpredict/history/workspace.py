"""The DuckDB workspace in which a history is loaded: raw tables, rows read by declaration, reasons, accounting."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from ..config.history import HistoryConfig, TableConfig
from ..errors import ConfigError, DataError
from .columns import Reading, at_zone, naive_message
from .csv_files import quoted
from .quarantine import QuarantineFile
from .sources import RawTable, describe, first_line, without_values
from .validation import (
    AFTER_KNOWN_UNTIL,
    LEAD_AFTER_KNOWN_UNTIL,
    LEAD_IN_QUARANTINE,
    UNKNOWN_LEAD,
    TableReport,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT_TIME = {
    "leads": "created_at",
    "interactions": "occurred_at",
    "conversions": "converted_at",
    "revenue": "occurred_at",
    "spend": "occurred_at",
    "attribute_changes": "valid_from",
}
MAY_BE_MISSING = frozenset({"kind", "recorded_at", "event_id", "lost_at", "value"})


def open_workspace() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB database with bounded memory, UTC as its zone, and no silent downloads or replacements."""
    connection = duckdb.connect(
        config={
            "TimeZone": "UTC",
            "memory_limit": "50%",
            "temp_directory": str(
                Path(tempfile.gettempdir()) / f"convpredict-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            ),
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "preserve_insertion_order": True,
        }
    )
    connection.execute("CREATE SCHEMA source")
    connection.execute("CREATE SCHEMA loading")
    return connection


@dataclass
class Workspace:
    """What the steps of loading share."""

    connection: duckdb.DuckDBPyConnection
    config: HistoryConfig
    quarantine: QuarantineFile
    id_type: str = "VARCHAR"
    known_until: int | None = None
    reports: dict[str, TableReport] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def table(self, name: str) -> TableConfig | None:
        """The declaration of a table."""
        entry: TableConfig | None = getattr(self.config, name)
        return entry

    def zone(self, name: str) -> str | None:
        """The time zone that applies to a table's naive times."""
        table = self.table(name)
        return (table.timezone if table else None) or self.config.timezone

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection.execute(sql).fetchall()

    def one(self, sql: str) -> Any:
        """The first value of a query's only row."""
        rows = self.rows(sql)
        return rows[0][0] if rows else None

    def counts(self, relation: str) -> dict[str, int]:
        """Rows of ``relation`` by ``_reason``; accepted rows have the key ''."""
        return dict(
            self.rows(f"SELECT coalesce(_reason, ''), count(*) FROM {relation} GROUP BY 1 ORDER BY 1")
        )

    def report(self, name: str, **content: Any) -> None:
        """Keep a table's report and the path of its quarantine file."""
        self.reports[name] = TableReport(file=self.quarantine.written.get(name), **content)


def read_rows(raw: RawTable, readings: Mapping[str, Reading]) -> str:
    """SQL for a table's rows as they are read: ``_row`` and one column per reading."""
    values = ", ".join(f"{reading.value} AS {quoted(reading.name)}" for reading in readings.values())
    return f"SELECT {raw.row} AS _row, {values} FROM {raw.relation}"


def prepare(workspace: Workspace, name: str, raw: RawTable, readings: Mapping[str, Reading]) -> str:
    """SQL for a table's rows with ``_reason`` added: why the row itself is unsound, null where it is sound."""
    values = [f"{raw.row} AS _row"]
    for reading in readings.values():
        values.append(f"{reading.value} AS {quoted(reading.name)}")
        values.append(f"{reading.missing} AS {quoted('_missing_' + reading.name)}")
    columns = ", ".join(quoted(reading) for reading in readings)
    reasons = _row_reasons(workspace, name, readings)
    case = "CASE " + " ".join(f"WHEN {condition} THEN '{reason}'" for condition, reason in reasons) + " END"
    return f"SELECT _row, {columns}, {case} AS _reason FROM (SELECT {', '.join(values)} FROM {raw.relation})"


def _row_reasons(workspace: Workspace, name: str, readings: Mapping[str, Reading]) -> list[tuple[str, str]]:
    validation = workspace.config.validation
    optional = MAY_BE_MISSING | ({"converted_at"} if name == "conversions" else set())
    attributes = set(workspace.table(name).attributes) if workspace.table(name) else set()  # type: ignore[union-attr]
    reasons: list[tuple[str, str]] = []
    for reading in readings.values():
        value, missing = quoted(reading.name), quoted("_missing_" + reading.name)
        label = reading.name.replace("'", "''")
        if reading.name not in optional and reading.name not in attributes:
            reasons.append((missing, f"{label} is missing"))
        if reading.role == "time":
            reasons.append((f"{value} IS NULL AND NOT {missing}", f"{label} cannot be read as a time"))
        if reading.role == "number":
            reasons.append((f"{value} IS NULL AND NOT {missing}", f"{label} cannot be read as a number"))
            reasons.append((f"isinf({value})", f"{label} is infinite"))
    time = _EVENT_TIME.get(name)
    earliest, latest = validation.earliest, validation.latest
    for column in (time, "recorded_at", "lost_at"):
        if column is not None and column in readings and column not in attributes:
            reasons.append((f"{column} < {to_us(earliest)}", f"{column} lies before {earliest:%Y-%m-%d}"))
            reasons.append((f"{column} >= {to_us(latest)}", f"{column} lies in or after {latest:%Y}"))
    if time is not None and time in readings and workspace.known_until is not None:
        reasons.append((f"{time} > {workspace.known_until}", AFTER_KNOWN_UNTIL))
    return reasons


def with_leads(prepared: str) -> str:
    """Add lead_row and the lead's creation to prepared rows; rows of unknown or quarantined leads get that reason."""
    return (
        f"SELECT p.* EXCLUDE (_reason), l.lead_row, l.created_at AS _created_at, coalesce(p._reason, CASE "
        f"WHEN l.lead_id IS NULL THEN '{UNKNOWN_LEAD}' WHEN l.lead_row IS NOT NULL THEN NULL "
        f"WHEN l.late THEN '{LEAD_AFTER_KNOWN_UNTIL}' ELSE '{LEAD_IN_QUARANTINE}' END) AS _reason "
        f"FROM ({prepared}) p LEFT JOIN loading.lookup l ON p.lead_id = l.lead_id"
    )


def settle_copies(workspace: Workspace, relation: str, target: str, key: str, content: Iterable[str]) -> None:
    """Create ``target`` (_row, _same): sound rows that repeat the ``key`` of an earlier row, and whether exactly."""
    values = ", ".join(f"{quoted(name)}::VARCHAR" for name in content)
    workspace.connection.execute(
        f"CREATE TABLE {target} AS WITH repeated AS (SELECT {key} FROM {relation} "
        f"WHERE _reason IS NULL AND {key} IS NOT NULL GROUP BY {key} HAVING count(*) > 1) "
        "SELECT _row, _content = first_value(_content) OVER w AS _same FROM ("
        f"SELECT _row, {key}, [{values}] AS _content FROM {relation} "
        f"SEMI JOIN repeated USING ({key}) WHERE _reason IS NULL) "
        f"WINDOW w AS (PARTITION BY {key} ORDER BY _row) QUALIFY row_number() OVER w > 1"
    )


def check_zones(
    workspace: Workspace, name: str, raw: RawTable, readings: Iterable[Reading]
) -> dict[str, int]:
    """Refuse times without any zone; count local times that daylight saving skips or repeats."""
    counted: dict[str, int] = {}
    zone = workspace.zone(name)
    for reading in readings:
        if reading.unzoned and workspace.one(f"SELECT count(*) FROM {raw.relation} WHERE {reading.unzoned}"):
            raise ConfigError(naive_message(f"history.{name}.columns.{reading.name}", reading.column))
        if reading.local is None or zone is None or is_fixed(zone):
            continue
        local, instant = f"({reading.local})", at_zone(f"({reading.local})", zone)
        repeated = " OR ".join(
            f"timezone('{zone}', {instant} - INTERVAL {minutes} MINUTE) = {local}" for minutes in (30, 60)
        )
        skipped, twice = workspace.rows(
            f"SELECT count_if(timezone('{zone}', {instant}) <> {local}), count_if({repeated}) FROM {raw.relation}"
        )[0]
        if skipped:
            counted[f"{reading.name}: local time skipped by daylight saving (moved forward)"] = skipped
        if twice:
            counted[f"{reading.name}: local time repeated by daylight saving (the later one taken)"] = twice
    return counted


def is_fixed(zone: str) -> bool:
    """Whether a zone never changes its offset, so that local times are neither skipped nor repeated."""
    return zone in {"UTC", "Etc/UTC", "GMT", "Zulu"} or zone.startswith("Etc/")


def run_select(workspace: Workspace, name: str, sql: str, sources: Iterable[str]) -> RawTable:
    """Run a table's SELECT over the sources once and keep its rows in the order that it gives."""
    key = f"history.{name}.sql"
    target = f"loading.{quoted('raw_' + name)}"
    connection = workspace.connection
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise ConfigError(f"{key} is no valid SQL: {first_line(error)}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ConfigError(f"{key} must be exactly one SELECT over the sources.")
    connection.execute("SET search_path = 'source'")
    threads = workspace.one("SELECT current_setting('threads')")
    # One thread: without ORDER BY, joins and groups would give their rows in another order at every run.
    connection.execute("SET threads = 1")
    try:
        connection.execute(f"CREATE TABLE {target} AS {statements[0].query}")
    except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException) as error:
        raise DataError(
            f"{key} fails on the data: {without_values(error)} TRY_CAST and try_strptime give NULL where a value "
            "cannot be read, and the row is then set apart with its reason."
        ) from None
    except duckdb.Error as error:
        names = ", ".join(sorted(sources)) or "none"
        raise ConfigError(f"{key} cannot be run: {first_line(error)} Declared sources: {names}.") from None
    finally:
        connection.execute(f"SET threads = {threads}")
        connection.execute("SET search_path = 'main'")
    return RawTable(target, "rowid + 1", describe(connection, target), key, key)


def names_in(sql: str, candidates: Iterable[str]) -> list[str]:
    """The candidates that occur as a word in the SQL.

    >>> names_in('SELECT * FROM calls JOIN "my deals" USING (id)', ["call", "calls", "my deals"])
    ['calls', 'my deals']
    """
    return [name for name in candidates if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.IGNORECASE)]


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(moment: int | None) -> datetime | None:
    """The UTC instant of microseconds since 1970."""
    return None if moment is None else _EPOCH + timedelta(microseconds=moment)
