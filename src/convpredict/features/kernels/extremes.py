"""The largest value of a numeric attribute per window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .timeline import most


@njit(cache=True, nogil=True)
def maximum(
    timeline: Any, groups: Any, n_groups: int, values: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Largest value per group and window, NaN without any: row ``target[group, window]`` of ``out``.

    A binary tree over the lead's n observations (the root is node 1, observation k is node n + k): a value that counts
    at a range of observations is noted at the few nodes that make up the range, and handed down in the end.
    """
    tree = np.empty(2 * n_groups * most(timeline.starts, timeline.starts[1:]), np.float64)
    for w in range(len(windows)):
        for lead in range(len(timeline.begins)):
            first, last = timeline.starts[lead], timeline.starts[lead + 1]
            n = last - first
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
                row, root = target[group, w], 2 * n * group
                if row < 0:
                    continue
                for node in range(2, 2 * n):
                    tree[root + node] = max(tree[root + node], tree[root + node // 2])
                for o in range(first, last):
                    best = tree[root + n + o - first]
                    out[row, o] = best if best > -np.inf else np.nan
