"""Distinct values and active days per window, and the most frequent value (topic)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import MICROSECONDS_PER_DAY, is_visible, window_start


@njit(cache=True, nogil=True)
def compact(codes: Any, n_codes: int, begins: Any, ends: Any) -> Any:  # pragma: no cover - compiled
    """Number each lead's values 0, 1, ... in the order of their first event (-1 stays -1); and the most in a lead."""
    local = np.empty(len(codes), np.int32)
    owner = np.full(n_codes, -1, np.int64)
    number = np.empty(n_codes, np.int32)
    most = 0
    for lead in range(len(begins)):
        met = 0
        for i in range(begins[lead], ends[lead]):
            code = codes[i]
            if code < 0:
                local[i] = -1
                continue
            if owner[code] != lead:
                owner[code] = lead
                number[code] = met
                met += 1
            local[i] = number[code]
        most = max(most, met)
    return local, most


@njit(cache=True, nogil=True)
def compact_days(occurred_at: Any, begins: Any, ends: Any) -> Any:  # pragma: no cover - compiled
    """Number each lead's UTC calendar days with events 0, 1, ...; and the most in a lead."""
    local = np.empty(len(occurred_at), np.int32)
    most = 0
    for lead in range(len(begins)):
        met = 0
        for i in range(begins[lead], ends[lead]):
            day = occurred_at[i] // MICROSECONDS_PER_DAY
            if i == begins[lead] or day != occurred_at[i - 1] // MICROSECONDS_PER_DAY:
                met += 1
            local[i] = met - 1
        most = max(most, met)
    return local, most


@njit(cache=True, nogil=True)
def distinct(
    events: Any, cutoffs: Any, local: Any, most: int, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Number of distinct values in W(c, w): column ``target[window]`` of ``out``."""
    sizes = np.zeros(most, np.int64)
    for lead in range(len(cutoffs.starts) - 1):
        begin, n = events.starts[lead], events.stops[lead] - events.starts[lead]
        first = cutoffs.starts[lead]
        for w in range(len(windows)):
            sizes[: min(n, most)] = 0
            entered, left, found = 0, 0, 0
            for o in range(first, cutoffs.starts[lead + 1]):
                cutoff = cutoffs.at[o]
                since = window_start(cutoff, windows[w])
                if windows[w] >= 0:
                    while left < n and events.occurred_at[begin + left] < since:
                        value = local[begin + left]
                        if (
                            value >= 0
                            and o > first
                            and is_visible(events.visible_at[begin + left], cutoffs.at[o - 1])
                        ):
                            sizes[value] -= 1
                            if sizes[value] == 0:
                                found -= 1
                        left += 1
                while entered < n:
                    position = begin + (events.entry[begin + entered] if events.late else entered)
                    if not is_visible(events.visible_at[position], cutoff):
                        break
                    value = local[position]
                    if value >= 0 and (windows[w] < 0 or events.occurred_at[position] >= since):
                        if sizes[value] == 0:
                            found += 1
                        sizes[value] += 1
                    entered += 1
                out[target[w], o] = found


@njit(cache=True, nogil=True)
def topic(
    events: Any, cutoffs: Any, codes: Any, local: Any, most: int, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Most frequent code in W(c, w), ties to the most recent, -1 without any: column ``target[window]`` of ``out``."""
    sizes = np.zeros(most, np.int64)
    latest = np.zeros(most, np.int64)
    for lead in range(len(cutoffs.starts) - 1):
        begin, n = events.starts[lead], events.stops[lead] - events.starts[lead]
        first = cutoffs.starts[lead]
        for w in range(len(windows)):
            sizes[: min(n, most)] = 0
            latest[: min(n, most)] = -1
            entered, left, met = 0, 0, 0
            for o in range(first, cutoffs.starts[lead + 1]):
                cutoff = cutoffs.at[o]
                since = window_start(cutoff, windows[w])
                if windows[w] >= 0:
                    while left < n and events.occurred_at[begin + left] < since:
                        value = local[begin + left]
                        if (
                            value >= 0
                            and o > first
                            and is_visible(events.visible_at[begin + left], cutoffs.at[o - 1])
                        ):
                            sizes[value] -= 1
                        left += 1
                while entered < n:
                    position = begin + (events.entry[begin + entered] if events.late else entered)
                    if not is_visible(events.visible_at[position], cutoff):
                        break
                    value = local[position]
                    if value >= 0 and (windows[w] < 0 or events.occurred_at[position] >= since):
                        sizes[value] += 1
                        latest[value] = max(latest[value], position)
                        met = max(met, value + 1)
                    entered += 1
                best = -1
                for value in range(met):
                    if sizes[value] > 0 and (
                        best < 0
                        or sizes[value] > sizes[best]
                        or (sizes[value] == sizes[best] and latest[value] > latest[best])
                    ):
                        best = value
                out[target[w], o] = codes[latest[best]] if best >= 0 else -1
