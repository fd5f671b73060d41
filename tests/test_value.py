"""The value model: scikit-learn's contract, families, levels, open windows, small data, intervals, files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from convpredict.models.value import ValueModel


@parametrize_with_checks([ValueModel(), ValueModel(family="tweedie")])
def test_is_a_scikit_learn_regressor(estimator, check):
    check(estimator)
