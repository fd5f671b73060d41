"""Counts per window, and trends, which compare the counts of two windows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import is_visible, window_start


@njit(cache=True, nogil=True)
def count_in_window(
    events: Any, sequence: int, length: int, cutoffs: Any, lead: int, sizes: Any
) -> None:  # pragma: no cover - compiled
    """Write the number of visible events in the window before each cutoff of the lead into ``sizes``."""
    begin, n = events.starts[sequence], events.stops[sequence] - events.starts[sequence]
    first = cutoffs.starts[lead]
    entered, left, size = 0, 0, 0
    for o in range(first, cutoffs.starts[lead + 1]):
        cutoff = cutoffs.at[o]
        since = window_start(cutoff, length)
        if not events.late:
            while entered < n and is_visible(events.occurred_at[begin + entered], cutoff):
                entered += 1
            if length >= 0:
                while left < entered and events.occurred_at[begin + left] < since:
                    left += 1
            sizes[o - first] = entered - left
            continue
        if length >= 0:
            while left < n and events.occurred_at[begin + left] < since:
                if o > first and is_visible(events.visible_at[begin + left], cutoffs.at[o - 1]):
                    size -= 1
                left += 1
        while entered < n:
            position = begin + events.entry[begin + entered]
            if not is_visible(events.visible_at[position], cutoff):
                break
            if length < 0 or events.occurred_at[position] >= since:
                size += 1
            entered += 1
        sizes[o - first] = size


@njit(cache=True, nogil=True)
def count(
    events: Any, cutoffs: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Number of interactions per group and window: column ``target[group, window]`` of ``out``."""
    longest = 0
    for lead in range(len(cutoffs.starts) - 1):
        longest = max(longest, cutoffs.starts[lead + 1] - cutoffs.starts[lead])
    sizes = np.empty(longest, np.int64)
    for lead in range(len(cutoffs.starts) - 1):
        first, last = cutoffs.starts[lead], cutoffs.starts[lead + 1]
        for group in range(events.n_groups):
            sequence = lead * events.n_groups + group
            empty = events.starts[sequence] == events.stops[sequence]
            for w in range(len(windows)):
                column = target[group, w]
                if column < 0:
                    continue
                if empty:
                    out[column, first:last] = 0
                    continue
                count_in_window(events, sequence, windows[w], cutoffs, lead, sizes)
                for o in range(first, last):
                    out[column, o] = sizes[o - first]


@njit(cache=True, nogil=True)
def trend(
    events: Any, cutoffs: Any, short: int, long: int, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """ln((n_short + 1) / (n_long * short / long + 1)) per group: column ``target[group]`` of ``out``."""
    longest = 0
    for lead in range(len(cutoffs.starts) - 1):
        longest = max(longest, cutoffs.starts[lead + 1] - cutoffs.starts[lead])
    n_short = np.empty(longest, np.int64)
    n_long = np.empty(longest, np.int64)
    for lead in range(len(cutoffs.starts) - 1):
        first, last = cutoffs.starts[lead], cutoffs.starts[lead + 1]
        for group in range(events.n_groups):
            column = target[group]
            if column < 0:
                continue
            sequence = lead * events.n_groups + group
            count_in_window(events, sequence, short, cutoffs, lead, n_short)
            count_in_window(events, sequence, long, cutoffs, lead, n_long)
            for o in range(first, last):
                expected = n_long[o - first] * short / long
                out[column, o] = np.log((n_short[o - first] + 1) / (expected + 1))
