"""A feature table as MLflow hands it over, as the record batch that scoring reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from convpredict.errors import DataError
from convpredict.features.declarations import OTHER, FeatureColumn
from convpredict.models.bundle import Bundle


def batch_of_features(frame: pd.DataFrame, bundle: Bundle) -> pa.RecordBatch:
    """Columns of a feature table, typed and coded as the features are built.

    ``frame`` has the model's columns, by name; those that only the scorecard reads may be left out. A category that
    the vocabulary does not have counts as ``(other)``. Raises DataError with the number of the row and the column of
    what cannot be read, and for missing columns.
    """
    known = bundle.feature_set
    missing = [name for name in known.model_names if name not in frame.columns]
    if missing:
        raise DataError(
            f"the rows have neither created_at, as leads with their raw history do, nor the model's columns: "
            f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''} "
            f"({len(missing)} of {len(known.model_names)}) are missing; give one or the other"
        )
    columns = [column for column in known.columns if column.name in frame.columns]
    arrays = [
        _numbers(frame[column.name], column.name)
        if column.type == "number"
        else _categories(frame[column.name], column)
        for column in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, [column.name for column in columns])


def _numbers(values: pd.Series, name: str) -> pa.Array:
    if values.dtype.kind in "fiub":
        return pa.array(values.to_numpy(dtype=np.float32))
    numbers = np.array([_number(value, row, name) for row, value in enumerate(values, 1)], np.float32)
    return pa.array(numbers)


def _number(value: Any, row: int, name: str) -> float:
    if is_missing(value):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(
            f"row {row}: '{name}' is no number; give a number, or nothing where it is missing"
        ) from None


def _categories(values: pd.Series, column: FeatureColumn) -> pa.Array:
    codes = {text: code for code, text in enumerate(column.categories)}
    other = codes[OTHER]
    found = [
        None if is_missing(value) else codes.get(category_text(value, row, column.name), other)
        for row, value in enumerate(values, 1)
    ]
    return pa.DictionaryArray.from_arrays(
        pa.array(found, pa.int32()), pa.array(column.categories, pa.string())
    )


def category_text(value: Any, row: int, name: str) -> str:
    """A category as text; a whole number that a CSV file or a frame made a float is written without its point."""
    if isinstance(value, str):
        return value
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bool | int | float | np.generic):
        return str(value)
    raise DataError(f"row {row}: '{name}' is a category and must be text; got a {type(value).__name__}")


def is_missing(value: Any) -> bool:
    """Whether there is nothing: None, NaN, NaT or an empty text."""
    if value is None or value is pd.NaT or value is pd.NA:
        return True
    if isinstance(value, str):
        return value == ""
    return isinstance(value, float | np.floating) and math.isnan(value)
