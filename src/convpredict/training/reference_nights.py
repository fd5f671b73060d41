"""Leads as the nightly run would have found them on the last nights of the data: what a model's profile is made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from convpredict.config.base import Duration
from convpredict.features.time_rule import MICROSECONDS_PER_DAY
from convpredict.history.history import TIMESTAMP, History

from .as_of import history_as_of
from .lead_ages import LearntAges
from .lead_times import to_microseconds
from .observations import observation_table, open_observations
from .outcomes import OutcomeKind

NIGHTS = 28
MOST_ROWS = 60_000


def reference_nights(
    history: History,
    *,
    begin: datetime,
    at: str,
    max_age: Duration | None = None,
    outcome: OutcomeKind = "conversion",
    ages: LearntAges | None = None,
    nights: int = NIGHTS,
    most_rows: int = MOST_ROWS,
) -> pa.Table:
    """Observations of the leads that were open on the last ``nights`` nights of the data, from ``begin`` on.

    The cutoffs are daily at ``at`` (``HH:MM``, UTC), so that every day of the week is there as the nightly run sees it,
    whatever cutoffs were trained on. Who was open is what was known on the night; leads of an age that the learnt
    ``ages`` do not cover are not scored on any night, and not here. Where there are more than
    ``most_rows``, other leads are taken on every night, about as many on each. Columns as in
    :class:`.observations.Observations`, sorted by lead_row and cutoff.
    """
    hour, minute = map(int, at.split(":"))
    last = history.known_until.astimezone(UTC)
    newest = last.replace(hour=hour, minute=minute, second=0, microsecond=0)
    newest -= timedelta(days=1) if newest > last else timedelta(0)
    cutoffs = [newest - timedelta(days=back) for back in range(nights)]
    lead_rows, instants = [], []
    for night in sorted(cutoff for cutoff in cutoffs if cutoff >= begin):
        then = history_as_of(history, night)
        rows = open_observations(then, night, max_age, outcome, ages).table["lead_row"]
        lead_rows.append(rows.to_numpy())
        instants.append(to_microseconds(night))
    total = sum(map(len, lead_rows))
    step = max(1, -(-total // most_rows))
    for place, night_us in enumerate(instants):
        mixed = lead_rows[place].astype(np.uint64) * np.uint64(2_654_435_761) >> np.uint64(8)
        day = np.uint64(night_us // MICROSECONDS_PER_DAY)
        lead_rows[place] = lead_rows[place][(mixed + day) % np.uint64(step) == 0]
    lead_row = np.concatenate([np.zeros(0, np.int32), *lead_rows]).astype(np.int32)
    cutoff = np.repeat(np.array(instants, np.int64), [len(rows) for rows in lead_rows])
    order = np.lexsort((cutoff, lead_row))
    if not len(order):
        empty = {"lead_row": pa.array([], pa.int32()), "lead_id": history.leads["lead_id"].slice(0, 0)}
        return pa.table({**empty, "cutoff": pa.array([], TIMESTAMP)})
    return observation_table(history, lead_row[order], cutoff[order])
