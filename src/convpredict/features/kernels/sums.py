"""Sums and means of a numeric attribute per window, exact whatever enters and leaves the window.

A float is an integer of 53 bits times a power of two. Its bits are added to integer *limbs* of 32 bits each, limb k
counting in units of 2 ** (32 k - 1126). Integers add and subtract without error, so that the limbs of a window depend
on the values in it alone, not on the way it was reached: no drift, and the same bits for any set of cutoffs (the
"small superaccumulator" of R. M. Neal, 2015, without carries: a limb holds 2 ** 31 values before it overflows).
"""

from __future__ import annotations

from math import frexp, ldexp
from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import is_visible, window_start

_LOWEST = 1126


@njit(cache=True, nogil=True)
def _limb(value: float) -> int:  # pragma: no cover - compiled
    """The lowest limb that the value touches."""
    return (frexp(value)[1] - 53 + _LOWEST) // 32


@njit(cache=True, nogil=True)
def _add(limbs: Any, base: int, value: float, sign: int) -> None:  # pragma: no cover - compiled
    """Add ``sign * value`` to the limbs, the first of which is limb number ``base``."""
    fraction, exponent = frexp(value)
    digits = np.int64(ldexp(fraction, 53))
    if digits < 0:
        digits = -digits
        sign = -sign
    place = exponent - 53 + _LOWEST
    limb, shift = place // 32 - base, place % 32
    low = np.uint64(digits & 0xFFFFFFFF) << np.uint64(shift)
    high = (digits >> 32) << shift
    limbs[limb] += sign * np.int64(low & np.uint64(0xFFFFFFFF))
    limbs[limb + 1] += sign * (np.int64(low >> np.uint64(32)) + (high & 0xFFFFFFFF))
    limbs[limb + 2] += sign * (high >> 32)


@njit(cache=True, nogil=True)
def _total(limbs: Any, base: int, n_limbs: int) -> float:  # pragma: no cover - compiled
    """The sum as a float, from the lowest limb to the highest."""
    total = 0.0
    for k in range(n_limbs):
        if limbs[k] != 0:
            total += ldexp(float(limbs[k]), 32 * (base + k) - _LOWEST)
    return total


@njit(cache=True, nogil=True)
def sum_and_mean(
    events: Any, cutoffs: Any, windows: Any, target_sum: Any, target_mean: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Sum (0 without any) and mean (NaN without any) per group and window, into the columns named by the targets."""
    limbs = np.zeros(80, np.int64)
    for lead in range(len(cutoffs.starts) - 1):
        first = cutoffs.starts[lead]
        for group in range(events.n_groups):
            sequence = lead * events.n_groups + group
            begin, n = events.starts[sequence], events.stops[sequence] - events.starts[sequence]
            base, top = 80, 0
            for i in range(begin, begin + n):
                limb = _limb(events.values[i])
                base, top = min(base, limb), max(top, limb)
            n_limbs = top + 3 - base if n else 0
            for w in range(len(windows)):
                if target_sum[group, w] < 0 and target_mean[group, w] < 0:
                    continue
                limbs[:n_limbs] = 0
                entered, left, size = 0, 0, 0
                for o in range(first, cutoffs.starts[lead + 1]):
                    cutoff = cutoffs.at[o]
                    since = window_start(cutoff, windows[w])
                    if windows[w] >= 0:
                        while left < n and events.occurred_at[begin + left] < since:
                            if o > first and is_visible(events.visible_at[begin + left], cutoffs.at[o - 1]):
                                _add(limbs, base, events.values[begin + left], -1)
                                size -= 1
                            left += 1
                    while entered < n:
                        position = events.entry[begin + entered] if events.late else entered
                        if not is_visible(events.visible_at[begin + position], cutoff):
                            break
                        if windows[w] < 0 or events.occurred_at[begin + position] >= since:
                            _add(limbs, base, events.values[begin + position], 1)
                            size += 1
                        entered += 1
                    total = _total(limbs, base, n_limbs)
                    if target_sum[group, w] >= 0:
                        out[target_sum[group, w], o] = total
                    if target_mean[group, w] >= 0:
                        out[target_mean[group, w], o] = total / size if size else np.nan
