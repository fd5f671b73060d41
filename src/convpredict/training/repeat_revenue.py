"""What customers spend at which age, counted from their creation: how a value window that is still open will go on."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from convpredict.features.time_rule import MICROSECONDS_PER_DAY, NEVER
from convpredict.history.history import History

from .lead_times import LeadTimes, microseconds_of, to_microseconds

Floats = NDArray[np.float64]


def repeat_revenue(history: History, known_by: datetime, *, step_days: int = 7) -> tuple[Floats, Floats]:
    """Revenue and customer-days per step of age, as known before an instant.

    Entry k covers the ages from ``k * step_days`` to ``(k + 1) * step_days`` after the creation of each lead that was
    created before ``known_by``. What was bought at the creation itself made the customer, it is no repeat, and
    is left out. Returns two arrays of equal length, empty without customers.
    """
    created = LeadTimes.of(history).created_at
    now, step = to_microseconds(known_by), step_days * MICROSECONDS_PER_DAY
    followed = np.maximum(now - created, 0)
    if not followed.any():
        return np.empty(0), np.empty(0)
    n_steps = int(-(-int(followed.max()) // step))
    begins = np.arange(n_steps) * step
    ordered = np.sort(followed)
    ends = np.concatenate([[0], np.cumsum(ordered.astype(np.float64))])

    def days_within(age: NDArray[np.int64]) -> Floats:
        young = np.searchsorted(ordered, age)
        total: Floats = (ends[young] + (len(ordered) - young) * age.astype(np.float64)) / MICROSECONDS_PER_DAY
        return total

    exposure = days_within(begins + step) - days_within(begins)
    table = history.revenue
    lead = table["lead_row"].to_numpy()
    occurred = microseconds_of(table["occurred_at"], missing=NEVER)
    recorded = microseconds_of(table["recorded_at"], missing=-NEVER)
    amount = table["amount"].to_numpy().astype(np.float64)
    age = occurred - created[lead]
    counts = (np.maximum(occurred, recorded) < now) & (age > 0) & np.isfinite(amount)
    revenue = np.bincount(age[counts] // step, amount[counts], minlength=n_steps)
    return np.asarray(revenue, np.float64), exposure
