"""Sum, mean, largest and last value of a numeric attribute in windows that hold few interactions.

Such windows are simply read through, from the oldest interaction to the newest. Windows that hold more
than ``FEW`` interactions, which only leads with more than ``FEW`` can have, are left to the incremental
kernels in ``sums`` and ``extremes``. Which of the two computes a cell follows from the number of visible
interactions in its window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .timeline import most, window_sizes

FEW = 256
SUM, MEAN, MAX, LAST = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def _select(
    timeline: Any, groups: Any, values: Any, lead: int, chosen: Any, reach: Any
) -> int:  # pragma: no cover - compiled
    """Positions of a lead's events that have a group, a value and an observation to see them; and how many.

    ``reach[k]`` is the number of those up to the newest that is visible at the lead's k-th observation.
    """
    first, last = timeline.starts[lead], timeline.starts[lead + 1]
    reach[: last - first] = 0
    n = 0
    for i in range(timeline.begins[lead], timeline.ends[lead]):
        if groups[i] >= 0 and timeline.enter[i] < last and not np.isnan(values[i]):
            chosen[n] = i
            n += 1
            reach[timeline.enter[i] - first] = n
    for k in range(1, last - first):
        if reach[k] < reach[k - 1]:
            reach[k] = reach[k - 1]
    return n


@njit(cache=True, nogil=True)
def aggregate(
    timeline: Any, groups: Any, n_groups: int, values: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Aggregates per group and window: row ``target[function, group, window]``; NaN in ``values`` is missing.

    Sum 0 and the others NaN without any value.
    """
    total = np.empty(n_groups, np.float64)
    largest = np.empty(n_groups, np.float64)
    newest = np.empty(n_groups, np.float64)
    size = np.empty(n_groups, np.int64)
    chosen = np.empty(most(timeline.begins, timeline.ends), np.int64)
    reach = np.empty(most(timeline.starts, timeline.starts[1:]), np.int64)
    in_window = np.empty(len(reach), np.int64)
    extremes = np.any(target[MAX:] >= 0)
    for lead in range(len(timeline.begins)):
        many = timeline.ends[lead] - timeline.begins[lead] > FEW
        first = timeline.starts[lead]
        n = _select(timeline, groups, values, lead, chosen, reach)
        for w in range(len(windows)):
            if many:
                window_sizes(timeline, lead, windows[w], in_window)
            left = 0
            for o in range(first, timeline.starts[lead + 1]):
                while left < n and timeline.leave[chosen[left], windows[w]] <= o:
                    left += 1
                if many and in_window[o - first] > FEW:
                    continue
                total[:] = 0.0
                size[:] = 0
                for k in range(left, reach[o - first]):
                    i = chosen[k]
                    if timeline.enter[i] <= o:
                        group = groups[i]
                        total[group] += values[i]
                        size[group] += 1
                        if extremes:
                            if size[group] == 1 or values[i] > largest[group]:
                                largest[group] = values[i]
                            newest[group] = values[i]
                for group in range(n_groups):
                    if target[SUM, group, w] >= 0:
                        out[target[SUM, group, w], o] = total[group]
                    if target[MEAN, group, w] >= 0:
                        out[target[MEAN, group, w], o] = total[group] / size[group] if size[group] else np.nan
                if extremes:
                    for group in range(n_groups):
                        if target[MAX, group, w] >= 0:
                            out[target[MAX, group, w], o] = largest[group] if size[group] else np.nan
                        if target[LAST, group, w] >= 0:
                            out[target[LAST, group, w], o] = newest[group] if size[group] else np.nan
