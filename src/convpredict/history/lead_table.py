"""Leads: aliases resolved, duplicates settled, positions given, and the lookup from any id to its lead."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from ..config.history import AttributeConfig
from ..errors import DataError
from .columns import Reading
from .csv_files import quoted
from .history import TIMESTAMP
from .sources import RawTable
from .validation import (
    AFTER_KNOWN_UNTIL,
    ALIAS_CYCLE,
    CONFLICTING_ALIAS,
    CONFLICTING_LEAD,
)
from .workspace import Workspace, check_zones, from_us, prepare, settle_copies


def load_aliases(workspace: Workspace, raw: RawTable | None, readings: Mapping[str, Reading]) -> None:
    """Create ``loading.alias`` (lead_id, canonical): every old id with the end of its chain."""
    connection, kind = workspace.connection, workspace.id_type
    connection.execute(f"CREATE TABLE loading.alias (lead_id {kind}, canonical {kind})")
    if raw is None:
        return
    connection.execute(f"CREATE TABLE loading.aliases AS {prepare(workspace, 'aliases', raw, readings)}")
    rows = workspace.rows(
        "SELECT _row, lead_id, canonical_id FROM loading.aliases WHERE _reason IS NULL ORDER BY _row"
    )
    reasons: dict[int, str] = {}
    target: dict[object, object] = {}
    row_of: dict[object, int] = {}
    duplicates = 0
    for row, old, new in rows:
        if old in target:
            if target[old] == new:
                duplicates += 1
                reasons[row] = "duplicate"
            else:
                reasons[row] = CONFLICTING_ALIAS
            continue
        target[old], row_of[old] = new, row
    ends = _chain_ends({old: new for old, new in target.items() if old != new})
    reasons |= {row_of[old]: ALIAS_CYCLE for old, end in ends.items() if end is None}
    resolved = [(old, end) for old, end in ends.items() if end is not None]
    arrow_kind = pa.int64() if kind == "BIGINT" else pa.string()
    _insert(
        workspace, "loading.alias", [pa.array(column, arrow_kind) for column in zip(*resolved, strict=True)]
    )
    connection.execute("CREATE TABLE loading.alias_reasons (_row BIGINT, _reason VARCHAR)")
    _insert(
        workspace,
        "loading.alias_reasons",
        [pa.array(list(reasons), pa.int64()), pa.array(list(reasons.values()))],
    )
    connection.execute(
        "CREATE TABLE loading.bad_aliases AS SELECT _row, coalesce(r._reason, a._reason) AS _reason "
        "FROM loading.aliases a LEFT JOIN loading.alias_reasons r USING (_row) "
        "WHERE coalesce(r._reason, a._reason) <> 'duplicate'"
    )
    workspace.quarantine.write(connection, "aliases", raw, "loading.bad_aliases")
    bad = workspace.counts("loading.bad_aliases")
    read = workspace.one("SELECT count(*) FROM loading.aliases")
    workspace.report(
        "aliases",
        read=read,
        accepted=read - duplicates - sum(bad.values()),
        duplicates=duplicates,
        quarantined=bad,
    )


def _chain_ends(target: Mapping[object, object]) -> dict[object, object | None]:
    """Where each chain of aliases ends; None where it runs into a cycle.

    >>> _chain_ends({"a": "b", "b": "c", "x": "y", "y": "x"})
    {'b': 'c', 'a': 'c', 'y': None, 'x': None}
    """
    ends: dict[object, object | None] = {}
    for start in target:
        path: list[object] = []
        seen: set[object] = set()
        node: object | None = start
        while node in target and node not in ends and node not in seen:
            path.append(node)
            seen.add(node)
            node = target[node]
        end = None if node in seen else ends.get(node, node)
        for entry in reversed(path):
            ends[entry] = end
    return ends


def _insert(workspace: Workspace, table: str, columns: list[pa.Array]) -> None:
    if not columns or not len(columns[0]):
        return
    workspace.connection.register(
        "incoming_rows", pa.table(columns, names=[f"c{i}" for i in range(len(columns))])
    )
    workspace.connection.execute(f"INSERT INTO {table} SELECT * FROM incoming_rows")
    workspace.connection.unregister("incoming_rows")


def load_leads(
    workspace: Workspace,
    raw: RawTable,
    readings: Mapping[str, Reading],
    attributes: Mapping[str, AttributeConfig],
) -> pa.Table:
    """Settle the leads, write their quarantine, create ``loading.lookup`` and return the Arrow table of leads."""
    connection = workspace.connection
    notes = check_zones(workspace, "leads", raw, readings.values())
    lost = "" if "lost_at" in readings else ", NULL::BIGINT AS lost_at"
    connection.execute(
        f"CREATE TABLE loading.leads AS SELECT p.*, coalesce(a.canonical, p.lead_id) AS _canonical{lost} "
        f"FROM ({prepare(workspace, 'leads', raw, readings)}) p LEFT JOIN loading.alias a ON p.lead_id = a.lead_id"
    )
    if workspace.one("SELECT count(*) FROM loading.leads") == 0:
        raise DataError(f"history.leads: {raw.origin} has no rows (only a header?). A history needs leads.")
    refuse_damaged_ids(workspace, "leads", "loading.leads", raw)
    settle_copies(
        workspace, "loading.leads", "loading.lead_copies", "lead_id", dict.fromkeys((*readings, "lost_at"))
    )
    connection.execute(
        "CREATE TABLE loading.bad_leads AS SELECT _row, _reason FROM loading.leads WHERE _reason IS NOT NULL "
        f"UNION ALL SELECT _row, '{CONFLICTING_LEAD}' FROM loading.lead_copies WHERE NOT _same"
    )
    _settle(workspace, attributes)
    workspace.quarantine.write(connection, "leads", raw, "loading.bad_leads")
    leads = _arrow(workspace, attributes)
    _report(workspace, raw, leads, notes)
    return leads


def _settle(workspace: Workspace, attributes: Mapping[str, AttributeConfig]) -> None:
    """One row per lead: the earliest creation; attributes and loss from the canonical row if there is one."""
    names = ["lost_at", *attributes]
    sound = (
        "loading.leads WHERE _row NOT IN "
        "(SELECT _row FROM loading.bad_leads UNION ALL SELECT _row FROM loading.lead_copies)"
    )
    position = "(row_number() OVER (ORDER BY _canonical) - 1)::INTEGER AS lead_row"
    if workspace.one("SELECT count(*) FROM loading.alias"):
        others = "".join(f", first({quoted(name)} ORDER BY _rank) AS {quoted(name)}" for name in names)
        settled = (
            f"SELECT _canonical AS lead_id, min(created_at) AS created_at{others}, {position}, count(*) AS _rows "
            "FROM (SELECT *, row_number() OVER (PARTITION BY _canonical "
            f"ORDER BY lead_id <> _canonical, created_at, _row) AS _rank FROM {sound}) GROUP BY _canonical"
        )
    else:
        others = "".join(f", {quoted(name)}" for name in names)
        settled = f"SELECT lead_id, created_at{others}, {position}, 1 AS _rows FROM {sound}"
    workspace.connection.execute(f"CREATE TABLE loading.settled AS {settled}")
    workspace.connection.execute(
        "CREATE TABLE loading.lookup AS SELECT lead_id, lead_row, created_at, FALSE AS late FROM loading.settled "
        "UNION ALL SELECT a.lead_id, s.lead_row, s.created_at, FALSE FROM loading.alias a "
        "JOIN loading.settled s ON s.lead_id = a.canonical"
    )
    workspace.connection.execute(
        f"INSERT INTO loading.lookup SELECT lead_id, NULL, NULL, bool_and(_reason = '{AFTER_KNOWN_UNTIL}') "
        "FROM loading.leads ANTI JOIN loading.lookup USING (lead_id) WHERE lead_id IS NOT NULL GROUP BY lead_id"
    )


def _arrow(workspace: Workspace, attributes: Mapping[str, AttributeConfig]) -> pa.Table:
    columns = ["lead_id", "created_at", "lost_at", *attributes]
    table = workspace.connection.sql(
        f"SELECT {', '.join(quoted(name) for name in columns)} FROM loading.settled ORDER BY lead_row"
    ).to_arrow_table()
    for position, name in enumerate(columns):
        if name in ("created_at", "lost_at") or (name in attributes and attributes[name].type == "time"):
            table = table.set_column(position, name, table[name].cast(TIMESTAMP))
    return table


def _report(workspace: Workspace, raw: RawTable, leads: pa.Table, notes: dict[str, int]) -> None:
    bad = workspace.counts("loading.bad_leads")
    read = workspace.one("SELECT count(*) FROM loading.leads")
    same = workspace.one("SELECT count(*) FROM loading.lead_copies WHERE _same")
    first, last, merged, early, padded = workspace.rows(
        "SELECT min(created_at), max(created_at), sum(_rows) - count(*), count_if(lost_at < created_at), "
        "count_if(lead_id::VARCHAR <> trim(lead_id::VARCHAR)) FROM loading.settled"
    )[0]
    if merged:
        notes["rows merged into another lead by an alias"] = int(merged)
    if early:
        notes["lost before creation (never observed)"] = early
    if padded:
        notes["lead_id with spaces around it (kept as it is)"] = padded
    workspace.report(
        "leads",
        read=read,
        accepted=read - same - sum(bad.values()),
        duplicates=same,
        quarantined=bad,
        notes=notes,
        first=from_us(first),
        last=from_us(last),
    )


def refuse_damaged_ids(workspace: Workspace, name: str, relation: str, raw: RawTable) -> None:
    """Raise for ids that a spreadsheet has turned into scientific notation, like 5.8E+18."""
    if workspace.id_type == "BIGINT":
        return
    pattern = r"[+-]?\d([.,]\d+)?[eE]\+\d{1,3}"
    rows = workspace.rows(
        f"SELECT lead_id, count(*) OVER () FROM {relation} WHERE regexp_full_match(lead_id, '{pattern}') LIMIT 1"
    )
    if rows:
        raise DataError(
            f"history.{name}: lead_id in {raw.origin} holds numbers in scientific notation, like '{rows[0][0]}' "
            f"({rows[0][1]:,} rows). A spreadsheet has cut the digits of these ids, so different leads look the same. "
            "Export again from the source, with the column as text; the digits cannot be recovered from this file."
        )
