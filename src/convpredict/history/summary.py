"""A validation report as a person likes to read it: what came in, what it spans, what was set apart and why."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .validation import ValidationReport

_MOST_KINDS = 12


def render_report(report: ValidationReport, *, title: str = "History") -> RenderableType:
    """The report for a terminal: tables with their spans, leads and outcomes, kinds, quarantine, notes, warnings."""
    parts: list[RenderableType] = [_tables(report, title), _outcomes(report)]
    if report.kinds:
        parts.append(_kinds(report))
    if any(table.n_quarantined or table.duplicates for table in report.tables.values()):
        parts.append(_set_apart(report))
    notes = [
        f"{name}: {count:,} {note}"
        for name, table in report.tables.items()
        for note, count in table.notes.items()
    ]
    parts.extend(Text(f"· {note}", style="dim") for note in notes)
    parts.extend(Text(f"! {warning}", style="yellow") for warning in report.warnings)
    return Group(*parts)


def _tables(report: ValidationReport, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("table", "read", "accepted", "set apart", "from", "to"):
        table.add_column(column, justify="right" if column in {"read", "accepted", "set apart"} else "left")
    for name, entry in report.tables.items():
        share = f" ({entry.n_quarantined / entry.read:.1%})" if entry.n_quarantined else ""
        table.add_row(
            name,
            f"{entry.read:,}",
            f"{entry.accepted:,}",
            f"{entry.n_quarantined:,}{share}",
            _day(entry.first),
            _day(entry.last),
        )
    return table


def _outcomes(report: ValidationReport) -> RenderableType:
    rate = f"{(report.converted + report.undated) / report.leads:.2%}" if report.leads else "-"
    undated = f" (and {report.undated:,} at an unknown date)" if report.undated else ""
    lost = f", {report.lost:,} lost" if report.lost else ""
    text = (
        f"{report.leads:,} leads, {report.converted:,} converted{undated}: {rate}{lost}. "
        f"Known until {report.known_until:%Y-%m-%d %H:%M} UTC."
    )
    return Padding(Text(text, style="bold"), (1, 0))


def _kinds(report: ValidationReport) -> Table:
    total = sum(report.kinds.values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("kind of interaction")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    for kind, count in list(report.kinds.items())[:_MOST_KINDS]:
        table.add_row(kind, f"{count:,}", f"{count / total:.1%}")
    rest = list(report.kinds.values())[_MOST_KINDS:]
    if rest:
        table.add_row(f"{len(rest)} more", f"{sum(rest):,}", f"{sum(rest) / total:.1%}")
    return table


def _set_apart(report: ValidationReport) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("set apart in")
    table.add_column("rows", justify="right")
    table.add_column("why")
    files = []
    for name, entry in report.tables.items():
        for reason, count in sorted(entry.quarantined.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(name, f"{count:,}", reason)
        if entry.duplicates:
            table.add_row(name, f"{entry.duplicates:,}", "exact duplicate, removed")
        if entry.file and entry.quarantined:
            files.append(Text(f"  {entry.file}", style="dim"))
    return Padding(Group(table, *files), (1, 0))


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "-"
