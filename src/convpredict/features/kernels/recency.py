"""Days since the last and since the first visible interaction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import MICROSECONDS_PER_DAY

from .timeline import most


@njit(cache=True, nogil=True)
def recency(
    timeline: Any, groups: Any, n_groups: int, of_first: bool, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Days from the last (or first) of V(c) to c per group, NaN without any: row ``target[group]`` of ``out``."""
    met = np.empty(n_groups * most(timeline.starts, timeline.starts[1:]), np.int64)
    for lead in range(len(timeline.begins)):
        first, last = timeline.starts[lead], timeline.starts[lead + 1]
        width = last - first
        met[: n_groups * width] = -1
        for i in range(timeline.begins[lead], timeline.ends[lead]):
            if groups[i] >= 0 and timeline.enter[i] < last:
                place = groups[i] * width + timeline.enter[i] - first
                if not of_first or met[place] < 0:
                    met[place] = i
        for group in range(n_groups):
            row = target[group]
            if row < 0:
                continue
            chosen = -1
            for o in range(first, last):
                position = met[group * width + o - first]
                if position >= 0 and (chosen < 0 or (position < chosen if of_first else position > chosen)):
                    chosen = position
                if chosen < 0:
                    out[row, o] = np.nan
                else:
                    out[row, o] = (timeline.at[o] - timeline.occurred_at[chosen]) / MICROSECONDS_PER_DAY
