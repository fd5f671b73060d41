"""The command line: parse, call, show. Every decision is taken elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .errors import ConfigError, ConvpredictError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learned, calibrated lead scores from histories of lead interactions.",
    epilog="Exit codes: 0 done; 1 other error; 2 configuration or usage; 3 data; 4 not enough data; 5 bundle.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration itself.")
app.add_typer(config_app, name="config")

ConfigPath = Annotated[Path, typer.Argument(help="YAML configuration file.", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="Folder that relative source paths start from, instead of the config's."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one key: --set labels.horizons=[14d]. May be repeated."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document for machines instead of tables.")
]
AsOf = Annotated[str | None, typer.Option("--as-of", help="Cutoff, ISO 8601; without an offset it is UTC.")]

_INTERRUPTED = 130
_USAGE_ERROR: Any = typer.BadParameter.__base__


def main() -> None:
    """Run the command line; an error becomes one message and an exit code, never a traceback.

    With ``--json``, standard output is one JSON document in any case: the result, or the error.
    """
    try:
        code = app(standalone_mode=False)
    except ConvpredictError as error:
        if "--json" not in sys.argv:
            _show_report(error)
        _fail(type(error).__name__, str(error), error.exit_code)
    except _USAGE_ERROR as error:
        if "--json" not in sys.argv:
            error.show()
            raise SystemExit(error.exit_code) from None
        _fail("UsageError", error.format_message(), error.exit_code)
    except OSError as error:
        remedy = "Check that the path exists, that you may read and write there, and the space on the disk."
        _fail(type(error).__name__, f"{error}. {remedy}", 1)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _fail("Interrupted", "every file written is whole, but the run is not; start it anew.", _INTERRUPTED)
    raise SystemExit(code if isinstance(code, int) else 0)


def _fail(kind: str, message: str, exit_code: int) -> NoReturn:
    """Tell people on standard error and, with ``--json``, machines on standard output; then leave."""
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": {"type": kind, "message": message}}))
    typer.echo(f"{kind}: {message}", err=True)
    raise SystemExit(exit_code)


def _show_report(error: ConvpredictError) -> None:
    """Too many bad rows: the table of what was read and put aside says more than the message alone."""
    from .history.validation import BadRowsError

    if isinstance(error, BadRowsError):
        from .history.summary import render_report

        _show(render_report(error.report))


@contextmanager
def _progress(title: str, *, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar on the terminal for anything over two seconds; nothing at all when the output is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda step, share: bar.update(task, description=step, completed=share)


def _show(*renderables: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    for renderable in renderables:
        console.print(renderable)


def _instant(text: str | None, option: str) -> datetime | None:
    from pydantic import TypeAdapter, ValidationError

    from .config.base import Instant

    if text is None:
        return None
    try:
        parsed: datetime = TypeAdapter(Instant).validate_python(text)
    except ValidationError:
        raise ConfigError(
            f"{option} must be an ISO 8601 instant, like 2024-03-18 or 2024-03-18T02:00:00Z; got {text!r}."
        ) from None
    return parsed


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
    from . import workflows
    from .history.summary import render_report

    with _progress("reading", quiet=as_json) as report:
        found = workflows.check_data(
            config, data=data, overrides=overrides or (), quarantine=quarantine, progress=report
        )
    if as_json:
        typer.echo(json.dumps(found.to_dict(), default=str))
    else:
        _show(render_report(found))


@app.command(short_help="Simulate the history of a configuration.")
def simulate(
    config: ConfigPath,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make the history that the configuration's 'simulator' section describes, in its data folder."""
    from . import workflows

    with _progress("simulating", quiet=as_json) as report:
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
    from . import workflows

    if (as_of is None) == (observations is None):
        raise ConfigError("convpredict features needs either --as-of TIME or --observations FILE, not both.")
    with _progress("features", quiet=as_json) as report:
        summary = workflows.write_feature_table(
            config,
            out,
            as_of=_instant(as_of, "--as-of"),
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
    from . import workflows
    from .evaluation.tables import metrics_table

    with _progress("reading", quiet=as_json) as report:
        result = workflows.train(
            config, out=out, data=data, overrides=overrides or (), track=track, progress=report
        )
    if as_json:
        typer.echo(json.dumps(result.to_dict(), default=str))
    else:
        _show(metrics_table(result.metrics["test"]), result.summary)


@app.command(short_help="Show a finished training run again.")
def compare(
    run: Annotated[Path, typer.Argument(help="Results folder of a training run.")],
    as_json: AsJson = False,
) -> None:
    """Show a finished run's model beside the scorecard on the same observations."""
    from . import workflows
    from .evaluation.tables import metrics_table

    metrics, sentences = workflows.compare(run)
    if as_json:
        typer.echo(json.dumps(metrics))
    else:
        _show(metrics_table(metrics["test"]), *sentences)


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
    from . import workflows
    from .scoring.tables import hottest_table

    if (bundle is None) == (run is None):
        raise ConfigError("convpredict score needs either --bundle FOLDER or --run RUN, not both.")
    with _progress("reading", quiet=as_json) as report:
        result = workflows.score(
            config,
            out,
            bundle=bundle,
            run=run,
            as_of=_instant(as_of, "--as-of"),
            data=data,
            overrides=overrides or (),
            progress=report,
        )
    if as_json:
        typer.echo(json.dumps(result.summary, default=str))
    else:
        _show(hottest_table(result.scores, top), result.text)


@config_app.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from .config.load import config_schema

    typer.echo(json.dumps(config_schema(), indent=2))


if __name__ == "__main__":
    main()
