"""A stable sort of positions by two keys, small enough to compile quickly."""

from __future__ import annotations

from typing import Any

from numba import njit

_SHORT = 64


@njit(cache=True, nogil=True)
def _insert(order: Any, begin: int, end: int, first: Any, second: Any) -> None:  # pragma: no cover - compiled
    """Insertion sort: quick for a short list, and for one that is nearly in order."""
    for k in range(begin + 1, end):
        position = order[k]
        place = k
        while place > begin:
            before = order[place - 1]
            if first[before] < first[position] or (
                first[before] == first[position] and second[before] <= second[position]
            ):
                break
            order[place] = before
            place -= 1
        order[place] = position


@njit(cache=True, nogil=True)
def sort_stable(
    order: Any, scratch: Any, begin: int, end: int, first: Any, second: Any
) -> None:  # pragma: no cover - compiled
    """Sort ``order[begin:end]``, positions into the keys, by (first, second); equal keys keep their order."""
    n = end - begin
    if n <= _SHORT:
        _insert(order, begin, end, first, second)
        return
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
