"""From the decision to publish a night to its end: every step can be repeated, so whichever run comes next finishes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import ConvpredictError, MonitoringError, PublishError
from ...files import write_file, write_json
from ..content_hash import content_hash
from ..files import write_table
from .retention import remove_old
from .session import NightRun, Session
from .state import COMMIT, CROSS_LEAD, SCORES, instant, read_json
from .steps import Steps
from .targets import as_published, to_targets

PUBLISHED_BUT = MonitoringError.exit_code
"""The exit code of a night that is published, but not watched over: its monitoring failed."""
WATCHING = ("compact", "monitor", "remove_old")
"""The steps after a night is published; they are done again if the process dies in between."""


def decide(session: Session, manifest: Mapping[str, Any], scores: pa.Table) -> None:
    """Write down that a night will be published as it is: from here on it is not scored again, only finished.

    ``scores`` is the published table with the column ``features_hash`` at its end. Nothing that readers see has
    changed before; afterwards the next run publishes the night if this one cannot.
    """
    work = session.folder.work(str(manifest["run_id"]))
    write_table(scores, work / SCORES)
    write_json(manifest, work / COMMIT)


def finish(
    session: Session, run_id: str, rows: pa.Table | None = None, steps: Steps | None = None
) -> NightRun:
    """Publish a decided night: ledger, targets, manifest, then what watches over it; remove its work.

    ``rows`` is the table given to :func:`decide` and ``steps`` are those before, if still at hand. A night that another
    run published already is only watched over. Raises PublishError where a target could not be written to: the
    others are, and the night stays decided.
    """
    folder = session.folder
    manifest = read_json(folder.work(run_id) / COMMIT)
    former = folder.manifest(run_id)
    if former is not None and former["status"] == "published":
        manifest = former
        steps = Steps([step for step in former["steps"] if step["step"] not in WATCHING])
    else:
        steps = steps or Steps(list(manifest["steps"]))
        rows = _read_rows(folder.work(run_id), manifest) if rows is None else rows
        manifest = _publish(session, manifest, steps, rows)
    trouble = _watch(session, manifest, steps)
    exit_code = PUBLISHED_BUT if trouble else 0
    told = {**manifest, "steps": steps.done}
    if trouble is not None:
        told["warnings"] = [*manifest.get("warnings", []), trouble]
    folder.note(told)
    session.event("published", run_id, leads=manifest["leads"], exit_code=exit_code)
    session.tell(told, exit_code)
    folder.drop_work(run_id)
    cutoff = instant(manifest["cutoff"])
    return NightRun(run_id, cutoff, "published", told, trouble or "", exit_code)


def _read_rows(work: Path, manifest: Mapping[str, Any]) -> pa.Table:
    """The scores that were decided on. Raises PublishError where they are others."""
    rows = as_published(pq.read_table(work / SCORES))
    if content_hash(rows.drop_columns(["features_hash"])) != manifest["scores_hash"]:
        raise PublishError(
            f"the scores in '{work}' are not those that were decided on: something changed the file. Nothing was "
            f"published by this run; give the night up with --discard {manifest['run_id']}, and it is scored anew"
        )
    return rows


def _publish(session: Session, manifest: dict[str, Any], steps: Steps, rows: pa.Table) -> dict[str, Any]:
    folder, run_id = session.folder, str(manifest["run_id"])
    work, scores = folder.work(run_id), rows.drop_columns(["features_hash"])
    latest = folder.latest()
    older = latest is not None and instant(manifest["cutoff"]) < latest
    with steps.measure("ledger") as step:
        session.ledger.append(manifest, rows)
        step.rows = rows.num_rows
    with steps.measure("publish") as step:
        targets = to_targets(session, scores, manifest, older_ok=older or manifest["afterwards"])
        step.rows = scores.num_rows
    if not older and (snapshot := work / CROSS_LEAD).is_file():
        write_file(folder.root / CROSS_LEAD, lambda file: file.write(snapshot.read_bytes()))
    published = {
        **manifest,
        "status": "published",
        "finished_at": session.now(),
        "targets": targets,
        "current": not older,
        "steps": list(steps.done),
    }
    folder.keep_manifest(published)
    return published


def _watch(session: Session, manifest: Mapping[str, Any], steps: Steps) -> str | None:
    """Tidy the ledger and monitor the night; what this raises is told and kept, and unpublishes nothing.

    Only the latest night merges months of the ledger: each one that is filled in would merge its month once more.
    """
    try:
        if manifest["current"]:
            with steps.measure("compact"):
                session.ledger.compact()
        if session.after_night is not None:
            with steps.measure("monitor"):
                session.after_night(session, manifest)
        if manifest["current"] and session.settings.keep is not None:
            with steps.measure("remove_old") as step:
                step.rows = remove_old(session, str(manifest["run_id"]))
    except Exception as error:
        session.check_interrupted()
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        reason = str(error) if isinstance(error, ConvpredictError | OSError) else where
        session.event("monitoring_failed", manifest["run_id"], level="error", message=reason)
        return f"the scores are published, but monitoring the night failed ({reason})"
    return None
