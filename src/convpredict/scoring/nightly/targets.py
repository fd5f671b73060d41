"""The places a night is published to: looked at before anything is scored, written to, and made up for later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import count
from typing import Any

import pyarrow as pa

from ...config.nightly import Target
from ...errors import ConfigError, ConvpredictError, PublishError
from ..content_hash import content_hash
from ..publish.make import make_publisher
from ..publish.protocol import Publication, Published, Publisher, check_same
from .plan import parse_run_id, run_id_of
from .session import Session
from .state import instant


def publication_of(manifest: Mapping[str, Any], rows: int) -> Publication:
    """What targets record of a night's scores."""
    return Publication(
        str(manifest["run_id"]),
        str(manifest["name"]),
        instant(manifest["cutoff"]),
        rows,
        str(manifest["scores_hash"]),
    )


def check_usable(session: Session, run_id: str) -> None:
    """Ask every target what it shows, before any work is done: one that cannot tell is logged (``target_unusable``).

    It may be usable again when the night is scored, and keeps no other target from its scores. Raises ConfigError
    where a target can never be used as it is configured (variable unset, driver missing).
    """
    for target in session.settings.publish:
        try:
            _publisher(session, target).current()
        except ConfigError:
            raise
        except (ConvpredictError, OSError) as error:
            _tell(session, "target_unusable", run_id, error, warn=True)


def check_free(session: Session, manifest: Mapping[str, Any], rows: int) -> None:
    """Raise PublishError where a target has this run with other content: it would refuse the night for good.

    A target that cannot be asked now is asked again when it is published to.
    """
    publication = publication_of(manifest, rows)
    for publisher, kept in _asked(session, publication.run_id):
        if kept is not None and kept.name == publication.name:
            check_same(publication, kept, publisher.describe())


def holders(session: Session, run_id: str, scores_hash: str | None) -> list[str]:
    """The targets that have a run with this content, in words.

    Raises the error of a target that cannot be asked.
    """
    found = []
    for target in session.settings.publish:
        publisher = _publisher(session, target)
        kept = publisher.kept(run_id)
        if kept is not None and kept.content_hash == scores_hash:
            found.append(publisher.describe())
    return found


def known_repetitions(session: Session, cutoff: datetime) -> int:
    """The number of the last publication of a cutoff that manifests, ledger or targets know; 0: none.

    The folder of manifests may be older than the others: it was restored from a backup, or somebody removed a
    decided night. A decided run does not count, for it will be finished under its own id.
    """
    name, decided = session.project.config.name, session.folder.decided()
    known = {run.run_id for run in session.ledger.runs() if run.cutoff == cutoff}
    for target in session.settings.publish:
        try:
            publisher = _publisher(session, target)
            current = publisher.current()
            if current is not None and current.name == name:
                known.add(current.run_id)
            for number in count(1):
                run_id = run_id_of(name, cutoff, number)
                if publisher.kept(run_id) is None:
                    break
                known.add(run_id)
        except (ConvpredictError, OSError):
            session.check_interrupted()
    parsed = [parse_run_id(name, run_id) for run_id in known if run_id not in decided]
    numbers = [found[1] for found in parsed if found is not None and found[0] == cutoff]
    return max([session.folder.repetitions(cutoff), *numbers])


def to_targets(
    session: Session, scores: pa.Table, manifest: Mapping[str, Any], *, older_ok: bool
) -> list[dict[str, Any]]:
    """Publish everywhere; a target that fails, however it does, keeps no other one from its scores.

    Gives what the manifest keeps of each. Raises PublishError where one failed.
    """
    publication = publication_of(manifest, scores.num_rows)
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    for target in session.settings.publish:
        try:
            published = _publisher(session, target).publish(scores, publication, older_ok=older_ok)
        except (ConvpredictError, OSError) as error:
            _tell(session, "target_failed", publication.run_id, error)
            failed.append(str(error))
            continue
        done.append(_noted(session, publication.run_id, published))
    if failed:
        reached = (
            f"{len(done)} of {len(session.settings.publish)} targets have the new scores, of the others "
        )
        raise PublishError(
            f"{reached if done else ''}readers see the former ones: {'; '.join(failed)} Once that is mended, any "
            f"further run of 'convpredict nightly' finishes {publication.run_id} first"
        )
    return done


