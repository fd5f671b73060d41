"""Gaps between a lead's consecutive interactions, in exact integers until the last division."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import MICROSECONDS_PER_DAY

from .timeline import most

_HALF = np.uint64(32)
_MASK = np.uint64(0xFFFFFFFF)


@njit(cache=True, nogil=True)
def _multiply(a: Any, b: Any) -> Any:  # pragma: no cover - compiled
    """The 128-bit product of two unsigned 64-bit integers, as (high, low)."""
    a_low, a_high, b_low, b_high = a & _MASK, a >> _HALF, b & _MASK, b >> _HALF
    low = a_low * b_low
    middle = a_high * b_low + (low >> _HALF)
    other = a_low * b_high + (middle & _MASK)
    return a_high * b_high + (middle >> _HALF) + (other >> _HALF), (other << _HALF) | (low & _MASK)


@njit(cache=True, nogil=True)
def _add_square(squares: Any, gap: int) -> None:  # pragma: no cover - compiled
    high, low = _multiply(np.uint64(gap), np.uint64(gap))
    squares[1] += low
    squares[0] += high + (np.uint64(1) if squares[1] < low else np.uint64(0))


@njit(cache=True, nogil=True)
def _subtract_square(squares: Any, gap: int) -> None:  # pragma: no cover - compiled
    high, low = _multiply(np.uint64(gap), np.uint64(gap))
    borrow = np.uint64(1) if squares[1] < low else np.uint64(0)
    squares[1] -= low
    squares[0] -= high + borrow


@njit(cache=True, nogil=True)
def _deviation(squares: Any, span: int, n_gaps: int) -> float:  # pragma: no cover - compiled
    """Root of (n * sum of squares - span ** 2) / n ** 2; the difference is taken in 128 bits."""
    m = np.uint64(n_gaps)
    high, low = _multiply(m, squares[1])
    high += m * squares[0]
    span_high, span_low = _multiply(np.uint64(span), np.uint64(span))
    borrow = np.uint64(1) if low < span_low else np.uint64(0)
    difference = float(high - span_high - borrow) * 18446744073709551616.0 + float(low - span_low)
    return float(np.sqrt(difference) / n_gaps)


@njit(cache=True, nogil=True)
def _neighbours(
    timeline: Any, lead: int, previous: Any, following: Any
) -> None:  # pragma: no cover - compiled
    """For each event the visible ones just before and after it at the moment it became visible (-1: none).

    Found backwards: a linked list of all events, from which the last to become visible is taken out first.
    """
    begin, end = timeline.begins[lead], timeline.ends[lead]
    for i in range(begin, end):
        previous[i - begin] = i - 1 if i > begin else -1
        following[i - begin] = -1
    if not timeline.late:
        return
    for i in range(begin, end - 1):
        following[i - begin] = i + 1
    for k in range(end - 1, begin - 1, -1):
        i = timeline.order[k] - begin
        if previous[i] >= 0:
            following[previous[i] - begin] = following[i]
        if following[i] >= 0:
            previous[following[i] - begin] = previous[i]


@njit(cache=True, nogil=True)
def gaps(
    timeline: Any, mean: int, deviation: int, silence: int, out: Any
) -> None:  # pragma: no cover - compiled
    """Mean and population deviation of the gaps (days), and recency over mean gap, into the rows given (-1: none)."""
    previous = np.empty(most(timeline.begins, timeline.ends), np.int64)
    following = np.empty(len(previous), np.int64)
    squares = np.zeros(2, np.uint64)
    times = timeline.occurred_at
    for lead in range(len(timeline.begins)):
        begin, end = timeline.begins[lead], timeline.ends[lead]
        _neighbours(timeline, lead, previous, following)
        squares[:] = 0
        entered, earliest, latest = begin, end, -1
        for o in range(timeline.starts[lead], timeline.starts[lead + 1]):
            while entered < end:
                i = timeline.order[entered] if timeline.late else entered
                if timeline.enter[i] > o:
                    break
                entered += 1
                before, after = previous[i - begin], following[i - begin]
                if before >= 0:
                    _add_square(squares, times[i] - times[before])
                if after >= 0:
                    _add_square(squares, times[after] - times[i])
                if before >= 0 and after >= 0:
                    _subtract_square(squares, times[after] - times[before])
                earliest, latest = min(earliest, i), max(latest, i)
            n_gaps = entered - begin - 1
            span = times[latest] - times[earliest] if n_gaps > 0 else 0
            if mean >= 0:
                out[mean, o] = span / n_gaps / MICROSECONDS_PER_DAY if n_gaps > 0 else np.nan
            if deviation >= 0:
                spread = _deviation(squares, span, n_gaps) if n_gaps > 0 else np.nan
                out[deviation, o] = spread / MICROSECONDS_PER_DAY
            if silence >= 0:
                out[silence, o] = (timeline.at[o] - times[latest]) / (span / n_gaps) if span > 0 else np.nan
