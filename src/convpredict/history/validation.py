"""What validation found: rows read, accepted, removed and quarantined per table, and what a person should know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import DataError
from .notebook_view import list_html, paragraph_html, table_html

AFTER_KNOWN_UNTIL = "after known_until"
LEAD_AFTER_KNOWN_UNTIL = "its lead was created after known_until"
LEAD_IN_QUARANTINE = "its lead is in quarantine"
UNKNOWN_LEAD = "unknown lead"
CONFLICTING_LEAD = "another row with this lead_id says something else (the first one counts)"
CONFLICTING_EVENT = "another row with this event_id says something else (the first one counts)"
CONVERTED_BEFORE_CREATION = "converted before the lead was created"
ALIAS_CYCLE = "part of a cycle of aliases"
CONFLICTING_ALIAS = "another alias row of this lead_id names a different canonical_id (the first one counts)"
UNKNOWN_ATTRIBUTE = "the attribute is not declared under history.leads.attributes"

NOT_BAD = frozenset({AFTER_KNOWN_UNTIL, LEAD_AFTER_KNOWN_UNTIL})
"""Reasons that do not count towards the bad share: a declared known_until cuts a sound history."""


@dataclass(frozen=True)
class TableReport:
    """One table: ``read == accepted + duplicates + sum(quarantined.values())``.

    ``notes`` counts what is worth knowing about accepted rows; ``first`` and ``last`` span their times.
    """

    read: int
    accepted: int
    duplicates: int
    quarantined: Mapping[str, int]
    notes: Mapping[str, int] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None
    file: str | None = None

    @property
    def n_quarantined(self) -> int:
        """Rows in quarantine, whatever the reason."""
        return sum(self.quarantined.values())

    @property
    def bad_share(self) -> float:
        """Share of the rows read that break the contract; rows after known_until do not count."""
        bad = sum(count for reason, count in self.quarantined.items() if reason not in NOT_BAD)
        return bad / self.read if self.read else 0.0


@dataclass(frozen=True)
class ValidationReport:
    """The outcome of loading a history.

    ``kinds`` maps each kind of interaction to its count, most frequent first; ``converted`` counts leads
    with a dated conversion, ``undated`` those whose conversion has no date.
    """

    tables: Mapping[str, TableReport]
    leads: int
    converted: int
    undated: int
    lost: int
    kinds: Mapping[str, int]
    known_until: datetime
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: times as ISO 8601 text."""
        content: dict[str, Any] = _plain(asdict(self))
        return content

    def _repr_html_(self) -> str:
        undated = f", {self.undated:,} at an unknown date" if self.undated else ""
        lost = f", {self.lost:,} lost" if self.lost else ""
        text = (
            f"{self.leads:,} leads, {self.converted:,} converted{undated}{lost}; "
            f"known until {self.known_until:%Y-%m-%d %H:%M} UTC"
        )
        heads = ("table", "rows read", "accepted", "duplicates removed", "set apart", "from", "to")
        rows = [
            (
                name,
                *(table.read, table.accepted, table.duplicates, table.n_quarantined),
                *(f"{moment:%Y-%m-%d}" if moment else "-" for moment in (table.first, table.last)),
            )
            for name, table in self.tables.items()
        ]
        reasons = [
            (name, count, reason)
            for name, table in self.tables.items()
            for reason, count in sorted(table.quarantined.items(), key=lambda item: (-item[1], item[0]))
        ]
        set_apart = (
            table_html(("set apart in", "rows", "why"), reasons, text_columns=(0, 2)) if reasons else ""
        )
        notes = [
            f"{name}: {n:,} {note}" for name, table in self.tables.items() for note, n in table.notes.items()
        ]
        return (
            paragraph_html(text) + table_html(heads, rows) + set_apart + list_html((*notes, *self.warnings))
        )


class BadRowsError(DataError):
    """Too many rows of a table break the contract; ``report`` says how many of each table, and why."""

    def __init__(self, message: str, report: ValidationReport) -> None:
        super().__init__(message)
        self.report = report


_COMMAS = (
    "Where numbers have a decimal comma, read the table with sql instead of source: "
    "SELECT * REPLACE (replace(COLUMN, ',', '.') AS COLUMN) FROM SOURCE. "
)


def check_shares(report: ValidationReport, max_bad_share: float) -> None:
    """Raise :class:`BadRowsError` when too many rows of a table are bad, or when no lead is left."""
    for name, table in report.tables.items():
        where = f"see {table.file}" if table.file else "give a quarantine folder to see them"
        reasons = sorted(table.quarantined.items(), key=lambda item: (-item[1], item[0]))
        top = ", ".join(f"{count:,} x {reason}" for reason, count in reasons[:3])
        if table.bad_share > max_bad_share:
            commas = _COMMAS if "cannot be read as a number" in top else ""
            raise BadRowsError(
                f"{name}: {table.bad_share:.1%} of {table.read:,} rows break the contract, more than the tolerated "
                f"{max_bad_share:.1%}. Top reasons: {top}. The rows are set apart ({where}). {commas}"
                "Correct the export or the mapping, or raise history.validation.max_bad_share if that is the data's "
                "normal state.",
                report,
            )
        if name == "leads" and not table.accepted:
            raise BadRowsError(f"{name}: no row of {table.read:,} is left. Reasons: {top} ({where}).", report)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value
