"""Conversions, revenue, spend and attribute changes: checked row by row, tied to their lead, returned as Arrow."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ..config.history import AttributeConfig
from .columns import Reading
from .csv_files import quoted
from .history import TIMESTAMP
from .sources import RawTable
from .validation import AFTER_KNOWN_UNTIL, CONFLICTING_EVENT, CONVERTED_BEFORE_CREATION, UNKNOWN_ATTRIBUTE
from .workspace import Workspace, check_zones, from_us, prepare, settle_copies, with_leads

_DAY_US = 86_400_000_000
_TIMES = {"converted_at", "occurred_at", "recorded_at", "valid_from"}


def load_conversions(
    workspace: Workspace, raw: RawTable, readings: Mapping[str, Reading]
) -> tuple[pa.Table, pa.Table]:
    """One row per converted lead: its first dated conversion, or a null date where none is known; then the further
    ones that came first for as long as those before them were not known, by lead and in that order.

    A conversion in quarantine still says that the lead converted: without a sound date the lead counts as
    undated.
    """
    connection, table = workspace.connection, "loading.conversions"
    notes = _create(workspace, "conversions", raw, readings)
    zone = workspace.zone("conversions") or "UTC"
    local = f"epoch_us(timezone('{zone}', make_timestamptz({{}})))"
    midnight = f"{local.format('converted_at')} % {_DAY_US} = 0"
    same_day = f"{local.format('converted_at')} = {local.format('_created_at')} // {_DAY_US} * {_DAY_US}"
    dated = f"_reason IS NULL AND converted_at < _created_at AND {midnight} AND {same_day}"
    moved = workspace.one(f"SELECT count(*) FROM {table} WHERE {dated}")
    if moved:
        notes["dated by day, on the day of creation (moved to the creation)"] = moved
        connection.execute(f"UPDATE {table} SET converted_at = _created_at WHERE {dated}")
    connection.execute(
        f"UPDATE {table} SET _reason = '{CONVERTED_BEFORE_CREATION}' "
        "WHERE _reason IS NULL AND converted_at < _created_at"
    )
    duplicates = _finish(workspace, "conversions", raw, readings)
    broken = f"_reason IS NOT NULL AND _reason <> '{AFTER_KNOWN_UNTIL}' AND lead_row IS NOT NULL"
    result = _arrow(workspace, _ranked_conversions(table, broken))
    undated, extra, saved = workspace.rows(
        f"SELECT count_if(converted_at IS NULL), count(*) - count(DISTINCT lead_row), "
        f"(SELECT count(DISTINCT lead_row) FROM {table} WHERE {broken} AND lead_row NOT IN "
        f"(SELECT lead_row FROM {table} WHERE _reason IS NULL)) FROM {table} WHERE _reason IS NULL AND NOT _copy"
    )[0]
    notes |= {"undated (converted, nobody knows when)": undated} if undated else {}
    notes |= {"further conversions of a lead (the first dated one counts)": extra} if extra else {}
    notes |= {"leads whose only conversion is in quarantine (treated as undated)": saved} if saved else {}
    _report(workspace, "conversions", duplicates, notes)
    first = result["_first"]
    result = result.drop_columns(["_first"])
    return result.filter(first), result.filter(pc.invert(first))


def _ranked_conversions(table: str, broken: str) -> str:
    """SQL for each lead's conversions in the order in which they count, sound ones first, with ``_first``.

    Of the further ones only those stay that were known before all that precede them: no instant picks another.
    """
    never = -(1 << 62)
    known = f"greatest(coalesce(converted_at, {never}), coalesce(recorded_at, {never}))"
    rows = (
        "SELECT lead_row, CASE WHEN _reason IS NULL THEN converted_at END AS converted_at, recorded_at, "
        f"_reason IS NOT NULL AS _broken, _row FROM {table} WHERE _reason IS NULL AND NOT _copy OR {broken}"
    )
    ranked = (
        f"SELECT *, {known} AS _known, row_number() OVER w AS _rank FROM ({rows}) WINDOW w AS (PARTITION BY lead_row "
        "ORDER BY _broken, converted_at NULLS LAST, coalesce(recorded_at, converted_at) NULLS LAST, _row)"
    )
    return (
        f"SELECT lead_row, converted_at, recorded_at, _rank = 1 AS _first FROM ({ranked}) "
        "QUALIFY _first OR _known < min(_known) OVER (PARTITION BY lead_row ORDER BY _rank "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) ORDER BY lead_row, _rank"
    )


def load_revenue(workspace: Workspace, raw: RawTable, readings: Mapping[str, Reading]) -> pa.Table:
    """lead_row, occurred_at, amount, recorded_at; ordered by lead, time and source row."""
    notes = _create(workspace, "revenue", raw, readings)
    duplicates = _finish(workspace, "revenue", raw, readings)
    _report(workspace, "revenue", duplicates, notes)
    return _arrow(
        workspace,
        "SELECT lead_row, occurred_at, amount, recorded_at FROM loading.revenue "
        "WHERE _reason IS NULL AND NOT _copy ORDER BY lead_row, occurred_at, _row",
    )


def load_spend(
    workspace: Workspace,
    raw: RawTable,
    readings: Mapping[str, Reading],
    attributes: Mapping[str, AttributeConfig],
) -> pa.Table:
    """occurred_at, amount, recorded_at, then the attributes; ordered by time and source row."""
    notes = _create(workspace, "spend", raw, readings)
    duplicates = _finish(workspace, "spend", raw, readings)
    names = ", ".join(["occurred_at", "amount", "recorded_at", *(quoted(name) for name in attributes)])
    if "event_id" not in readings:
        copies = workspace.one(
            f"SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT * FROM {raw.relation})) FROM {raw.relation}"
        )
        notes |= (
            {"exact copies of another row (kept: without event_id they may be real)": copies}
            if copies
            else {}
        )
    _report(workspace, "spend", duplicates, notes)
    return _arrow(
        workspace,
        f"SELECT {names} FROM loading.spend WHERE _reason IS NULL AND NOT _copy ORDER BY occurred_at, _row",
    )


def load_attribute_changes(
    workspace: Workspace,
    raw: RawTable,
    readings: Mapping[str, Reading],
    attributes: Mapping[str, AttributeConfig],
) -> pa.Table:
    """lead_row, attribute, value, valid_from, recorded_at; ordered by lead, attribute, validity and source row."""
    table = "loading.attribute_changes"
    notes = _create(workspace, "attribute_changes", raw, readings)
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in attributes) or "NULL"
    numbers = ", ".join(
        "'" + n.replace("'", "''") + "'" for n, entry in attributes.items() if entry.type == "number"
    )
    workspace.connection.execute(
        f"UPDATE {table} SET _reason = '{UNKNOWN_ATTRIBUTE}' WHERE _reason IS NULL AND attribute NOT IN ({names})"
    )
    if numbers:
        workspace.connection.execute(
            f"UPDATE {table} SET _reason = 'value cannot be read as a number' WHERE _reason IS NULL AND "
            f"attribute IN ({numbers}) AND value IS NOT NULL "
            "AND NOT coalesce(isfinite(TRY_CAST(value AS DOUBLE)), FALSE)"
        )
    duplicates = _finish(workspace, "attribute_changes", raw, readings)
    _report(workspace, "attribute_changes", duplicates, notes)
    return _arrow(
        workspace,
        f"SELECT lead_row, attribute, value, valid_from, recorded_at FROM {table} WHERE _reason IS NULL AND NOT _copy "
        "ORDER BY lead_row, attribute, valid_from, coalesce(recorded_at, valid_from), _row",
    )


def _create(
    workspace: Workspace, name: str, raw: RawTable, readings: Mapping[str, Reading]
) -> dict[str, int]:
    notes = check_zones(workspace, name, raw, readings.values())
    prepared = prepare(workspace, name, raw, readings)
    rows = with_leads(prepared) if "lead_id" in readings else prepared
    recorded = "" if "recorded_at" in readings else ", NULL::BIGINT AS recorded_at"
    workspace.connection.execute(
        f"CREATE TABLE loading.{name} AS SELECT *, FALSE AS _copy{recorded} FROM ({rows})"
    )
    return notes


def _finish(workspace: Workspace, name: str, raw: RawTable, readings: Mapping[str, Reading]) -> int:
    """Settle repeated event ids, write the quarantine; the number of exact duplicates."""
    connection, table, duplicates = workspace.connection, f"loading.{name}", 0
    if "event_id" in readings:
        content = ["lead_row" if column == "lead_id" else column for column in readings]
        settle_copies(workspace, table, f"loading.copies_{name}", "event_id", content)
        connection.execute(
            f"UPDATE {table} SET _copy = c._same, _reason = CASE WHEN NOT c._same THEN '{CONFLICTING_EVENT}' END "
            f"FROM loading.copies_{name} c WHERE c._row = {table}._row"
        )
        duplicates = workspace.one(f"SELECT count(*) FROM {table} WHERE _copy")
    workspace.quarantine.write(
        connection, name, raw, f"(SELECT _row, _reason FROM {table} WHERE _reason IS NOT NULL)"
    )
    return duplicates


def _report(workspace: Workspace, name: str, duplicates: int, notes: dict[str, int]) -> None:
    table = f"loading.{name}"
    counts = workspace.counts(table)
    accepted = counts.pop("", 0) - duplicates
    time = next(
        column for column in ("converted_at", "occurred_at", "valid_from") if _has(workspace, table, column)
    )
    first, last = workspace.rows(f"SELECT min({time}), max({time}) FROM {table} WHERE _reason IS NULL")[0]
    workspace.report(
        name,
        read=accepted + duplicates + sum(counts.values()),
        accepted=accepted,
        duplicates=duplicates,
        quarantined=counts,
        notes=notes,
        first=from_us(first),
        last=from_us(last),
    )


def _has(workspace: Workspace, table: str, column: str) -> bool:
    return column in {row[0] for row in workspace.rows(f"DESCRIBE {table}")}


def _arrow(workspace: Workspace, sql: str) -> pa.Table:
    table = workspace.connection.sql(sql).to_arrow_table()
    for position, name in enumerate(table.column_names):
        if name in _TIMES:
            table = table.set_column(position, name, table[name].cast(TIMESTAMP))
    return table
