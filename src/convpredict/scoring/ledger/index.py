"""The index of a ledger: which files hold which runs. A file that it does not name does not count."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import release, sync, write_json
from ..nightly.facts import ModelIdentity

FORMAT = 1
INDEX, LOCK = "index.json", ".lock"
FOLDERS = ("runs", "months")


@dataclass(frozen=True)
class LedgerRun:
    """What the ledger knows of one run. ``number`` counts the runs in the order in which they were appended.

    ``rows`` are those that are left, ``erased`` those that were erased since. ``content_hash`` stands for the rows
    as they were appended. ``model_knew_later``: the model had learnt from outcomes after the cutoff (a back-fill).
    """

    run_id: str
    number: int
    cutoff: datetime
    model: ModelIdentity
    model_knew_later: bool
    fingerprint: str
    probability_columns: tuple[str, ...]
    rows: int
    content_hash: str
    erased: int = 0

    @property
    def month(self) -> str:
        """The month of the cutoff, like ``2025-06``."""
        return f"{self.cutoff:%Y-%m}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        stored = asdict(self)
        stored["cutoff"] = _iso(self.cutoff)
        stored["model"] |= {name: _iso(stored["model"][name]) for name in ("trained_until", "registered_at")}
        return stored | {"probability_columns": list(self.probability_columns)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> LedgerRun:
        """Restore what :meth:`to_dict` gave."""
        model = dict(stored["model"])
        for name in ("trained_until", "registered_at"):
            model[name] = None if model[name] is None else datetime.fromisoformat(model[name])
        return cls(
            **{
                **stored,
                "cutoff": datetime.fromisoformat(stored["cutoff"]),
                "model": ModelIdentity(**model),
                "probability_columns": tuple(stored["probability_columns"]),
            }
        )


@dataclass(frozen=True)
class LedgerFile:
    """A Parquet file of a ledger, by its path below the ledger's folder, and the runs that it holds."""

    path: str
    runs: tuple[str, ...]

    @property
    def is_merged(self) -> bool:
        """Whether it holds a month, not a single run."""
        return self.path.startswith("months/")


@dataclass(frozen=True)
class Index:
    """All runs by their id, in the order in which they were appended, and the files that hold them.

    ``next_file`` numbers the next file: no name is ever used for two contents that a reader could see.
    """

    runs: Mapping[str, LedgerRun] = field(default_factory=dict)
    files: tuple[LedgerFile, ...] = ()
    next_file: int = 1

    def with_files(self, gone: Sequence[LedgerFile], new: Sequence[LedgerFile]) -> Index:
        """The index with some files in place of others."""
        kept = tuple(file for file in self.files if file not in gone)
        return replace(self, files=(*kept, *new), next_file=self.next_file + len(new))

    def with_runs(self, runs: Sequence[LedgerRun]) -> Index:
        """The index with runs added, or told anew."""
        return replace(self, runs={**self.runs, **{run.run_id: run for run in runs}})


def read_index(folder: Path) -> Index:
    """The index of a ledger's folder; an empty one where there is no ledger yet.

    Raises DataError where it is damaged, or where files of scores lie there without it.
    """
    path = folder / INDEX
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if any(data_files(folder)):
            raise DataError(
                f"the ledger in '{folder}' has files of scores but no {INDEX}, so that nobody can tell which of them "
                "count; restore the folder from a backup, or move it aside to begin a new ledger"
            ) from None
        return Index()
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise _damaged(path, f"its format is not {FORMAT}, the one that this version reads")
    try:
        runs = [LedgerRun.from_dict(run) for run in stored["runs"]]
        files = tuple(LedgerFile(file["path"], tuple(file["runs"])) for file in stored["files"])
        next_file = int(stored["next_file"])
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    return Index({run.run_id: run for run in runs}, files, next_file)


def write_index(folder: Path, index: Index) -> None:
    """Replace the index in one step: a reader sees the former one or this one."""
    write_json(
        {
            "format": FORMAT,
            "next_file": index.next_file,
            "files": [{"path": file.path, "runs": list(file.runs)} for file in index.files],
            "runs": [run.to_dict() for run in index.runs.values()],
        },
        folder / INDEX,
    )


@contextmanager
def changing(folder: Path) -> Iterator[Index]:
    """Hold the ledger for a change: one writer at a time, and what a writer that died left behind is removed first."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        index = read_index(folder)
        if not (folder / INDEX).exists():
            write_index(folder, index)
        remove_strays(folder, index)
        yield index
    finally:
        release(descriptor)


def remove_strays(folder: Path, index: Index) -> None:
    """Delete files that the index does not name: replaced ones, and what was cut short."""
    named = {file.path for file in index.files}
    strays = [path for path in data_files(folder) if path.relative_to(folder).as_posix() not in named]
    strays += folder.glob(f".{INDEX}.*.partial")
    for path in strays:
        path.unlink(missing_ok=True)
    for changed in {path.parent for path in strays}:
        sync(changed)


def data_files(folder: Path) -> Iterator[Path]:
    """Every file below the folders of scores, hidden ones too."""
    for name in FOLDERS:
        yield from (path for path in sorted((folder / name).glob("*")) if path.is_file())


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"the ledger's index '{path}' cannot be read ({what}), so that nobody can tell which of its files count; "
        "restore it from a backup, or move the ledger's folder aside to begin a new one"
    )
