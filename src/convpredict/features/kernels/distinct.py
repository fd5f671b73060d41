"""Distinct values and active days per window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import MICROSECONDS_PER_DAY

from .timeline import most


@njit(cache=True, nogil=True)
def compact(codes: Any, n_codes: int, begins: Any, ends: Any) -> Any:  # pragma: no cover - compiled
    """Number each lead's values 0, 1, ... in the order of their first event (-1 stays -1); and the most in a lead."""
    local = np.empty(len(codes), np.int32)
    owner = np.full(n_codes, -1, np.int64)
    number = np.empty(n_codes, np.int32)
    largest = 0
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
        largest = max(largest, met)
    return local, largest


@njit(cache=True, nogil=True)
def compact_days(occurred_at: Any, begins: Any, ends: Any) -> Any:  # pragma: no cover - compiled
    """Number each lead's UTC calendar days with events 0, 1, ...; and the most in a lead."""
    local = np.empty(len(occurred_at), np.int32)
    largest = 0
    for lead in range(len(begins)):
        met = 0
        midnight = 0
        for i in range(begins[lead], ends[lead]):
            if met == 0 or occurred_at[i] >= midnight:
                met += 1
                midnight = (occurred_at[i] // MICROSECONDS_PER_DAY + 1) * MICROSECONDS_PER_DAY
            local[i] = met - 1
        largest = max(largest, met)
    return local, largest


@njit(cache=True, nogil=True)
def distinct(
    timeline: Any, local: Any, n_local: int, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Number of distinct values in W(c, w): row ``target[window]`` of ``out``.

    Each value counts at the union of its events' observations. Taken in the order in which they became
    visible, an event adds what lies beyond the end of the union so far.
    """
    n_windows = len(windows)
    changes = np.empty(n_windows * (most(timeline.starts, timeline.starts[1:]) + 1), np.int32)
    covered = np.empty((n_local, n_windows), np.int64)
    for lead in range(len(timeline.begins)):
        first, last = timeline.starts[lead], timeline.starts[lead + 1]
        width = last - first + 1
        changes[: n_windows * width] = 0
        for value in range(min(n_local, timeline.ends[lead] - timeline.begins[lead])):
            for w in range(n_windows):
                covered[value, w] = first
        for k in range(timeline.begins[lead], timeline.ends[lead]):
            i = timeline.order[k] if timeline.late else k
            if timeline.enter[i] == last:
                break
            if local[i] < 0:
                continue
            for w in range(n_windows):
                begin, end = np.int64(timeline.enter[i]), timeline.leave[i, windows[w]]
                if begin < covered[local[i], w]:
                    begin = covered[local[i], w]
                if begin < end:
                    changes[w * width + begin - first] += 1
                    changes[w * width + end - first] -= 1
                    covered[local[i], w] = end
        for w in range(n_windows):
            found = 0
            for o in range(first, last):
                found += changes[w * width + o - first]
                out[target[w], o] = found
