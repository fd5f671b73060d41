"""The values of segment attributes as they were at a night's cutoff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..features.attribute_values import MISSING_TIME, AttributeTable
from ..features.grouped_times import Moments
from ..history.history import History

_REST = "(other)"


@dataclass(frozen=True)
class SegmentValues:
    """One attribute of every lead at any cutoff, by the rules of the features.

    A change that took effect or was recorded at the cutoff or later does not count. An attribute without changes has
    one value, that of the leads table, at every cutoff. ``names``: of the codes of a category; None: it is none.
    """

    table: AttributeTable = field(repr=False)
    names: NDArray[Any] | None = field(repr=False)

    @classmethod
    def of(cls, history: History, name: str) -> SegmentValues:
        """Read an attribute. Raises DataError for changes of a number or time that cannot be read as one."""
        kind = history.lead_attributes[name]
        if kind != "category":
            return cls(AttributeTable.build(history, name, kind, ()), None)
        known = _values(history, name)
        table = AttributeTable.build(history, name, kind, (*known, _REST))
        return cls(table, np.array([*known, _REST, None], dtype=object))

    def at(self, lead_row: NDArray[np.int64], cutoff: int) -> NDArray[Any]:
        """The value of each lead at a cutoff (µs); None or NaN where it has none."""
        values = self.table.at(lead_row, Moments.of(np.full(len(lead_row), cutoff, np.int64)))
        if self.names is not None:
            return np.asarray(self.names[values], dtype=object)
        if values.dtype == np.int64:
            dates = values.astype("datetime64[us]").astype(str).astype(object)
            dates[(values == MISSING_TIME) | (values >= cutoff)] = None
            return np.asarray(dates)
        return values.astype(object)


def segment_values(history: History, names: tuple[str, ...]) -> Mapping[str, SegmentValues]:
    """All segment attributes of a history, read once for any number of nights."""
    return {name: SegmentValues.of(history, name) for name in names}


def _values(history: History, name: str) -> list[str]:
    """All values that an attribute ever had, in text order."""
    changes = history.attribute_changes
    own = changes.filter(pc.equal(changes["attribute"], name))["value"]
    texts = [*history.leads[name].cast(pa.string()).chunks, *own.cast(pa.string()).chunks]
    found = pc.unique(pa.chunked_array(texts, pa.string())).drop_null().to_pylist()
    return sorted(value for value in found if value != _REST)
