"""Exact TreeSHAP against LightGBM's own, over split types, missing values and tree shapes."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import lightgbm
import numpy as np
import pytest

from convpredict.errors import BundleError
from convpredict.models.shap import TreeExplainer
from convpredict.models.tree_paths import parse_trees

N_FEATURES = 12


def sample(n_rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, N_FEATURES))
    rows[:, 3] = np.round(rows[:, 3])
    rows[:, 5] = rng.integers(0, 40, n_rows)
    rows[:, 6] = rng.integers(0, 4, n_rows)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def train(rows: np.ndarray, *, num_leaves: int = 31, rounds: int = 25, **extra: object) -> lightgbm.Booster:
    filled = np.nan_to_num(rows)
    label = filled[:, 0] + filled[:, 1] * filled[:, 2] + (filled[:, 5] % 3 == 0) + np.isnan(rows[:, 4]) > 0.4
    parameters = {
        "objective": "binary",
        "num_leaves": num_leaves,
        "verbose": -1,
        "num_threads": 1,
        "seed": 0,
        **extra,
    }
    return lightgbm.train(parameters, lightgbm.Dataset(rows, label, categorical_feature=[5, 6]), rounds)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"max_cat_to_onehot": 64},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"num_leaves": 2},
        {"num_leaves": 7, "max_cat_to_onehot": 64},
        {"num_leaves": 7, "zero_as_missing": True},
        {"num_leaves": 200, "min_data_in_leaf": 1, "rounds": 4},
        {"bagging_fraction": 0.5, "bagging_freq": 1, "lambda_l1": 0.5},
        {"extra_trees": True, "feature_fraction": 0.5},
        {"min_data_in_leaf": 0, "min_sum_hessian_in_leaf": 0.0, "num_leaves": 63, "rounds": 5},
        {"cat_smooth": 0.0, "cat_l2": 0.0, "max_cat_threshold": 40, "min_data_per_group": 1},
    ],
    ids=lambda extra: "-".join(map(str, extra)) or "default",
)
def test_agrees_with_lightgbm(extra: dict) -> None:
    booster = train(sample(1500, 1), **extra)
    unseen = sample(700, 2)
    unseen[0] = np.nan
    unseen[1] = 0.0
    unseen[2, 5:7] = [39.0, 900.0]
    unseen[3, 5:7] = [-1.0, 1e12]
    reference = booster.predict(unseen, pred_contrib=True)
    explainer = TreeExplainer(booster.model_to_string(), N_FEATURES)
    np.testing.assert_allclose(explainer.explain(unseen), reference[:, :-1], rtol=0, atol=1e-9)
    assert explainer.bias == pytest.approx(reference[0, -1], abs=1e-12)


@pytest.mark.parametrize("num_leaves", [7, 8, 200])  # 7: small trees are looked up
def test_a_row_is_explained_alike_in_any_company_and_by_any_number_of_threads(num_leaves: int) -> None:
    booster = train(sample(1500, 1), num_leaves=num_leaves, min_data_in_leaf=1, rounds=3)
    explainer = TreeExplainer(booster.model_to_string(), N_FEATURES)
    explainer._row_ns = 1e9  # worth any number of threads
    rows = sample(900, 3)
    together = explainer.explain(rows, n_jobs=3)
    for n_jobs in (1, 2, 7):
        np.testing.assert_array_equal(together, explainer.explain(rows, n_jobs=n_jobs))
    np.testing.assert_array_equal(together[::-1], explainer.explain(rows[::-1]))
    one_by_one = np.vstack([explainer.explain(rows[i : i + 1]) for i in range(40)])
    np.testing.assert_array_equal(together[:40], one_by_one)
    assert explainer.explain(rows[:0]).shape == (0, N_FEATURES)


def test_chains_of_splits_on_one_feature_and_deep_paths() -> None:
    """Paths that test one feature again and again, and paths that test every feature there is."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(3000, N_FEATURES))
    label = (np.floor(rows[:, 0] * 8) % 2 == 0) ^ (rows[:, 1:].prod(axis=1) > 0)
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 300, "min_data_in_leaf": 1, "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(rows, label),
        5,
    )
    explainer = TreeExplainer(booster.model_to_string(), N_FEATURES)
    assert explainer.program.n_levels > 2 * explainer.program.n_nodes.max()
    reference = booster.predict(rows[:200], pred_contrib=True)
    np.testing.assert_allclose(explainer.explain(rows[:200]), reference[:, :-1], rtol=0, atol=1e-9)


def test_contributions_add_up_to_the_raw_score() -> None:
    booster = train(sample(1500, 1))
    rows = sample(300, 4)
    explainer = TreeExplainer(booster.model_to_string(), N_FEATURES)
    np.testing.assert_allclose(
        explainer.bias + explainer.explain(rows).sum(axis=1),
        booster.predict(rows, raw_score=True),
        rtol=0,
        atol=1e-9,
    )


def test_is_the_shapley_value_by_its_definition() -> None:
    """Brute force over all coalitions of one small tree, with the tree's own cover expectations."""
    booster = train(sample(1500, 1), num_leaves=6, rounds=1)
    (tree,) = parse_trees(booster.model_to_string())
    row = sample(1, 9)[0]
    used = sorted(set(tree.feature.tolist()))

    def expectation(node: int, known: set[int]) -> float:
        if node < 0:
            return float(tree.leaf_value[~node])
        left, right = int(tree.left[node]), int(tree.right[node])
        if int(tree.feature[node]) in known:
            goes_left = bool(tree.goes_left(node, row[tree.feature[node] : tree.feature[node] + 1])[0])
            return expectation(left if goes_left else right, known)
        count = [tree.leaf_count[~child] if child < 0 else tree.node_count[child] for child in (left, right)]
        return float(
            (count[0] * expectation(left, known) + count[1] * expectation(right, known)) / sum(count)
        )

    expected = np.zeros(N_FEATURES)
    for feature in used:
        others = [other for other in used if other != feature]
        for size in range(len(others) + 1):
            weight = factorial(size) * factorial(len(used) - size - 1) / factorial(len(used))
            for chosen in combinations(others, size):
                gain = expectation(0, {*chosen, feature}) - expectation(0, set(chosen))
                expected[feature] += weight * gain
    got = TreeExplainer(booster.model_to_string(), N_FEATURES).explain(row[None, :])[0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_refuses_what_it_cannot_explain() -> None:
    rows = np.nan_to_num(sample(500, 1))
    linear = train(rows, linear_tree=True)
    with pytest.raises(BundleError, match="linear_tree=false"):
        TreeExplainer(linear.model_to_string(), N_FEATURES)
    forest = train(rows, boosting="rf", bagging_fraction=0.5, bagging_freq=1)
    with pytest.raises(BundleError, match="random forest"):
        TreeExplainer(forest.model_to_string(), N_FEATURES)
    with pytest.raises(ValueError, match="must have shape"):
        TreeExplainer(train(rows).model_to_string(), N_FEATURES).explain(rows[:, :3])


def test_a_tree_that_never_splits_explains_nothing() -> None:
    rows = sample(300, 1)
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 299},
        lightgbm.Dataset(rows, rows[:, 0] > 0),
        3,
    )
    explainer = TreeExplainer(booster.model_to_string(), N_FEATURES)
    assert not explainer.explain(rows[:5]).any()
    assert explainer.bias == pytest.approx(booster.predict(rows[:1], raw_score=True)[0])
