"""What every workflow needs: progress, reading the history, ids of runs."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ..config.load import Project, load_project
from ..errors import BusyError, DataError
from ..files import release

if TYPE_CHECKING:
    from ..history.history import History
    from ..history.validation import ValidationReport

StepProgress = Callable[[str, float], None]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def silent(step: str, share: float) -> None:
    """Report to nobody."""


def part_of(progress: StepProgress, step: str) -> Callable[[float], None]:
    """Announce a step; what it returns reports the share of it that is done."""
    progress(step, 0.0)
    return lambda share: progress(step, share)


def read_history(project: Project, *, quarantine: Path | None = None, require: Sequence[str] = ()) -> History:
    """Read and validate the history that a project declares; ``require`` names tables that must be there."""
    from ..history.load import load_history

    return load_history(project.config, project.data_dir, quarantine_dir=quarantine, require=require)


def report_of(history: History) -> ValidationReport:
    """The report on a history that was loaded, not wrapped."""
    if history.report is None:
        raise DataError(
            "This history was wrapped without validation, so there is no report on it; load it instead."
        )
    return history.report


def new_run_id(name: str) -> str:
    """An id that sorts by time: name, UTC second, four random characters."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def read_outcomes(project: Project, *, quarantine: Path | None = None) -> History:
    """The history of a project without forgotten leads, with the table that its outcome comes from: conversions, or
    revenue for purchases."""
    outcome = "revenue" if project.config.labels.outcome == "purchase" else "conversions"
    return leave_out_forgotten(project, read_history(project, quarantine=quarantine, require=(outcome,)))


def leave_out_forgotten(project: Project, history: History) -> History:
    """The history as if the leads that ``convpredict forget`` erased had not come yet, sources or not."""
    from ..scoring.forget.forgotten import read_forgotten, without_forgotten

    return without_forgotten(history, read_forgotten(nightly_folder(project)))


def note_results(project: Project, folder: Path, *, tracked: bool) -> str | None:
    """Keep in the nightly folder where rows of leads are being written, so that ``forget`` finds them from anywhere.

    Gives what to tell the user where it cannot be kept; that stops nothing.
    """
    from ..scoring.forget.places import note_places
    from ..tracking.store import absolute_uri, tracking_uri

    store = absolute_uri(tracking_uri(project.config.tracking)) if tracked else None
    try:
        note_places(nightly_folder(project), results=folder, store=store)
    except OSError as error:
        return (
            f"'{nightly_folder(project)}' cannot be written ({error.strerror}), so 'convpredict forget' will not know "
            "of these results; give it their folder with --also"
        )
    return None


@contextmanager
def holding_results(folder: Path) -> Iterator[None]:
    """Hold a results folder for the length of a ``with`` block: only one training or registration at a time is in it.

    The kernel's lock (``flock``) is on the folder itself, so it leaves no file, and goes with its process. Where the
    file system has no locks, nothing is held. Raises BusyError where another run holds the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, holding_results(Path(folder)):
    ...     with holding_results(Path(folder)):
    ...         pass
    Traceback (most recent call last):
    ...
    convpredict.errors.BusyError: ...
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BusyError(
            f"another training writes into '{folder}', or its model is being registered, and two at once would mix "
            "their results; wait until it has ended, or train into another folder (--out)"
        ) from None
    except OSError:
        pass
    try:
        yield
    finally:
        release(descriptor)


def keeping_forget_out(
    command: str, *, create: bool = True
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let ``convpredict forget`` refuse to begin while the decorated workflow, which writes rows of leads, is at work.

    The workflow takes ``config``, and ``overrides`` where it has them; ``command`` is what ``forget`` calls it, and
    without ``create`` no nightly folder is made for it. It raises BusyError while leads are being erased.
    """

    def decorate(work: Callable[_P, _R]) -> Callable[_P, _R]:
        parameters = signature(work)

        @wraps(work)
        def kept(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            from ..scoring.forget.at_work import sharing

            given = parameters.bind(*args, **kwargs).arguments
            project = load_project(given["config"], overrides=given.get("overrides", ()))
            with sharing(nightly_folder(project), command, create=create):
                return work(*args, **kwargs)

        return kept

    return decorate


def nightly_folder(project: Project) -> Path:
    """The folder of a project's nightly state."""
    return project.path.parent / project.config.nightly.folder
