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

    The events of lead_row r are ``lead_offsets[r - lead_begin] : lead_offsets[r - lead_begin + 1]``. Without a late
    record in the bucket ``late`` is false and ``visible_at`` is ``occurred_at`` itself. ``codes`` and ``numbers`` as in
    :class:`~convpredict.engines.buckets.Events`.
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
def _order_by_lead(lead: Any, occurred_at: Any, tie: Any, n_leads: int) -> Any:  # pragma: no cover - compiled
    """Offsets of the leads and the order of the rows by (lead, occurred_at, tie)."""
    offsets = np.zeros(n_leads + 1, np.int64)
    for i in range(len(lead)):
        offsets[lead[i] + 1] += 1
    largest = 0
    for row in range(n_leads):
        largest = max(largest, offsets[row + 1])
        offsets[row + 1] += offsets[row]
    cursor = offsets[:-1].copy()
    order = np.empty(len(lead), np.int64)
    for i in range(len(lead)):
        order[cursor[lead[i]]] = i
        cursor[lead[i]] += 1
    scratch = np.empty(largest, np.int64)
    for row in range(n_leads):
        begin, end = offsets[row], offsets[row + 1]
        for k in range(begin + 1, end):
            left, right = order[k - 1], order[k]
            if occurred_at[left] > occurred_at[right] or (
                occurred_at[left] == occurred_at[right] and tie[left] > tie[right]
            ):
                sort_stable(order, scratch, begin, end, occurred_at, tie)
                break
    return offsets, order


def index_events(events: Events, *, late: bool | None = None) -> Bucket:
    """Group the events by lead and order each lead's by (occurred_at, tie), stably.

    ``late=True`` asks for the code path for late records although there may be none (the results are the same bits).
    """
    offsets, order = _order_by_lead(
        events.lead, events.occurred_at, events.tie, events.lead_end - events.lead_begin
    )
    occurred_at = events.occurred_at[order]
    visible_at = occurred_at if events.visible_at is None else events.visible_at[order]
    if late is None:
        late = events.visible_at is not None and bool((visible_at > occurred_at).any())
    return Bucket(
        events.lead_begin,
        events.lead_end,
        offsets,
        occurred_at,
        visible_at if late else occurred_at,
        late,
        {name: codes[order] for name, codes in events.codes.items()},
        {name: numbers[order] for name, numbers in events.numbers.items()},
    )
