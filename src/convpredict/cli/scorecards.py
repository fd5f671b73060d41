"""Commands on scorecards: scorecard learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ConfigPath, DataDir, Overrides, app, progress_bar, show

scorecard_app = typer.Typer(no_args_is_help=True, help="Points for teams that keep points in their CRM.")
app.add_typer(scorecard_app, name="scorecard")


@scorecard_app.command(short_help="Learn whole points, decay and threshold from data.")
def learn(
    config: ConfigPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="YAML file for the learnt 'scorecard' section.")
    ] = None,
    rules: Annotated[int, typer.Option(min=1, max=50, help="Most rules on the card.")] = 12,
    call_share: Annotated[
        float, typer.Option(min=0.001, max=0.9, help="Share of the leads that should reach the grade 'call'.")
    ] = 0.05,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Learn whole points, decay and threshold, and state what they lose against the full model out of time."""
    from .. import workflows

    with progress_bar("reading", quiet=as_json) as report:
        result = workflows.learn_points(
            config,
            out=out,
            most_rules=rules,
            call_share=call_share,
            data=data,
            overrides=overrides or (),
            progress=report,
        )
    if as_json:
        typer.echo(json.dumps(result.to_dict(), default=str))
        return
    typer.echo(result.section)
    show(*result.sentences)
    if out is not None:
        typer.echo(f"Written to {out}; put it into the configuration in place of its 'scorecard'.")
