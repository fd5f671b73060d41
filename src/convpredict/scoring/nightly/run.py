"""The nights of one call: under one lock, what earlier runs left undone first, then each night in order."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...errors import BusyError, ConfigError, ConvpredictError, GateError, PublishError
from ..gates.judge import GATES
from ..publish.protocol import Publisher
from .finish import PUBLISHED_BUT, finish
from .lock import holding_lock
from .night import Night, StoppedError, new_draft
from .plan import parse_run_id, run_id_of
from .session import NightRun, Session
from .state import COMMIT, as_stored, instant, read_json
from .targets import check_usable, known_repetitions, lacking, make_up

INTERRUPTED = 130


def run_nights(session: Session, cutoffs: Sequence[datetime]) -> list[NightRun]:
    """Publish the nights of some cutoffs, ascending; those that are published already are left as they are.

    A night that a gate stops ends with exit code 7 in its NightRun, and the next one is tried; whatever else goes
    wrong ends the call. A night that was decided earlier and could not be published everywhere is finished first.

    Raises
    ------
    BusyError
        Another run holds the lock.
    GateError
        A cutoff lies before the last published night, and this is no back-fill: the clock was set back, or the
        wrong night was named.
    PublishError
        Scores could not be written to every target, or the nightly folder not at all.
    ConfigError
        A target cannot be used as it is configured: nothing was scored.
    DataError
        Among others: the ledger refuses a night that was decided earlier. The other nights are published.
    """
    _check_waivers(session)
    folder = session.folder
    wanted = [(cutoff, _run_id(session, cutoff)) for cutoff in cutoffs]
    to_do = [(cutoff, run_id) for cutoff, run_id in wanted if not folder.is_published(run_id)]
    left_over = [run_id for _, run_id in wanted if folder.work(run_id).is_dir()]
    idle = not to_do and not left_over and not folder.decided()
    if idle and not lacking(session, [run_id for _, run_id in wanted]):
        return [_already(session, cutoff, run_id) for cutoff, run_id in wanted]
    cutoff, run_id = (to_do or wanted)[0]
    with ExitStack() as held:
        try:
            left_behind = held.enter_context(holding_lock(folder.root, run_id))
            _check_order(session, [cutoff for cutoff, _ in to_do])
            check_usable(session, run_id)
        except BusyError:
            raise
        except ConvpredictError as error:
            _tell_refusal(session, run_id, cutoff, error)
            raise
        if left_behind is not None:
            former = {f"former_{key}": value for key, value in left_behind.items()}
            session.log.event("owner_died", level="warning", **former)
        if removed := folder.sweep():
            session.log.event("swept", files=removed)
        runs, problem = _finish_decided(session)
        known = []
        for cutoff, run_id in wanted:
            if run_id in {run.run_id for run in runs} | set(folder.decided()):
                continue
            if folder.is_published(run_id):
                folder.drop_work(run_id)
                runs.append(_already(session, cutoff, run_id))
                known.append(run_id)
            else:
                runs.append(_run_night(session, cutoff, run_id))
        if publishers := lacking(session, known):
            runs, lack = _make_up(session, runs, publishers)
            problem = problem or lack
    if problem is not None:
        raise problem
    return runs


def _make_up(
    session: Session, runs: list[NightRun], publishers: Sequence[Publisher]
) -> tuple[list[NightRun], PublishError | None]:
    """Publish the latest night where it is missing, and say so in what is told of it."""
    reached, problem = make_up(session, publishers)
    if not reached:
        return runs, problem
    latest = next(session.folder.published())
    message = f"{latest['run_id']} is published already; it was missing, and is now published, in {', '.join(reached)}"
    return [
        replace(run, manifest=latest, message=message) if run.run_id == latest["run_id"] else run
        for run in runs
    ], problem


def _run_night(session: Session, cutoff: datetime, run_id: str) -> NightRun:
    """One night from the beginning to the end, whatever the end."""
    for other in set(session.folder.unfinished()) - {run_id, *session.folder.decided()}:
        session.event("thrown_away", other, message="unfinished work of another night")
        session.folder.drop_work(other)
    night = Night(session, run_id, cutoff)
    try:
        rows = night.run()
        session.event("decided", run_id, leads=rows.num_rows)
        return finish(session, run_id, rows, night.steps)
    except StoppedError as stop:
        message = str(stop)
        draft = {**night.draft, "status": "stopped", "error": f"GateError: {message}"}
        manifest = _end(session, draft, stop.exit_code)
        return NightRun(run_id, cutoff, "stopped", manifest, message, stop.exit_code)
    except BaseException as error:
        if _came_after_publication(session, run_id, error):
            return _published_but(session, run_id, error)
        shown = _failed(session, night.draft, error)
        raise shown from (error if error is not shown else error.__cause__)


def _came_after_publication(session: Session, run_id: str, error: BaseException) -> bool:
    interrupted = session.interrupted.is_set() or not isinstance(error, Exception)
    return not interrupted and session.folder.is_published(run_id)


def _published_but(session: Session, run_id: str, error: BaseException) -> NightRun:
    """A night whose scores and manifest are out, and of which something afterwards failed: the next run does it."""
    known = isinstance(error, ConvpredictError | OSError | pa.ArrowException)
    reason = _first_line(error) if known else _place_of(error)
    message = (
        f"the scores are published, but what comes after failed ({reason}); run again, and it is made up for"
    )
    stored = session.folder.manifest(run_id) or {}
    told = {**stored, "warnings": [*stored["warnings"], message]}
    session.event("published_but", run_id, level="error", exit_code=PUBLISHED_BUT, message=message)
    session.tell(told, PUBLISHED_BUT)
    return NightRun(run_id, instant(stored["cutoff"]), "published", told, message, PUBLISHED_BUT)


def _failed(session: Session, draft: Mapping[str, Any], error: BaseException) -> BaseException:
    """Tell of a night that failed; gives the error to be raised. A night that is published stays so."""
    shown: BaseException = error
    if session.interrupted.is_set():
        shown = KeyboardInterrupt()
    elif isinstance(error, OSError | pa.ArrowException):
        shown = PublishError(
            f"{draft['run_id']} could not be finished ({_first_line(error)}); readers keep the scores they have. Check "
            "the disk, its free space and the rights on the nightly folder, then run again: finished work is kept"
        )
    exit_code = shown.exit_code if isinstance(shown, ConvpredictError) else 1
    reason = str(shown) if isinstance(shown, ConvpredictError) else _place_of(error)
    if isinstance(shown, KeyboardInterrupt):
        exit_code, reason = INTERRUPTED, "the run was interrupted; run it again: finished work is kept"
    _end(session, {**draft, "status": "failed", "error": f"{type(shown).__name__}: {reason}"}, exit_code)
    return shown


def _end(session: Session, manifest: dict[str, Any], exit_code: int) -> dict[str, Any]:
    """Keep the manifest of a night that was not published, as far as that is possible, and tell of it."""
    run_id = str(manifest["run_id"])
    if session.folder.is_published(run_id):
        stored = session.folder.manifest(run_id) or {}
        session.event("cut_short", run_id, level="error", exit_code=exit_code, message=manifest["error"])
        session.measure(stored, exit_code)  # a hook may be what was interrupted; the next run calls them
        return stored
    manifest = as_stored({**manifest, "finished_at": session.now()})
    try:
        session.folder.keep_manifest(manifest)
    except OSError as error:
        session.event("no_manifest", run_id, level="error", message=_first_line(error))
    session.event(manifest["status"], run_id, level="error", exit_code=exit_code, message=manifest["error"])
    session.tell(manifest, exit_code)
    session.show_trouble()
    return manifest


def _tell_refusal(session: Session, run_id: str, cutoff: datetime, error: ConvpredictError) -> None:
    """Tell of a night that was not even begun."""
    status = "stopped" if isinstance(error, GateError) else "failed"
    draft = new_draft(session, run_id, cutoff)
    if not (session.named or session.afterwards):
        draft["current"] = True  # a clock that was set back keeps every night from readers
    session.event(status, run_id, level="error", exit_code=error.exit_code, message=str(error))
    session.tell(
        as_stored({**draft, "status": status, "error": f"{type(error).__name__}: {error}"}), error.exit_code
    )


def _finish_decided(session: Session) -> tuple[list[NightRun], BaseException | None]:
    """Finish what earlier runs decided; one that cannot be finished keeps tonight from no target."""
    runs: list[NightRun] = []
    problem: BaseException | None = None
    for run_id in session.folder.decided():
        session.event("finishing", run_id)
        cutoff, _ = parse_run_id(session.folder.name, run_id) or (session.clock(), 1)
        draft = new_draft(session, run_id, cutoff)
        try:
            draft = {**read_json(session.folder.work(run_id) / COMMIT), "current": draft["current"]}
            runs.append(finish(session, run_id))
        except BaseException as error:
            if _came_after_publication(session, run_id, error):
                runs.append(_published_but(session, run_id, error))
                continue
            problem = _failed(session, draft, _with_way_out(error, run_id))
            if not isinstance(problem, ConvpredictError):
                raise problem from (error if error is not problem else error.__cause__)
    return runs, problem


def _with_way_out(error: BaseException, run_id: str) -> BaseException:
    """What no target is to blame for may never mend itself: the message then says how to go on."""
    if not isinstance(error, ConvpredictError) or isinstance(error, PublishError):
        return error
    told = f"{error}. {run_id} was decided and cannot be finished: mend that, or give it up with --discard {run_id}"
    return type(error)(told)


def _run_id(session: Session, cutoff: datetime) -> str:
    """The id of this call's run for a cutoff: a further one where it is to be published again."""
    name = session.project.config.name
    if session.again is None:
        return run_id_of(name, cutoff)
    published = known_repetitions(session, cutoff)
    if not published:
        raise ConfigError(
            f"{run_id_of(name, cutoff)} has not been published yet, so there is nothing to publish again; leave "
            "--again out"
        )
    return run_id_of(name, cutoff, published + 1)


