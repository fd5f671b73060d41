"""Shares of a lead's interactions by part of the day and by weekday (UTC)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR


@njit(cache=True, nogil=True)
def shares(timeline: Any, by_weekday: bool, target: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Share of V(c) in each quarter of the day or on each weekday (Monday first), NaN without any."""
    sizes = np.zeros(7, np.int64)
    for lead in range(len(timeline.begins)):
        sizes[:] = 0
        entered = timeline.begins[lead]
        for o in range(timeline.starts[lead], timeline.starts[lead + 1]):
            while entered < timeline.ends[lead]:
                i = timeline.order[entered] if timeline.late else entered
                if timeline.enter[i] > o:
                    break
                entered += 1
                if by_weekday:
                    # 1970-01-01 was a Thursday, weekday 3
                    sizes[(timeline.occurred_at[i] // MICROSECONDS_PER_DAY + 3) % 7] += 1
                else:
                    sizes[timeline.occurred_at[i] % MICROSECONDS_PER_DAY // (6 * MICROSECONDS_PER_HOUR)] += 1
            n = entered - timeline.begins[lead]
            for k in range(len(target)):
                if target[k] >= 0:
                    out[target[k], o] = sizes[k] / n if n else np.nan
