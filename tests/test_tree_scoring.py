"""The compiled trees against LightGBM itself, to the bit, on random models."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pytest

from convpredict.errors import BundleError
from convpredict.models import tree_scoring
from convpredict.models.tree_kernels import BLOCK, GROUP
from convpredict.models.tree_scoring import CompiledTrees, compile_trees

SETTINGS: dict[str, dict[str, Any]] = {
    "product": {"num_leaves": 7, "max_bin": 31, "extra_trees": True, "max_cat_to_onehot": 100_000},
    "two leaves": {"num_leaves": 2},
    "sixteen leaves": {"num_leaves": 16},
    "seventeen leaves": {"num_leaves": 17, "extra_trees": True},
    "thirty-one thresholds": {"num_leaves": 31, "max_bin": 32, "min_data_in_bin": 1},
    "thirty-two thresholds": {"num_leaves": 31, "max_bin": 33, "min_data_in_bin": 1},
    "many leaves": {"num_leaves": 255, "min_data_in_leaf": 1, "max_bin": 1000},
    "subsets of categories": {
        "num_leaves": 31,
        "max_cat_to_onehot": 1,
        "min_data_per_group": 2,
        "cat_smooth": 0.1,
    },
    "zero is missing": {"num_leaves": 31, "zero_as_missing": True},
    "nothing is missing": {"num_leaves": 31, "use_missing": False},
    "monotone, weighted": {
        "num_leaves": 15,
        "monotone_constraints": [1, -1] + [0] * 8,
        "feature_fraction": 0.4,
    },
    "regression": {"num_leaves": 9, "objective": "regression"},
}
CATEGORICAL = (7, 8, 9)


def make_rows(rng: np.random.Generator, n: int, *, unseen: bool = False) -> np.ndarray:
    """Ten columns: smooth, counted, constant-heavy and tiny numbers, three of categories; some values missing."""
    X = np.empty((n, 10))
    X[:, :3] = rng.normal(size=(n, 3)) * [1.0, 1e6, 1e-3]
    X[:, 3:5] = rng.poisson(0.7, (n, 2))
    X[:, 5] = rng.choice([0.0, 1e-36, -1e-36, 1e-30, -2.0, 3.0], n)
    X[:, 6] = rng.random(n) < 0.02
    X[:, 7:] = rng.integers(0, [3, 40, 400], (n, 3))
    if unseen:
        X[:, 7:] += rng.choice([0, 0, 0, 5, 1000], (n, 3))
        X[rng.random(X.shape) < 0.02] = 1e30
        X[rng.random(X.shape) < 0.02] = -3.0
    X[:, 1:][rng.random((n, 9)) < 0.1] = np.nan
    return X


def train(settings: dict[str, Any], seed: int, n_trees: int = 25) -> lightgbm.Booster:
    rng = np.random.default_rng(seed)
    X = make_rows(rng, 1500)
    signal = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 3]) + (np.nan_to_num(X[:, 8]) % 3 == 0)
    y = (signal + rng.normal(size=len(X)) > 1).astype(float)
    fixed = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": seed, "deterministic": True}
    data = lightgbm.Dataset(X, y, categorical_feature=list(CATEGORICAL), params={"verbosity": -1})
    return lightgbm.train({**fixed, "learning_rate": 0.2, **settings}, data, n_trees)


def compiled(*boosters: lightgbm.Booster) -> CompiledTrees:
    return compile_trees([booster.model_to_string() for booster in boosters], boosters[0].num_feature())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(SETTINGS))
def test_equals_lightgbm_to_the_bit(name: str, seed: int) -> None:
    booster = train(SETTINGS[name], seed)
    X = make_rows(np.random.default_rng(seed + 100), 1000, unseen=True)
    expected = booster.predict(X, raw_score=True, num_threads=1)
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(compiled(booster).mean_logit(X), expected)


def test_equals_lightgbm_on_single_precision_in_either_memory_order() -> None:
    booster = train(SETTINGS["product"], 3)
    X = make_rows(np.random.default_rng(4), 500).astype(np.float32)
    expected = booster.predict(X, raw_score=True, num_threads=1)
    trees = compiled(booster)
    np.testing.assert_array_equal(trees.mean_logit(X), expected)
    np.testing.assert_array_equal(trees.mean_logit(np.asfortranarray(X)), expected)


def test_values_on_a_threshold_go_left_and_their_neighbours_do_not() -> None:
    X = np.arange(200.0).reshape(-1, 1)
    data = lightgbm.Dataset(X, (X[:, 0] > 120).astype(float), params={"verbosity": -1})
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "num_leaves": 5}, data, 8)
    edges = compiled(booster).edges
    edges = edges[np.isfinite(edges)]
    beside = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])[:, None]
    np.testing.assert_array_equal(
        compiled(booster).mean_logit(beside), booster.predict(beside, raw_score=True, num_threads=1)
    )


def test_seeds_are_summed_one_by_one_and_averaged() -> None:
    boosters = [train(SETTINGS["product"], seed) for seed in range(3)]
    X = make_rows(np.random.default_rng(9), 400)
    total = np.zeros(len(X))
    for booster in boosters:
        total += booster.predict(X, raw_score=True, num_threads=1)
    np.testing.assert_array_equal(compiled(*boosters).mean_logit(X), total / 3)


@pytest.mark.parametrize("n_rows", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * 32 * BLOCK + 5])
def test_a_row_does_not_depend_on_the_rows_around_it_nor_on_threads(n_rows: int) -> None:
    trees = compiled(train(SETTINGS["seventeen leaves"], 5))
    X = make_rows(np.random.default_rng(n_rows), n_rows)
    one = trees.mean_logit(X, n_threads=1)
    np.testing.assert_array_equal(one, trees.mean_logit(X, n_threads=3))
    for row in range(0, n_rows, 997):
        assert trees.mean_logit(X[row : row + 1])[0] == one[row]


def test_trees_without_a_split_and_ensembles_without_a_tree() -> None:
    X = np.random.default_rng(0).normal(size=(50, 2))
    data = lightgbm.Dataset(X, np.r_[np.ones(5), np.zeros(45)], params={"verbosity": -1})
    booster = lightgbm.train({"objective": "binary", "min_data_in_leaf": 40, "verbosity": -1}, data, 3)
    np.testing.assert_array_equal(
        compiled(booster).mean_logit(X), booster.predict(X, raw_score=True, num_threads=1)
    )


def test_linear_trees_and_random_forests_are_refused() -> None:
    with pytest.raises(BundleError, match="linear trees"):
        compiled(train({"linear_tree": True, "num_leaves": 4}, 0, 2))
    with pytest.raises(BundleError, match="averages its trees"):
        compiled(train({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "num_leaves": 4}, 0, 2))


def test_more_leaves_than_their_places_can_tell_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    booster = train(SETTINGS["seventeen leaves"], 0, 2)
    monkeypatch.setattr(tree_scoring, "_MOST_LEAVES", 17)
    compiled(booster)
    monkeypatch.setattr(tree_scoring, "_MOST_LEAVES", 16)
    with pytest.raises(BundleError, match="17 leaves"):
        compiled(booster)


def test_a_thousand_leaves_equal_lightgbm() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(1200, 10))
    settings = {"num_leaves": 1200, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0, "max_bin": 1200}
    fixed = {"objective": "regression", "verbosity": -1, "num_threads": 1, "min_data_in_bin": 1}
    booster = lightgbm.train({**fixed, **settings}, lightgbm.Dataset(X, rng.normal(size=1200)), 1)
    trees = compiled(booster)
    assert trees.tree_groups[1] * GROUP > 1000
    expected = booster.predict(X, raw_score=True, num_threads=1)
    np.testing.assert_array_equal(trees.mean_logit(X), expected)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_matrix_that_may_not_be_written_or_is_a_part_is_scored_all_the_same(kind: type) -> None:
    trees = compiled(train(SETTINGS["product"], 3))
    X = np.asfortranarray(make_rows(np.random.default_rng(1), 500).astype(kind))
    expected = trees.mean_logit(X)
    np.testing.assert_array_equal(trees.mean_logit(X[100:401]), expected[100:401])
    X.flags.writeable = False
    np.testing.assert_array_equal(trees.mean_logit(X), expected)


def test_another_number_of_columns_is_refused() -> None:
    trees = compiled(train(SETTINGS["two leaves"], 0, 2))
    with pytest.raises(ValueError, match="10 columns"):
        trees.mean_logit(np.zeros((3, 9)))
