"""The timeline of some leads: at which cutoffs each event enters and leaves each window.

This is the one place where times are compared. An event that is visible from observation ``enter`` on and leaves the
window before observation ``leave`` counts at the observations ``enter <= o < leave``; kernels work with these indexes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from convpredict.features.time_rule import is_visible, window_start

from .ordering import sort_stable

ALL = -1
"""The length of the window ``all``."""


class Timeline(NamedTuple):
    """Events and cutoffs of some leads, by position.

    Lead j has the events ``begins[j] <= i < ends[j]`` in the order (occurred_at, tie), and the observations
    ``starts[j] <= o < starts[j + 1]`` with the ascending cutoffs ``at`` (int64 µs). Event i is visible from
    observation ``enter[i]`` on (``starts[j + 1]``: never), and inside window w up to but without
    ``leave[i, w]``. ``order`` lists the events by (visible_at, position) within each lead if some record is
    ``late``; otherwise it is empty, as the order of the events is that order already.

    The files in which numba caches compiled kernels refer to this class by its name and module.
    """

    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    occurred_at: npt.NDArray[np.int64]
    enter: npt.NDArray[np.int32]
    leave: npt.NDArray[np.int32]
    order: npt.NDArray[np.int64]
    late: bool


@njit(cache=True, nogil=True)
def _locate(
    begins: Any, ends: Any, starts: Any, at: Any, occurred_at: Any, visible_at: Any, lengths: Any
) -> Any:  # pragma: no cover - compiled
    """First observation at which each event is visible, and first at which it has left each window."""
    enter = np.empty(len(occurred_at), np.int32)
    leave = np.empty((len(occurred_at), len(lengths)), np.int32)
    for lead in range(len(begins)):
        first, last = starts[lead], starts[lead + 1]
        low = first
        for i in range(begins[lead], ends[lead]):
            if i > begins[lead] and visible_at[i] < visible_at[i - 1]:
                low = first
            high = last
            if low < last and is_visible(visible_at[i], at[low]):
                high = low
            while low < high:
                middle = (low + high) // 2
                if is_visible(visible_at[i], at[middle]):
                    high = middle
                else:
                    low = middle + 1
            enter[i] = low
        for w in range(len(lengths)):
            o = first
            for i in range(begins[lead], ends[lead]):
                if lengths[w] < 0:
                    o = last
                while o < last and occurred_at[i] >= window_start(at[o], lengths[w]):
                    o += 1
                leave[i, w] = o
    return enter, leave


@njit(cache=True, nogil=True)
def _sort_by_entry(
    order: Any, begins: Any, ends: Any, visible_at: Any
) -> None:  # pragma: no cover - compiled
    """Sort the positions of each lead's events by (visible_at, position)."""
    scratch = np.empty(len(order), np.int64)
    for lead in range(len(begins)):
        for i in range(begins[lead] + 1, ends[lead]):
            if visible_at[i] < visible_at[i - 1]:
                sort_stable(order, scratch, begins[lead], ends[lead], visible_at, visible_at)
                break


def make_timeline(
    begins: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
    occurred_at: npt.NDArray[np.int64],
    visible_at: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    *,
    late: bool,
) -> Timeline:
    """Compare the times of events and cutoffs. ``lengths`` are those of the windows in µs, ``ALL`` for all.

    Without late records ``visible_at`` must equal ``occurred_at``.
    """
    enter, leave = _locate(begins, ends, starts, at, occurred_at, visible_at, lengths)
    order = np.arange(len(visible_at) if late else 0)
    if late:
        _sort_by_entry(order, begins, ends, visible_at)
    return Timeline(begins, ends, starts, at, occurred_at, enter, leave, order, late)


@njit(cache=True, nogil=True)
def most(offsets: Any, stops: Any) -> int:  # pragma: no cover - compiled
    """The largest difference ``stops[k] - offsets[k]``: how much scratch space the longest lead needs."""
    largest = 0
    for k in range(len(stops)):
        largest = max(largest, stops[k] - offsets[k])
    return largest


@njit(cache=True, nogil=True)
def block_end(starts: Any, lead: int, size: int) -> int:  # pragma: no cover - compiled
    """Where a block of whole leads ends that begins with ``lead`` and has about ``size`` observations."""
    stop = lead + 1
    while stop < len(starts) - 1 and starts[stop + 1] - starts[lead] <= size:
        stop += 1
    return stop


@njit(cache=True, nogil=True)
def window_sizes(timeline: Any, lead: int, window: int, sizes: Any) -> None:  # pragma: no cover - compiled
    """Number of a lead's interactions in W(c, w) at each of its observations, from ``sizes[0]`` on."""
    entered, left, end = timeline.begins[lead], timeline.begins[lead], timeline.ends[lead]
    first = timeline.starts[lead]
    size = 0
    for o in range(first, timeline.starts[lead + 1]):
        while left < end and timeline.leave[left, window] <= o:
            if timeline.enter[left] < timeline.leave[left, window]:
                size -= 1
            left += 1
        while entered < end:
            i = timeline.order[entered] if timeline.late else entered
            if timeline.enter[i] > o:
                break
            entered += 1
            if timeline.enter[i] < timeline.leave[i, window]:
                size += 1
        sizes[o - first] = size
