"""Sums and means over windows with many interactions, exact whatever enters and leaves the window.

A float is an integer of 53 bits times a power of two. Its bits are added to integer *limbs*, limb k counting in units
of 2 ** (32 k - 1074). Integers add and subtract without error, so that the limbs of a window depend on the values in it
alone, not on the way it was reached: no drift, and the same bits for any set of cutoffs. (The "small superaccumulator"
of R. M. Neal, 2015, without carries: a limb holds 2 ** 31 values before it overflows.)
"""

from __future__ import annotations

from math import ldexp
from typing import Any

import numpy as np
from numba import njit

from .aggregates import FEW, MEAN, SUM
from .timeline import window_sizes

_MANTISSA = (1 << 52) - 1
_MASK = (1 << 32) - 1
_SIGNIFICANT_LIMBS = 20


@njit(cache=True, nogil=True)
def _place(bits: int) -> int:  # pragma: no cover - compiled
    """The unit of the last binary digit of a float given by its bits, as a power of two above 2 ** -1074."""
    return max((bits >> 52) & 0x7FF, 1) - 1


@njit(cache=True, nogil=True)
def _is_missing(bits: int) -> bool:  # pragma: no cover - compiled
    return (bits >> 52) & 0x7FF == 0x7FF


@njit(cache=True, nogil=True)
def _split(bits: int, parts: Any) -> None:  # pragma: no cover - compiled
    """The three limbs of a float given by its bits, the lowest first."""
    digits = bits & _MANTISSA
    if (bits >> 52) & 0x7FF:
        digits |= 1 << 52
    shift = _place(bits) & 31
    low = (digits & _MASK) << shift
    high = (digits >> 32) << shift
    sign = -1 if bits < 0 else 1
    parts[0] = sign * (low & _MASK)
    parts[1] = sign * ((low >> 32) + (high & _MASK))
    parts[2] = sign * (high >> 32)


@njit(cache=True, nogil=True)
def _total(limbs: Any, base: int) -> float:  # pragma: no cover - compiled
    """The sum as a float: the limbs from the highest to the lowest that matters; ``limbs[0]`` is number ``base``."""
    total = 0.0
    significant = 0
    k = len(limbs)
    while k > 0 and significant < _SIGNIFICANT_LIMBS:
        k -= 1
        total = total * 4294967296.0 + limbs[k]
        if total != 0.0:
            significant += 1
    return ldexp(total, 32 * (base + k) - 1074) if total != 0.0 else 0.0


@njit(cache=True, nogil=True)
def _accumulate(
    timeline: Any,
    groups: Any,
    bits: Any,
    lead: int,
    window: int,
    base: int,
    n_limbs: int,
    sizes: Any,
    limbs: Any,
) -> None:  # pragma: no cover - compiled
    """Sizes and limbs of one window by [group, observation], from the changes at each observation."""
    first, last = timeline.starts[lead], timeline.starts[lead + 1]
    width = last - first + 1
    parts = np.empty(3, np.int64)
    sizes[:] = 0
    limbs[:] = 0
    for i in range(timeline.begins[lead], timeline.ends[lead]):
        enter, leave = timeline.enter[i], timeline.leave[i, window]
        if groups[i] < 0 or _is_missing(bits[i]) or enter == last or enter >= leave:
            continue
        _split(bits[i], parts)
        limb = (_place(bits[i]) >> 5) - base
        place = groups[i] * width - first
        sizes[place + enter] += 1
        sizes[place + leave] -= 1
        for part in range(3):
            limbs[(place + enter) * n_limbs + limb + part] += parts[part]
            limbs[(place + leave) * n_limbs + limb + part] -= parts[part]
    for k in range(len(sizes)):
        if k % width:
            sizes[k] += sizes[k - 1]
            for limb in range(k * n_limbs, (k + 1) * n_limbs):
                limbs[limb] += limbs[limb - n_limbs]


@njit(cache=True, nogil=True)
def sum_and_mean(
    timeline: Any, groups: Any, n_groups: int, bits: Any, windows: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Sum and mean where a window holds more than ``FEW`` interactions: row ``target[function, group, window]``.

    ``bits`` are the values' bits as int64; those of NaN stand for a missing value.
    """
    for lead in range(len(timeline.begins)):
        begin, end = timeline.begins[lead], timeline.ends[lead]
        first, last = timeline.starts[lead], timeline.starts[lead + 1]
        if end - begin <= FEW:
            continue
        base, top = 1 << 20, 0
        for i in range(begin, end):
            if groups[i] >= 0 and not _is_missing(bits[i]) and timeline.enter[i] < last:
                limb = _place(bits[i]) >> 5
                base, top = min(base, limb), max(top, limb)
        n_limbs = max(top + 3 - base, 0)
        width = last - first + 1
        in_window = np.empty(width, np.int64)
        sizes = np.empty(n_groups * width, np.int64)
        limbs = np.empty(n_groups * width * n_limbs, np.int64)
        for w in range(len(windows)):
            window_sizes(timeline, lead, windows[w], in_window)
            _accumulate(timeline, groups, bits, lead, windows[w], base, n_limbs, sizes, limbs)
            for group in range(n_groups):
                row_sum, row_mean = target[SUM, group, w], target[MEAN, group, w]
                for o in range(first, last):
                    if in_window[o - first] <= FEW:
                        continue
                    k = group * width + o - first
                    total = _total(limbs[k * n_limbs : (k + 1) * n_limbs], base) if sizes[k] else 0.0
                    if row_sum >= 0:
                        out[row_sum, o] = total
                    if row_mean >= 0:
                        out[row_mean, o] = total / sizes[k] if sizes[k] else np.nan
