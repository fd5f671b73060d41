"""Histories from data frames: pandas, Polars or Arrow, through the same validation as files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from ..config.history import TABLE_ATTRIBUTES, TABLE_COLUMNS, HistoryConfig, TableConfig, ValidationConfig
from ..errors import ConfigError, DataError
from .csv_files import quoted
from .history import AttributeType, History
from .load import assemble_history, check_declared
from .sources import OpenedSource, first_line, open_arrow
from .workspace import open_workspace


def history_from_frames(
    *,
    leads: Any,
    interactions: Any = None,
    conversions: Any = None,
    revenue: Any = None,
    spend: Any = None,
    attribute_changes: Any = None,
    aliases: Any = None,
    lead_attributes: Mapping[str, AttributeType] | None = None,
    interaction_attributes: Mapping[str, AttributeType] | None = None,
    timezone: str | None = None,
    known_until: datetime | str | None = None,
    validation: ValidationConfig | None = None,
) -> History:
    """A validated :class:`History` from pandas, Polars or Arrow tables with convpredict's column names.

    Attributes that are not named are all further columns of ``leads``, ``interactions`` and ``spend``, typed
    by their dtype: numbers, times (leads only), everything else as categories. ``timezone`` is the zone of
    naive times. Raises like :func:`load_history`; bad rows are counted in ``history.report``.

    >>> import pandas as pd
    >>> history = history_from_frames(
    ...     leads=pd.DataFrame({"lead_id": ["a", "b"], "created_at": ["2024-01-01"] * 2, "source": ["web", "fair"]}),
    ...     interactions=pd.DataFrame({"lead_id": ["a"], "occurred_at": ["2024-01-03T09:00Z"], "kind": ["call"]}),
    ...     timezone="UTC")
    >>> history.n_leads, history.n_interactions, history.lead_attributes
    (2, 1, {'source': 'category'})
    """
    frames = {
        "leads": leads,
        "interactions": interactions,
        "conversions": conversions,
        "revenue": revenue,
        "spend": spend,
        "attribute_changes": attribute_changes,
        "aliases": aliases,
    }
    tables = {name: to_arrow(frame, name) for name, frame in frames.items() if frame is not None}
    declared = {"leads": lead_attributes, "interactions": interaction_attributes}
    config = _config(tables, declared, timezone, known_until, validation)
    check_declared(config, ())
    connection = open_workspace()
    try:
        opened: dict[str, OpenedSource] = {
            name: open_arrow(
                connection,
                f"source.{quoted(name)}",
                table,
                label=f"the frame {name}",
                origin=f"the frame {name}",
            )
            for name, table in tables.items()
        }
        return assemble_history(connection, config, opened, quarantine_dir=None, require=())
    except (duckdb.Error, pa.ArrowException) as error:
        raise DataError(f"the frames cannot be read: {first_line(error)}") from error


def to_arrow(frame: Any, name: str) -> pa.Table:
    """An Arrow table from an Arrow table or reader, a pandas or a Polars frame."""
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if isinstance(frame, pa.RecordBatchReader):
        return frame.read_all()
    module = type(frame).__module__.split(".", 1)[0]
    try:
        if module == "polars":
            collected = frame.collect() if hasattr(frame, "collect") else frame
            return collected.to_arrow()
        if module == "pandas":
            return _pandas_to_arrow(frame, name)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the frame {name} cannot be turned into Arrow: {error}. Give each column one type."
        ) from error
    raise DataError(f"the frame {name} is a {type(frame).__name__}; give a pandas, Polars or Arrow table.")


def _pandas_to_arrow(frame: Any, name: str) -> pa.Table:
    """Like ``pa.Table.from_pandas``; zoned columns pass as UTC, for pandas 3.1 warns when Arrow reads them."""
    frame = frame.rename(columns=str)
    if not frame.columns.is_unique:
        repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
        raise DataError(f"the frame {name} has the column {', '.join(repeated)} more than once; rename one.")
    zoned = [column for column in frame.columns if getattr(frame[column].dtype, "tz", None) is not None]
    table = pa.Table.from_pandas(
        frame.assign(**{column: frame[column].dt.tz_convert(None) for column in zoned}), preserve_index=False
    )
    for column in zoned:
        instants = table[column].cast(pa.timestamp("us"), safe=False).cast(pa.timestamp("us", tz="UTC"))
        table = table.set_column(table.column_names.index(column), column, instants)
    return table


def _config(
    tables: Mapping[str, pa.Table],
    declared: Mapping[str, Mapping[str, AttributeType] | None],
    timezone: str | None,
    known_until: datetime | str | None,
    validation: ValidationConfig | None,
) -> HistoryConfig:
    content: dict[str, Any] = {"timezone": timezone, "known_until": known_until}
    if validation is not None:
        content["validation"] = validation
    for name, table in tables.items():
        attributes = declared.get(name)
        if attributes is None:
            attributes = _infer(name, table)
        content[name] = TableConfig(source=name, attributes=dict(attributes))
    try:
        return HistoryConfig.model_validate(content)
    except ValueError as error:
        lines = [entry["msg"] for entry in error.errors()] if hasattr(error, "errors") else [str(error)]
        raise ConfigError("; ".join(lines)) from None


def _infer(name: str, table: pa.Table) -> dict[str, AttributeType]:
    """Attributes by dtype: numbers, times, else categories; what the table cannot carry is left out."""
    allowed = TABLE_ATTRIBUTES.get(name, ())
    found: dict[str, AttributeType] = {}
    for field in table.schema:
        if field.name in TABLE_COLUMNS[name]:
            continue
        kind = field.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            inferred: AttributeType = "number"
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            inferred = "time"
        else:
            inferred = "category"
        if inferred in allowed:
            found[field.name] = inferred
    return found
