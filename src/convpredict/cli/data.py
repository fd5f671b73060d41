"""Commands on the data: check, simulate, features, config schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .app import (
    AsJson,
    AsOf,
    ConfigPath,
    DataDir,
    Overrides,
    app,
    config_app,
    parse_instant,
    progress_bar,
    show,
)


@app.command(short_help="Read, validate and summarise the history.")
def check(
    config: ConfigPath,
    data: DataDir = None,
    overrides: Overrides = None,
    quarantine: Annotated[Path, typer.Option(help="Folder for the rows that break the contract.")] = Path(
        "quarantine"
    ),
    as_json: AsJson = False,
) -> None:
    """Read and validate the history, put broken rows aside with their reason, and summarise what is there."""
    from .. import workflows
    from ..history.summary import render_report

    with progress_bar("reading", quiet=as_json) as report:
        found = workflows.check_data(
            config, data=data, overrides=overrides or (), quarantine=quarantine, progress=report
        )
    if as_json:
        typer.echo(json.dumps(found.to_dict(), default=str))
    else:
        show(render_report(found))


@app.command(short_help="Simulate the history of a configuration.")
def simulate(
    config: ConfigPath,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make the history that the configuration's 'simulator' section describes, in its data folder."""
    from .. import workflows

    with progress_bar("simulating", quiet=as_json) as report:
        summary = workflows.simulate_data(config, data=data, overrides=overrides or (), progress=report)
    if as_json:
        typer.echo(json.dumps(summary, default=str))
    else:
        typer.echo(
            f"{summary['leads']:,} leads, {summary['interactions']:,} interactions, "
            f"{summary['conversions']:,} conversions in {summary['folder']}"
        )


@app.command(short_help="Write the feature table alone.")
def features(
    config: ConfigPath,
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    as_of: AsOf = None,
    observations: Annotated[
        Path | None, typer.Option("--observations", help="Parquet or CSV file with lead_id and cutoff.")
    ] = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write the feature table alone: of every open lead at one instant, or of given observations."""
    from .. import workflows

    if (as_of is None) == (observations is None):
        raise ConfigError("convpredict features needs either --as-of TIME or --observations FILE, not both.")
    with progress_bar("features", quiet=as_json) as report:
        summary = workflows.write_feature_table(
            config,
            out,
            as_of=parse_instant(as_of, "--as-of"),
            observations=observations,
            data=data,
            overrides=overrides or (),
            progress=report,
        )
    if as_json:
        typer.echo(json.dumps(summary, default=str))
    else:
        typer.echo(f"{summary['rows']:,} observations x {summary['columns']} features in {out}")
        for reason, count in summary["rejected"].items():
            typer.echo(f"  {count:,} left out: {reason}")


@config_app.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from ..config.load import config_schema

    typer.echo(json.dumps(config_schema(), indent=2))
