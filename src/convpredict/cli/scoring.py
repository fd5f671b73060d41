"""Commands on lead lists: score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .app import AsJson, AsOf, ConfigPath, DataDir, Overrides, app, parse_instant, progress_bar, show


@app.command(short_help="Score every open lead at one instant.")
def score(
    config: ConfigPath,
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder to score with.")] = None,
    run: Annotated[str | None, typer.Option(help="MLflow run id, or results folder, to score with.")] = None,
    as_of: AsOf = None,
    top: Annotated[int, typer.Option(min=0, help="How many of the hottest leads to show.")] = 20,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score every open lead at one instant (default: the end of the data) and write the list atomically."""
    from .. import workflows
    from ..scoring.tables import hottest_table

    if bundle is None and run is None:
        raise ConfigError(
            "convpredict score needs a model: give --bundle FOLDER ('bundle' in a training run's folder) or --run RUN."
        )
    if bundle is not None and run is not None:
        raise ConfigError("convpredict score takes one model: give either --bundle or --run, not both.")
    with progress_bar("reading", quiet=as_json) as report:
        result = workflows.score(
            config,
            out,
            bundle=bundle,
            run=run,
            as_of=parse_instant(as_of, "--as-of"),
            data=data,
            overrides=overrides or (),
            progress=report,
        )
    if as_json:
        typer.echo(json.dumps(result.summary, default=str))
    else:
        show(hottest_table(result.scores, top), result.text)
