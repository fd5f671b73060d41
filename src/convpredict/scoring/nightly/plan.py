"""Which nights there are, what they are called, and what decides their result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from importlib.metadata import version
from typing import Any

from ...config.base import Duration
from ...config.root import Config
from ...errors import ConfigError
from ..publish.protocol import LONGEST_RUN_ID, names_a_place

_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_STAMP = "%Y%m%dT%H%M%SZ"
_SECTIONS = ("name", "sources", "history", "observations", "labels", "reasons")
"""What of a configuration decides a night's scores and reasons; the model brings the rest along."""


def last_cutoff(now: datetime, at: str) -> datetime:
    """The last passed time of day ``at`` (UTC, ``HH:MM``).

    >>> last_cutoff(datetime(2025, 6, 2, 1, 30, tzinfo=UTC), "02:00").isoformat()
    '2025-06-01T02:00:00+00:00'
    """
    today = _at(now.astimezone(UTC).date(), at)
    return today if today <= now else today - timedelta(days=1)


def cutoffs_between(
    first: datetime, last: datetime, at: str, every: Duration | None = None
) -> list[datetime]:
    """The cutoffs of the nights from one day to another, both included, ascending; ``every``: whole days.

    >>> begin, end = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 6, 15, tzinfo=UTC)
    >>> [f"{night:%d %H:%M}" for night in cutoffs_between(begin, end, "02:00", Duration("7d"))]
    ['01 02:00', '08 02:00', '15 02:00']
    """
    if last < first:
        raise ConfigError(f"--from ({first:%Y-%m-%d}) lies after --to ({last:%Y-%m-%d}); exchange them")
    step = every.days if every is not None else 1.0
    if step < 1 or step != int(step):
        raise ConfigError(f"nights lie whole days apart; got --every {every}, name a span like 1d or 7d")
    day, end = first.astimezone(UTC).date(), last.astimezone(UTC).date()
    return [_at(day + timedelta(days=n), at) for n in range(0, (end - day).days + 1, int(step))]


def file_name(name: str) -> str:
    """A project's name as it stands in run ids, which are names of files and folders.

    >>> file_name("Demo, north/south")
    'Demo__north_south'
    """
    return re.sub(r"[^\w.\-]", "_", name, flags=re.ASCII).lstrip(".") or "night"


def run_id_of(name: str, cutoff: datetime, repetition: int = 1) -> str:
    """The id of a night: name, cutoff and, from the second publication of the same cutoff on, its number.

    >>> run_id_of("demo", datetime(2025, 6, 1, 2, tzinfo=UTC), 2)
    'demo-20250601T020000Z-2'
    """
    if cutoff.microsecond:
        raise ConfigError(f"a night's cutoff is a whole second; got {cutoff.isoformat()}")
    again = f"-{repetition}" if repetition > 1 else ""
    return f"{file_name(name)}-{cutoff.astimezone(UTC):{_STAMP}}{again}"


def check_name(name: str) -> None:
    """Raise ConfigError where the run ids of a project of this name could not name files and folders."""
    run_id = run_id_of(name, _LATEST)
    if not names_a_place(run_id):
        raise ConfigError(
            f"name: {name!r} gives run ids such as '{run_id}', which cannot name files and folders everywhere: they "
            f"may not begin with '-', nor have more than {LONGEST_RUN_ID} characters; choose another name"
        )


def parse_run_id(name: str, run_id: str) -> tuple[datetime, int] | None:
    """Cutoff and repetition of a run id of this project; None for anything else.

    >>> parse_run_id("demo", "demo-20250601T020000Z-2")
    (datetime.datetime(2025, 6, 1, 2, 0, tzinfo=datetime.timezone.utc), 2)
    """
    found = re.fullmatch(rf"{re.escape(file_name(name))}-(\d{{8}}T\d{{6}}Z)(?:-(\d+))?", run_id)
    if found is None:
        return None
    try:
        cutoff = datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return cutoff, int(found[2] or 1)


def settings_digest(config: Config) -> str:
    """SHA-256 over the sections of a configuration that decide a night's result."""
    chosen = config.model_dump(mode="json", include=set(_SECTIONS))
    return _digest(chosen)


@dataclass(frozen=True)
class Plan:
    """All that decides the result of a night: unfinished work of the same ``key`` is taken up again.

    ``settings`` is :func:`settings_digest`; ``data`` the history's fingerprint; ``forgotten`` a digest of the list
    of erased leads. Gates and targets are no part of it: they are looked at anew.
    """

    run_id: str
    cutoff: datetime
    bundle: str
    data: str
    settings: str
    forgotten: str
    version: str = field(default_factory=lambda: version("convpredict"))

    @cached_property
    def key(self) -> str:
        """SHA-256 over the whole plan."""
        return _digest(self._content())

    def to_dict(self) -> dict[str, Any]:
        """For ``plan.json``: the content and its key."""
        return {**self._content(), "key": self.key}

    def difference(self, stored: Mapping[str, Any]) -> list[str]:
        """The names of what differs from a stored plan; empty: the same."""
        if stored.get("key") == self.key:
            return []
        return [name for name, value in self._content().items() if stored.get(name) != value] or ["key"]

    def _content(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "cutoff": self.cutoff.isoformat(),
            "bundle": self.bundle,
            "data": self.data,
            "settings": self.settings,
            "forgotten": self.forgotten,
            "version": self.version,
        }


def _at(day: date, at: str) -> datetime:
    hour, minute = map(int, at.split(":"))
    return datetime.combine(day, time(hour, minute, tzinfo=UTC))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