def lacking(session: Session, run_ids: Iterable[str]) -> list[Publisher]:
    """The targets without the latest published night, if that is one of ``run_ids``: added since, or emptied.

    A target that was published to and cannot be asked now is taken to have it, with a warning in the log. Raises
    ConfigError as :func:`check_usable`.
    """
    latest = next(session.folder.published(), None)
    if latest is None or latest["run_id"] not in set(run_ids):
        return []
    expected = publication_of(latest, latest["leads"])
    recorded = {target["target"] for target in latest["targets"]}
    found = []
    for target in session.settings.publish:
        publisher = _publisher(session, target)
        try:
            current = publisher.current()
        except ConfigError:
            raise
        except (ConvpredictError, OSError) as error:
            _tell(session, "target_unusable", expected.run_id, error, warn=True)
            if publisher.describe() not in recorded:
                found.append(publisher)
            continue
        if current is None or current.name != expected.name or current.order < expected.order:
            found.append(publisher)
    return found


def make_up(session: Session, publishers: Sequence[Publisher]) -> tuple[list[str], PublishError | None]:
    """Publish the latest night to the targets that lack it, from the copy that a Parquet target keeps of each run.

    Gives the targets that have it now, and the error for those that still do not.
    """
    latest = next(session.folder.published())
    run_id, places = str(latest["run_id"]), ", ".join(publisher.describe() for publisher in publishers)
    copy = _copy_of(session, latest)
    if copy is None:
        return [], PublishError(
            f"{run_id} is published, but not to {places}, and no Parquet target keeps its scores, from which they "
            "could be published there; readers of the other targets see them. Publish the night again with --again "
            "REASON, or wait for the next one"
        )
    scores, publication = copy
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    for publisher in publishers:
        try:
            done.append(_noted(session, run_id, publisher.publish(scores, publication)))
        except (ConvpredictError, OSError) as error:
            _tell(session, "target_failed", run_id, error)
            failed.append(str(error))
    if done:
        reached = [target["target"] for target in done]
        others = [target for target in latest["targets"] if target["target"] not in reached]
        session.folder.note({**latest, "targets": [*others, *done]})
    problem = (
        f"{run_id} is published, but not to every target: {'; '.join(failed)} Run again once that is mended"
    )
    return [target["target"] for target in done], PublishError(problem) if failed else None


def as_published(rows: pa.Table) -> pa.Table:
    """The table with the types it had before it went through a Parquet file, which renames the items of lists: what
    is published from it is then the same to the byte."""
    schema = pa.schema(
        field.with_type(pa.list_(field.type.value_type)) if pa.types.is_list(field.type) else field
        for field in rows.schema
    )
    return rows.cast(schema).combine_chunks()


def _copy_of(session: Session, manifest: Mapping[str, Any]) -> tuple[pa.Table, Publication] | None:
    """The scores of a published night as a Parquet target keeps them, without the leads that were erased since."""
    from ..publish.parquet import ParquetPublisher

    for target in session.settings.publish:
        publisher = _publisher(session, target)
        if not isinstance(publisher, ParquetPublisher):
            continue
        try:
            found = publisher.copy_of(str(manifest["run_id"]))
        except PublishError:
            session.check_interrupted()
            continue
        if found is None or found[1].content_hash != manifest["scores_hash"]:
            continue
        scores = as_published(found[0])
        if found[1].erased or content_hash(scores) == manifest["scores_hash"]:
            return scores, found[1]
    return None


def _asked(session: Session, run_id: str) -> Iterable[tuple[Publisher, Publication | None]]:
    """What each target that can be asked keeps of a run."""
    for target in session.settings.publish:
        try:
            publisher = _publisher(session, target)
            kept = publisher.kept(run_id)
        except (ConvpredictError, OSError):
            session.check_interrupted()
            continue
        yield publisher, kept


def _publisher(session: Session, target: Target) -> Publisher:
    return make_publisher(target, session.base_folder)


def _noted(session: Session, run_id: str, done: Published) -> dict[str, Any]:
    session.event("target", run_id, rows=done.rows, changed=done.changed, message=done.target)
    return {**asdict(done), "published_at": session.now()}


def _tell(session: Session, event: str, run_id: str, error: Exception, *, warn: bool = False) -> None:
    session.check_interrupted()
    session.event(event, run_id, level="warning" if warn else "error", message=str(error))
