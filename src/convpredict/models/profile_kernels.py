"""Compiled counting of rows by bin, and the hash of a row's model inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

HASH_START = np.uint64(0x9E3779B97F4A7C15)
HASH_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
"""Start and odd factor of the hash; both are constants of splitmix64 (Steele, Lea and Flood, 2014)."""

_SHIFT = np.uint64(32)
_SIZE = np.uint32(0x7FFFFFFF)
_INFINITE, _MISSING = np.uint32(0x7F800000), np.uint32(0x7FC00000)


@njit(cache=True, nogil=True)
def count_numbers(values: Any, edges: Any, n_edges: int, counts: Any) -> None:
    """Add each value to its bin: the number of edges at or below it, or the last bin where it is NaN.

    ``edges`` (float32) ascend and are filled up with infinity to one less than a power of two, of which the first
    ``n_edges`` count; ``counts`` (int64) has one place more than there are bins of numbers.
    """
    half = (len(edges) + 1) >> 1
    other = np.zeros_like(counts)
    for r in range(len(values)):
        value = values[r]
        place = 0
        step = half
        while step > 0:
            place += step if edges[place + step - 1] <= value else 0
            step >>= 1
        place = min(place, n_edges)
        if value != value:
            place = n_edges + 1
        if r & 1:
            other[place] += 1
        else:
            counts[place] += 1
    for place in range(len(counts)):
        counts[place] += other[place]


@njit(cache=True, nogil=True)
def count_categories(values: Any, counts: Any) -> None:
    """Add each code to its bin; NaN and codes that are none of a category go into the last."""
    last = len(counts) - 1
    for r in range(len(values)):
        value = values[r]
        place = last
        if value >= 0.0 and value < last:
            place = int(value)
        counts[place] += 1


@njit(cache=True, nogil=True)
def hash_column(bits: Any, hashes: Any) -> bool:
    """Mix one column (float32 as uint32) into the hashes of its rows; tells whether it holds an infinite number.

    A step takes every hash to another one: two rows that differ in one column have different hashes after it, and
    equal columns keep them different.
    """
    infinite = False
    for r in range(len(hashes)):
        own = bits[r]
        size = own & _SIZE
        if size >= _INFINITE:
            infinite |= size == _INFINITE
            own = own if size == _INFINITE else _MISSING
        elif size == 0:
            own = size
        mixed = (hashes[r] ^ np.uint64(own)) * HASH_FACTOR
        hashes[r] = mixed ^ (mixed >> _SHIFT)
    return infinite
