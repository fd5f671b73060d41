"""The nightly run: where it keeps its state, where scores go, what is called when it stops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .base import Duration, PositiveDuration, Strict
from .gates import GatesConfig


def _table_name(name: str) -> str:
    parts = name.split(".")
    if not all(parts) or len(parts) > 2 or "\0" in name or len(name) > 120:
        raise ValueError(
            f"a table is named 'table' or 'schema.table', with at most 120 characters; got {name!r}"
        )
    return name


TableName = Annotated[str, AfterValidator(_table_name)]
"""A table, or ``schema.table``; a name with a dot in it is not possible."""


class ParquetTarget(Strict):
    """Files below a folder: ``runs/run_id=<id>/scores.parquet``, and ``latest.parquet``.

    ``wait``: how long to wait for another process that publishes to the folder.
    """

    parquet: str = "scores"
    wait: PositiveDuration = Duration("1m")


class DuckdbTarget(Strict):
    """A table of a DuckDB database file, replaced in one transaction.

    ``wait``: how long to wait for readers, who keep the file locked as long as they have it open.
    """

    duckdb: str
    table: TableName = "scores"
    wait: PositiveDuration = Duration("1m")


class PostgresTarget(Strict):
    """A table of a PostgreSQL database, replaced in one transaction; the connection string is read from an
    environment variable.

    ``wait``: how long to wait for a lock that somebody else holds; ``timeout``: how long one statement may take.
    """

    postgres_env: str
    table: TableName = "scores"
    wait: PositiveDuration = Duration("1m")
    timeout: PositiveDuration = Duration("30m")


Target = ParquetTarget | DuckdbTarget | PostgresTarget


class HookConfig(Strict):
    """A command, or a webhook whose address is in an environment variable, told by JSON what happened (no lead data).

    The command gets it on standard input. ``when``: which outcomes call it.
    """

    command: tuple[str, ...] | None = None
    webhook_env: str | None = None
    when: tuple[Literal["published", "warned", "stopped", "failed"], ...] = ("stopped", "failed")
    timeout: PositiveDuration | None = None
    retries: Annotated[int, Field(ge=0, le=10)] = 3

    @model_validator(mode="after")
    def _one(self) -> HookConfig:
        if (self.command is None) == (self.webhook_env is None):
            raise ValueError("a hook needs either 'command' or 'webhook_env', not both and not neither")
        return self


class NightlyConfig(Strict):
    """The nightly run.

    ``folder`` holds its state (lock, unfinished work, manifests, ledger, monitoring), relative to the configuration
    file, as are the paths of ``publish``. ``at`` is the time of day (UTC) of a night's cutoff. ``bucket_leads``:
    how many leads are scored before the work so far is safe from a crash. ``reasons`` of the configuration says who
    is explained. ``keep``: how long the runs of Parquet targets and quarantined rows stay, by their night's cutoff
    before the latest one (none: for ever); the present night and the former one always do, and so does the ledger.
    """

    folder: str = "nightly"
    at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "00:00"
    bucket_leads: Annotated[int, Field(gt=0)] = 50_000
    keep: PositiveDuration | None = None
    publish: Annotated[tuple[Target, ...], Field(min_length=1)] = (ParquetTarget(),)
    gates: GatesConfig = GatesConfig()
    hooks: tuple[HookConfig, ...] = ()
    prometheus: str | None = None
    log: Literal["text", "json"] = "text"
