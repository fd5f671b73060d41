"""What a table of scores must never be, whatever the limits of the gates: each of these stops the night."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .facts import GateResult

SOUND = "sound"
"""The name of this gate; it cannot be waived."""


def check_scores(scores: pa.Table, probability_columns: Sequence[str], observations: int) -> GateResult:
    """Whether every observation has exactly one row, with probabilities in [0, 1] that never fall in the horizon.

    ``probability_columns`` go from the shortest horizon to the longest.

    >>> table = pa.table({"lead_id": ["a", "b"], "p_convert_7d": [0.1, 0.2], "p_convert_30d": [0.1, 0.1]})
    >>> check_scores(table, ["p_convert_7d", "p_convert_30d"], 2).message
    'p_convert_30d lies below p_convert_7d in 1 row'
    """
    faults = list(_faults(scores, probability_columns, observations))
    if not faults:
        return GateResult(SOUND, "pass", "every open lead has one row of sound probabilities", value=0.0)
    return GateResult(SOUND, "stop", "; ".join(faults), value=float(len(faults)), unit="faults")


def _faults(scores: pa.Table, probability_columns: Sequence[str], observations: int) -> Iterator[str]:
    if scores.num_rows != observations:
        yield f"{scores.num_rows:,} rows for {observations:,} open leads"
    repeated = scores.num_rows - pc.count_distinct(scores["lead_id"], mode="all").as_py()
    if repeated:
        yield f"{_rows(repeated)} repeat a lead"
    former: tuple[str, np.ndarray] | None = None
    for name in probability_columns:
        p = scores[name].to_numpy()
        outside = int((~((p >= 0) & (p <= 1))).sum())
        if outside:
            yield f"{name} is missing or outside of 0 to 1 in {_rows(outside)}"
        if former is not None and (falling := int((p < former[1]).sum())):
            yield f"{name} lies below {former[0]} in {_rows(falling)}"
        former = name, p


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"
