"""The command of every night: nightly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ConfigPath, DataDir, Overrides, app, parse_instant, write_errors_as_json


@app.command(short_help="Score, check and publish: what runs every night.")
def nightly(
    config: ConfigPath,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="The night's cutoff (default: the last passed nightly.at).")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Fill in all nights from this day on (with --to).")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="The last day to fill in.")] = None,
    every: Annotated[str | None, typer.Option(help="With --from: only every so many days, like 7d.")] = None,
    again: Annotated[
        str | None, typer.Option(help="Publish a published night once more, for this reason.")
    ] = None,
    waive: Annotated[
        list[str] | None,
        typer.Option(help="GATE=REASON: a gate that may not stop this run. May be repeated."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Score with this bundle folder, not the champion.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Score with the bundle of this results folder.")] = None,
    discard: Annotated[
        str | None,
        typer.Option(help="RUN_ID=REASON: give up a decided night that cannot be finished; scores nothing."),
    ] = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score every open lead with the champion, judge the scores, publish them to every target.

    Exit codes: 0 published (or published before); 7 stopped by a gate; 8 another run is at work; 9 not published
    everywhere; 12 published, but not monitored; 2, 3, 5, 11 the configuration, data, bundle or champion cannot be used;
    130 interrupted. The log goes to standard error; with nightly.log: json, every line there is JSON.
    """
    from .. import workflows

    if _logs_json(config, overrides or ()):
        write_errors_as_json()
    nights = workflows.nightly(
        config,
        as_of=parse_instant(as_of, "--as-of"),
        start=parse_instant(start, "--from"),
        end=parse_instant(end, "--to"),
        every=every,
        again=again,
        waive=waive or (),
        bundle=bundle,
        run=run,
        discard=discard,
        data=data,
        overrides=overrides or (),
    )
    if as_json:
        typer.echo(json.dumps([night.to_dict() for night in nights], default=str))
    else:
        typer.echo(workflows.nights_text(nights))
    raise typer.Exit(workflows.worst_exit_code(nights))


def _logs_json(config: Path, overrides: Sequence[str]) -> bool:
    """Whether the configuration asks for the log as JSON; False for one that cannot be read, whose error says so."""
    from ..config.load import load_project
    from ..errors import ConvpredictError

    try:
        return load_project(config, overrides=overrides).config.nightly.log == "json"
    except ConvpredictError:
        return False
