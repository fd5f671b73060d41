"""Sequences: a lead's interactions, whole or split by the values of a category, in time order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from .ordering import sort_stable

ALL = -1
"""The length of the window ``all``."""


class Cutoffs(NamedTuple):
    """The cutoffs (int64 µs) of some leads: lead j's are ``at[starts[j] : starts[j + 1]]``, ascending."""

    starts: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]


class Sequences(NamedTuple):
    """Events of some leads in ``n_groups`` sequences a lead; sequence ``lead * n_groups + group`` is ``starts .. stops``.

    Within a sequence the events are in the order (occurred_at, tie). ``entry`` holds, where ``late``, the positions
    within the sequence in the order in which the events became visible; otherwise that is the order itself and
    ``entry`` is empty. ``values`` is the numeric attribute, or empty.
    """

    occurred_at: npt.NDArray[np.int64]
    visible_at: npt.NDArray[np.int64]
    entry: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    n_groups: int
    late: bool


@njit(cache=True, nogil=True)
def order_of_entry(
    occurred_at: Any, visible_at: Any, starts: Any, stops: Any
) -> Any:  # pragma: no cover - compiled
    """Positions within each sequence ordered by (visible_at, position)."""
    longest = 0
    for s in range(len(starts)):
        longest = max(longest, stops[s] - starts[s])
    order = np.empty(longest, np.int64)
    scratch = np.empty(longest, np.int64)
    entry = np.empty(len(occurred_at), np.int32)
    for s in range(len(starts)):
        begin, n = starts[s], stops[s] - starts[s]
        for i in range(n):
            order[i] = begin + i
        for i in range(1, n):
            if visible_at[begin + i] < visible_at[begin + i - 1]:
                sort_stable(order, scratch, 0, n, visible_at, occurred_at)
                break
        for i in range(n):
            entry[begin + i] = order[i] - begin
    return entry


@njit(cache=True, nogil=True)
def _group(
    slots: Any, codes: Any, values: Any, begins: Any, ends: Any, n_groups: int
) -> Any:  # pragma: no cover - compiled
    """Positions of the events by (lead, group), in time order; empty ``codes``: one group, empty ``values``: none."""
    by_code, by_value = len(codes) > 0, len(values) > 0
    n_leads = len(begins)
    offsets = np.zeros(n_leads * n_groups + 1, np.int64)
    total = 0
    for lead in range(n_leads):
        total += ends[lead] - begins[lead]
    positions = np.empty(total, np.int64)
    cursor = np.empty(n_groups, np.int64)
    kept = 0
    for lead in range(n_leads):
        cursor[:] = 0
        for i in range(begins[lead], ends[lead]):
            group = slots[codes[i]] if by_code else 0
            if group >= 0 and not (by_value and np.isnan(values[i])):
                cursor[group] += 1
        for group in range(n_groups):
            size = cursor[group]
            cursor[group] = kept
            kept += size
            offsets[lead * n_groups + group + 1] = kept
        for i in range(begins[lead], ends[lead]):
            group = slots[codes[i]] if by_code else 0
            if group >= 0 and not (by_value and np.isnan(values[i])):
                positions[cursor[group]] = i
                cursor[group] += 1
    return positions[:kept], offsets


NO_INTS = np.empty(0, np.int32)
NO_FLOATS = np.empty(0, np.float64)


def make_sequences(
    occurred_at: npt.NDArray[np.int64],
    visible_at: npt.NDArray[np.int64],
    late: bool,
    begins: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    *,
    codes: npt.NDArray[np.int32] | None = None,
    slots: npt.NDArray[np.int32] | None = None,
    n_groups: int = 1,
    values: npt.NDArray[np.float64] | None = None,
) -> Sequences:
    """Split the events ``begins[j] : ends[j]`` of each lead j into sequences.

    With ``codes`` the sequence of an event is ``slots[code]`` (-1: left out; the last slot stands for the code -1);
    with ``values`` events whose value is NaN are left out.
    """
    if codes is None and values is None:
        entry = order_of_entry(occurred_at, visible_at, begins, ends) if late else NO_INTS
        return Sequences(occurred_at, visible_at, entry, begins, ends, NO_FLOATS, 1, late)
    positions, offsets = _group(
        NO_INTS if slots is None else slots,
        NO_INTS if codes is None else codes,
        NO_FLOATS if values is None else values,
        begins,
        ends,
        n_groups,
    )
    occurred = occurred_at[positions]
    visible = visible_at[positions] if late else occurred
    starts, stops = offsets[:-1].copy(), offsets[1:].copy()
    entry = order_of_entry(occurred, visible, starts, stops) if late else NO_INTS
    kept = NO_FLOATS if values is None else values[positions]
    return Sequences(occurred, visible, entry, starts, stops, kept, n_groups, late)
