"""From a feature table to the matrix that the models read: numbers as they are, categories as codes.

A missing category has a code of its own, the one after the last category: trees that divide one category from the
rest, as LightGBM's do here, could not otherwise divide the missing from the known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from convpredict.errors import BundleError
from convpredict.features.declarations import OTHER

Matrix = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """One model input. ``categories`` (of a category column) are in code order: the i-th has the code i."""

    name: str
    type: Literal["number", "category"]
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoder:
    """Which columns a model was fitted on, and how each becomes a column of floats.

    A category that was not there at fitting becomes ``(other)`` where the column has that bucket, and missing
    where it has not. Names and categories are compared as text, so the column 1 is ``"1"``.

    >>> frame = pd.DataFrame({"calls": [1, 2], "source": pd.Categorical(["ads", None])})
    >>> encoder = Encoder.learn(frame)
    >>> encoder.encode(frame).tolist()
    [[1.0, 0.0], [2.0, 1.0]]
    """

    columns: tuple[Column, ...]

    @property
    def categorical(self) -> tuple[int, ...]:
        """Positions of the category columns."""
        return tuple(i for i, column in enumerate(self.columns) if column.type == "category")

    @classmethod
    def learn(cls, X: pd.DataFrame | npt.NDArray[Any]) -> Encoder:
        """Names, types and categories of a frame; the columns of an array are called ``x0``, ``x1``, ...

        Raises ValueError for columns that are neither real numbers nor categories.
        """
        if not isinstance(X, pd.DataFrame):
            return cls(tuple(Column(name, "number") for name in _names_of_array(X.shape[1])))
        columns = []
        for name, values in X.items():
            categories = _categories(values)
            if categories is None:
                _check_number(values)
                columns.append(Column(str(name), "number"))
            else:
                columns.append(Column(str(name), "category", categories))
        return cls(tuple(columns))

    def encode(self, X: pd.DataFrame | npt.NDArray[Any], rows: slice = slice(None)) -> Matrix:
        """The rows as a matrix, float32 if nothing is lost by it, else float64.

        A missing number is NaN; a missing category has the code ``len(column.categories)``.

        Raises ValueError where a frame has other columns than at fitting or another order (an array has no names,
        so that after one columns are known by their position alone), where a column has another type, and where
        it holds an infinite number.
        """
        if not isinstance(X, pd.DataFrame):
            matrix = np.asarray(X[rows])
            return matrix if matrix.dtype == np.float32 else matrix.astype(np.float64)
        self._check_names(X)
        part = X.iloc[rows]
        narrow = all(_is_narrow(part.dtypes.iloc[i]) for i in range(len(self.columns)))
        matrix = np.empty(
            (len(part), len(self.columns)), dtype=np.float32 if narrow else np.float64, order="F"
        )
        for i, column in enumerate(self.columns):
            matrix[:, i] = _encode_column(part.iloc[:, i], column)
        return matrix

    def _check_names(self, X: pd.DataFrame) -> None:
        fitted, given = [column.name for column in self.columns], [str(name) for name in X.columns]
        if given == fitted or (fitted == _names_of_array(len(fitted)) and len(given) == len(fitted)):
            return
        missing = [name for name in fitted if name not in given]
        further = [name for name in given if name not in fitted]
        what = [
            f"{word} {', '.join(map(repr, names[:5]))}{' and more' if len(names) > 5 else ''}"
            for word, names in (("without", missing), ("with", further))
            if names
        ]
        raise ValueError(
            f"X does not have the columns that the model was fitted on: {' and '.join(what) or 'in another order'}. "
            "They are read by position, so that one would be taken for another; give the columns of the fit, in "
            "their order"
        )

    def to_list(self) -> list[dict[str, Any]]:
        """Plain text and lists, for ``schema.json``."""
        return [
            {"name": column.name, "type": column.type}
            | ({"categories": list(column.categories)} if column.type == "category" else {})
            for column in self.columns
        ]

    @classmethod
    def from_list(cls, stored: Sequence[Mapping[str, Any]]) -> Encoder:
        """Restore what :meth:`to_list` gave. Raises BundleError for anything else."""
        columns = []
        for entry in stored if isinstance(stored, list) else [None]:
            categories = entry.get("categories", []) if isinstance(entry, Mapping) else None
            if (
                not isinstance(entry, Mapping)
                or not isinstance(entry.get("name"), str)
                or entry.get("type") not in ("number", "category")
                or not isinstance(categories, list)
                or not all(isinstance(category, str) for category in categories)
            ):
                raise BundleError(
                    "the list of model columns must hold name, type (number or category) and categories; "
                    f"got {entry!r}: export the bundle anew"
                )
            columns.append(Column(entry["name"], entry["type"], tuple(categories)))
        return cls(tuple(columns))


def _names_of_array(n_columns: int) -> list[str]:
    return [f"x{i}" for i in range(n_columns)]


def _categories(values: pd.Series[Any]) -> tuple[str, ...] | None:
    if isinstance(values.dtype, pd.CategoricalDtype):
        found = list(values.dtype.categories)
    elif isinstance(values.dtype, pd.ArrowDtype) and "dictionary" in str(values.dtype):
        found = list(values.dropna().unique())
    else:
        return None
    names = tuple(str(category) for category in found)
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        alike = [category for category in found if str(category) == twice]
        raise ValueError(
            f"column {values.name!r} has the categories {' and '.join(map(repr, alike))}, which are the same text. A "
            "model keeps categories as text and would take one for the other; rename one of them, or convert the "
            "column by .astype(str).astype('category') if they are one"
        )
    return names


def _check_number(values: pd.Series[Any]) -> None:
    if pd.api.types.is_complex_dtype(values.dtype):
        raise ValueError(
            f"column {values.name!r} must hold real numbers; got dtype {values.dtype}. A model has no order for "
            "complex numbers, and dropping the imaginary part would lose data: give both parts as columns (.real "
            "and .imag), or the size (.abs())"
        )
    if pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        return
    raise ValueError(
        f"column {values.name!r} must hold numbers or be a pandas Categorical; got dtype {values.dtype}. "
        "Text has no order and dates no zero that a model could use: convert text with .astype('category'), "
        "dates to days"
    )


def _is_narrow(dtype: Any) -> bool:
    if isinstance(dtype, pd.CategoricalDtype | pd.ArrowDtype):
        return isinstance(dtype, pd.CategoricalDtype) or str(dtype).startswith(
            ("float[", "dictionary", "bool")
        )
    return str(dtype).lower() in ("float32", "float16", "int8", "int16", "uint8", "uint16", "bool", "boolean")


def _encode_column(values: pd.Series[Any], column: Column) -> npt.NDArray[Any]:
    categories = _categories(values)
    if (categories is not None) != (column.type == "category"):
        raise ValueError(
            f"column {column.name!r} was a {column.type} when the model was fitted and is of dtype "
            f"{values.dtype} now; build it with the same feature set"
        )
    if categories is None:
        _check_number(values)
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isinf(numbers).any():
            raise ValueError(f"column {column.name!r} contains infinity; make it missing (NaN) or cap it")
        return numbers
    known = {category: float(code) for code, category in enumerate(column.categories)}
    missing = float(len(known))
    fallback = known.get(OTHER, missing)
    translation = np.array([known.get(category, fallback) for category in categories] + [missing])
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy()
    else:
        codes = pd.Categorical(values, categories=list(categories)).codes
    return translation[codes]
