"""The last values of a category column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def last_codes(timeline: Any, codes: Any, target: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Code of the i-th most recent of V(c), -1 without one: row ``target[i - 1]`` of ``out``."""
    depth = len(target)
    recent = np.empty(depth, np.int64)
    for lead in range(len(timeline.begins)):
        recent[:] = -1
        entered = timeline.begins[lead]
        for o in range(timeline.starts[lead], timeline.starts[lead + 1]):
            while entered < timeline.ends[lead]:
                i = timeline.order[entered] if timeline.late else entered
                if timeline.enter[i] > o:
                    break
                entered += 1
                place = depth
                while place > 0 and recent[place - 1] < i:
                    place -= 1
                for k in range(depth - 1, place, -1):
                    recent[k] = recent[k - 1]
                if place < depth:
                    recent[place] = i
            for k in range(depth):
                if target[k] >= 0:
                    out[target[k], o] = codes[recent[k]] if recent[k] >= 0 else -1
