"""Command on the past: backtest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import AsJson, ConfigPath, DataDir, Overrides, app, parse_instant, progress_bar, show

if TYPE_CHECKING:
    from ..workflows.backtesting import BacktestRun


@app.command(short_help="How nightly scores would have done, retrained as time went on.")
def backtest(
    config: ConfigPath,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    every: Annotated[str | None, typer.Option(help="Distance of the nights, like 7d.")] = None,
    retrain_every: Annotated[str | None, typer.Option(help="Distance of the trainings, like 28d.")] = None,
    start: Annotated[str | None, typer.Option(help="First night, ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option(help="Last night, ISO 8601.")] = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Walk forward through history: train with what was known, score every open lead each night, judge."""
    from .. import workflows

    with progress_bar("reading", quiet=as_json) as report:
        run = workflows.backtest(
            config,
            out,
            every=every,
            retrain_every=retrain_every,
            start=parse_instant(start, "--start"),
            end=parse_instant(end, "--end"),
            data=data,
            overrides=overrides or (),
            progress=report,
        )
    if as_json:
        typer.echo(json.dumps(run.to_dict(), default=str))
    else:
        show(*backtest_lines(run))


def backtest_lines(run: BacktestRun) -> list[Any]:
    """The sentences first, then one line per night, at most 110 columns wide."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    nights = run.judgement.nights
    with_points = "auc_scorecard" in nights
    heads = ["night", "model\nage", "open\nleads", "conver-\nsions", "pre-\ndicted", "ratio", "AUC\nmodel"]
    heads += ["AUC\npoints"] if with_points else []
    heads += ["calls", "found by\nmodel"]
    heads += ["found by\npoints"] if with_points else []
    for head in (*heads, "drift"):
        table.add_column(head, justify="left" if head == "night" else "right", no_wrap=True)
    for row in nights.to_dict("records"):
        known = row["judged"] > 0
        cells = [f"{row['night']:%Y-%m-%d}", f"{row['model_age_days']:.0f} d", f"{row['open_leads']:,}"]
        cells += [f"{row['conversions']:,}" if known else "-", _cell(row["expected"], 1)]
        cells += [_cell(row["ratio"], 2), _cell(row["auc_model"], 3)]
        cells += [_cell(row["auc_scorecard"], 3)] if with_points else []
        cells += [f"{row['calls']:,}", _cell(row["found_model"], 1)]
        cells += [_cell(row["found_scorecard"], 1)] if with_points else []
        table.add_row(*cells, _cell(row["drift"], 2))
    notes = [f"Note: {note}" for note in run.notes]
    return [*run.judgement.sentences, table, *notes, f"Written to {run.folder}"]


def _cell(number: float, digits: int) -> str:
    return "-" if number != number else f"{number:,.{digits}f}"
