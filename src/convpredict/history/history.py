"""A validated history: small tables as Arrow, interactions behind a DuckDB view that is scanned in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from .notebook_view import facts_html, paragraph_html
from .validation import ValidationReport
from .watched_files import WatchedFiles

AttributeType = Literal["category", "number", "time"]
TIMESTAMP = pa.timestamp("us", tz="UTC")
INTERACTION_COLUMNS = ("lead_row", "occurred_at", "visible_at", "tie", "kind")


@dataclass(frozen=True)
class History:
    """Leads and what happened to them, validated; every time is a UTC instant.

    ``leads``
        lead_id (string or int64, unique, ascending: a lead's position is its ``lead_row``), created_at,
        lost_at (null: not lost), then one column per attribute (string, float64 or timestamp).
    ``conversions``
        lead_row, converted_at (null: the lead converted, nobody knows when), recorded_at (null: when it
        happened). At most one row a lead: the first dated conversion wins. Its ``further_conversions`` wait aside,
        in the same columns: those that came first for as long as the ones before them were not recorded.
    ``revenue``
        lead_row, occurred_at, amount, recorded_at.
    ``spend``
        occurred_at, amount, recorded_at, then its attributes (channel, campaign ...), which share names with
        lead attributes.
    ``attribute_changes``
        lead_row, attribute, value (string), valid_from, recorded_at.
    ``interactions`` (scanned, see :meth:`scan`)
        lead_row int32, occurred_at int64 µs, visible_at int64 µs, tie int64 (order among equal times), kind
        string, then one column per attribute (string or float64).
    """

    connection: duckdb.DuckDBPyConnection
    leads: pa.Table
    conversions: pa.Table
    revenue: pa.Table
    spend: pa.Table
    attribute_changes: pa.Table
    lead_attributes: Mapping[str, AttributeType]
    interaction_attributes: Mapping[str, AttributeType]
    known_until: datetime
    n_interactions: int
    fingerprint: str
    has_late_records: bool = True
    counts: Mapping[str, Any] = field(default_factory=dict)
    report: ValidationReport | None = None
    watched: Mapping[str, WatchedFiles] = field(default_factory=dict, repr=False)
    further_conversions: pa.Table = field(default_factory=lambda: empty("conversions"), repr=False)

    @property
    def n_leads(self) -> int:
        """Number of leads."""
        return int(self.leads.num_rows)

    @property
    def all_conversions(self) -> pa.Table:
        """The conversions that ever came first: of each lead its row in ``conversions``, later its further ones."""
        if not self.further_conversions.num_rows:
            return self.conversions
        return pa.concat_tables([self.conversions, self.further_conversions])

    def __repr__(self) -> str:
        return (
            f"History({self.n_leads:,} leads, {self.n_interactions:,} interactions, "
            f"{self.conversions.num_rows:,} converted, known until {self.known_until:%Y-%m-%d %H:%M} UTC)"
        )

    def _repr_html_(self) -> str:
        attributes = {
            f"attributes of the {table}": ", ".join(f"{name} ({type_})" for name, type_ in found.items())
            or None
            for table, found in (
                ("leads", self.lead_attributes),
                ("interactions", self.interaction_attributes),
            )
        }
        seen = self.report._repr_html_() if self.report is not None else paragraph_html(repr(self))
        return seen + (facts_html(attributes) if any(attributes.values()) else "")

    def scan(
        self,
        attributes: Sequence[str] = (),
        *,
        where: str | None = None,
        batch_rows: int = 1_000_000,
        positions: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the interactions in record batches, unordered.

        ``attributes`` names the attribute columns wanted beside lead_row, occurred_at, visible_at, tie and
        kind;
        ``where`` is a SQL condition over these columns. A text column in ``positions`` comes as the positions of
        its values in that list, from 1 on, int16; null where it is missing or not in the list.
        """
        columns = ", ".join(
            f"{position_in(positions[name], name)}::SMALLINT AS {quoted_name(name)}"
            if positions and name in positions
            else quoted_name(name)
            for name in (*INTERACTION_COLUMNS, *attributes)
        )
        condition = f" WHERE {where}" if where else ""
        cursor = self.connection.cursor()
        try:
            reader = cursor.sql(f"SELECT {columns} FROM interactions{condition}").to_arrow_reader(batch_rows)
            yield from reader
        finally:
            cursor.close()

    def sources_unchanged(self) -> list[str]:
        """The names of the sources whose files are no longer those that were read; empty: all unchanged.

        Asks the file system for device, inode, size and time of change of every file, and globs for their
        files, and reads nothing: a file that was only touched counts as changed, and so does a file more or
        less. Frames and PostgreSQL sources, of which nobody can tell, never appear.
        """
        return sorted(name for name, files in self.watched.items() if files.changed())

    def query(self, sql: str) -> pa.Table:
        """Run a DuckDB query over the view ``interactions`` and return an Arrow table."""
        cursor = self.connection.cursor()
        try:
            return cursor.sql(sql).to_arrow_table()
        finally:
            cursor.close()

    @classmethod
    def trusted(
        cls,
        leads: pa.Table,
        interactions: pa.Table | None = None,
        *,
        conversions: pa.Table | None = None,
        revenue: pa.Table | None = None,
        spend: pa.Table | None = None,
        attribute_changes: pa.Table | None = None,
        lead_attributes: Mapping[str, AttributeType] | None = None,
        interaction_attributes: Mapping[str, AttributeType] | None = None,
        known_until: datetime,
        fingerprint: str = "unknown",
    ) -> History:
        """Wrap Arrow tables that already follow the schema above, without looking at their rows."""
        connection = duckdb.connect()
        table = interactions if interactions is not None else empty_interactions()
        connection.register("incoming", table)
        connection.execute("CREATE TABLE interactions AS SELECT * FROM incoming")
        connection.unregister("incoming")
        late = (
            bool(pc.any(pc.greater(table["visible_at"], table["occurred_at"])).as_py())
            if len(table)
            else False
        )
        return cls(
            connection=connection,
            leads=leads,
            conversions=conversions if conversions is not None else empty("conversions"),
            revenue=revenue if revenue is not None else empty("revenue"),
            spend=spend if spend is not None else empty("spend"),
            attribute_changes=attribute_changes
            if attribute_changes is not None
            else empty("attribute_changes"),
            lead_attributes=dict(lead_attributes or {}),
            interaction_attributes=dict(interaction_attributes or {}),
            known_until=known_until.astimezone(UTC),
            n_interactions=table.num_rows,
            fingerprint=fingerprint,
            has_late_records=late,
        )


def quoted_name(name: str) -> str:
    """A column name as SQL.

    >>> quoted_name("kind")
    '"kind"'
    """
    return '"' + name.replace('"', '""') + '"'


def position_in(values: Sequence[str], column: str) -> str:
    """SQL for the position of a text column's value in a list, from 1 on; null: not in it.

    DuckDB computes it once per entry of a Parquet file's dictionaries, not once per row.

    >>> print(position_in(["call", "it's"], "kind"))
    list_position(['call', 'it''s']::VARCHAR[], "kind")
    """
    texts = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"list_position([{texts}]::VARCHAR[], {quoted_name(column)})"


_SCHEMAS = {
    "conversions": [("lead_row", pa.int32()), ("converted_at", TIMESTAMP), ("recorded_at", TIMESTAMP)],
    "revenue": [
        ("lead_row", pa.int32()),
        ("occurred_at", TIMESTAMP),
        ("amount", pa.float64()),
        ("recorded_at", TIMESTAMP),
    ],
    "spend": [("occurred_at", TIMESTAMP), ("amount", pa.float64()), ("recorded_at", TIMESTAMP)],
    "attribute_changes": [
        ("lead_row", pa.int32()),
        ("attribute", pa.string()),
        ("value", pa.string()),
        ("valid_from", TIMESTAMP),
        ("recorded_at", TIMESTAMP),
    ],
}


def empty(table: str) -> pa.Table:
    """An empty table with the schema of ``conversions``, ``revenue``, ``spend`` or ``attribute_changes``."""
    return pa.schema(_SCHEMAS[table]).empty_table()


def empty_interactions() -> pa.Table:
    """An empty table of interactions without attributes."""
    types = (pa.int32(), pa.int64(), pa.int64(), pa.int64(), pa.string())
    return pa.schema(list(zip(INTERACTION_COLUMNS, types, strict=True))).empty_table()
