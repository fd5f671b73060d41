"""The command line: parse, call, show. Every decision is taken elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import typer

from ..errors import ConvpredictError

from . import data  # isort: skip
from . import training  # isort: skip
from . import scoring  # isort: skip
from . import scorecards  # isort: skip
from . import tuning  # isort: skip
from . import leakage  # isort: skip
from . import backtesting  # isort: skip
from . import promoting  # isort: skip
from . import nightly  # isort: skip
from . import monitoring  # isort: skip
from . import ledger  # isort: skip
from .app import app, restore_errors, show, tell_error

__all__ = [
    "app",
    "backtesting",
    "data",
    "leakage",
    "ledger",
    "main",
    "monitoring",
    "nightly",
    "promoting",
    "scorecards",
    "scoring",
    "training",
    "tuning",
]

_INTERRUPTED = 130
_USAGE_ERROR: Any = typer.BadParameter.__base__


def main() -> None:
    """Run the command line; an error becomes one message and an exit code, never a traceback.

    With ``--json``, standard output is one JSON document in any case: the result, or the error.
    """
    former = sys.stderr
    try:
        _run()
    except SystemExit:
        restore_errors(former)
        raise


def _run() -> NoReturn:
    try:
        code = app(standalone_mode=False)
    except ConvpredictError as error:
        if "--json" not in sys.argv:
            _show_report(error)
        _fail(type(error).__name__, str(error), error.exit_code, details=getattr(error, "details", None))
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
        _fail(
            "Interrupted",
            "every file written is whole, but the run is not; run the command again (tune goes on with its study).",
            _INTERRUPTED,
        )
    raise SystemExit(code if isinstance(code, int) else 0)


def _fail(kind: str, message: str, exit_code: int, *, details: Mapping[str, Any] | None = None) -> NoReturn:
    """Tell people on standard error and, with ``--json``, machines on standard output; then leave."""
    if "--json" in sys.argv:
        told = {"type": kind, "message": message, **({"details": dict(details)} if details else {})}
        typer.echo(json.dumps({"error": told}))
    tell_error(kind, message, exit_code)
    raise SystemExit(exit_code)


def _show_report(error: ConvpredictError) -> None:
    """Too many bad rows: the table of what was read and put aside says more than the message alone."""
    from ..history.validation import BadRowsError

    if isinstance(error, BadRowsError):
        from ..history.summary import render_report

        show(render_report(error.report))
