"""When each lead was created, lost and converted, as arrays that are aligned with ``lead_row``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from convpredict.features.time_rule import NEVER
from convpredict.history.history import TIMESTAMP, History

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(instant: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware instant.

    >>> to_microseconds(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    return (instant - _EPOCH) // timedelta(microseconds=1)


def to_instant(microseconds: int) -> datetime:
    """The UTC instant ``microseconds`` after 1970-01-01.

    >>> to_instant(86_400_000_000).isoformat()
    '1970-01-02T00:00:00+00:00'
    """
    return _EPOCH + timedelta(microseconds=int(microseconds))


def microseconds_of(column: pa.ChunkedArray | pa.Array, missing: int = NEVER) -> NDArray[np.int64]:
    """An Arrow column of timestamps as int64 microseconds; nulls become ``missing``."""
    values: NDArray[np.int64] = column.cast(TIMESTAMP).cast(pa.int64()).fill_null(missing).to_numpy()
    return values


def arrow_column(column: pd.Series[Any]) -> pa.Array | pa.ChunkedArray:
    """A pandas column as Arrow; instants with a time zone become UTC microseconds.

    pyarrow reads zoned columns through ``Series.values``, which pandas 3.1 warns about: hence the detour.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        instants = column.dt.tz_convert(None).dt.as_unit("us").to_numpy()
        return pa.array(instants, pa.timestamp("us"), from_pandas=True).cast(TIMESTAMP)
    return pa.array(column, from_pandas=True)


def known_times(table: pa.Table, occurred: str) -> NDArray[np.int64]:
    """When each row was known (µs): the later of happening and being recorded; -``NEVER`` where it has no date."""
    happened = microseconds_of(table[occurred], missing=-NEVER)
    return np.maximum(happened, microseconds_of(table["recorded_at"], missing=-NEVER))


def known_conversions(history: History, instant: int) -> tuple[pa.Table, pa.Table]:
    """Of the conversions known before an instant (µs), the first one of each lead, and the further ones.

    A conversion that was recorded later does not displace the one that was known then, whatever its date.
    """
    table = history.all_conversions
    known = table.filter(pa.array(known_times(table, "converted_at") < instant))
    if not history.further_conversions.num_rows:
        return known, history.further_conversions
    known = known.take(pa.array(np.argsort(known["lead_row"].to_numpy(), kind="stable")))
    lead_row = known["lead_row"].to_numpy()
    first = np.diff(lead_row, prepend=-1) != 0
    return known.filter(pa.array(first)), known.filter(pa.array(~first))


@dataclass(frozen=True)
class LeadTimes:
    """Per lead, in the order of ``lead_row``: instants in µs (``NEVER``: it did not happen) and a flag.

    ``undated`` marks the leads that converted at a time nobody knows: their observations are unusable.
    """

    created_at: NDArray[np.int64]
    lost_at: NDArray[np.int64]
    converted_at: NDArray[np.int64]
    undated: NDArray[np.bool_]

    @classmethod
    def of(cls, history: History, outcome: Literal["conversion", "purchase"] = "conversion") -> LeadTimes:
        """Read them from a history; where a purchase is the outcome, a conversion ends nothing and counts as none."""
        converted_at = np.full(history.n_leads, NEVER, np.int64)
        undated = np.zeros(history.n_leads, np.bool_)
        if outcome == "conversion":
            rows = history.conversions["lead_row"].to_numpy()
            known = microseconds_of(history.conversions["converted_at"])
            converted_at[rows] = known
            undated[rows] = known == NEVER
        return cls(
            microseconds_of(history.leads["created_at"]),
            microseconds_of(history.leads["lost_at"]),
            converted_at,
            undated,
        )
