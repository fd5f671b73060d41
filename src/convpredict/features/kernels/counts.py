"""Counts per window, and trends, which compare the counts of two windows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .timeline import most


@njit(cache=True, nogil=True)
def _tally(
    timeline: Any, groups: Any, lead: int, windows: Any, changes: Any
) -> None:  # pragma: no cover - compiled
    """Changes of the counts of a lead from observation to observation, by [group * n_windows + window]."""
    first = timeline.starts[lead]
    last = timeline.starts[lead + 1]
    width = last - first + 1
    n_windows = len(windows)
    for i in range(timeline.begins[lead], timeline.ends[lead]):
        enter = timeline.enter[i]
        if groups[i] < 0 or enter == last:
            continue
        for w in range(n_windows):
            leave = timeline.leave[i, windows[w]]
            if enter < leave:
                place = (groups[i] * n_windows + w) * width - first
                changes[place + enter] += 1
                changes[place + leave] -= 1


@njit(cache=True, nogil=True)
def count(
    timeline: Any, groups: Any, n_groups: int, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Number of interactions per group and window: row ``target[group, window]`` of ``out``."""
    cells = n_groups * len(windows)
    rows = target.reshape(cells)
    changes = np.empty(cells * (most(timeline.starts, timeline.starts[1:]) + 1), np.int32)
    for lead in range(len(timeline.begins)):
        first, last = timeline.starts[lead], timeline.starts[lead + 1]
        width = last - first + 1
        changes[: cells * width] = 0
        _tally(timeline, groups, lead, windows, changes)
        for cell in range(cells):
            row = rows[cell]
            if row < 0:
                continue
            size = 0
            for o in range(first, last):
                size += changes[cell * width + o - first]
                out[row, o] = size


@njit(cache=True, nogil=True)
def trend(
    timeline: Any, groups: Any, n_groups: int, windows: Any, share: float, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """ln((n_short + 1) / (n_long * share + 1)) per group: row ``target[group]`` of ``out``.

    ``windows`` are the short and the long one, ``share`` the ratio of their lengths.
    """
    changes = np.empty(2 * n_groups * (most(timeline.starts, timeline.starts[1:]) + 1), np.int32)
    for lead in range(len(timeline.begins)):
        first, last = timeline.starts[lead], timeline.starts[lead + 1]
        width = last - first + 1
        changes[: 2 * n_groups * width] = 0
        _tally(timeline, groups, lead, windows, changes)
        for group in range(n_groups):
            row = target[group]
            if row < 0:
                continue
            n_short, n_long = 0, 0
            for o in range(first, last):
                n_short += changes[2 * group * width + o - first]
                n_long += changes[(2 * group + 1) * width + o - first]
                empty = n_short == 0 and n_long == 0
                out[row, o] = 0.0 if empty else np.log((n_short + 1) / (n_long * share + 1))
