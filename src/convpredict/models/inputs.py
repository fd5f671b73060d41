"""What both classifiers check about the rows that they are given: two classes, weights, columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from convpredict.errors import NotEnoughDataError

from .calibration import Floats

Table = pd.DataFrame | npt.NDArray[Any]


class OneClassError(NotEnoughDataError, ValueError):
    """All labels are equal, so there is nothing to tell apart."""


def check_rows(estimator: Any, X: Table, y: npt.ArrayLike | None = None, *, reset: bool = False) -> Table:
    """``X`` with its column names and number checked by scikit-learn's rules; an array also for its content."""
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
    values = np.asarray(column_or_1d(np.asarray(y), warn=True))
    if len(X) != len(values):
        raise ValueError(f"X has {len(X)} rows and y {len(values)}; they must be of the same observations")
    check_classification_targets(values)
    weight = np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64))
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
