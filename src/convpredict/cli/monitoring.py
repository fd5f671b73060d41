"""Commands that watch published scores: monitor, retrain-if."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import AsJson, ConfigPath, DataDir, Overrides, app, parse_instant, progress_bar, show

if TYPE_CHECKING:
    from ..workflows.monitoring import MonitoringRun

_NIGHTS_SHOWN = 14


@app.command(short_help="How published scores have done, night by night.")
def monitor(
    config: ConfigPath,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make all reports anew from ledger and manifests.")
    ] = False,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Refresh the page of monitoring and show its state: the last nights, drift, realised quality, alarms."""
    from .. import workflows

    with progress_bar("reading", quiet=as_json) as report:
        run = workflows.monitor(
            config, rebuild=rebuild, data=data, overrides=overrides or (), progress=report
        )
    if as_json:
        typer.echo(json.dumps(run.to_dict(), default=str))
    else:
        show(*monitoring_lines(run))


@app.command("retrain-if", short_help="Train and promote a challenger, if there is a reason.")
def retrain_if(
    config: ConfigPath,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which reasons hold.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the training run (default: runs/<run id>).")
    ] = None,
    now: Annotated[
        str | None, typer.Option("--now", help="Instant that ages count to, ISO 8601 (default: the clock).")
    ] = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train a challenger if the champion is too old, its inputs have drifted or its scores have not come true.

    The challenger is promoted only by the rule of 'convpredict promote'. Exit code 10: it was trained, and the
    champion stays.
    """
    from .. import workflows

    with progress_bar("reading", quiet=as_json) as report:
        run = workflows.retrain_if(
            config,
            dry_run=dry_run,
            out=out,
            now=parse_instant(now, "--now"),
            data=data,
            overrides=overrides or (),
            progress=report,
        )
    if as_json:
        typer.echo(json.dumps(run.to_dict()))
    else:
        show(run.text)
    if run.exit_code:
        raise typer.Exit(run.exit_code)


def monitoring_lines(run: MonitoringRun) -> list[Any]:
    """The alarms first, then one line per night of the last ones, then what was realised."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    last = run.reports[-1]
    lines: list[Any] = [f"! since {alarm['since'][:10]}: {alarm['sentence']}" for alarm in run.alarms]
    lines = lines or [f"No alarm stands after the night of {last.cutoff[:10]}."]
    nights = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    heads = ("night", "status", "leads", "expected", "score PSI", "drifted", "judged", "alarms", "model")
    for head in heads:
        nights.add_column(head, justify="left" if head in ("night", "status", "model") else "right")
    reports = {report.run_id: report for report in run.reports}
    for manifest in run.manifests[-_NIGHTS_SHOWN:]:
        report = reports.get(manifest["run_id"])
        drift = list(report.drift) if report else []
        score = next((column["psi"] for column in drift if column["column"] == "score"), None)
        nights.add_row(
            str(manifest["cutoff"])[:16].replace("T", " "),
            str(manifest["status"]),
            _number(manifest.get("leads"), 0),
            _number(manifest.get("expected_conversions"), 1),
            _number(score, 3),
            str(sum(column["drifted"] for column in drift if column["column"] != "score")) if drift else "-",
            str(len(report.judged)) if report else "-",
            str(len(report.alarms)) if report else "-",
            str(
                (manifest.get("model") or {}).get("version")
                or (manifest.get("model") or {}).get("digest", "")
            )[:12],
        )
    lines.append(nights)
    for horizon, pooled in last.realised.items():
        lines.append(
            f"Within {horizon}, {pooled['nights']} nights since {pooled['first'][:10]}: {pooled['expected']:.1f} "
            f"conversions were promised, {pooled['observed']:.1f} came; promised / observed "
            f"{_number(pooled['ratio'], 2)} [{_number(pooled['low'], 2)}, {_number(pooled['high'], 2)}]."
        )
    return [*lines, f"Page: {run.page}"]


def _number(value: Any, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
