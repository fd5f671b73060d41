"""The largest and the last value of a numeric attribute per window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import is_visible, window_start


@njit(cache=True, nogil=True)
def maximum(
    events: Any, cutoffs: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Largest value per group and window, NaN without any: column ``target[group, window]`` of ``out``.

    A binary tree over the sequence (the root is node 1, leaf i is node n + i) holds the maxima of the events that
    have become visible; a window is a range of leaves.
    """
    longest = 0
    for sequence in range(len(events.starts)):
        longest = max(longest, events.stops[sequence] - events.starts[sequence])
    tree = np.empty(2 * longest, np.float64)
    for lead in range(len(cutoffs.starts) - 1):
        for group in range(events.n_groups):
            sequence = lead * events.n_groups + group
            begin, n = events.starts[sequence], events.stops[sequence] - events.starts[sequence]
            for w in range(len(windows)):
                column = target[group, w]
                if column < 0:
                    continue
                tree[: 2 * n] = -np.inf
                entered, left = 0, 0
                for o in range(cutoffs.starts[lead], cutoffs.starts[lead + 1]):
                    cutoff = cutoffs.at[o]
                    while entered < n:
                        position = events.entry[begin + entered] if events.late else entered
                        if not is_visible(events.visible_at[begin + position], cutoff):
                            break
                        value = events.values[begin + position]
                        node = n + position
                        while node >= 1 and tree[node] < value:
                            tree[node] = value
                            node //= 2
                        entered += 1
                    if windows[w] >= 0:
                        while left < n and events.occurred_at[begin + left] < window_start(
                            cutoff, windows[w]
                        ):
                            left += 1
                    best = -np.inf
                    low, high = n + left, 2 * n
                    while low < high:
                        if low % 2 == 1:
                            best = max(best, tree[low])
                            low += 1
                        if high % 2 == 1:
                            high -= 1
                            best = max(best, tree[high])
                        low //= 2
                        high //= 2
                    out[column, o] = best if best > -np.inf else np.nan


@njit(cache=True, nogil=True)
def last_value(
    events: Any, cutoffs: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Value of the last event per group and window, NaN without any: column ``target[group, window]`` of ``out``."""
    for lead in range(len(cutoffs.starts) - 1):
        for group in range(events.n_groups):
            sequence = lead * events.n_groups + group
            begin, n = events.starts[sequence], events.stops[sequence] - events.starts[sequence]
            entered, latest = 0, -1
            for o in range(cutoffs.starts[lead], cutoffs.starts[lead + 1]):
                cutoff = cutoffs.at[o]
                while entered < n:
                    position = events.entry[begin + entered] if events.late else entered
                    if not is_visible(events.visible_at[begin + position], cutoff):
                        break
                    latest = max(latest, position)
                    entered += 1
                for w in range(len(windows)):
                    column = target[group, w]
                    if column < 0:
                        continue
                    inside = latest >= 0 and (
                        windows[w] < 0
                        or events.occurred_at[begin + latest] >= window_start(cutoff, windows[w])
                    )
                    out[column, o] = events.values[begin + latest] if inside else np.nan
