"""One column of the leads, coded for the checks: which rows are filled, which value or bin each row has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Kind = Literal["category", "number", "time"]
PLACEHOLDERS = frozenset(
    {
        "",
        "select",
        "please select",
        "n/a",
        "na",
        "nan",
        "null",
        "-",
        "--",
        "?",
        "(blank)",
        "not specified",
        "<na>",
    }
)
"""Texts that stand for a field that nobody filled, whatever their case."""

_POINT_MASS = 0.03
_MOST_POINTS = 15
_QUANTILES = 16
_LEAST_ROWS = 10
_FOLDS = 5
_PRIOR_CONVERSIONS = 2.0


@dataclass(frozen=True)
class Column:
    """A column of shape (leads,): numbers (NaN: missing) or text codes (-1: missing) with their values.

    ``numbers`` of a time are days since 1970. ``values`` is empty for numbers and times.
    """

    name: str
    kind: Kind
    numbers: NDArray[np.float64]
    codes: NDArray[np.intp]
    values: tuple[str, ...] = ()

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Which leads have a value."""
        return self.codes >= 0 if self.kind == "category" else ~np.isnan(self.numbers)

    def bins(self) -> NDArray[np.intp]:
        """A small code per row: frequent values by themselves, rare ones together, numbers by quantile; 0 missing."""
        if self.kind == "category":
            counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))
            place = np.where(counts >= _LEAST_ROWS, np.arange(len(counts)) + 2, 1)
            return (
                np.where(self.codes >= 0, place[self.codes], 0) if len(counts) else np.zeros_like(self.codes)
            )
        return number_bins(self.numbers)

    def take(self, rows: NDArray[np.intp]) -> Column:
        """The same column of some leads."""
        return Column(self.name, self.kind, self.numbers[rows], self.codes[rows], self.values)


def number_bins(numbers: NDArray[np.float64]) -> NDArray[np.intp]:
    """Bins of numbers: missing 0, frequent single values by themselves, the others by quantile.

    >>> number_bins(np.array([np.nan, 0.0, 0.0, 5.0])).tolist()
    [0, 1, 1, 2]
    """
    bins = np.zeros(len(numbers), np.intp)
    filled = np.flatnonzero(~np.isnan(numbers))
    if not len(filled):
        return bins
    held = numbers[filled]
    distinct, inverse, counts = np.unique(held, return_inverse=True, return_counts=True)
    if len(distinct) <= _MOST_POINTS:
        bins[filled] = inverse + 1
        return bins
    often = np.argsort(-counts, kind="stable")[:_MOST_POINTS]
    often = np.sort(often[counts[often] >= _POINT_MASS * len(held)])
    place = np.zeros(len(distinct), np.intp)
    place[often] = np.arange(1, len(often) + 1)
    code = place[inverse]
    rest = code == 0
    if rest.any():
        edges = np.unique(np.quantile(held[rest], np.linspace(0, 1, _QUANTILES + 1)[1:-1]))
        code[rest] = len(often) + 1 + np.searchsorted(edges, held[rest], side="right")
    bins[filled] = code
    return bins


def column_of(name: str, values: Any, kind: Kind | None = None) -> Column:
    """Code a column: pandas, Arrow (through pandas) or NumPy values; ``kind`` is found out if it is not given.

    Text that stands for nothing (``PLACEHOLDERS``) counts as missing; text that is numbers, as numbers.

    >>> column_of("city", ["Ulm", "Select", None]).filled.tolist(), column_of("score", ["1", "2.5"]).kind
    ([True, False, False], 'number')
    """
    series = values if isinstance(values, pd.Series) else pd.Series(values)
    if kind == "time" and pd.api.types.is_numeric_dtype(series.dtype):
        return _numeric(name, "time", series.to_numpy(np.float64, na_value=np.nan))
    if kind in (None, "time") and pd.api.types.is_datetime64_any_dtype(series.dtype):
        instants = pd.to_datetime(series, utc=True)
        days = (instants - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
        return _numeric(name, "time", np.asarray(days, np.float64))
    if kind == "number" or (kind is None and pd.api.types.is_numeric_dtype(series.dtype)):
        return _numeric(name, "number", pd.to_numeric(series).to_numpy(np.float64, na_value=np.nan))
    text = series.astype("string").str.strip()
    text = text.mask(text.str.lower().isin(PLACEHOLDERS))
    if kind is None and text.notna().any():
        numbers = pd.to_numeric(text, errors="coerce")
        if bool(numbers.notna().sum() >= 0.98 * text.notna().sum()):
            return _numeric(name, "number", numbers.to_numpy(np.float64, na_value=np.nan))
    codes, found = pd.factorize(text, sort=True)
    return Column(
        name,
        "category",
        np.full(len(codes), np.nan),
        codes.astype(np.intp),
        tuple(str(value) for value in found),
    )


def _numeric(name: str, kind: Kind, numbers: NDArray[np.float64]) -> Column:
    cleaned: NDArray[np.float64] = np.where(np.isfinite(numbers), numbers, np.nan)
    return Column(name, kind, cleaned, np.full(len(cleaned), -1, np.intp))


def score_bins(
    bins: NDArray[np.intp],
    outcome: NDArray[np.bool_],
    expected: NDArray[np.float64],
    cluster: NDArray[np.intp] | None = None,
) -> NDArray[np.float64]:
    """Outcomes over expected outcomes of each row's bin, counted on the other folds, shrunk towards 1.

    ``expected`` is the share of converted leads of each row's cohort. A row never sees its own outcome (nor
    that of its ``cluster``), so a column of noise scores noise.
    """
    unit = np.arange(len(bins)) if cluster is None else cluster
    fold = np.random.default_rng(0).permutation(int(unit.max()) + 1 if len(unit) else 0)[unit] % _FOLDS
    size = int(bins.max()) + 1 if len(bins) else 1
    flat = fold * size + bins
    hits = np.bincount(flat, weights=outcome, minlength=_FOLDS * size).reshape(_FOLDS, size)
    due = np.bincount(flat, weights=expected, minlength=_FOLDS * size).reshape(_FOLDS, size)
    ratio = (hits.sum(0) - hits + _PRIOR_CONVERSIONS) / (due.sum(0) - due + _PRIOR_CONVERSIONS)
    scored: NDArray[np.float64] = ratio[fold, bins]
    return scored


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in quotes for a sentence, the first few.

    >>> listed(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
