"""Interactions: validated in one scan, then a view (over Parquet, which stays where it is) or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .columns import Reading, is_integer_id
from .csv_files import quoted
from .sources import RawTable
from .validation import CONFLICTING_EVENT
from .workspace import Workspace, check_zones, from_us, prepare, read_rows, settle_copies, with_leads

_LAST = 1 << 62


@dataclass(frozen=True)
class LoadedInteractions:
    """What the History needs to know beside the relation ``interactions``."""

    rows: int
    has_late_records: bool
    kinds: Mapping[str, int]
    latest: int | None


def load_interactions(
    workspace: Workspace, raw: RawTable, readings: Mapping[str, Reading], attributes: Sequence[str]
) -> LoadedInteractions:
    """Validate the interactions, write their quarantine and create the relation ``interactions``."""
    connection = workspace.connection
    notes = check_zones(workspace, "interactions", raw, readings.values())
    prepared = prepare(workspace, "interactions", raw, readings)
    joined = with_leads(_complete(prepared, readings))
    relation = f"({joined})"
    if not raw.lazy:
        connection.execute(f"CREATE TABLE loading.interactions AS {joined}")
        relation = "loading.interactions"
    _count(workspace, relation)
    _find_excluded(workspace, relation, readings)
    duplicates = workspace.one("SELECT count(*) FROM loading.copies WHERE _same")
    workspace.quarantine.write(connection, "interactions", raw, "loading.bad_interactions")
    _create_relation(workspace, raw, relation, readings, attributes)
    return _report(workspace, notes, duplicates)


def _complete(prepared: str, readings: Mapping[str, Reading]) -> str:
    """Optional columns that the source lacks, with their defaults."""
    extra = ""
    if "kind" not in readings:
        extra += ", 'interaction' AS kind"
    if "recorded_at" not in readings:
        extra += ", NULL::BIGINT AS recorded_at"
    return f"SELECT *{extra} FROM ({prepared})" if extra else prepared


def _count(workspace: Workspace, relation: str) -> None:
    """One scan: rows per lead, and rows per kind and reason with their time span."""
    workspace.connection.execute(
        "CREATE TABLE loading.statistics AS SELECT _sound_lead, kind, _reason, grouping(_sound_lead) AS _by_kind, "
        "count(*) AS n, min(occurred_at) AS first, max(occurred_at) AS last, max(recorded_at) AS recorded, "
        "count_if(occurred_at < _created_at) AS early, count_if(recorded_at > occurred_at) AS late "
        f"FROM (SELECT *, CASE WHEN _reason IS NULL THEN lead_row END AS _sound_lead FROM {relation}) "
        "GROUP BY GROUPING SETS ((_sound_lead), (kind, _reason))"
    )


def _find_excluded(workspace: Workspace, relation: str, readings: Mapping[str, Reading]) -> None:
    """Create loading.overfull (leads), loading.copies (repeated event ids) and loading.bad_interactions (rows)."""
    connection, limit = workspace.connection, workspace.config.validation.max_events_per_lead
    connection.execute(
        "CREATE TABLE loading.overfull AS SELECT _sound_lead AS lead_row, n FROM loading.statistics "
        f"WHERE _by_kind = 0 AND _sound_lead IS NOT NULL AND n > {limit}"
    )
    if "event_id" in readings:
        content = ["lead_row" if name == "lead_id" else name for name in readings]
        sound = f"(SELECT * FROM {relation} ANTI JOIN loading.overfull USING (lead_row))"
        settle_copies(workspace, sound, "loading.copies", "event_id", content)
    else:
        connection.execute("CREATE TABLE loading.copies (_row BIGINT, _same BOOLEAN)")
    bad = workspace.one("SELECT count(*) FROM loading.statistics WHERE _by_kind = 1 AND _reason IS NOT NULL")
    overfull = workspace.one("SELECT count(*) FROM loading.overfull")
    connection.execute(
        f"CREATE TABLE loading.bad_interactions (_row BIGINT, _reason VARCHAR, lead_id {workspace.id_type})"
    )
    if overfull:
        workspace.warnings.append(
            f"interactions: {overfull:,} lead{'s' if overfull > 1 else ''} with more than {limit:,} interactions; all "
            "of theirs are set apart, also at cutoffs before they had so many, so a past night that is run again may "
            "see less than it did then. Raise history.validation.max_events_per_lead if they are real."
        )
    if bad or overfull:
        connection.execute(
            "INSERT INTO loading.bad_interactions SELECT _row, coalesce(_reason, 'its lead has ' || o.n || "
            f"' interactions, more than the {limit} allowed'), lead_id FROM {relation} "
            "LEFT JOIN loading.overfull o USING (lead_row) WHERE _reason IS NOT NULL OR o.n IS NOT NULL"
        )
    connection.execute(
        f"INSERT INTO loading.bad_interactions SELECT _row, '{CONFLICTING_EVENT}', NULL "
        "FROM loading.copies WHERE NOT _same"
    )


def _create_relation(
    workspace: Workspace,
    raw: RawTable,
    relation: str,
    readings: Mapping[str, Reading],
    attributes: Sequence[str],
) -> None:
    """The relation ``interactions`` with exactly the History's columns and only accepted rows."""
    connection = workspace.connection
    excluded = workspace.one("SELECT count(*) FROM loading.copies") > 0
    tie, ties = _tie(workspace, raw, relation, readings)
    names = "".join(f", {quoted(name)}" for name in attributes)
    columns = (
        "lead_row, occurred_at, greatest(occurred_at, coalesce(recorded_at, occurred_at)) AS visible_at, "
        f"({tie})::BIGINT AS tie, kind{names}"
    )
    conditions = ["_reason IS NULL"]
    if workspace.one("SELECT count(*) FROM loading.overfull"):
        conditions.append("lead_row NOT IN (SELECT lead_row FROM loading.overfull)")
    copies = " ANTI JOIN loading.copies USING (_row)" if excluded else ""
    if not raw.lazy:
        connection.execute(
            f"CREATE TABLE main.interactions AS SELECT {columns} FROM {relation}{copies}{ties} "
            f"WHERE {' AND '.join(conditions)}"
        )
        connection.execute("DROP TABLE loading.interactions")
        return
    # Scanned again and again: an inner join to sound leads, and row conditions only where some row failed them.
    failed = workspace.one(
        "SELECT count(*) FROM loading.statistics WHERE _by_kind = 1 AND _reason IS NOT NULL"
    )
    rows = prepare(workspace, "interactions", raw, readings) if failed else read_rows(raw, readings)
    rows = _complete(rows, readings)
    connection.execute(
        "CREATE TABLE loading.sound_leads AS SELECT lead_id, lead_row, hash(lead_id) AS _key FROM loading.lookup "
        "WHERE lead_row IS NOT NULL AND lead_row NOT IN (SELECT lead_row FROM loading.overfull)"
    )
    distinct = workspace.one("SELECT count(*) = count(DISTINCT _key) FROM loading.sound_leads")
    whole = not failed and not workspace.one("SELECT count(*) FROM loading.overfull")
    # Every id is known and no two keys collide: joining on the hash is then exact, and faster for text.
    on = (
        "p._key = l._key"
        if whole and distinct and workspace.id_type == "VARCHAR"
        else "p.lead_id = l.lead_id"
    )
    connection.execute(
        f"CREATE VIEW main.interactions AS SELECT {columns} FROM (SELECT *, hash(lead_id) AS _key FROM ({rows})) p "
        f"JOIN (SELECT lead_id AS _lead_id, lead_row, _key FROM loading.sound_leads) l "
        f"ON {on.replace('l.lead_id', 'l._lead_id')}{copies}{ties}"
        + (" WHERE _reason IS NULL" if failed else "")
    )


