"""What old nights leave on the disk, removed after ``nightly.keep``: the rows of their lists, and rows put aside.

The ledger, the manifests and the reports of monitoring stay: every score can still be reproduced and explained.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

from ...config.nightly import ParquetTarget
from ...errors import ConvpredictError
from ..publish.parquet import ParquetPublisher
from ..run_log import Level
from .plan import parse_run_id
from .session import Session

SHOWN_LAST = 2
"""How many nights of those that readers saw as the latest stay whatever their age: the present one and the former."""


def remove_old(session: Session, run_id: str) -> int:
    """Remove the runs of Parquet targets, and quarantined rows, of nights older than ``nightly.keep``; how many.

    A night's age is counted from the latest published cutoff, not from today: where no night is published any more,
    nothing goes. Never removed: the present night and the former one, unfinished nights, and runs that the ledger
    does not hold. A run that is removed half when the process dies is no run any more, and goes the next time. What
    cannot be removed is told as a warning, and tried again the next night.
    """
    keep, latest = session.settings.keep, session.folder.latest()
    if keep is None or latest is None:
        return 0
    staying = _staying(session)

    def is_old(other: str) -> bool:
        parsed = parse_run_id(session.folder.name, other)
        return parsed is not None and other not in staying and _age_us(parsed[0], latest) > keep.microseconds

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
    folders = [folder for folder in _quarantines(session) if is_old(folder.name)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    stayed = sum(folder.exists() for folder in folders)
    if folders:
        level: Level = "warning" if stayed else "info"
        session.event("removed_quarantine", run_id, level=level, runs=len(folders) - stayed, stayed=stayed)
    return removed + len(folders) - stayed


def _staying(session: Session) -> set[str]:
    """The nights that readers saw last, and those that are not finished."""
    shown = (str(each["run_id"]) for each in session.folder.published() if each.get("current", True))
    return {*islice(shown, SHOWN_LAST), *session.folder.unfinished()}


def _quarantines(session: Session) -> Iterator[Path]:
    folder = session.folder.root / "quarantine"
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir())


def _age_us(cutoff: datetime, latest: datetime) -> float:
    return (latest - cutoff).total_seconds() * 1e6
