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

FEW = 64
SUM, MEAN, MAX, LAST = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def aggregate(
    timeline: Any, groups: Any, n_groups: int, values: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Aggregates per group and window: row ``target[function, group, window]``; NaN in ``values`` is missing.

    Sum 0 and the others NaN without any value.
    """
    total = np.empty(n_groups, np.float64)
    largest = np.empty(n_groups, np.float64)
    newest_value = np.empty(n_groups, np.float64)
    size = np.empty(n_groups, np.int64)
    wanted = np.zeros(4, np.bool_)
    for function in range(4):
        for group in range(n_groups):
            for w in range(len(windows)):
                if target[function, group, w] >= 0:
                    wanted[function] = True
    in_window = np.zeros(most(timeline.starts, timeline.starts[1:]), np.int64)
    for lead in range(len(timeline.begins)):
        begin, end = timeline.begins[lead], timeline.ends[lead]
        first = timeline.starts[lead]
        for w in range(len(windows)):
            if end - begin > FEW:
                window_sizes(timeline, lead, windows[w], in_window)
            left, entered, newest = begin, begin, begin - 1
            for o in range(first, timeline.starts[lead + 1]):
                while left < end and timeline.leave[left, windows[w]] <= o:
                    left += 1
                while entered < end:
                    i = timeline.order[entered] if timeline.late else entered
                    if timeline.enter[i] > o:
                        break
                    if i > newest:
                        newest = i
                    entered += 1
                if end - begin > FEW and in_window[o - first] > FEW:
                    continue
                total[:] = 0.0
                size[:] = 0
                for i in range(left, newest + 1):
                    group, value = groups[i], values[i]
                    if group < 0 or timeline.enter[i] > o or np.isnan(value):
                        continue
                    if wanted[MAX] and (size[group] == 0 or value > largest[group]):
                        largest[group] = value
                    newest_value[group] = value
                    total[group] += value
                    size[group] += 1
                for group in range(n_groups):
                    if wanted[SUM] and target[SUM, group, w] >= 0:
                        out[target[SUM, group, w], o] = total[group]
                    if wanted[MEAN] and target[MEAN, group, w] >= 0:
                        out[target[MEAN, group, w], o] = total[group] / size[group] if size[group] else np.nan
                    if wanted[MAX] and target[MAX, group, w] >= 0:
                        out[target[MAX, group, w], o] = largest[group] if size[group] else np.nan
                    if wanted[LAST] and target[LAST, group, w] >= 0:
                        out[target[LAST, group, w], o] = newest_value[group] if size[group] else np.nan
