"""Giving up a night that was decided and cannot be finished."""

from __future__ import annotations

from typing import Any

from ...errors import ConfigError, DataError, PublishError
from .lock import holding_lock
from .night import new_draft
from .plan import parse_run_id
from .session import NightRun, Session
from .state import COMMIT, as_stored, instant, read_json
from .targets import holders


def discard(session: Session, run_id: str, reason: str = "") -> NightRun:
    """Give up a decided night that is not published: it is recorded as failed, with the reason, and its work removed.

    Without a reason, what kept it from being finished is recorded. What the ledger has of it already stays there:
    the ledger is only ever added to, and a later run of the cutoff under the same id is held to it. Where no other
    night comes, readers keep the scores they have.

    Raises
    ------
    ConfigError
        No such night is decided, or it is published.
    PublishError
        A target shows or keeps these very scores: readers may have seen them, so the night is to be finished.
    BusyError
        Another run is at work in the folder.
    """
    folder = session.folder
    with holding_lock(folder.root, run_id):
        if folder.is_published(run_id):
            raise ConfigError(
                f"--discard {run_id}: that night is published, and what readers have seen is not taken back; publish "
                "it once more with --again REASON"
            )
        decided = folder.decided()
        if run_id not in decided:
            raise ConfigError(
                f"--discard {run_id}: no such night is decided and waits to be finished "
                f"({'those that are: ' + ', '.join(decided) if decided else 'there is none'}); undecided work needs "
                "no care"
            )
        draft = _draft(session, run_id)
        held = holders(session, run_id, draft.get("scores_hash"))
        if held:
            raise PublishError(
                f"{run_id} cannot be discarded: {', '.join(held)} has its scores, which readers may have seen. Mend "
                "the target that fails, or take it out of nightly.publish, and run again: the night is finished then"
            )
        told = reason or (folder.manifest(run_id) or {}).get("error") or "no reason was given"
        manifest = {**draft, "status": "failed", "error": f"discarded: {told}", "finished_at": session.now()}
        folder.keep_manifest(as_stored(manifest))
        folder.drop_work(run_id)
        session.event("discarded", run_id, level="warning", message=told)
    message = f"{run_id} is discarded ({told}); readers keep the scores they have"
    return NightRun(run_id, instant(str(draft["cutoff"])), "discarded", manifest, message)


def _draft(session: Session, run_id: str) -> dict[str, Any]:
    try:
        return read_json(session.folder.work(run_id) / COMMIT)
    except DataError:
        cutoff, _ = parse_run_id(session.folder.name, run_id) or (session.clock(), 1)
        return new_draft(session, run_id, cutoff)