def _check_waivers(session: Session) -> None:
    unknown = [gate for gate in session.waived if gate not in GATES]
    if unknown:
        raise ConfigError(f"--waive names '{unknown[0]}', which is no gate; the gates are {', '.join(GATES)}")


def _check_order(session: Session, cutoffs: Sequence[datetime]) -> None:
    """Readers never go back in time: only a back-fill may publish a night before the last one."""
    latest = session.folder.latest()
    if session.afterwards or latest is None:
        return
    for cutoff in cutoffs:
        if cutoff < latest:
            raise GateError(
                f"the night of {cutoff:%Y-%m-%d %H:%M} UTC lies before the last published one "
                f"({latest:%Y-%m-%d %H:%M} UTC), so readers would go back in time: this machine's clock was set back "
                f"(it says {session.now()}), or --as-of names an old night. Nothing was changed; set the clock, or "
                "fill the night in with --from and --to, which leaves what readers see as it is"
            )


def _already(session: Session, cutoff: datetime, run_id: str) -> NightRun:
    manifest = session.folder.manifest(run_id) or {}
    session.event("already_published", run_id)
    if session.folder.is_newest(cutoff):
        session.measure_again(manifest)
    message = f"{run_id} is published already (finished {manifest.get('finished_at')}); nothing was changed"
    return NightRun(run_id, cutoff, "already published", manifest, message)


def _place_of(error: BaseException) -> str:
    """Where something happened that nobody expected: its own message may hold values of the data."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"not expected, at {Path(place.filename).name}:{place.lineno}; report it"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
