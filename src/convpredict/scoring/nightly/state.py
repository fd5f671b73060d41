"""The folder of a nightly project: where things lie, and what its manifests tell of the past."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import write_json
from .plan import parse_run_id

COMMIT = "commit.json"
PLAN = "plan.json"
SCORES = "scores.parquet"
CROSS_LEAD = "cross_lead.json"


@dataclass(frozen=True)
class NightFolder:
    """The state of one project's nights below ``root``; ``name`` is the project's.

    ``runs/`` holds a manifest for each finished night, ``work/`` what unfinished ones have done so far. A night whose
    work holds ``commit.json`` is decided: it will be published, by whichever run comes next.
    """

    root: Path
    name: str

    def work(self, run_id: str) -> Path:
        """The folder of an unfinished night."""
        return self.root / "work" / run_id

    def manifest_path(self, run_id: str) -> Path:
        """The file of a night's manifest."""
        return self.root / "runs" / f"{run_id}.json"

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """The manifest of a night; None: it has none yet."""
        path = self.manifest_path(run_id)
        return read_json(path) if path.is_file() else None

    def run_ids(self) -> list[str]:
        """The ids of the nights that have a manifest, by cutoff and repetition."""
        return self._in_order(path.stem for path in (self.root / "runs").glob("*.json"))

    def published(self, *, before: datetime | None = None) -> Iterator[dict[str, Any]]:
        """The manifests of published nights, the latest cutoff first; ``before``: only earlier cutoffs."""
        for run_id in reversed(self.run_ids()):
            cutoff, _ = parse_run_id(self.name, run_id) or (None, 0)
            if before is not None and cutoff is not None and cutoff >= before:
                continue
            manifest = self.manifest(run_id)
            if manifest is not None and manifest.get("status") == "published":
                yield manifest

    def latest(self) -> datetime | None:
        """The latest cutoff that is published or decided."""
        cutoffs = [parsed[0] for run_id in self.decided() if (parsed := parse_run_id(self.name, run_id))]
        last = next(self.published(), None)
        if last is not None:
            cutoffs.append(instant(last["cutoff"]))
        return max(cutoffs, default=None)

    def is_latest(self, cutoff: datetime) -> bool:
        """Whether no later night is published or decided."""
        latest = self.latest()
        return latest is None or cutoff >= latest

    def is_newest(self, cutoff: datetime) -> bool:
        """Whether there is no manifest of a later night, however that ended, and none is decided."""
        parsed = (parse_run_id(self.name, run_id) for run_id in [*self.run_ids(), *self.decided()])
        return all(found[0] <= cutoff for found in parsed if found is not None)

    def is_published(self, run_id: str) -> bool:
        """Whether a night's scores are published, everywhere."""
        return (self.manifest(run_id) or {}).get("status") == "published"

    def repetitions(self, cutoff: datetime) -> int:
        """How often a cutoff has been published: the number of its last publication."""
        parsed = [(run_id, parse_run_id(self.name, run_id)) for run_id in self.run_ids()]
        found = [(run_id, told[1]) for run_id, told in parsed if told is not None and told[0] == cutoff]
        return max((number for run_id, number in found if self.is_published(run_id)), default=0)

    def unfinished(self) -> list[str]:
        """The ids of nights with work that was not finished, by cutoff."""
        work = self.root / "work"
        return self._in_order(path.name for path in work.iterdir()) if work.is_dir() else []

    def decided(self) -> list[str]:
        """The ids of unfinished nights that are decided to be published, by cutoff."""
        return [run_id for run_id in self.unfinished() if (self.work(run_id) / COMMIT).is_file()]

    def keep_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write a night's manifest; one of an earlier stop or failure moves to ``<run_id>.stopped-<k>.json``."""
        run_id = str(manifest["run_id"])
        former = self.manifest(run_id)
        if former is not None and former != as_stored(manifest):
            number = 1
            while (kept := self.root / "runs" / f"{run_id}.stopped-{number}.json").is_file():
                if read_json(kept) == former:
                    break
                number += 1
            else:
                write_json(former, kept)
        write_json(manifest, self.manifest_path(run_id))

    def note(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest of a published night again, with something to add."""
        write_json(manifest, self.manifest_path(str(manifest["run_id"])))

    def drop_work(self, run_id: str) -> None:
        """Remove a night's work: the decision first, so that no half of it is ever taken up again."""
        folder = self.work(run_id)
        (folder / COMMIT).unlink(missing_ok=True)
        (folder / PLAN).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> int:
        """Remove the files that a killed run was in the middle of writing; the number of them.

        Only for who holds the lock. Files of processes that live stay: a page of monitoring may be drawn meanwhile.
        The ledger and the targets of publishing tidy up themselves.
        """
        found = [*self.root.glob(".*.partial"), *(self.root / "runs").glob(".*.partial")]
        for name in ("work", "quarantine", "monitoring"):
            found += (self.root / name).rglob(".*.partial")
        return sum(_remove(path) for path in found if not _is_being_written(path))

    def _in_order(self, names: Iterable[str]) -> list[str]:
        found = [(parsed, name) for name in names if (parsed := parse_run_id(self.name, name)) is not None]
        return [name for _, name in sorted(found)]


def as_stored(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest as JSON gives it back."""
    content: dict[str, Any] = json.loads(json.dumps(manifest, default=str))
    return content


def instant(text: str) -> datetime:
    """The instant of a manifest's text."""
    return datetime.fromisoformat(text)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the nightly folder; raises DataError where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"'{path}' cannot be read ({error}): it was written whole, so something changed it since, and what "
            "happened on that night is not known; restore it from a backup, or move it away"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"'{path}' holds no JSON object; restore it from a backup, or move it away")
    return content


def _is_being_written(partial: Path) -> bool:
    """Whether the process lives whose id stands in the name of a partial file (see ``convpredict.files``)."""
    writer = partial.suffixes[-2].removeprefix(".") if len(partial.suffixes) > 1 else ""
    if not writer.isdigit():
        return False
    try:
        os.kill(int(writer), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> bool:
    try:
        shutil.rmtree(path) if path.is_dir() else os.unlink(path)
    except OSError:
        return False
    return True
