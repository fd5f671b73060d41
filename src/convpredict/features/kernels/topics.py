"""The most frequent value of a category column per window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def topic(
    timeline: Any, codes: Any, local: Any, n_local: int, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Most frequent code in W(c, w), ties to the most recent, -1 without any: row ``target[window]`` of ``out``."""
    sizes = np.zeros(n_local, np.int64)
    latest = np.zeros(n_local, np.int64)
    for w in range(len(windows)):
        for lead in range(len(timeline.begins)):
            entered, left, end = timeline.begins[lead], timeline.begins[lead], timeline.ends[lead]
            sizes[: min(n_local, end - entered)] = 0
            latest[: min(n_local, end - entered)] = -1
            met = 0
            for o in range(timeline.starts[lead], timeline.starts[lead + 1]):
                while left < end and timeline.leave[left, windows[w]] <= o:
                    if local[left] >= 0 and timeline.enter[left] < timeline.leave[left, windows[w]]:
                        sizes[local[left]] -= 1
                    left += 1
                while entered < end:
                    i = timeline.order[entered] if timeline.late else entered
                    if timeline.enter[i] > o:
                        break
                    entered += 1
                    value = local[i]
                    if value >= 0 and timeline.leave[i, windows[w]] > timeline.enter[i]:
                        sizes[value] += 1
                        latest[value] = max(latest[value], i)
                        met = max(met, value + 1)
                best = -1
                for value in range(met):
                    if sizes[value] > 0 and (
                        best < 0
                        or sizes[value] > sizes[best]
                        or (sizes[value] == sizes[best] and latest[value] > latest[best])
                    ):
                        best = value
                out[target[w], o] = codes[latest[best]] if best >= 0 else -1
