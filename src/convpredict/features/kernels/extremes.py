"""The largest and the last value of a numeric attribute per window, for leads with many interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .aggregates import FEW, LAST, MAX
from .timeline import most


@njit(cache=True, nogil=True)
def maximum(
    timeline: Any, groups: Any, n_groups: int, values: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Largest value per group and window, NaN without any: row ``target[MAX, group, window]`` of ``out``.

    A binary tree over the lead's n observations (the root is node 1, observation k is node n + k): a
    value that counts at a range of observations is noted at the few nodes that make up the range, and
    handed down in the end.
    """
    tree = np.empty(2 * n_groups * most(timeline.starts, timeline.starts[1:]), np.float64)
    for w in range(len(windows)):
        for lead in range(len(timeline.begins)):
            first, last = timeline.starts[lead], timeline.starts[lead + 1]
            n = last - first
            if timeline.ends[lead] - timeline.begins[lead] <= FEW:
                continue
            tree[: 2 * n_groups * n] = -np.inf
            for i in range(timeline.begins[lead], timeline.ends[lead]):
                value = values[i]
                if groups[i] < 0 or np.isnan(value):
                    continue
                root = 2 * n * groups[i]
                low = n + timeline.enter[i] - first
                high = n + timeline.leave[i, windows[w]] - first
                while low < high:
                    if low % 2 == 1:
                        tree[root + low] = max(tree[root + low], value)
                        low += 1
                    if high % 2 == 1:
                        high -= 1
                        tree[root + high] = max(tree[root + high], value)
                    low //= 2
                    high //= 2
            for group in range(n_groups):
                row, root = target[MAX, group, w], 2 * n * group
                if row < 0:
                    continue
                for node in range(2, 2 * n):
                    tree[root + node] = max(tree[root + node], tree[root + node // 2])
                for o in range(first, last):
                    best = tree[root + n + o - first]
                    out[row, o] = best if best > -np.inf else np.nan


@njit(cache=True, nogil=True)
def last_value(
    timeline: Any, groups: Any, n_groups: int, values: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Last value in the window that is not NaN, NaN without any: row ``target[LAST, group, window]`` of ``out``."""
    met = np.empty(n_groups * most(timeline.starts, timeline.starts[1:]), np.int64)
    for lead in range(len(timeline.begins)):
        first, last = timeline.starts[lead], timeline.starts[lead + 1]
        width = last - first
        if timeline.ends[lead] - timeline.begins[lead] <= FEW:
            continue
        met[: n_groups * width] = -1
        for i in range(timeline.begins[lead], timeline.ends[lead]):
            if groups[i] >= 0 and timeline.enter[i] < last and not np.isnan(values[i]):
                met[groups[i] * width + timeline.enter[i] - first] = i
        for group in range(n_groups):
            latest = -1
            for o in range(first, last):
                latest = max(latest, met[group * width + o - first])
                for w in range(len(windows)):
                    if target[LAST, group, w] >= 0:
                        inside = latest >= 0 and timeline.leave[latest, windows[w]] > o
                        out[target[LAST, group, w], o] = values[latest] if inside else np.nan
