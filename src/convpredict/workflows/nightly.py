"""The nightly run: from the champion to published scores, for one night or for a range of past ones."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.base import Duration
from ..config.load import Project, load_project
from ..errors import ConfigError
from .common import read_history

if TYPE_CHECKING:
    from ..history.history import History
    from ..scoring.nightly.model import ModelChooser
    from ..scoring.nightly.session import NightRun, Session


def nightly(
    config: Path,
    *,
    as_of: datetime | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    every: str | None = None,
    again: str | None = None,
    waive: Sequence[str] = (),
    bundle: Path | None = None,
    run: Path | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    now: datetime | None = None,
    discard: str | None = None,
) -> list[NightRun]:
    """Score every open lead with the champion, judge the scores, and publish them if no gate stops them.

    The cutoff is the last passed ``nightly.at``, or ``as_of``. ``start`` and ``end`` fill in all nights from one day
    to the other, both included (``every``: only every so many days), each with what was known then. ``again``
    (a reason) publishes a night once more under a run id of its own. ``waive``: ``GATE=REASON``, gates that may stop
    no night of this call. ``bundle`` or ``run`` (a results folder) scores instead of the champion. ``now`` is the
    present instant, if it is not the clock's.
    ``discard`` (``RUN_ID`` or ``RUN_ID=REASON``) scores nothing, and gives up a night that was decided and cannot be
    finished; see :func:`convpredict.scoring.nightly.discard.discard`.

    A night that is published already stays as it is, to the byte. What a killed run left is taken up or thrown
    away, and a night that it had decided to publish is finished first. Of a night that a gate stopped, the
    NightRun has the exit code 7; see :func:`worst_exit_code`.

    Raises
    ------
    BusyError
        Another run works in the same folder.
    GateError
        The night lies before the last published one, and this is no back-fill.
    PublishError
        Scores could not be written to every target: readers of that target keep the former ones, and the next run
        finishes.
    """
    from ..scoring.nightly.plan import check_name
    from ..scoring.nightly.run import run_nights

    project = load_project(config, data=data, overrides=overrides)
    check_name(project.config.name)
    if discard is not None:
        if (as_of, start, end, every, again, bundle, run) != (None,) * 7 or waive:
            raise ConfigError("--discard gives one night up and scores none: leave the other options out")
        return [_discard(project, discard, now)]
    present = (now or datetime.now(UTC)).astimezone(UTC)
    cutoffs = _cutoffs(project, present, as_of, start, end, _span(every))
    waived = _waivers(waive)
    chooser = _chooser(project, bundle, run)
    session = _session(
        project,
        chooser,
        now=now,
        waived=waived,
        again=again,
        afterwards=start is not None,
        named=as_of is not None,
    )
    with _interruptible(session):
        return run_nights(session, cutoffs)


def worst_exit_code(nights: Sequence[NightRun]) -> int:
    """The exit code of several nights: 7 if one was stopped, 12 if one could not be watched over, else 0."""
    codes = {night.exit_code for night in nights}
    return next((code for code in (7, 12) if code in codes), 0)


def nights_text(nights: Sequence[NightRun]) -> str:
    """What happened in all nights of a call, for people: what is doubtful about several of them is told once."""
    from ..scoring.nightly.session import text_of

    return text_of(nights)


def _discard(project: Project, given: str, now: datetime | None) -> NightRun:
    from ..scoring.nightly.discard import discard

    run_id, _, reason = given.partition("=")
    session = _session(
        project, _chooser(project, None, None), now=now, waived={}, again=None, afterwards=False
    )
    return discard(session, run_id.strip(), reason.strip())


def _session(
    project: Project,
    choose_model: Callable[[], ModelChooser],
    *,
    now: datetime | None,
    waived: Mapping[str, str],
    again: str | None,
    afterwards: bool,
    named: bool = False,
) -> Session:
    from ..monitoring.after_night import after_night, after_trouble
    from ..scoring.nightly.session import Session
    from ..scoring.nightly.state import NightFolder
    from ..scoring.run_log import RunLog

    settings = project.config.nightly
    chosen: list[ModelChooser] = []
    read: list[History] = []

    def choose(cutoff: datetime, filled_in: bool) -> Any:
        if not chosen:
            chosen.append(choose_model())
        return chosen[0](cutoff, filled_in)

    def read_once(quarantine: Path) -> History:
        if not read:
            read.append(read_history(project, quarantine=quarantine))
        return read[0]

    return Session(
        project=project,
        folder=NightFolder(project.path.parent / settings.folder, project.config.name),
        choose_model=choose,
        read=read_once,
        log=RunLog(settings.log == "json", sys.stderr),
        waived=waived,
        again=again,
        afterwards=afterwards,
        named=named,
        after_night=after_night,
        after_trouble=after_trouble,
        clock=(lambda: now) if now is not None else (lambda: datetime.now(UTC)),
    )


def _cutoffs(
    project: Project,
    now: datetime,
    as_of: datetime | None,
    start: datetime | None,
    end: datetime | None,
    every: Duration | None,
) -> list[datetime]:
    from ..scoring.nightly.plan import cutoffs_between, last_cutoff

    at = project.config.nightly.at
    if start is None and end is None:
        if every is not None:
            raise ConfigError("--every goes with --from and --to; leave it out, or name both")
        if as_of is not None and as_of > now:
            raise ConfigError(
                f"--as-of {as_of:%Y-%m-%d %H:%M} UTC lies ahead (it is {now:%Y-%m-%d %H:%M} UTC): nothing is known of "
                "that night yet, and no earlier one could be published after it; name an instant that has passed"
            )
        return [as_of.astimezone(UTC) if as_of is not None else last_cutoff(now, at)]
    if start is None or end is None or as_of is not None:
        raise ConfigError("a back-fill needs --from and --to, and no --as-of")
    passed = [cutoff for cutoff in cutoffs_between(start, end, at, every) if cutoff <= now]
    if not passed:
        raise ConfigError(
            f"no night from {start:%Y-%m-%d} to {end:%Y-%m-%d} has passed yet; name earlier days"
        )
    return passed


def _span(every: str | None) -> Duration | None:
    try:
        return None if every is None else Duration(every)
    except ValueError as error:
        raise ConfigError(f"--every: {error}") from None


def _waivers(given: Sequence[str]) -> dict[str, str]:
    waived = {}
    for entry in given:
        gate, _, reason = entry.partition("=")
        if not reason.strip():
            raise ConfigError(
                f"--waive {entry!r} gives no reason; it is recorded with the night: --waive 'rows=the CRM was merged'"
            )
        waived[gate.strip()] = reason.strip()
    return waived


def _chooser(project: Project, bundle: Path | None, run: Path | None) -> Callable[[], ModelChooser]:
    from ..scoring.nightly.model import choose_bundle, choose_champion, choose_run

    if bundle is not None and run is not None:
        raise ConfigError(
            "a night takes one model: give either --bundle or --run, or neither for the champion"
        )
    if bundle is not None:
        return lambda: choose_bundle(bundle)
    if run is not None:
        return lambda: choose_run(run)
    return lambda: choose_champion(project.config)


@contextmanager
def _interruptible(session: Session) -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: with a manifest that says so, and the lock's content cleared."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        session.interrupted.set()
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
