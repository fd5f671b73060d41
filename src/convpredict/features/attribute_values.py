"""Lead attributes as of a cutoff: the value in the leads table, replaced by the latest visible change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from convpredict.errors import DataError
from convpredict.history.history import TIMESTAMP, AttributeType, History

from .grouped_times import GroupedTimes, Instants, Moments, instants_of

_WITH_OFFSET = r":\d{2}(?:\.\d+)?\s*(?:Z|[+-]\d{2}(?::?\d{2})?)$"
MISSING_TIME = np.iinfo(np.int64).min
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class AttributeTable:
    """One attribute of every lead: ``current`` from the leads table, and the changes by lead.

    Values are int32 codes of ``categories`` (-1: missing), float64 numbers (NaN) or int64 µs (``MISSING_TIME``).
    ``latest[i]`` is the value that holds once the first i + 1 changes in the order of lead and visibility
    are visible.
    """

    current: Values
    changes: GroupedTimes | None
    latest: Values
    categories: tuple[str, ...] = ()

    @classmethod
    def build(
        cls, history: History, attribute: str, kind: AttributeType, categories: tuple[str, ...]
    ) -> AttributeTable:
        """Code the attribute; ``categories`` (vocabulary and ``(other)``) matter for a category only.

        Raises DataError for changes of a number or time that cannot be read as one.
        """
        current = _encode(history.leads[attribute], kind, categories)
        rows = history.attribute_changes.filter(pc.equal(history.attribute_changes["attribute"], attribute))
        if not rows.num_rows:
            return cls(current, None, current[:0], categories)
        values = _encode(_parse(rows["value"], attribute, kind), kind, categories)
        lead = np.asarray(rows["lead_row"].to_numpy())
        valid_from = instants_of(rows["valid_from"])
        recorded_at = instants_of(pc.coalesce(rows["recorded_at"], rows["valid_from"]))
        return cls(current, *_latest(lead, valid_from, recorded_at, values, history.n_leads), categories)

    def at(self, lead_row: npt.NDArray[np.int64], moments: Moments) -> Values:
        """Value per observation as of its cutoff."""
        values = self.current[lead_row]
        if self.changes is not None:
            visible = self.changes.count(lead_row, moments)
            changed = np.flatnonzero(visible)
            place = self.changes.starts[lead_row[changed]] + visible[changed] - 1
            values[changed] = self.latest[place]
        return values


def _latest(
    lead: npt.NDArray[np.int32], valid_from: Instants, recorded_at: Instants, values: Values, n_leads: int
) -> tuple[GroupedTimes, Values]:
    """The changes by lead and visibility, and the value that holds from each on.

    The later by (valid_from, recorded_at, row order) wins, whenever it became visible: a change that is
    recorded late does not undo one that took effect after it.
    """
    n_changes = len(lead)
    by_precedence = np.lexsort((np.arange(n_changes), recorded_at, valid_from))
    precedence = np.empty(n_changes, np.int64)
    precedence[by_precedence] = np.arange(n_changes)
    visible_at = np.maximum(valid_from, recorded_at)
    order = np.lexsort((visible_at, lead))
    winner = np.maximum.accumulate(lead[order].astype(np.int64) * n_changes + precedence[order]) % n_changes
    return GroupedTimes(lead, visible_at, n_groups=n_leads), values[by_precedence[winner]]


def _encode(column: pa.ChunkedArray, kind: AttributeType, categories: tuple[str, ...]) -> Values:
    if kind == "category":
        text = column.cast(pa.string())
        codes = pc.index_in(text, value_set=pa.array(categories, pa.string()))
        other = pa.scalar(len(categories) - 1, pa.int32())
        coded = pc.if_else(pc.is_null(text), pa.scalar(-1, pa.int32()), pc.fill_null(codes, other))
        return np.array(coded.to_numpy(), np.int32)
    if kind == "number":
        return np.array(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), np.float64)
    return np.array(pc.fill_null(column.cast(TIMESTAMP).cast(pa.int64()), MISSING_TIME).to_numpy(), np.int64)


def _parse(values: pa.ChunkedArray, attribute: str, kind: AttributeType) -> pa.ChunkedArray:
    """The text of changes as numbers or instants; an instant without an offset is UTC."""
    if kind == "category":
        return values
    try:
        if kind == "number":
            return pc.utf8_trim_whitespace(values).cast(pa.float64())
        text = pc.utf8_trim_whitespace(values)
        has_offset = pc.match_substring_regex(text, _WITH_OFFSET)
        nothing = pa.scalar(None, pa.string())
        aware = pc.if_else(has_offset, text, nothing).cast(TIMESTAMP)
        naive = pc.if_else(has_offset, nothing, text).cast(pa.timestamp("us")).cast(TIMESTAMP)
        return pc.coalesce(aware, naive)
    except pa.ArrowInvalid:
        wanted = "numbers" if kind == "number" else "times in ISO 8601, like 2024-03-18T02:00:00Z"
        raise DataError(
            f"the attribute changes of '{attribute}' must be {wanted}, because it is declared as a {kind}; "
            f"at least one of {len(values)} cannot be read. Correct them, or declare it as a category"
        ) from None
