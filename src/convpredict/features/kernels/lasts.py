"""The last values of a category column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import is_visible


@njit(cache=True, nogil=True)
def last_codes(
    events: Any, cutoffs: Any, codes: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Code of the i-th most recent of V(c), -1 without one: column ``target[i - 1]`` of ``out`` (-1: not wanted)."""
    k = len(target)
    recent = np.empty(k, np.int64)
    for lead in range(len(cutoffs.starts) - 1):
        begin, n = events.starts[lead], events.stops[lead] - events.starts[lead]
        recent[:] = -1
        entered = 0
        for o in range(cutoffs.starts[lead], cutoffs.starts[lead + 1]):
            while entered < n:
                position = events.entry[begin + entered] if events.late else entered
                if not is_visible(events.visible_at[begin + position], cutoffs.at[o]):
                    break
                place = k
                while place > 0 and recent[place - 1] < position:
                    place -= 1
                for i in range(k - 1, place, -1):
                    recent[i] = recent[i - 1]
                if place < k:
                    recent[place] = position
                entered += 1
            for i in range(k):
                if target[i] >= 0:
                    out[target[i], o] = codes[begin + recent[i]] if recent[i] >= 0 else -1