def _tie(
    workspace: Workspace, raw: RawTable, relation: str, readings: Mapping[str, Reading]
) -> tuple[str, str]:
    """The tie expression and the join that it needs.

    Without event ids the source row decides; integer ids decide by value. Text ids decide by value where
    they are digits, else in text order, and are ranked only among a lead's interactions at one instant.
    """
    if "event_id" not in readings:
        return "_row", ""
    if is_integer_id(raw.columns[readings["event_id"].column]):
        return f"coalesce(event_id, {_LAST} + _row)", ""
    workspace.connection.execute(
        "CREATE TABLE loading.ties AS SELECT _row, row_number() OVER (PARTITION BY lead_row, occurred_at ORDER BY "
        "TRY_CAST(event_id AS HUGEINT) NULLS LAST, event_id NULLS LAST, _row) AS _tie "
        f"FROM {relation} SEMI JOIN (SELECT lead_row, occurred_at FROM {relation} WHERE _reason IS NULL "
        "GROUP BY ALL HAVING count(*) > 1) USING (lead_row, occurred_at) WHERE _reason IS NULL"
    )
    return "coalesce(_tie, 0)", " LEFT JOIN loading.ties USING (_row)"


def _report(workspace: Workspace, notes: dict[str, int], duplicates: int) -> LoadedInteractions:
    by_kind = "loading.statistics WHERE _by_kind = 1"
    read = int(workspace.one(f"SELECT coalesce(sum(n), 0) FROM {by_kind}"))
    bad = workspace.counts("loading.bad_interactions")
    first, last, recorded, early, late = workspace.rows(
        "SELECT min(first), max(last), max(recorded), coalesce(sum(early), 0), coalesce(sum(late), 0) "
        f"FROM {by_kind} AND _reason IS NULL"
    )[0]
    kinds = {
        kind if kind is not None else "(missing)": int(n)
        for kind, n in workspace.rows(
            f"SELECT kind, sum(n) FROM {by_kind} AND _reason IS NULL GROUP BY kind ORDER BY 2 DESC, 1"
        )
    }
    if early:
        notes["before the lead's creation (kept)"] = int(early)
    if late:
        notes["recorded after they occurred (visible from then)"] = int(late)
    accepted = read - duplicates - sum(bad.values())
    workspace.report(
        "interactions",
        read=read,
        accepted=accepted,
        duplicates=duplicates,
        quarantined=bad,
        notes=notes,
        first=from_us(first),
        last=from_us(last),
    )
    latest = max((value for value in (last, recorded) if value is not None), default=None)
    return LoadedInteractions(accepted, bool(late), kinds, latest)
