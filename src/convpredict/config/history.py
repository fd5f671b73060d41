"""Where the tables of a history come from and what makes a row acceptable."""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .base import Instant, PositiveDuration, Strict

Role = Literal["id", "event_id", "time", "number", "category"]

TABLE_COLUMNS: dict[str, dict[str, Role]] = {
    "leads": {"lead_id": "id", "created_at": "time", "lost_at": "time"},
    "interactions": {
        "lead_id": "id",
        "occurred_at": "time",
        "kind": "category",
        "recorded_at": "time",
        "event_id": "event_id",
    },
    "conversions": {"lead_id": "id", "converted_at": "time", "recorded_at": "time", "event_id": "event_id"},
    "revenue": {
        "lead_id": "id",
        "occurred_at": "time",
        "amount": "number",
        "recorded_at": "time",
        "event_id": "event_id",
    },
    "spend": {"occurred_at": "time", "amount": "number", "recorded_at": "time", "event_id": "event_id"},
    "attribute_changes": {
        "lead_id": "id",
        "attribute": "category",
        "value": "category",
        "valid_from": "time",
        "recorded_at": "time",
    },
    "aliases": {"lead_id": "id", "canonical_id": "id"},
}
"""The columns of each table beside its attributes, and how they are read."""

OPTIONAL_COLUMNS = frozenset({"lost_at", "recorded_at", "event_id", "kind"})
"""Columns that a table may lack; ``recorded_at`` defaults to the event's own time, ``kind`` to 'interaction'."""

TABLE_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "leads": ("category", "number", "time"),
    "interactions": ("category", "number"),
    "spend": ("category", "number"),
}
"""The attribute types that each table may carry; the other tables have no attributes."""

_RESERVED = frozenset({"lead_row", "visible_at", "tie"})


def _known_timezone(name: str) -> str:
    available = zoneinfo.available_timezones() - {
        "localtime",
        "Factory",
    }  # these differ from machine to machine
    if available and name not in available:
        close = difflib.get_close_matches(name, available, n=1, cutoff=0.5)
        hint = f" did you mean '{close[0]}'?" if close else ""
        raise ValueError(
            f"'{name}' is no time zone of the IANA database;{hint} write it like 'Europe/Berlin' or 'UTC'"
        )
    return name


TimeZone = Annotated[str, AfterValidator(_known_timezone)]
"""A time zone by its IANA name; local times without offset are read in it.

A local time that daylight saving skips is moved forward by the gap; one that it repeats is taken as the
later of the two (so that nothing is known too early). Both are counted.
"""


class FileSource(Strict):
    """A Parquet or CSV file (``.gz`` allowed, globs allowed); CSV columns are read as text, so no id loses digits.

    ``repeated_columns``: names that the header is known to hold more than once; the first is read under its name, and
    nothing is said of the others (``name_1`` and so on).
    """

    file: str
    format: Literal["csv", "parquet"] | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: str = "utf-8"
    repeated_columns: tuple[str, ...] = ()


class DuckdbSource(Strict):
    """A table or view of a DuckDB database file, opened read-only."""

    duckdb: str
    table: str


class PostgresSource(Strict):
    """A table or a query of a PostgreSQL database; the connection string is read from an environment variable."""

    postgres_env: str
    table: str | None = None
    query: str | None = None

    @model_validator(mode="after")
    def _one(self) -> PostgresSource:
        if (self.table is None) == (self.query is None):
            raise ValueError("a Postgres source needs either 'table' or 'query', not both and not neither")
        return self


Source = FileSource | DuckdbSource | PostgresSource


class AttributeConfig(Strict):
    """One attribute column: where it comes from and how it is read."""

    type: Literal["category", "number", "time"]
    column: str | None = None
    time_format: str | tuple[str, ...] | None = None
    timezone: TimeZone | None = None


class TableConfig(Strict):
    """One of the tables of a history: a source with a column mapping, or a DuckDB SELECT over the named
    sources.

    ``columns`` maps convpredict's names (``lead_id``, ``created_at`` ...) to the source's; a column that
    already has the right name needs no entry. ``attributes`` names the columns to keep, with their type.
    Times that are text are ISO 8601, or follow ``time_format`` (strptime; several are tried in turn).
    """

    source: str | None = None
    sql: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    attributes: dict[str, AttributeConfig | Literal["category", "number", "time"]] = Field(
        default_factory=dict
    )
    time_format: str | tuple[str, ...] | None = None
    timezone: TimeZone | None = None

    @model_validator(mode="after")
    def _one(self) -> TableConfig:
        if (self.source is None) == (self.sql is None):
            raise ValueError("a table needs either 'source' or 'sql', not both and not neither")
        return self

    def attribute(self, name: str) -> AttributeConfig:
        """The attribute's settings with the shorthand (``name: category``) spelled out."""
        spec = self.attributes[name]
        return spec if isinstance(spec, AttributeConfig) else AttributeConfig(type=spec)


