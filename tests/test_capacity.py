"""How large a model is: folds of tables without times, and what the number of columns changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from convpredict.errors import NotEnoughDataError
from convpredict.models.capacity import folds_without_times, forward_folds, validation_folds
from convpredict.models.conversion import ConversionModel
from convpredict.models.trees import default_parameters, tree_parameters


def test_folds_of_a_static_table_keep_leads_whole_and_deal_positives_evenly():
    rng = np.random.default_rng(0)
    lead = rng.integers(0, 500, 2_000)
    y = (rng.random(500) < 0.3)[lead].astype(float)
    folds = folds_without_times(y, lead, seed=1)
    assert len(folds) == 3
    for train, validate in folds:
        assert not set(lead[train]) & set(lead[validate])
        assert len(train) + len(validate) == len(y)
        assert abs(y[validate].mean() - y.mean()) < 0.05
    assert sorted(np.concatenate([validate for _, validate in folds])) == list(range(len(y)))


def test_much_data_is_validated_on_fewer_folds():
    assert len(folds_without_times(np.arange(2_000) % 2.0, None, seed=0)) == 2
    assert len(folds_without_times(np.arange(20_000) % 2.0, None, seed=0)) == 1


@pytest.mark.parametrize("flip", [False, True])
def test_a_rare_class_is_too_little_to_validate_on(flip):
    y = (np.arange(1_000) < 99).astype(float)
    with pytest.raises(NotEnoughDataError, match="99 rows, fewer than 100"):
        folds_without_times(1 - y if flip else y, None, seed=0)


def test_rows_with_times_are_never_validated_at_random():
    rng = np.random.default_rng(0)
    y, day = (rng.random(3_000) < 0.2).astype(float), rng.integers(0, 100, 3_000)
    times = day * 86_400_000_000
    for chosen, forward in zip(
        validation_folds(y, times, None, 0, 0), forward_folds(y, times, None, 0, 0), strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(chosen, forward, strict=True))
        assert day[chosen[0]].max() < day[chosen[1]].min()


def test_the_defaults_follow_the_number_of_columns_and_yield_to_what_is_set_by_hand():
    assert default_parameters(60) == default_parameters(130)
    assert default_parameters(59)["feature_fraction"] == pytest.approx(12 / 59)
    assert default_parameters(3)["feature_fraction"] == 0.67
    set_by_hand = tree_parameters({"extra_trees": True, "sub_feature": 0.4}, [0] * 4, seed=0, n_threads=1)
    assert set_by_hand["extra_trees"] is True
    assert set_by_hand["feature_fraction"] == 0.4


def test_a_narrow_table_with_many_categories_is_learnt_better_than_by_random_thresholds():
    """Three of sixty pages convert ten times as often: a random page per split hardly ever meets them."""
    rng = np.random.default_rng(3)
    page, weekday = rng.integers(0, 60, 6_000), rng.integers(0, 7, 6_000)
    p = np.where(page < 3, 0.5, 0.05)
    y = rng.random(6_000) < p
    X = pd.DataFrame({"page": pd.Categorical(page.astype(str)), "weekday": weekday.astype(np.float32)})
    size = {"num_leaves": 7, "n_estimators": 60, "logistic_weight": 0.0, "seeds": 1}
    randomly = {"extra_trees": True, "feature_fraction": 0.2}
    loss = {}
    for name, lightgbm in (("default", None), ("random", randomly)):
        model = ConversionModel(**size, lightgbm=lightgbm).fit(X[:3_000], y[:3_000])
        loss[name] = log_loss(y[3_000:], model.predict_proba(X[3_000:])[:, 1])
    best = log_loss(y[3_000:], p[3_000:])
    assert loss["default"] - best < 0.5 * (loss["random"] - best)
