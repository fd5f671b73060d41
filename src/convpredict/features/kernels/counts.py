"""Counts per window, and trends, which compare the counts of two windows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .timeline import block_end, most

_BLOCK = 64


@njit(cache=True, nogil=True)
def _tally(
    timeline: Any, groups: Any, n_groups: int, windows: Any, lead: int, stop: int, sizes: Any
) -> None:  # pragma: no cover - compiled
    """Counts of the leads ``lead <= l < stop`` by [observation, group, window], each lead on its own."""
    base, n_windows = timeline.starts[lead], len(windows)
    cells = n_groups * n_windows
    sizes[: (timeline.starts[stop] - base) * cells] = 0
    for current in range(lead, stop):
        first, last = timeline.starts[current], timeline.starts[current + 1]
        for i in range(timeline.begins[current], timeline.ends[current]):
            group, enter = groups[i], timeline.enter[i]
            if group < 0 or enter == last:
                continue
            for w in range(n_windows):
                leave = timeline.leave[i, windows[w]]
                if enter < leave:
                    sizes[(enter - base) * cells + group * n_windows + w] += 1
                    if leave < last:
                        sizes[(leave - base) * cells + group * n_windows + w] -= 1
        for o in range(first + 1, last):
            here, before = (o - base) * cells, (o - 1 - base) * cells
            for cell in range(cells):
                sizes[here + cell] += sizes[before + cell]


@njit(cache=True, nogil=True)
def count(
    timeline: Any,
    groups: Any,
    n_groups: int,
    windows: Any,
    target: Any,
    trends: Any,
    shares: Any,
    trend_target: Any,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """Number of interactions per group and window, and trends between two of the windows.

    Counts go to row ``target[group, window]`` of ``out``. Trend t compares the windows ``trends[t]``, short and
    long, whose lengths have the ratio ``shares[t]``: ln((n_short + 1) / (n_long * share + 1)) goes to row
    ``trend_target[group, t]``.
    """
    n_windows = len(windows)
    cells = n_groups * n_windows
    sizes = np.empty(max(_BLOCK, most(timeline.starts, timeline.starts[1:])) * cells, np.int32)
    lead = 0
    while lead < len(timeline.begins):
        stop = block_end(timeline.starts, lead, _BLOCK)
        _tally(timeline, groups, n_groups, windows, lead, stop, sizes)
        base, n = timeline.starts[lead], timeline.starts[stop] - timeline.starts[lead]
        for group in range(n_groups):
            for w in range(n_windows):
                row, cell = target[group, w], group * n_windows + w
                if row >= 0:
                    for k in range(n):
                        out[row, base + k] = sizes[k * cells + cell]
            for t in range(len(trends)):
                row = trend_target[group, t]
                short, long = group * n_windows + trends[t, 0], group * n_windows + trends[t, 1]
                if row >= 0:
                    for k in range(n):
                        n_short, n_long = sizes[k * cells + short], sizes[k * cells + long]
                        if n_short == 0 and n_long == 0:
                            out[row, base + k] = 0.0
                        else:
                            out[row, base + k] = np.log((n_short + 1) / (n_long * shares[t] + 1))
        lead = stop
