"""Shares of a lead's interactions by part of the day and by weekday (UTC)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, is_visible


@njit(cache=True, nogil=True)
def shares(
    events: Any, cutoffs: Any, by_weekday: bool, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Share of V(c) in each quarter of the day or on each weekday (Monday first), NaN without any."""
    sizes = np.zeros(7, np.int64)
    for lead in range(len(cutoffs.starts) - 1):
        begin, n = events.starts[lead], events.stops[lead] - events.starts[lead]
        sizes[:] = 0
        entered = 0
        for o in range(cutoffs.starts[lead], cutoffs.starts[lead + 1]):
            while entered < n:
                position = begin + (events.entry[begin + entered] if events.late else entered)
                if not is_visible(events.visible_at[position], cutoffs.at[o]):
                    break
                occurred_at = events.occurred_at[position]
                if by_weekday:
                    # 1970-01-01 was a Thursday, weekday 3
                    sizes[(occurred_at // MICROSECONDS_PER_DAY + 3) % 7] += 1
                else:
                    sizes[occurred_at % MICROSECONDS_PER_DAY // (6 * MICROSECONDS_PER_HOUR)] += 1
                entered += 1
            for i in range(len(target)):
                if target[i] >= 0:
                    out[target[i], o] = sizes[i] / entered if entered else np.nan
