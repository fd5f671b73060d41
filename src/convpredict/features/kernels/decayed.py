"""Counts with exponential decay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def decayed(
    timeline: Any, groups: Any, n_groups: int, half_lives: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Sum over V(c) of 2 ** (-(c - occurred_at) / h) per group and half-life: row ``target[group, half_life]``.

    The sum is carried from event to event in the order in which they became visible, anchored at the latest
    occurred_at met so far and never at a cutoff, so that a cell does not depend on the other cutoffs.
    """
    total = np.empty(n_groups, np.float64)
    anchor = np.empty(n_groups, np.int64)
    for h in range(len(half_lives)):
        rate = 1.0 / half_lives[h]
        for lead in range(len(timeline.begins)):
            total[:] = 0.0
            anchor[:] = 0
            entered = timeline.begins[lead]
            for o in range(timeline.starts[lead], timeline.starts[lead + 1]):
                while entered < timeline.ends[lead]:
                    i = timeline.order[entered] if timeline.late else entered
                    if timeline.enter[i] > o:
                        break
                    entered += 1
                    group = groups[i]
                    if group < 0:
                        continue
                    at = timeline.occurred_at[i]
                    if total[group] == 0.0:
                        total[group], anchor[group] = 1.0, at
                    elif at >= anchor[group]:
                        total[group] = total[group] * np.exp2((anchor[group] - at) * rate) + 1.0
                        anchor[group] = at
                    else:
                        total[group] += np.exp2((at - anchor[group]) * rate)
                for group in range(n_groups):
                    if target[group, h] >= 0:
                        value = total[group]
                        if value > 0.0:
                            value *= np.exp2((anchor[group] - timeline.at[o]) * rate)
                        out[target[group, h], o] = value
