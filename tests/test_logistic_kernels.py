"""The compiled logit of the logistic part against the sum of its contributions."""

from __future__ import annotations

import numpy as np
import pytest

from convpredict.models.logistic import CategoryTerm, Logistic, NumberTerm

LOGISTIC = Logistic(
    -1.5,
    (
        NumberTerm(-2.0, 3.0, 0.4, 1.7, 0.31, 0.07),
        CategoryTerm((0.2, -0.4, 0.0), -0.1),
        NumberTerm(0.0, 5.0, 1.1, 0.8, 0.0, 0.0),
        NumberTerm(0.0, 9.0, 1.1, 0.8, 0.0, 0.5),
        CategoryTerm((), 0.3),
    ),
)


def rows(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    X = np.column_stack(
        [rng.normal(0, 30, n), rng.integers(0, 3, n), rng.poisson(2, n), rng.poisson(2, n), [0.0] * n]
    )
    X[rng.random(X.shape) < 0.2] = np.nan
    X[::2, 1][np.isnan(X[::2, 1])] = 3.0
    X[1::3, 4] = np.nan
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_sum_of_the_contributions(dtype: type) -> None:
    X = rows(5000).astype(dtype)
    logit = LOGISTIC.logit(X)
    np.testing.assert_allclose(logit, -1.5 + LOGISTIC.contributions(X).sum(axis=1), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(logit, LOGISTIC.logit(np.asfortranarray(X)))


def test_a_row_does_not_depend_on_the_rows_around_it() -> None:
    X = rows(4500)
    logit = LOGISTIC.logit(X)
    for row in (0, 1, 2047, 2048, 4499):
        assert LOGISTIC.logit(X[row : row + 1])[0] == logit[row]
