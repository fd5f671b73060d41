"""Gaps between a lead's consecutive interactions, in exact integers until the last division."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import MICROSECONDS_PER_DAY, is_visible

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
    return np.sqrt(difference) / n_gaps


@njit(cache=True, nogil=True)
def _neighbours(events: Any, lead: int, previous: Any, following: Any) -> None:  # pragma: no cover - compiled
    """For each event the visible ones just before and after it at the moment it became visible (-1, n: none)."""
    begin, n = events.starts[lead], events.stops[lead] - events.starts[lead]
    for i in range(n):
        previous[i], following[i] = i - 1, i + 1
    if not events.late:
        following[:n] = n
        return
    for k in range(n - 1, -1, -1):
        i = events.entry[begin + k]
        if previous[i] >= 0:
            following[previous[i]] = following[i]
        if following[i] < n:
            previous[following[i]] = previous[i]


@njit(cache=True, nogil=True)
def gaps(
    events: Any, cutoffs: Any, mean: int, deviation: int, silence: int, out: Any
) -> None:  # pragma: no cover - compiled
    """Mean and population deviation of the gaps (days), and recency over mean gap, into the columns given (-1: none)."""
    longest = 0
    for lead in range(len(events.starts)):
        longest = max(longest, events.stops[lead] - events.starts[lead])
    previous = np.empty(longest, np.int64)
    following = np.empty(longest, np.int64)
    squares = np.zeros(2, np.uint64)
    for lead in range(len(cutoffs.starts) - 1):
        begin, n = events.starts[lead], events.stops[lead] - events.starts[lead]
        _neighbours(events, lead, previous, following)
        squares[:] = 0
        entered, earliest, latest = 0, n, -1
        for o in range(cutoffs.starts[lead], cutoffs.starts[lead + 1]):
            cutoff = cutoffs.at[o]
            while entered < n:
                i = events.entry[begin + entered] if events.late else entered
                if not is_visible(events.visible_at[begin + i], cutoff):
                    break
                before, after = previous[i], following[i]
                at = events.occurred_at[begin + i]
                if before >= 0:
                    _add_square(squares, at - events.occurred_at[begin + before])
                if after < n:
                    _add_square(squares, events.occurred_at[begin + after] - at)
                if before >= 0 and after < n:
                    _subtract_square(
                        squares, events.occurred_at[begin + after] - events.occurred_at[begin + before]
                    )
                earliest, latest = min(earliest, i), max(latest, i)
                entered += 1
            span, n_gaps = 0, entered - 1
            if n_gaps > 0:
                span = events.occurred_at[begin + latest] - events.occurred_at[begin + earliest]
            if mean >= 0:
                out[mean, o] = span / n_gaps / MICROSECONDS_PER_DAY if n_gaps > 0 else np.nan
            if deviation >= 0:
                out[deviation, o] = (
                    _deviation(squares, span, n_gaps) / MICROSECONDS_PER_DAY if n_gaps > 0 else np.nan
                )
            if silence >= 0:
                silent = cutoff - events.occurred_at[begin + latest] if n_gaps > 0 else 0
                out[silence, o] = silent / (span / n_gaps) if span > 0 else np.nan
