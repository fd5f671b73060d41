"""What old nights leave on the disk, removed after ``nightly.keep``: the rows of their lists, and rows put aside.

The ledger, the manifests and the reports of monitoring stay: every score can still be reproduced and explained.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path

from ...config.nightly import ParquetTarget
from ...errors import ConvpredictError
from ..publish.parquet import ParquetPublisher
from ..run_log import Level
from .plan import parse_run_id
from .session import Session
from .state import COMMIT, read_json

SHOWN_LAST = 2
"""How many cutoffs of those that readers saw as the latest stay whatever their age, with all their repetitions: the
present night and the former one."""


def remove_old(session: Session, run_id: str) -> int:
    """Remove the runs of Parquet targets, and quarantined rows, of nights older than ``nightly.keep``; how many.

    A night's age is counted from the latest published cutoff, not from today: where no night is published any more,
    nothing goes. Never removed: the present night and the former one, unfinished nights, runs that the ledger does not
    hold, and rows put aside that a staying night's manifest refers to (the nights of a call share them). A run that is
    removed half when the process dies is no run any more, and goes the next time. What cannot be removed is told as a
    warning, and tried again the next night.
    """
    keep, latest = session.settings.keep, session.folder.latest()
    if keep is None or latest is None:
        return 0
    shown, unfinished = _shown_last(session), session.folder.unfinished()

    def is_old(other: str) -> bool:
        cutoff = _cutoff_of(session, other)
        if cutoff is None or cutoff in shown or other in unfinished:
            return False
        return _age_us(cutoff, latest) > keep.microseconds

    held = {run.run_id for run in session.ledger.runs()}
    removed = 0
    for target in session.settings.publish:
        if not isinstance(target, ParquetTarget):
            continue
        publisher = ParquetPublisher.of(target, session.base_folder)
        try:
            gone = publisher.remove(
                [other for other in publisher.runs() if other in held and is_old(other)], session.folder.name
            )
        except (ConvpredictError, OSError) as error:
            session.check_interrupted()
            session.event("remove_failed", run_id, level="warning", message=str(error))
            continue
        removed += gone
        session.event("removed_runs", run_id, runs=gone, message=publisher.describe())
    needed = _referred_to(session, [other for other in session.folder.run_ids() if not is_old(other)])
    folders = [path for path in _quarantines(session) if is_old(path.name) and path.name not in needed]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    stayed = sum(folder.exists() for folder in folders)
    if folders:
        level: Level = "warning" if stayed else "info"
        session.event("removed_quarantine", run_id, level=level, runs=len(folders) - stayed, stayed=stayed)
    return removed + len(folders) - stayed


def _shown_last(session: Session) -> set[datetime]:
    """The cutoffs of the nights that readers saw last."""
    shown = (each for each in session.folder.published() if each.get("current", True))
    cutoffs = (_cutoff_of(session, str(each["run_id"])) for each in shown)
    return {cutoff for cutoff, _ in islice(groupby(cutoffs), SHOWN_LAST) if cutoff is not None}


def _referred_to(session: Session, run_ids: Iterable[str]) -> set[str]:
    """The quarantine folders that the manifests of some nights, and of decided ones, refer to."""
    folder = session.folder
    manifests = [folder.manifest(run_id) or {} for run_id in run_ids]
    manifests += [read_json(folder.work(run_id) / COMMIT) for run_id in folder.decided()]
    return {str((each.get("data") or {}).get("quarantine_folder")) for each in manifests}


def _cutoff_of(session: Session, run_id: str) -> datetime | None:
    parsed = parse_run_id(session.folder.name, run_id)
    return parsed[0] if parsed is not None else None


def _quarantines(session: Session) -> Iterator[Path]:
    folder = session.folder.root / "quarantine"
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir())


def _age_us(cutoff: datetime, latest: datetime) -> float:
    return (latest - cutoff).total_seconds() * 1e6
