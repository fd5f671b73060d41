"""Command on hindsight: leaks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from ..errors import LeakageError
from .app import AsJson, ConfigPath, DataDir, Overrides, app, progress_bar, show

if TYPE_CHECKING:
    from ..evaluation.leakage.findings import LeakageReport

_STYLES = {"severe": "bold red", "warning": "yellow", "info": "dim"}


@app.command(short_help="Look for hindsight in the training data.")
def leaks(
    config: ConfigPath, data: DataDir = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Look for hindsight in the training data: what was written after the outcome. Exit code 6 if severe."""
    from .. import workflows

    with progress_bar("reading", quiet=as_json) as report:
        found = workflows.find_leaks(config, data=data, overrides=overrides or (), progress=report)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        show(*leakage_tables(found))
    if found.severe:
        raise typer.Exit(LeakageError.exit_code)


def leakage_tables(report: LeakageReport) -> list[Any]:
    """What the terminal shows of a report: one table of findings, then a sentence on what was looked at."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    looked = ", ".join(f"{count:,} {what}" for what, count in report.examined.items())
    lines: list[Any] = []
    if report.findings:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("Severity", no_wrap=True)
        table.add_column("Finding", overflow="fold", max_width=28)
        table.add_column("Evidence and remedy", overflow="fold")
        for finding in report.findings:
            severity = "waived" if finding.waived else finding.severity
            waiver = f"\nWaived: {finding.waiver_reason}" if finding.waived else ""
            style = _STYLES.get(severity, "dim")
            table.add_row(
                f"[{style}]{severity}[/{style}]",
                escape(finding.name),
                escape(f"{finding.evidence}\n{finding.remedy}{waiver}"),
            )
        lines.append(table)
    else:
        lines.append(
            "No hindsight was found. Noisy copies of the outcome that are as strong as an honest attribute are not "
            "covered."
        )
    lines.append(f"Looked at: {looked}.")
    lines += [escape(f"Note: {text}") for text in report.warnings if text.startswith("leakage.waive")]
    if report.severe:
        lines.append(f"{len(report.severe)} severe: training stops unless they are waived (leakage.waive).")
    return lines
