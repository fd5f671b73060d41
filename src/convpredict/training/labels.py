"""Labels: did the lead convert within the horizon after the cutoff, and is that already known?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from convpredict.config.base import Duration
from convpredict.features.time_rule import in_label, is_mature
from convpredict.history.history import History

from .lead_times import LeadTimes, microseconds_of, to_microseconds
from .outcomes import OutcomeKind, next_events


def label_column(horizon: Duration) -> str:
    """The name of the label of one horizon.

    >>> label_column(Duration("30d")), label_column(Duration("12h"))
    ('label_30d', 'label_12h')
    """
    return f"label_{horizon}"


def label_observations(
    history: History,
    observations: pa.Table,
    horizons: Sequence[Duration],
    outcome: OutcomeKind = "conversion",
) -> pa.Table:
    """One int8 column per horizon, named by :func:`label_column`, aligned with the rows of ``observations``.

    1
        the lead converted at an instant in [cutoff, cutoff + horizon), lost in between or not
    0
        it did not, and the data is complete over that interval; a lead that was lost is such a negative
    null
        immature (cutoff + horizon > ``history.known_until``, even where the conversion is already there: else
        fresh observations would be known as positives only), or unusable: the lead converted nobody knows
        when, or had already converted before the cutoff

    With the outcome ``purchase``, any revenue in the interval takes the place of the conversion, and nothing is
    unusable.

    Parameters
    ----------
    history
        Where the outcomes come from.
    observations
        A table with ``lead_row`` and ``cutoff``, in any order.
    horizons
        How far after the cutoff a conversion counts.
    outcome
        What counts: ``conversion`` or ``purchase``.
    """
    lead_row = observations["lead_row"].to_numpy()
    cutoff = microseconds_of(observations["cutoff"])
    converted_at, _ = next_events(history, outcome, lead_row, cutoff)
    unusable = LeadTimes.of(history, outcome).undated[lead_row] | (converted_at < cutoff)
    known_until = to_microseconds(history.known_until)
    columns = {}
    for horizon in horizons:
        positive = in_label(converted_at, cutoff, horizon.microseconds)
        unknown = unusable | ~is_mature(cutoff, horizon.microseconds, known_until)
        columns[label_column(horizon)] = pa.array(positive.astype(np.int8), mask=unknown)
    return pa.table(columns)


def mature_rows(history: History, observations: pa.Table, horizon: Duration) -> NDArray[np.bool_]:
    """For each observation, whether the data is complete over its whole label interval."""
    cutoff = microseconds_of(observations["cutoff"])
    mature: NDArray[np.bool_] = is_mature(cutoff, horizon.microseconds, to_microseconds(history.known_until))
    return mature
