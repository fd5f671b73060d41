"""Where the five tables of a history come from and what makes a row acceptable."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Instant, PositiveDuration, Strict


class FileSource(Strict):
    """A Parquet or CSV file (``.gz`` allowed, globs allowed); CSV columns are read as text, so no id loses digits."""

    file: str
    format: Literal["csv", "parquet"] | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"


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
    time_format: str | None = None


class TableConfig(Strict):
    """One of the tables of a history: a source with a column mapping, or a DuckDB SELECT over the named sources.

    ``columns`` maps convpredict's names (``lead_id``, ``created_at`` ...) to the source's; a column that already has
    the right name needs no entry. ``attributes`` names the columns to keep, with their type.
    """

    source: str | None = None
    sql: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    attributes: dict[str, AttributeConfig | Literal["category", "number", "time"]] = Field(default_factory=dict)
    time_format: str | None = None
    timezone: str | None = None

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
    """How many broken rows are tolerated, and what counts as absurd."""

    max_bad_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    max_events_per_lead: Annotated[int, Field(gt=0)] = 100_000
    earliest: Instant = Field(default="1970-01-01", validate_default=True)  # type: ignore[assignment]


class HistoryConfig(Strict):
    """The tables of a history. ``leads`` is required; conversions are required for training only."""

    leads: TableConfig
    interactions: TableConfig | None = None
    conversions: TableConfig | None = None
    revenue: TableConfig | None = None
    spend: TableConfig | None = None
    attribute_changes: TableConfig | None = None
    aliases: TableConfig | None = None
    timezone: str | None = None
    known_until: Instant | None = None
    validation: ValidationConfig = ValidationConfig()


class ChannelDrift(Strict):
    """From ``from_day`` on (counted from the start), the conversion hazard of a channel's leads is multiplied."""

    channel: str
    from_day: Annotated[int, Field(ge=0)]
    factor: Annotated[float, Field(gt=0)] = 0.5


class KindOutage(Strict):
    """Interactions of one kind that occur in these days never arrive in the files (they still happen)."""

    kind: str
    from_day: Annotated[int, Field(ge=0)]
    days: Annotated[int, Field(gt=0)] = 3


class SimulatorConfig(Strict):
    """A simulated history: its size, its calendar and what is planted in it (see docs/reference/simulator.md).

    ``split_test_effect`` is the mean log hazard ratio of the arm ``treatment``; ``late_share`` the share of
    interactions and conversions that are recorded hours or days after they occurred; ``chunk_leads`` bounds the
    memory and changes nothing else.
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
    "AttributeConfig",
    "ChannelDrift",
    "DuckdbSource",
    "FileSource",
    "HistoryConfig",
    "KindOutage",
    "PositiveDuration",
    "PostgresSource",
    "SimulatorConfig",
    "Source",
    "TableConfig",
    "ValidationConfig",
]
