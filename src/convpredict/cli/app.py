"""The application, the options that commands share, and what they show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from ..errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learned, calibrated lead scores from histories of lead interactions.",
    epilog="Exit codes: 0 done; 1 other error; 2 configuration or usage; 3 data; 4 not enough data; 5 bundle; "
    "6 hindsight in the data; 7 stopped by a gate; 8 another run is at work; 9 not published; 10 not promoted; "
    "11 registry; 12 published but not watched over; 130 interrupted.",
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


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[Callable[[str, float], None]]:
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


def show(*renderables: Any) -> None:
    """Print tables and text, 110 columns wide where the output is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    for renderable in renderables:
        console.print(renderable)


def write_errors_as_json() -> None:
    """Make a JSON document of whatever is written to standard error from here on, line by line."""
    from ..scoring.run_log import JsonLines

    sys.stderr = JsonLines(sys.stderr)


def tell_error(kind: str, message: str, exit_code: int) -> None:
    """Tell on standard error how a command ended: in words, or as a line of the JSON log (event ``ended``)."""
    from ..scoring.run_log import JsonLines

    if isinstance(sys.stderr, JsonLines):
        sys.stderr.event("ended", exit_code=exit_code, error=kind, message=message)
    else:
        typer.echo(f"{kind}: {message}", err=True)


def restore_errors(former: TextIO) -> None:
    """Undo :func:`write_errors_as_json`, if it was done: ``former`` is what standard error was before."""
    from ..scoring.run_log import JsonLines

    if isinstance(sys.stderr, JsonLines):
        sys.stderr.finish()
        sys.stderr = former


def parse_instant(text: str | None, option: str) -> datetime | None:
    """The UTC instant of an option's text; raises ConfigError for what is none."""
    from pydantic import TypeAdapter, ValidationError

    from ..config.base import Instant

    if text is None:
        return None
    try:
        parsed: datetime = TypeAdapter(Instant).validate_python(text)
    except ValidationError:
        raise ConfigError(
            f"{option} must be an ISO 8601 instant, like 2024-03-18 or 2024-03-18T02:00:00Z; got {text!r}."
        ) from None
    return parsed
