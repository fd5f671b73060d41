"""The reports of monitoring on disk: one JSON file for each night, none of which names a lead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import write_json

FOLDER = "monitoring"
RUNS = "runs"
FORMAT = 1


@dataclass(frozen=True)
class NightReport:
    """What monitoring found after one night.

    ``judged``: the past nights whose outcomes were settled since (counts by horizon). ``realised``: by horizon, all
    judged nights of the page's window together, with intervals. ``drift``: by column. ``changes``: the state of the
    test of each segment. ``alarms``: what stands tonight.
    """

    run_id: str
    cutoff: str
    as_of: str
    model: Mapping[str, Any]
    judged: Sequence[Mapping[str, Any]] = field(repr=False)
    realised: Mapping[str, Any] = field(repr=False)
    drift: Sequence[Mapping[str, Any]] = field(repr=False)
    changes: Sequence[Mapping[str, Any]] = field(repr=False)
    alarms: Sequence[Mapping[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"format": FORMAT, **{name: getattr(self, name) for name in self.__dataclass_fields__}}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> NightReport:
        """Restore what :meth:`to_dict` gave."""
        if stored.get("format") != FORMAT:
            raise ValueError(f"its format is {stored.get('format')}, this version reads {FORMAT}")
        return cls(**{name: stored[name] for name in cls.__dataclass_fields__})

    def write(self, folder: Path) -> Path:
        """Write it below the nightly folder, whole or not at all."""
        path = folder / FOLDER / f"{self.run_id}.json"
        write_json(self.to_dict(), path)
        return path


def read_reports(folder: Path, *, before: datetime | None = None) -> list[NightReport]:
    """The reports below a nightly folder by cutoff; ``before``: only those of earlier cutoffs.

    Raises DataError where a file cannot be read.
    """
    found = []
    for path in _report_files(folder):
        try:
            report = _read(path)
        except _UNREADABLE as error:
            raise DataError(
                f"'{path}' cannot be read as a report of monitoring ({error}), so the past that alarms rest on is not "
                "known; 'convpredict monitor CONFIG --rebuild' makes all reports anew from the ledger"
            ) from None
        if before is None or parse_instant(report.cutoff) < before:
            found.append(report)
    return sorted(found, key=lambda each: (parse_instant(each.cutoff), len(each.run_id), each.run_id))


def drop_unusable(folder: Path, run_ids: Sequence[str]) -> None:
    """Delete reports that cannot be read, and those of other nights than ``run_ids``: before all are made anew."""
    for path in _report_files(folder):
        try:
            usable = _read(path).run_id in run_ids
        except _UNREADABLE:
            usable = False
        if not usable:
            path.unlink()


_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)


def _report_files(folder: Path) -> list[Path]:
    return [path for path in sorted((folder / FOLDER).glob("*.json")) if path.name != STATE]


def _read(path: Path) -> NightReport:
    report = NightReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
    parse_instant(report.cutoff)
    return report


STATE = "retrain.json"
"""What ``convpredict retrain-if`` last did, beside the reports."""


def read_manifests(folder: Path) -> list[dict[str, Any]]:
    """The manifests of all finished nights by cutoff, as they are on disk, stopped ones too."""
    found = []
    for path in sorted((folder / RUNS).glob("*.json")):
        if ".stopped-" in path.name:
            continue
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(f"'{path}' cannot be read ({error}); restore it, or move it away") from None
    return sorted(
        found, key=lambda each: (parse_instant(each["cutoff"]), len(each["run_id"]), each["run_id"])
    )


def judged_before(reports: Iterable[NightReport]) -> dict[tuple[str, str], dict[str, Any]]:
    """All judged nights of some reports (in order) by cutoff and horizon, each once.

    What two reports judged counts as the first says; of the reports of one cutoff, that is of a night that was
    published again, as the last says: the data of the first may have been wrong.
    """
    kept: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for report in reports:
        for entry in report.judged:
            key = entry["cutoff"], entry["horizon"]
            if key not in kept or kept[key][0] == report.cutoff:
                kept[key] = report.cutoff, dict(entry)
    return {key: entry for key, (_, entry) in kept.items()}


def parse_instant(text: Any) -> datetime:
    """The UTC instant of ISO 8601 text.

    >>> parse_instant("2025-06-01T00:00:00Z").isoformat()
    '2025-06-01T00:00:00+00:00'
    """
    instant = text if isinstance(text, datetime) else datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
