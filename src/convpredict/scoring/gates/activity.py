"""Interactions counted by kind and hour, as they were visible at a cutoff."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from ...history.history import History
from ...training.lead_times import to_microseconds

_HOUR = 3_600_000_000
NO_KIND = ""
"""The kind of interactions that have none."""


@dataclass(frozen=True)
class Activity:
    """``by_hour`` (kinds, 24 x days) counts by occurred_at; the last hour ends at the cutoff.

    ``newest`` is when the newest interaction of each kind occurred (µs), within these days.
    """

    cutoff: datetime
    days: int
    kinds: tuple[str, ...]
    by_hour: NDArray[np.int64] = field(repr=False)
    newest: NDArray[np.int64] = field(repr=False)

    @property
    def by_day(self) -> NDArray[np.int64]:
        """Counts (kinds, days): days of 24 hours, the last of which ends at the cutoff."""
        by_day: NDArray[np.int64] = self.by_hour.reshape(len(self.kinds), self.days, 24).sum(axis=2)
        return by_day

    @property
    def newest_of_all(self) -> int | None:
        """When the newest interaction occurred (µs); None: none in these days."""
        return int(self.newest.max()) if len(self.newest) else None

    def day_start(self, day: int) -> datetime:
        """The instant at which a day (a position in ``by_day``) begins."""
        return self.cutoff - timedelta(days=self.days - day)


def read_activity(history: History, cutoff: datetime, days: int) -> Activity:
    """Count the interactions of the last ``days`` days before a cutoff that were visible at it, in one query."""
    now = to_microseconds(cutoff)
    hours = 24 * days
    rows = history.query(
        f"SELECT coalesce(kind, '{NO_KIND}') AS kind, ({now} - 1 - occurred_at) // {_HOUR} AS hours_ago, "
        "count(*) AS n, max(occurred_at) AS newest FROM interactions "
        f"WHERE visible_at < {now} AND occurred_at < {now} AND occurred_at >= {now - hours * _HOUR} "
        "GROUP BY 1, 2"
    )
    found, position = np.unique(
        np.array(rows["kind"].to_pylist(), dtype=object).astype(str), return_inverse=True
    )
    by_hour = np.zeros((len(found), hours), np.int64)
    newest = np.full(len(found), np.iinfo(np.int64).min)
    if rows.num_rows:
        by_hour[position, hours - 1 - rows["hours_ago"].to_numpy().astype(np.int64)] = rows["n"].to_numpy()
        np.maximum.at(newest, position, rows["newest"].to_numpy().astype(np.int64))
    return Activity(cutoff, days, tuple(str(kind) for kind in found), by_hour, newest)


def newest_interaction(history: History, cutoff: datetime) -> int | None:
    """When the newest interaction that was visible at a cutoff occurred (µs); None: there is none."""
    found = history.query(
        f"SELECT max(occurred_at) AS newest FROM interactions WHERE visible_at < {to_microseconds(cutoff)}"
    )
    value = found["newest"][0].as_py()
    return None if value is None else int(value)
