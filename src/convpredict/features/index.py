"""The event index: a bucket's interactions grouped by lead (CSR) in the order (occurred_at, tie)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from convpredict.engines.buckets import Events

from .kernels.ordering import sort_stable


@dataclass(frozen=True)
class Bucket:
    """The interactions of the leads ``lead_begin <= lead_row < lead_end``, lead by lead in time order.

    The events of lead_row r are ``lead_offsets[r - lead_begin] : lead_offsets[r - lead_begin + 1]``. Without
    a late record in the bucket ``late`` is false and ``visible_at`` is ``occurred_at`` itself. ``codes`` and
    ``numbers`` are those of :class:`~convpredict.engines.buckets.Events`.
    """

    lead_begin: int
    lead_end: int
    lead_offsets: npt.NDArray[np.int64]
    occurred_at: npt.NDArray[np.int64]
    visible_at: npt.NDArray[np.int64]
    late: bool
    codes: Mapping[str, npt.NDArray[np.int32]]
    numbers: Mapping[str, npt.NDArray[np.float64]]


@njit(cache=True, nogil=True)
def _order_by_lead(lead: Any, n_leads: int) -> Any:  # pragma: no cover - compiled
    """Offsets of the leads, and the rows by lead in the order of the source."""
    offsets = np.zeros(n_leads + 1, np.int64)
    for i in range(len(lead)):
        offsets[lead[i] + 1] += 1
    for row in range(n_leads):
        offsets[row + 1] += offsets[row]
    cursor = offsets[:-1].copy()
    order = np.empty(len(lead), np.int64)
    for i in range(len(lead)):
        order[cursor[lead[i]]] = i
        cursor[lead[i]] += 1
    return offsets, order


@njit(cache=True, nogil=True)
def _order_by_time(
    offsets: Any, order: Any, in_order: Any, occurred_at: Any, tie: Any
) -> bool:  # pragma: no cover - compiled
    """Sort each lead's part of ``order`` by (occurred_at, tie); whether anything had to be sorted.

    ``in_order`` is ``occurred_at[order]``, which is quicker to look through.
    """
    moved = False
    scratch = np.empty(len(order), np.int64)
    for row in range(len(offsets) - 1):
        for k in range(offsets[row] + 1, offsets[row + 1]):
            if in_order[k] < in_order[k - 1] or (
                in_order[k] == in_order[k - 1] and tie[order[k]] < tie[order[k - 1]]
            ):
                sort_stable(order, scratch, offsets[row], offsets[row + 1], occurred_at, tie)
                moved = True
                break
    return moved


def index_events(events: Events, *, late: bool | None = None) -> Bucket:
    """Group the events by lead and order each lead's by (occurred_at, tie), stably.

    ``late=True`` asks for the code path for late records although there may be none: the results are the
    same bits.
    """
    offsets, order = _order_by_lead(events.lead, events.lead_end - events.lead_begin)
    occurred_at = np.take(events.occurred_at, order, mode="clip")
    if _order_by_time(offsets, order, occurred_at, events.occurred_at, events.tie):
        occurred_at = np.take(events.occurred_at, order, mode="clip")
    visible_at = occurred_at if events.visible_at is None else np.take(events.visible_at, order, mode="clip")
    if late is None:
        late = events.visible_at is not None and bool((visible_at > occurred_at).any())
    return Bucket(
        events.lead_begin,
        events.lead_end,
        offsets,
        occurred_at,
        visible_at if late else occurred_at,
        late,
        {name: np.take(codes, order, mode="clip") for name, codes in events.codes.items()},
        {name: np.take(numbers, order, mode="clip") for name, numbers in events.numbers.items()},
    )
