"""Feature tables as cells: built from plain rows, addressed by (lead_id, cutoff, column), held to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from convpredict.features.build import build_features
from convpredict.features.feature_set import FeatureSet
from convpredict.history.history import TIMESTAMP
from oracle import Rows
from strategies import history_of

Pair = tuple[Any, datetime]
Cells = dict[tuple[Any, datetime, str], bytes | str | None]
Build = Callable[[Rows, list[Pair], FeatureSet], Cells]


def observations_of(rows: Rows, pairs: Iterable[Pair]) -> pa.Table:
    """The observations of some (lead_id, cutoff), in the order that the build wants."""
    row_of = {lead_id: row for row, lead_id in enumerate(sorted(lead[0] for lead in rows.leads))}
    ordered = sorted({(row_of[lead_id], cutoff) for lead_id, cutoff in pairs})
    id_of = {row: lead_id for lead_id, row in row_of.items()}
    return pa.table(
        {
            "lead_row": pa.array([row for row, _ in ordered], pa.int32()),
            "lead_id": pa.array([id_of[row] for row, _ in ordered]),
            "cutoff": pa.array([cutoff for _, cutoff in ordered], TIMESTAMP),
        }
    )


def cells_of(table: pa.Table) -> Cells:
    """Every cell: the four bytes of a number, the text of a category, ``None`` for a missing one."""
    keys = list(zip(table["lead_id"].to_pylist(), table["cutoff"].to_pylist(), strict=True))
    found: Cells = {}
    for name in table.column_names[2:]:
        column = table[name]
        if pa.types.is_float32(column.type):
            values: list[Any] = [value.tobytes() for value in column.to_numpy()]
        else:
            values = column.cast(pa.string()).to_pylist()
        found.update({(*key, name): value for key, value in zip(keys, values, strict=True)})
    return found


def as_number(cell: Any) -> float:
    """The number in a cell."""
    return float(np.frombuffer(cell, np.float32)[0])


def build_cells(rows: Rows, pairs: list[Pair], feature_set: FeatureSet) -> Cells:
    """Build the features of some observations from plain rows, the way everybody does."""
    table = build_features(history_of(rows), observations_of(rows, pairs), feature_set)
    return cells_of(table)
