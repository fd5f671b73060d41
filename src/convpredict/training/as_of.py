"""A history as it was known at an instant: what a training run or a nightly run would have been given then."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from convpredict.features.time_rule import NEVER
from convpredict.history.history import TIMESTAMP, History

from .lead_times import microseconds_of, to_microseconds


def history_as_of(history: History, instant: datetime) -> History:
    """The history without what became known at ``instant`` or later; ``known_until`` is ``instant``.

    Conversions, revenue, spend, changes of attributes and losses are cut. Later interactions and leads stay in
    the tables: the time rule keeps them out of every observation up to ``instant``, of every vocabulary learnt
    until then, and of every rate and load. What carries no date cannot be cut: attributes that are not a
    history of changes, and conversions without a date and a recording time, whose leads are left out as always.
    """
    now = to_microseconds(instant)
    leads = history.leads
    lost = microseconds_of(leads["lost_at"])
    still_open = pa.array(np.where(lost < now, lost, 0), pa.int64(), mask=lost >= now).cast(TIMESTAMP)
    position = leads.schema.get_field_index("lost_at")
    return replace(
        history,
        leads=leads.set_column(position, leads.schema.field(position), still_open),
        conversions=_known(history.conversions, "converted_at", now),
        revenue=_known(history.revenue, "occurred_at", now),
        spend=_known(history.spend, "occurred_at", now),
        attribute_changes=_known(history.attribute_changes, "valid_from", now),
        known_until=instant,
        fingerprint=f"{history.fingerprint} as of {instant.isoformat()}",
    )


def _known(table: pa.Table, occurred: str, now: int) -> pa.Table:
    """The rows that happened and were recorded before an instant (µs)."""
    happened = microseconds_of(table[occurred], missing=-NEVER)
    recorded = microseconds_of(table["recorded_at"], missing=-NEVER)
    return table.filter(pc.less(pa.array(np.maximum(happened, recorded)), pa.scalar(now, pa.int64())))
