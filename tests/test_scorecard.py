"""The scorecard."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from convpredict.models.scorecard import Scorecard


@parametrize_with_checks([Scorecard()])
def test_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)
