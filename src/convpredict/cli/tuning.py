"""Commands on settings: tune."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .app import AsJson, ConfigPath, DataDir, Overrides, app, progress_bar, show


@app.command(short_help="Search the model's settings within a budget.")
def tune(
    config: ConfigPath,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Budget, instead of the configuration's.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Most trials of this run.")] = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search the model's settings forward in time; the study is kept, and the next run goes on with it."""
    from .. import workflows

    given = [*(overrides or ())]
    given += [f"tuning.minutes={minutes}"] if minutes is not None else []
    given += [f"tuning.trials={trials}"] if trials is not None else []
    with progress_bar("reading", quiet=as_json) as report:
        result = workflows.tune(config, data=data, overrides=given, progress=report)
    if as_json:
        typer.echo(json.dumps(result.to_dict(), default=str))
    else:
        show(result.summary)
        typer.echo(result.yaml)
