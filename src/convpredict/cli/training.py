"""Commands on models: train, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ConfigPath, DataDir, Overrides, app, progress_bar, show


@app.command(short_help="Train, calibrate, compare with the scorecard.")
def train(
    config: ConfigPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results (default: runs/<run id>).")
    ] = None,
    data: DataDir = None,
    overrides: Overrides = None,
    track: Annotated[bool, typer.Option(help="Record the run in MLflow.")] = True,
    as_json: AsJson = False,
) -> None:
    """Train and calibrate a model, compare it with the scorecard out of time, write bundle and metrics."""
    from .. import workflows
    from ..evaluation.tables import metrics_table

    with progress_bar("reading", quiet=as_json) as report:
        result = workflows.train(
            config, out=out, data=data, overrides=overrides or (), track=track, progress=report
        )
    if as_json:
        typer.echo(json.dumps(result.to_dict(), default=str))
    else:
        show(metrics_table(result.metrics["test"]), result.summary)


@app.command(short_help="Show a finished training run again.")
def compare(
    run: Annotated[Path, typer.Argument(help="Results folder of a training run.")],
    as_json: AsJson = False,
) -> None:
    """Show a finished run's model beside the scorecard on the same observations."""
    from .. import workflows
    from ..evaluation.tables import metrics_table

    metrics, sentences = workflows.compare(run)
    if as_json:
        typer.echo(json.dumps(metrics))
    else:
        show(metrics_table(metrics["test"]), *sentences)
