"""From a target of the configuration to the publisher that serves it."""

from __future__ import annotations

from pathlib import Path

from ...config.nightly import DuckdbTarget, ParquetTarget, Target
from .protocol import Publisher


def make_publisher(target: Target, base_folder: Path) -> Publisher:
    """The publisher of a target; relative paths start at ``base_folder``, the folder of the configuration file.

    Nothing is opened yet: ``current()`` tells whether the place can be reached.

    >>> make_publisher(ParquetTarget(parquet="scores"), Path("somewhere")).describe()
    'Parquet files in scores'
    """
    if isinstance(target, ParquetTarget):
        from .parquet import ParquetPublisher

        return ParquetPublisher.of(target, base_folder)
    if isinstance(target, DuckdbTarget):
        from .duckdb import DuckdbPublisher

        return DuckdbPublisher(base_folder / target.duckdb, target.table, target.duckdb, _seconds(target))
    from .postgres import PostgresPublisher

    return PostgresPublisher(
        target.postgres_env, target.table, _seconds(target), target.timeout.microseconds / 1e6
    )


def _seconds(target: Target) -> float:
    return target.wait.microseconds / 1e6
