"""The conversion model."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from convpredict.models.conversion import ConversionModel


@parametrize_with_checks([ConversionModel(seeds=1), ConversionModel(seeds=1, logistic_weight=0.0)])
def test_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)
