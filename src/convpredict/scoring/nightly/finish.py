"""From the decision to publish a night to its end: every step can be repeated, so whichever run comes next finishes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import ConvpredictError, MonitoringError, PublishError
from ...files import write_file, write_json
from ..content_hash import content_hash
from ..files import write_table
from ..publish.make import make_publisher
from ..publish.protocol import Publication
from .session import NightRun, Session
from .state import COMMIT, CROSS_LEAD, SCORES, instant, read_json
from .steps import Steps

PUBLISHED_BUT = MonitoringError.exit_code
"""The exit code of a night that is published, but not watched over: its monitoring failed."""
WATCHING = ("compact", "monitor")
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
    rows = _as_written(pq.read_table(work / SCORES))
    if content_hash(rows.drop_columns(["features_hash"])) != manifest["scores_hash"]:
        raise PublishError(
            f"the scores in '{work}' are not those that were decided on: something changed the file. Nothing was "
            "published; remove that folder, and the night is scored anew"
        )
    return rows


def _as_written(rows: pa.Table) -> pa.Table:
    """The table with the types it had before it went through a Parquet file, which renames the items of lists: what
    is published from it is then the same to the byte."""
    schema = pa.schema(
        field.with_type(pa.list_(field.type.value_type)) if pa.types.is_list(field.type) else field
        for field in rows.schema
    )
    return rows.cast(schema).combine_chunks()


def _publish(session: Session, manifest: dict[str, Any], steps: Steps, rows: pa.Table) -> dict[str, Any]:
    folder, run_id = session.folder, str(manifest["run_id"])
    work, scores = folder.work(run_id), rows.drop_columns(["features_hash"])
    latest = folder.latest()
    older = latest is not None and instant(manifest["cutoff"]) < latest
    with steps.measure("ledger") as step:
        session.ledger.append(manifest, rows)
        step.rows = rows.num_rows
    with steps.measure("publish") as step:
        targets = _to_targets(session, scores, manifest, older_ok=older or manifest["afterwards"])
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


def _to_targets(
    session: Session, scores: pa.Table, manifest: Mapping[str, Any], *, older_ok: bool
) -> list[dict[str, Any]]:
    """Publish everywhere; a target that fails keeps no other one from its scores."""
    publication = Publication(
        str(manifest["run_id"]),
        str(manifest["name"]),
        instant(manifest["cutoff"]),
        scores.num_rows,
        str(manifest["scores_hash"]),
    )
    targets: list[dict[str, Any]] = []
    failed: list[str] = []
    for target in session.settings.publish:
        try:
            publisher = make_publisher(target, session.base_folder)
            done = publisher.publish(scores, publication, older_ok=older_ok)
        except (PublishError, OSError) as error:
            session.check_interrupted()
            failed.append(str(error))
            session.event("target_failed", publication.run_id, level="error", message=str(error))
            continue
        targets.append({**asdict(done), "published_at": session.now()})
        session.event("target", publication.run_id, rows=done.rows, changed=done.changed, message=done.target)
    if failed:
        reached = (
            f"{len(targets)} of {len(session.settings.publish)} targets have the new scores, of the others "
        )
        raise PublishError(
            f"{reached if targets else ''}readers see the former ones: {'; '.join(failed)} Once that is mended, any "
            f"further run of 'convpredict nightly' finishes {publication.run_id} first"
        )
    return targets


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
    except Exception as error:
        session.check_interrupted()
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        reason = str(error) if isinstance(error, ConvpredictError | OSError) else where
        session.event("monitoring_failed", manifest["run_id"], level="error", message=reason)
        return f"the scores are published, but monitoring the night failed ({reason})"
    return None
