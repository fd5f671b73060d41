"""A stable merge sort of positions by two keys, small enough to compile quickly."""

from __future__ import annotations

from typing import Any

from numba import njit


@njit(cache=True, nogil=True)
def sort_stable(
    order: Any, scratch: Any, begin: int, end: int, first: Any, second: Any
) -> None:  # pragma: no cover - compiled
    """Sort ``order[begin:end]``, positions into the keys, by (first, second); equal keys keep their order."""
    n = end - begin
    width = 1
    while width < n:
        left = 0
        while left < n:
            middle = min(left + width, n)
            right = min(left + 2 * width, n)
            i, j = left, middle
            for k in range(left, right):
                take_right = False
                if i >= middle:
                    take_right = True
                elif j < right:
                    a, b = order[begin + i], order[begin + j]
                    take_right = first[b] < first[a] or (first[b] == first[a] and second[b] < second[a])
                if take_right:
                    scratch[k] = order[begin + j]
                    j += 1
                else:
                    scratch[k] = order[begin + i]
                    i += 1
            left = right
        for k in range(n):
            order[begin + k] = scratch[k]
        width *= 2
