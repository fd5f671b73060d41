"""The compiled sum of a logistic regression's terms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def add_terms(matrix: Any, terms: Any, starts: Any, coefficients: Any, total: Any) -> None:
    """Add every column's term to ``total``, column after column; a row does not depend on the others.

    ``terms`` has one row per column: low, high, mean, scale, coefficient, missing. A category's coefficients lie
    at ``coefficients[starts[i] : starts[i + 1]]``, the last is that of the missing; it is empty for a number.
    """
    for i in range(matrix.shape[1]):
        low, high, mean, scale, coefficient, missing = terms[i]
        first = starts[i]
        is_category = starts[i + 1] > first
        if not is_category and coefficient == 0.0 and missing == 0.0:
            continue
        for r in range(matrix.shape[0]):
            x = np.float64(matrix[r, i])
            if np.isnan(x):
                total[r] += missing
            elif is_category:
                total[r] += coefficients[first + np.int64(x)]
            else:
                size = np.log1p(abs(x))
                value = size if x >= 0.0 else -size
                total[r] += (min(max(value, low), high) - mean) / scale * coefficient
