"""Compiled counting of rows by bin, and the hash of a row's model inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

HASH_START = np.uint64(0x9E3779B97F4A7C15)
HASH_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
"""Start and odd factor of the hash; both are constants of splitmix64 (Steele, Lea and Flood, 2014)."""

BLOCK = 4_096
"""Rows that are counted together: their places stay in cache meanwhile."""

_SHIFT = np.uint64(32)
_SIZE = np.uint32(0x7FFFFFFF)
_INFINITE, _MISSING = np.uint32(0x7F800000), np.uint32(0x7FC00000)


@njit(cache=True, nogil=True)
def count_numbers(values: Any, edges: Any, counts: Any) -> None:
    """Add each value (float32) to its bin: the number of edges at or below it, or the last bin where it is NaN.

    ``counts`` (int64) has one place more than there are bins of numbers. All edges are compared with a block of rows
    at once, which for so few is quicker than a search.
    """
    place = np.empty(BLOCK, np.int32)
    for begin in range(0, len(values), BLOCK):
        own = values[begin : begin + BLOCK]
        for r in range(len(own)):
            place[r] = len(edges) + 1 if own[r] != own[r] else 0
        for k in range(len(edges)):
            edge = edges[k]
            for r in range(len(own)):
                place[r] += own[r] >= edge
        _tally(place[: len(own)], counts)


@njit(cache=True, nogil=True)
def count_categories(values: Any, counts: Any) -> None:
    """Add each code (a float32) to its bin; NaN and codes that are none of a category go into the last."""
    place = np.empty(BLOCK, np.int32)
    last = np.float32(len(counts) - 1)
    for begin in range(0, len(values), BLOCK):
        own = values[begin : begin + BLOCK]
        for r in range(len(own)):
            place[r] = np.int32(own[r]) if own[r] >= 0.0 and own[r] < last else np.int32(last)
        _tally(place[: len(own)], counts)


@njit(cache=True, nogil=True)
def _tally(place: Any, counts: Any) -> None:
    """Count every place; two tables take turns, as equal places in a row would wait for each other."""
    other = np.zeros_like(counts)
    pairs = len(place) // 2
    for r in range(pairs):
        counts[place[2 * r]] += 1
        other[place[2 * r + 1]] += 1
    if len(place) > 2 * pairs:
        counts[place[-1]] += 1
    for k in range(len(counts)):
        counts[k] += other[k]


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
