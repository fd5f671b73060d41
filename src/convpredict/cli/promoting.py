"""Commands on registered models: models, register, promote, rollback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import AsJson, ConfigPath, DataDir, Overrides, app, progress_bar, show

if TYPE_CHECKING:
    from ..workflows.promoting import ModelList


@app.command(short_help="List the registered models of a project.")
def models(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show every version with its aliases, data window and verdicts, and all changes of champion."""
    from .. import workflows

    found = workflows.list_models(config, overrides=overrides or ())
    if as_json:
        typer.echo(json.dumps(found.summary))
    else:
        show(*model_lines(found))


@app.command(short_help="Register the results folder of a training run.")
def register(
    config: ConfigPath,
    run: Annotated[Path, typer.Argument(help="Results folder of a training run.")],
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Register the model of a training run whose registration failed; it becomes the challenger."""
    from .. import workflows

    made = workflows.register_run(config, run, data=data, overrides=overrides or ())
    if as_json:
        typer.echo(json.dumps({"name": made.name, "version": made.version, "run_id": made.run_id}))
    else:
        show(
            f"Registered as version {made.version} of '{made.name}', the challenger (MLflow run {made.run_id})"
        )


@app.command(short_help="Make the challenger champion, if the rule holds.")
def promote(
    config: ConfigPath,
    version: Annotated[
        str | None, typer.Option("--version", help="Version to promote (default: the challenger).")
    ] = None,
    force: Annotated[
        str | None, typer.Option("--force", help="Promote whatever the rule says; the reason is recorded.")
    ] = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare challenger and champion on outcomes that neither was trained on; promote if the rule holds."""
    from .. import workflows

    with progress_bar("loading", quiet=as_json) as report:
        done = workflows.promote(
            config, version=version, force=force, data=data, overrides=overrides or (), progress=report
        )
    typer.echo(json.dumps(done.summary)) if as_json else show(done.text)


@app.command(short_help="Make the former champion champion again.")
def rollback(
    config: ConfigPath,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; it is recorded.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make the champion before the present one champion again; repeated, it walks back further."""
    from .. import workflows

    done = workflows.rollback(config, reason=reason, overrides=overrides or ())
    typer.echo(json.dumps(done.summary)) if as_json else show(done.text)


def model_lines(found: ModelList) -> list[Any]:
    """A table of the versions and the changes of champion, at most 110 columns wide."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    if not found.versions:
        return [f"No model is registered as '{found.name}'; 'convpredict train' registers one."]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for head in (
        "version",
        "alias",
        "registered",
        "trained until",
        "log loss",
        "AUC",
        "ratio",
        "converted",
        "leakage",
    ):
        table.add_column(head, no_wrap=head != "alias")
    for entry in found.summary["versions"]:
        told = entry["verdicts"].get("model", {})
        state = [*entry["aliases"]]
        state += [] if entry["verified"] else ["not verified"]
        state += ["withdrawn"] if entry["withdrawn"] else []
        leakage = entry["verdicts"].get("leakage")
        table.add_row(
            entry["version"],
            ", ".join(state),
            entry["registered_at"][:16].replace("T", " "),
            (entry["trained_until"] or "-")[:10],
            _cell(told.get("log_loss"), 4),
            _cell(told.get("auc"), 3),
            _cell(told.get("calibration_ratio"), 2),
            f"{entry['verdicts'].get('converting_leads', 0):,}",
            "-" if leakage is None else f"{sum(leakage.values())}",
        )
    return [table, *(_change_line(change) for change in found.summary["changes"])]


def _change_line(change: dict[str, Any]) -> str:
    reason = f": {change['reason']}" if change["reason"] else ""
    former = f"version {change['from']}" if change["from"] else "none"
    at, to, by = change["at"][:16].replace("T", " "), change["to"], change["by"]
    return f"{at}  champion: {former} -> version {to} by {by}{reason}"


def _cell(entry: dict[str, float | None] | None, digits: int) -> str:
    value = entry["value"] if entry is not None else None
    return "-" if value is None else f"{value:.{digits}f}"