class ValidationConfig(Strict):
    """How many broken rows are tolerated, and what counts as absurd (times before ``earliest``, from ``latest`` on)."""

    max_bad_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    max_events_per_lead: Annotated[int, Field(gt=0)] = 100_000
    earliest: Instant = datetime(1970, 1, 1, tzinfo=UTC)
    latest: Instant = datetime(2200, 1, 1, tzinfo=UTC)


class HistoryConfig(Strict):
    """The tables of a history. ``leads`` is required; conversions are required for training only."""

    leads: TableConfig
    interactions: TableConfig | None = None
    conversions: TableConfig | None = None
    revenue: TableConfig | None = None
    spend: TableConfig | None = None
    attribute_changes: TableConfig | None = None
    aliases: TableConfig | None = None
    timezone: TimeZone | None = None
    known_until: Instant | None = None
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def _tables(self) -> HistoryConfig:
        for name, columns in TABLE_COLUMNS.items():
            table: TableConfig | None = getattr(self, name)
            if table is not None:
                _check_columns(name, table, columns)
                _check_attributes(name, table, columns)
        return self


def _check_columns(name: str, table: TableConfig, columns: dict[str, Role]) -> None:
    for column in table.columns:
        if column not in columns:
            close = difflib.get_close_matches(column, columns, n=1, cutoff=0.5)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ValueError(
                f"history.{name}.columns has the key '{column}', which is no column of {name}.{hint} "
                f"The keys are convpredict's names: {', '.join(columns)}; other columns to keep go under 'attributes'"
            )


def _check_attributes(name: str, table: TableConfig, columns: dict[str, Role]) -> None:
    allowed = TABLE_ATTRIBUTES.get(name, ())
    if table.attributes and not allowed:
        raise ValueError(f"history.{name}.attributes: {name} have no attributes; remove the key")
    seen: dict[str, str] = {}
    for attribute in table.attributes:
        kind = table.attribute(attribute).type
        key = attribute.lower()
        if kind not in allowed:
            raise ValueError(
                f"history.{name}.attributes.{attribute}: {name} can have {' or '.join(allowed)}; got {kind}"
            )
        if key in columns or key in _RESERVED or key.startswith("_") or '"' in key:
            raise ValueError(
                f"history.{name}.attributes.{attribute}: this name is reserved; choose another and name the source's "
                f"column, like 'my_{key.strip('_')}: {{type: {kind}, column: {attribute}}}'"
            )
        if key in seen:
            raise ValueError(
                f"history.{name}.attributes has '{seen[key]}' and '{attribute}', which differ by case only; rename one"
            )
        seen[key] = attribute


class ChannelDrift(Strict):
    """From ``from_day`` on (counted from the start), the conversion hazard of a channel's leads is multiplied.

    The ``channel`` ``any`` stands for all of them.
    """

    channel: str
    from_day: Annotated[int, Field(ge=0)]
    factor: Annotated[float, Field(gt=0)] = 0.5


class KindOutage(Strict):
    """Interactions of one kind that occur in these days never arrive in the files (they still happen)."""

    kind: str
    from_day: Annotated[int, Field(ge=0)]
    days: Annotated[int, Field(gt=0)] = 3


class SimulatorConfig(Strict):
    """A simulated history: its size, its calendar and what is planted in it (see
    docs/reference/simulator.md).

    ``split_test_effect`` is the mean log hazard ratio of the arm ``treatment``; ``late_share`` the share of
    interactions and conversions that are recorded hours or days after they occurred; ``chunk_leads`` bounds
    the memory and changes nothing else.
    """

    leads: Annotated[int, Field(gt=0)] = 20_000
    days: Annotated[int, Field(ge=60)] = 730
    interactions_per_lead: Annotated[float, Field(gt=0)] = 20.0
    seed: Annotated[int, Field(ge=0)] = 0
    start: Instant = datetime(2024, 1, 1, tzinfo=UTC)
    late_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    split_test_effect: float = 0.3
    drift: ChannelDrift | None = None
    outage: KindOutage | None = None
    chunk_leads: Annotated[int, Field(gt=0)] = 50_000


__all__ = [
    "OPTIONAL_COLUMNS",
    "TABLE_ATTRIBUTES",
    "TABLE_COLUMNS",
    "AttributeConfig",
    "ChannelDrift",
    "DuckdbSource",
    "FileSource",
    "HistoryConfig",
    "KindOutage",
    "PositiveDuration",
    "PostgresSource",
    "Role",
    "SimulatorConfig",
    "Source",
    "TableConfig",
    "TimeZone",
    "ValidationConfig",
]
