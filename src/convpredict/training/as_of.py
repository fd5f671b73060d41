"""A history as it was known at an instant: what a training run or a nightly run would have been given then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from convpredict.history.history import TIMESTAMP, History

from .lead_times import known_conversions, known_times, microseconds_of, to_microseconds

_FAR_FUTURE = to_microseconds(datetime(9000, 1, 1, tzinfo=UTC))


def history_as_of(history: History, instant: datetime) -> History:
    """The history without what became known at ``instant`` or later; ``known_until`` is ``instant``.

    Conversions, revenue, spend, changes of attributes and losses are cut; of a lead with several conversions, the first
    dated one of those that were known counts. Later interactions and leads stay in
    the tables: the time rule keeps them out of every observation up to ``instant``, of every vocabulary learnt
    until then, and of every rate and load. What carries no date cannot be cut: attributes that are not a
    history of changes, and conversions without a date and a recording time, whose leads are left out as always.
    """
    now = to_microseconds(instant)
    leads = history.leads
    lost = microseconds_of(leads["lost_at"])
    still_open = pa.array(np.where(lost < now, lost, 0), pa.int64(), mask=lost >= now).cast(TIMESTAMP)
    position = leads.schema.get_field_index("lost_at")
    conversions, further_conversions = known_conversions(history, now)
    return replace(
        history,
        leads=leads.set_column(position, leads.schema.field(position), still_open),
        conversions=conversions,
        further_conversions=further_conversions,
        revenue=_known(history.revenue, "occurred_at", now),
        spend=_known(history.spend, "occurred_at", now),
        attribute_changes=_known(history.attribute_changes, "valid_from", now),
        known_until=instant,
        fingerprint=f"{history.fingerprint} as of {instant.isoformat()}",
    )


def without_leads(history: History, leave_out: NDArray[np.bool_]) -> History:
    """The history as if some leads (a mask by lead row) were created long after it ends, and nothing came of them.

    The time rule then keeps them out of every observation, vocabulary, rate and load. Their rows in ``leads`` stay,
    since every other lead's row counts from there; their interactions stay too, and nobody looks at them.
    """
    if not leave_out.any():
        return history
    leads = history.leads
    position = leads.schema.get_field_index("created_at")
    created = np.where(leave_out, _FAR_FUTURE, microseconds_of(leads["created_at"]))

    def others(table: pa.Table) -> pa.Table:
        return table.filter(pa.array(~leave_out[table["lead_row"].to_numpy()]))

    return replace(
        history,
        leads=leads.set_column(position, leads.schema.field(position), pa.array(created).cast(TIMESTAMP)),
        conversions=others(history.conversions),
        further_conversions=others(history.further_conversions),
        revenue=others(history.revenue),
        attribute_changes=others(history.attribute_changes),
    )


def _known(table: pa.Table, occurred: str, now: int) -> pa.Table:
    """The rows that happened and were recorded before an instant (µs)."""
    return table.filter(pa.array(known_times(table, occurred) < now))
