"""Checks of the arrays that metrics take: what is wrong, where, and what to pass instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def check_labels(label: ArrayLike) -> Floats:
    """Labels as floats of shape (rows,); raises ``ValueError`` unless there are some, all 0 or 1."""
    y = _vector(label, "label")
    if len(y) == 0:
        raise ValueError(
            "there are no observations to evaluate: 'label' has no rows; check the split's instants"
        )
    wrong = np.flatnonzero((y != 0) & (y != 1))
    if len(wrong):
        raise ValueError(
            f"'label' must hold 0 and 1 only; row {wrong[0]} holds {y[wrong[0]]:g} ({len(wrong)} such rows). "
            "Drop observations without an outcome (immature or of unknown date) before evaluating"
        )
    return y


def check_scores(score: ArrayLike, rows: int, *, name: str = "score") -> Floats:
    """Scores as floats of shape (rows,); raises ``ValueError`` unless finite and as many as labels."""
    s = _vector(score, name)
    if len(s) != rows:
        raise ValueError(
            f"'{name}' has {len(s)} rows and 'label' has {rows}; they must describe the same observations"
        )
    wrong = np.flatnonzero(~np.isfinite(s))
    if len(wrong):
        raise ValueError(
            f"'{name}' must be finite; row {wrong[0]} holds {s[wrong[0]]} ({len(wrong)} such rows)"
        )
    return s


def check_probabilities(p: ArrayLike, rows: int, *, name: str = "p") -> Floats:
    """Probabilities as floats of shape (rows,); raises ``ValueError`` for anything outside [0, 1]."""
    q = check_scores(p, rows, name=name)
    wrong = np.flatnonzero((q < 0) | (q > 1))
    if len(wrong):
        raise ValueError(
            f"'{name}' must hold probabilities in [0, 1]; row {wrong[0]} holds {q[wrong[0]]:g} "
            f"({len(wrong)} such rows). "
            "Scorecard points are no probabilities: pass the fitted ones"
        )
    return q


def check_weights(weight: ArrayLike | None, rows: int) -> Floats:
    """Row weights as floats of shape (rows,), ones if None; raises ``ValueError`` if negative or all zero."""
    if weight is None:
        return np.ones(rows)
    w = check_scores(weight, rows, name="weight")
    if (w < 0).any() or not (w > 0).any():
        raise ValueError("'weight' must hold no negative value, and at least one positive value")
    return w


def to_series(values: Any) -> pd.Series[Any]:
    """Any column (list, NumPy, pandas, Arrow) as a series numbered from 0.

    >>> to_series(pa.chunked_array([["a"], ["b"]])).tolist()
    ['a', 'b']
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.to_pandas()
    return pd.Series(values).reset_index(drop=True)


def to_instants(cutoff: Any) -> pd.Series[pd.Timestamp]:
    """Cutoffs as UTC timestamps; integers are microseconds since 1970, as everywhere inside.

    >>> to_instants([1_710_720_000_000_000])[0].isoformat()
    '2024-03-18T00:00:00+00:00'
    """
    column = to_series(cutoff)
    if pd.api.types.is_integer_dtype(column.dtype):
        return pd.to_datetime(column, unit="us", utc=True)
    return pd.to_datetime(column, utc=True)


def _vector(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"'{name}' must be one-dimensional, of shape (rows,); got shape {array.shape}")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"'{name}' must be numeric; got dtype {array.dtype}") from None
