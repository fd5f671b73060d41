"""From declared tables to a validated :class:`History`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from ..config.history import TABLE_COLUMNS, HistoryConfig, TableConfig
from ..config.root import Config
from ..errors import ConfigError, DataError
from .columns import Reading, check_id, find_column, is_integer_id, read_columns
from .event_tables import load_attribute_changes, load_conversions, load_revenue, load_spend
from .history import AttributeType, History, empty, empty_interactions
from .interaction_table import LoadedInteractions, load_interactions
from .lead_table import load_aliases, load_leads, refuse_damaged_ids
from .quarantine import QuarantineFile
from .sources import OpenedSource, RawTable, first_line, open_source, without_values
from .validation import TableReport, ValidationReport, check_shares
from .workspace import Workspace, from_us, names_in, open_workspace, run_select, to_us

_DAY_US = 86_400_000_000
_LONELY_ROWS = 2
_LONELY_GAP_US = 30 * _DAY_US


def load_history(
    project_config: Config,
    data_dir: Path,
    *,
    quarantine_dir: Path | None = None,
    require: Collection[str] = (),
) -> History:
    """Read, validate and tie together the tables that a configuration declares.

    Relative source paths start from ``data_dir``. Rows that break the contract go to ``quarantine_dir`` (one
    Parquet file a table); without it they are only counted. ``require`` names tables that must be declared
    and not empty (training needs ``conversions``). Without a declared ``known_until`` the latest accepted
    time in any table counts.

    Raises :class:`ConfigError` for what the configuration must mend, :class:`DataError` for missing, damaged
    or unreadable input and for tables with more bad rows than ``history.validation.max_bad_share``.
    """
    config = project_config.history
    check_declared(config, require)
    connection = open_workspace()
    try:
        opened: dict[str, OpenedSource] = {}
        for name in _needed(project_config):
            opened[name] = open_source(connection, name, project_config.sources[name], Path(data_dir))
        return assemble_history(connection, config, opened, quarantine_dir=quarantine_dir, require=require)
    except duckdb.OutOfMemoryException as error:
        raise DataError(
            f"the history does not fit into memory: {first_line(error)} Use Parquet sources."
        ) from error
    except OSError as error:
        raise DataError(
            f"a file cannot be read or written: {error}. Check the path, the rights and the space on the disk."
        ) from error
    except (duckdb.Error, pa.ArrowException) as error:
        raise DataError(
            f"the history cannot be read: {without_values(error)} Check that its files are whole."
        ) from error


def assemble_history(
    connection: duckdb.DuckDBPyConnection,
    config: HistoryConfig,
    opened: Mapping[str, OpenedSource],
    *,
    quarantine_dir: Path | None,
    require: Collection[str],
) -> History:
    """Validate opened sources into a :class:`History`: aliases, then leads, then everything that hangs on leads."""
    known_until = None if config.known_until is None else to_us(config.known_until)
    workspace = Workspace(connection, config, QuarantineFile(quarantine_dir), known_until=known_until)
    _report_malformed_lines(workspace, opened)
    raw = {
        name: _raw_table(workspace, name, table, opened) for name, table in declared_tables(config).items()
    }
    workspace.id_type = _id_type(config, raw)
    readings = {
        name: read_columns(name, table, raw[name], config.timezone, workspace.id_type)
        for name, table in declared_tables(config).items()
    }
    history = _load_tables(workspace, raw, readings, _fingerprint(config, opened), require)
    watched = {name: source.watched for name, source in opened.items() if source.watched is not None}
    return replace(history, watched=watched)


def declared_tables(config: HistoryConfig) -> dict[str, TableConfig]:
    """The declared tables by name."""
    tables = ((name, getattr(config, name)) for name in TABLE_COLUMNS)
    return {name: table for name, table in tables if table is not None}


@dataclass
class _Loaded:
    leads: pa.Table
    conversions: pa.Table
    further_conversions: pa.Table
    revenue: pa.Table
    spend: pa.Table
    attribute_changes: pa.Table
    interactions: LoadedInteractions


def _load_tables(
    workspace: Workspace,
    raw: Mapping[str, RawTable],
    readings: Mapping[str, Mapping[str, Reading]],
    fingerprint: str,
    require: Collection[str],
) -> History:
    config = workspace.config
    tables = declared_tables(config)
    attributes = {
        name: {entry: table.attribute(entry) for entry in table.attributes} for name, table in tables.items()
    }
    load_aliases(workspace, raw.get("aliases"), readings.get("aliases", {}))
    leads = load_leads(workspace, raw["leads"], readings["leads"], attributes["leads"])
    loaded = _Loaded(
        leads,
        empty("conversions"),
        empty("conversions"),
        empty("revenue"),
        empty("spend"),
        empty("attribute_changes"),
        _no_interactions(),
    )
    if "interactions" in raw:
        names = list(attributes["interactions"])
        loaded.interactions = load_interactions(
            workspace, raw["interactions"], readings["interactions"], names
        )
    else:
        _create_empty(workspace)
    if "conversions" in raw:
        loaded.conversions, loaded.further_conversions = load_conversions(
            workspace, raw["conversions"], readings["conversions"]
        )
    if "revenue" in raw:
        loaded.revenue = load_revenue(workspace, raw["revenue"], readings["revenue"])
    if "spend" in raw:
        loaded.spend = load_spend(workspace, raw["spend"], readings["spend"], attributes["spend"])
    if "attribute_changes" in raw:
        loaded.attribute_changes = load_attribute_changes(
            workspace, raw["attribute_changes"], readings["attribute_changes"], attributes["leads"]
        )
    _refuse_damaged_ids(workspace, raw)
    known_until = _known_until(workspace, loaded)
    report = _final_report(workspace, loaded, known_until)
    _check_reports(workspace, report, require)
    return _history(workspace, loaded, report, attributes, fingerprint, lazy=raw_is_lazy(raw))


def raw_is_lazy(raw: Mapping[str, RawTable]) -> bool:
    """Whether the interactions are still read from their Parquet files at every scan."""
    return "interactions" in raw and raw["interactions"].lazy


def _history(
    workspace: Workspace,
    loaded: _Loaded,
    report: ValidationReport,
    attributes: Mapping[str, Mapping[str, object]],
    fingerprint: str,
    *,
    lazy: bool,
) -> History:
    connection = workspace.connection
    keep = "'sound_leads', 'copies', 'ties'" if lazy else "''"
    for schema, table in workspace.rows(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE schema_name IN ('loading', 'source') "
        f"AND NOT (schema_name = 'loading' AND table_name IN ({keep})) ORDER BY ALL"
    ):
        connection.execute(f'DROP TABLE "{schema}"."{table.replace(chr(34), chr(34) * 2)}"')

    def types(name: str) -> dict[str, AttributeType]:
        return {entry: settings.type for entry, settings in attributes.get(name, {}).items()}  # type: ignore[attr-defined]

    return History(
        connection=connection,
        leads=loaded.leads,
        conversions=loaded.conversions,
        revenue=loaded.revenue,
        spend=loaded.spend,
        attribute_changes=loaded.attribute_changes,
        lead_attributes=types("leads"),
        interaction_attributes=types("interactions"),
        known_until=report.known_until,
        n_interactions=loaded.interactions.rows,
        fingerprint=fingerprint,
        has_late_records=loaded.interactions.has_late_records,
        counts=report.to_dict(),
        report=report,
        further_conversions=loaded.further_conversions,
    )


def check_declared(config: HistoryConfig, require: Collection[str]) -> None:
    """Raise :class:`ConfigError` when a required table, or anything that tells leads apart, is not declared."""
    for name in require:
        if name not in TABLE_COLUMNS:
            raise ConfigError(
                f"'{name}' is no table of a history; the tables are {', '.join(TABLE_COLUMNS)}."
            )
        if getattr(config, name) is None:
            raise ConfigError(
                f"history.{name} is missing, but this step needs it; declare a 'source' or 'sql' for it."
            )
    if config.interactions is None and not config.leads.attributes:
        raise ConfigError(
            "history.interactions is missing and history.leads has no attributes, so nothing tells leads apart; "
            "declare at least one of them."
        )


def _needed(config: Config) -> list[str]:
    """The sources that some table uses, in the order of their declaration."""
    used: set[str] = set()
    for table in declared_tables(config.history).values():
        used |= {table.source} if table.source is not None else set(names_in(table.sql or "", config.sources))
    return [name for name in config.sources if name in used]


def _report_malformed_lines(workspace: Workspace, opened: Mapping[str, OpenedSource]) -> None:
    for name, source in opened.items():
        workspace.warnings.extend(source.warnings)
        if source.csv is None:
            continue
        lines = source.csv.malformed_table()
        workspace.quarantine.write_lines(workspace.connection, name, lines)
        if not lines.num_rows:
            continue
        reasons: dict[str, int] = {}
        for reason, _, _ in source.csv.malformed:
            reasons[reason] = reasons.get(reason, 0) + 1
        table = f"source {name}"
        workspace.reports[table] = TableReport(
            read=source.csv.rows,
            accepted=source.csv.rows - lines.num_rows,
            duplicates=0,
            quarantined=reasons,
            file=workspace.quarantine.written.get(f"source_{name}"),
        )


def _raw_table(
    workspace: Workspace, name: str, table: TableConfig, opened: Mapping[str, OpenedSource]
) -> RawTable:
    if table.source is not None:
        return opened[table.source].raw
    return run_select(workspace, name, table.sql or "", opened)


def _id_type(config: HistoryConfig, raw: Mapping[str, RawTable]) -> str:
    """``BIGINT`` if the lead ids of every table are integers, else ``VARCHAR``."""
    integers = []
    for name, table in declared_tables(config).items():
        for column, role in TABLE_COLUMNS[name].items():
            if role == "id":
                found = find_column(name, column, table, raw[name]) or ""
                kind = raw[name].columns[found]
                check_id(f"history.{name}.columns.{column}", found, kind, raw[name].origin)
                integers.append(is_integer_id(kind))
    return "BIGINT" if all(integers) else "VARCHAR"


def _refuse_damaged_ids(workspace: Workspace, raw: Mapping[str, RawTable]) -> None:
    relations = {name: f"loading.{name}" for name in ("conversions", "revenue", "attribute_changes")}
    for name, relation in {"interactions": "loading.bad_interactions", **relations}.items():
        if name in raw:
            refuse_damaged_ids(workspace, name, relation, raw[name])


def _no_interactions() -> LoadedInteractions:
    return LoadedInteractions(rows=0, has_late_records=False, kinds={}, latest=None)


def _create_empty(workspace: Workspace) -> None:
    workspace.connection.register("incoming_empty", empty_interactions())
    workspace.connection.execute("CREATE TABLE main.interactions AS SELECT * FROM incoming_empty")
    workspace.connection.unregister("incoming_empty")


def _known_until(workspace: Workspace, loaded: _Loaded) -> datetime:
    """The declared instant, else the latest accepted time at which something happened to a lead.

    Losses and spend do not count: both are often entered ahead of time, and an instant that lies too late turns
    leads whose outcome is still open into negatives.
    """
    if workspace.config.known_until is not None:
        return workspace.config.known_until
    latest = {"interactions": loaded.interactions.latest}
    columns = {
        "leads": (loaded.leads, ("created_at",)),
        "conversions": (loaded.conversions, ("converted_at", "recorded_at")),
        "revenue": (loaded.revenue, ("occurred_at", "recorded_at")),
        "attribute_changes": (loaded.attribute_changes, ("valid_from", "recorded_at")),
    }
    for name, (table, times) in columns.items():
        values = [pa.compute.max(table[time]).cast(pa.int64()).as_py() for time in times]
        latest[name] = max((value for value in values if value is not None), default=None)
    seen = {name: value for name, value in latest.items() if value is not None}
    table_name = max(seen, key=lambda name: seen[name]) if seen else ""
    moment = from_us(seen[table_name]) if seen else None
    if moment is None:
        return datetime(1970, 1, 1, tzinfo=UTC)
    _refuse_lonely_latest(workspace, loaded, seen[table_name], table_name)
    workspace.warnings.append(
        f"history.known_until is not declared; taken as the latest time seen, {moment:%Y-%m-%d %H:%M} UTC in "
        f"{table_name}. Declare it if the data is complete only up to an earlier instant."
    )
    return moment


def _refuse_lonely_latest(workspace: Workspace, loaded: _Loaded, latest: int, table_name: str) -> None:
    """Refuse to take the end of the data from one or two rows that lie far after all others.

    A single row dated 2031 would make every lead whose outcome is still open a mature negative.
    """
    others = [
        table[time].cast(pa.int64()).to_numpy(zero_copy_only=False)
        for table, time in (
            (loaded.leads, "created_at"),
            (loaded.conversions, "converted_at"),
            (loaded.revenue, "occurred_at"),
        )
    ]
    last = workspace.rows("SELECT occurred_at FROM interactions ORDER BY occurred_at DESC LIMIT 3")
    times = np.concatenate([np.array([row[0] for row in last], np.float64), *others]).astype(np.float64)
    times = np.sort(times[np.isfinite(times)])
    if len(times) < _LONELY_ROWS + 2:
        return
    gap, span = times[-1] - times[-1 - _LONELY_ROWS], times[-1] - times[0]
    if gap > _LONELY_GAP_US and gap > span / 20:
        raise DataError(
            f"history.known_until is not declared, and the latest time seen ({from_us(latest):%Y-%m-%d} in "
            f"{table_name}) lies {gap / _DAY_US:,.0f} days after nearly all others. Taken as the end of the data, "
            "one wrong date makes every open lead a lost one. Declare history.known_until, the instant up to "
            "which the data is complete; rows after it are then put aside."
        )


def _final_report(workspace: Workspace, loaded: _Loaded, known_until: datetime) -> ValidationReport:
    undated = loaded.conversions["converted_at"].null_count
    for name, table in workspace.reports.items():
        if not table.accepted:
            why = max(
                table.quarantined,
                key=lambda reason: table.quarantined[reason],
                default="the source has no rows",
            )
            workspace.warnings.append(f"{name}: no row of {table.read:,} is left ({why}).")
    return ValidationReport(
        tables=dict(workspace.reports),
        leads=loaded.leads.num_rows,
        converted=loaded.conversions.num_rows - undated,
        undated=undated,
        lost=loaded.leads.num_rows - loaded.leads["lost_at"].null_count,
        kinds=loaded.interactions.kinds,
        known_until=known_until,
        warnings=tuple(workspace.warnings),
    )


def _check_reports(workspace: Workspace, report: ValidationReport, require: Collection[str]) -> None:
    check_shares(report, workspace.config.validation.max_bad_share)
    for name in require:
        if not report.tables[name].accepted:
            raise DataError(
                f"history.{name} has no rows, but this step needs them; check the source and the mapping."
            )


def _fingerprint(config: HistoryConfig, opened: Mapping[str, OpenedSource]) -> str:
    """SHA-256 over the content of every source that was read and the declaration of the tables."""
    content = {
        "history": config.model_dump(mode="json"),
        "sources": {name: source.digest for name, source in sorted(opened.items())},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
