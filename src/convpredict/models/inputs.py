"""What the estimators check about what they are given: parameters, columns, labels, weights, lead ids and cutoffs."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from convpredict.errors import ConfigError, NotEnoughDataError

from .calibration import Floats

Table = pd.DataFrame | npt.NDArray[Any]
LARGEST_SEED = 2**31 - 51
"""The further seeds of a model are the next ones, and LightGBM reads 32 bits."""


class OneClassError(NotEnoughDataError, ValueError):
    """All labels are equal, so there is nothing to tell apart."""


class ParameterError(ConfigError, ValueError):
    """A parameter of an estimator is of a type, or has a value, that it cannot work with."""


def require(holds: bool, name: str, value: Any, expected: str, remedy: str) -> None:
    """Raise ParameterError with what was expected of the parameter unless that ``holds``."""
    if not holds:
        raise ParameterError(f"{name} must be {expected}; got {value!r}: {remedy}")


def is_number(value: Any) -> bool:
    """Whether it is one real number, and neither True nor False."""
    return isinstance(value, Real) and value is not True and value is not False


def is_whole(value: Any, least: int, most: float = np.inf) -> bool:
    """Whether it is an integer (of Python or NumPy) in that range, ends included, and neither True nor False."""
    return (
        isinstance(value, Integral)
        and value is not True
        and value is not False
        and least <= int(value) <= most
    )


def is_auto(value: Any) -> bool:
    """Whether it is the word ``auto``."""
    return isinstance(value, str) and value == "auto"


def check_random_state(value: Any) -> None:
    """Raise ParameterError unless it is None or an integer that a model can count its seeds from."""
    require(
        value is None or is_whole(value, 0, LARGEST_SEED),
        "random_state",
        value,
        f"a whole number from 0 to {LARGEST_SEED}, or None (0)",
        "a generator gives other numbers each time it is asked, and equal data would no longer give equal models; "
        "draw a number from it once, random_state=int(generator.randint(1_000_000))",
    )


def check_rows(estimator: Any, X: Table, y: npt.ArrayLike | None = None, *, reset: bool = False) -> Table:
    """``X`` with its column names and number checked by scikit-learn's rules; an array also for its content.

    Raises ValueError for what does not fit, and where an entry of ``y`` is missing.
    """
    if y is not None:
        _check_none_missing(y)
    if isinstance(X, pd.DataFrame):
        checked: Table = validate_data(estimator, X, reset=reset, skip_check_array=True)
        if reset and 0 in X.shape:
            raise ValueError(
                f"X has {X.shape[0]} rows and {X.shape[1]} columns, so there is nothing to learn from"
            )
        return checked
    settings = {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan"}
    if y is None:
        return np.asarray(validate_data(estimator, X, reset=reset, **settings))
    return np.asarray(validate_data(estimator, X, y, reset=reset, **settings)[0])


def check_labels(
    X: Table, y: npt.ArrayLike | None, sample_weight: npt.ArrayLike | None
) -> tuple[npt.NDArray[Any], Floats, Floats]:
    """The two classes, the label of each row (1: the second class) and its weight.

    Raises OneClassError where all labels with weight are equal, ValueError for more than two classes.
    """
    if y is None:
        raise ValueError("fit requires y to be passed, but the target y is None; give the labels")
    _check_none_missing(y)
    values = np.asarray(column_or_1d(np.asarray(y), warn=True))
    if len(X) != len(values):
        raise ValueError(f"X has {len(X)} rows and y {len(values)}; they must be of the same observations")
    check_classification_targets(values)
    weight = check_weights(X, sample_weight)
    classes, codes = np.unique(values, return_inverse=True)
    if len(classes) > 2:
        raise ValueError(
            f"Only binary classification is supported. y holds {len(classes)} classes, and there are two to "
            "tell apart: converted or not"
        )
    label = codes.astype(np.float64)
    check_two_classes(label, weight)
    return classes, label, weight


def check_two_classes(label: Floats, weight: Floats) -> None:
    """Raise OneClassError unless rows with weight have both labels."""
    weighted = label[weight > 0]
    if len(weighted) == 0 or weighted.min() == weighted.max():
        raise OneClassError(
            f"y has one class only ({len(weighted)} rows with weight), so there is nothing to tell apart; "
            "take a longer training period, or check how conversions are mapped"
        )


def check_weights(X: Any, sample_weight: npt.ArrayLike | None) -> Floats:
    """The weight of each row of ``X``: 1 where none are given. Raises ValueError for what cannot be a weight."""
    if sample_weight is not None:
        given = np.asarray(sample_weight, dtype=np.float64)
        wrong = ~np.isfinite(given) | (given < 0)
        if wrong.any():
            raise ValueError(
                f"sample_weight must be finite and not negative; got {given[wrong][0]:g} (negative, infinite or "
                f"missing in {int(wrong.sum())} of {given.size} rows). A weight is how often a row counts, which "
                "cannot be less than never: leave such rows out, or give them the weight 0"
            )
        if given.size and not given.any():
            raise ValueError(
                "sample_weight contains only zeros: it is 0 for every row, so there is nothing to learn from; give "
                "the rows that count a weight above 0, or leave sample_weight out"
            )
    return np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64))


def check_groups(groups: npt.ArrayLike | None, n_rows: int) -> npt.NDArray[Any] | None:
    """The lead ids as an array. Raises ValueError unless there is one for each row."""
    return _check_each_row("groups", groups, n_rows, "lead id", "the rows of a lead are kept together by it")


def check_times(times: npt.ArrayLike | None, n_rows: int) -> npt.NDArray[Any] | None:
    """The cutoffs as an array. Raises ValueError unless there is an instant, or an integer, for each row."""
    cutoffs = _check_each_row("times", times, n_rows, "cutoff", "a row without it is neither early nor late")
    if cutoffs is not None and cutoffs.dtype.kind not in "iuMOSU":
        raise ValueError(
            f"times must hold instants, or integers in µs; got {cutoffs.dtype}, whose unit nobody can know: "
            "convert them, for instance by pd.to_datetime(times, unit='s')"
        )
    return cutoffs


def _check_each_row(
    name: str, values: npt.ArrayLike | None, n_rows: int, meaning: str, why: str
) -> npt.NDArray[Any] | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_rows,):
        raise ValueError(
            f"{name} must hold one {meaning} per row of X, {n_rows:,}; got the shape {array.shape}: {why}. "
            f"Take {name} from the same rows as X, or leave it out"
        )
    missing = int(pd.isna(array).sum())
    if missing:
        raise ValueError(
            f"{name} must hold a {meaning} for every row; got none for {missing:,} of {n_rows:,}: {why}. Fill it in, "
            f"or drop these rows from X, y and {name}"
        )
    return array


def _check_none_missing(y: npt.ArrayLike) -> None:
    missing = pd.isna(np.asarray(y))
    if np.any(missing):
        raise ValueError(
            f"y is missing in {int(np.sum(missing)):,} of {np.size(missing):,} rows. What is not known yet is no "
            "outcome, and counting it as 0 would teach too low a level: drop the rows whose outcome is not known, or "
            "train from a training set (build_training_set), which completes those that are still open"
        )
