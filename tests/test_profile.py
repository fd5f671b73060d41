"""The profile of a model: bins, counts, percentiles, and what is refused."""

from __future__ import annotations

import json
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.config.load import parse_project
from convpredict.errors import BundleError
from convpredict.models import fitting
from convpredict.models.conversion import ConversionModel
from convpredict.models.encoding import Column
from convpredict.models.profile import Profile, ProfileCounts, stability_index, stability_of
from convpredict.models.profile_learning import (
    FEWEST_PER_BIN,
    learn_profile,
    percentiles,
    quantile_edges,
    shortest_between,
)
from convpredict.training.training_set import build_training_set
from factories import random_history

COLUMNS = (Column("calls", "number"), Column("gap", "number"), Column("source", "category", ("ads", "fair")))

floats = st.floats(-1e6, 1e6, width=32)
probabilities = st.lists(st.floats(1e-9, 1 - 1e-9), min_size=1, max_size=60)


def reference(rows: int = 2_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Calls are counts, gaps are continuous with a tenth missing, sources are ads, fair or missing (code 2)."""
    rng = np.random.default_rng(seed)
    gap = np.where(rng.random(rows) < 0.1, np.nan, rng.exponential(9.0, rows))
    matrix = np.column_stack([rng.poisson(1.0, rows), gap, rng.choice(3, rows, p=[0.6, 0.3, 0.1])])
    return matrix.astype(np.float32), rng.beta(1.0, 20.0, rows)


@pytest.fixture(scope="module")
def profile() -> Profile:
    matrix, p = reference()
    cutoffs = np.datetime64("2024-03-01") + (np.arange(len(p)) // 500).astype("timedelta64[D]")
    return learn_profile(COLUMNS, matrix, p, cutoffs=cutoffs, parts=("test",))


def counted_by_hand(profile: Profile, matrix: np.ndarray, p: np.ndarray) -> ProfileCounts:
    """Row after row and edge after edge, as the docstring says."""
    columns = {column.name: np.zeros(column.n_bins, np.int64) for column in profile.columns}
    scores = np.zeros(len(profile.score_edges) + 1, np.int64)
    for row, probability in zip(matrix.tolist(), p.tolist(), strict=True):
        for column, value in zip(profile.columns, row, strict=True):
            if column.type == "category":
                place = int(value) if value == value and value < len(column.categories) else -1
            else:
                place = sum(edge <= value for edge in column.edges) if value == value else -1
            columns[column.name][place] += 1
        scores[sum(edge <= probability for edge in profile.score_edges)] += 1
    return ProfileCounts(len(p), columns, scores)


def assert_same(left: ProfileCounts, right: ProfileCounts) -> None:
    assert left.to_dict() == right.to_dict()


@given(probabilities)
def test_the_score_of_a_reference_lead_is_the_share_of_those_below_it(p: list[float]) -> None:
    told = Profile((), (), ProfileCounts(0, {}, np.zeros(1, np.int64)), percentiles(p)).score(p)
    assert told.dtype == np.int16
    assert told.tolist() == [100 * sum(other < own for other in p) // len(p) for own in p]


@given(probabilities, probabilities)
def test_the_score_never_falls_and_is_bound_to_the_reference(p: list[float], others: list[float]) -> None:
    profile = Profile((), (), ProfileCounts(0, {}, np.zeros(1, np.int64)), percentiles(p))
    ranked = np.sort([*p, *others, 0.0, 1.0])
    told = profile.score(ranked)
    assert told[0] == 0
    assert told[-1] == 100
    assert (np.diff(told) >= 0).all()
    for own, score in zip(ranked, told, strict=True):
        below = sum(other < own for other in p)
        at_most = sum(other <= own for other in p)
        assert floor(100 * below / len(p)) - 100 / len(p) - 1 <= score <= floor(100 * at_most / len(p))


@given(floats, floats)
def test_the_number_between_two_is_between_them(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low < high:
        short = shortest_between(low, high)
        assert low < short <= high
        assert len(repr(short)) <= max(len(repr(high)), 4) + 1


def test_edges_are_nobodys_value_where_something_lies_between() -> None:
    values = np.random.default_rng(0).lognormal(3.0, 2.0, 5_000)
    edges = quantile_edges(values)
    assert len(edges) == 11
    assert not set(edges) & set(values.tolist())
    filled = np.bincount(np.searchsorted(edges, values, side="right"))
    assert filled.tolist() == [417] * 11 + [413]  # 5,000 / 12, rounded up while they last
    limits = percentiles(np.sort(np.random.default_rng(1).beta(1.0, 20.0, 5_000)))
    assert not set(limits) & set(np.random.default_rng(1).beta(1.0, 20.0, 5_000).tolist())


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([3.0] * 50, ()),
        ([0.0] * 20 + [1.0] * 20 + [2.0] * 20, (1.0, 2.0)),
        ([0.0] * 20 + [1.0] * 2 + [5.0] * 20, (1.0,)),  # two ones alone would be a bin of two people
        ([0.0] * 20 + [7.0] * 4, ()),
        ([1.25], ()),
        ([0.0] * 900 + list(range(1, 101)), (1.0, 85.0)),  # 84 rows are a twelfth
    ],
)
def test_ties_stay_together_and_few_people_share_a_bin_with_others(
    values: list[float], edges: tuple[float, ...]
) -> None:
    assert quantile_edges(values) == edges


@given(st.lists(floats, min_size=1, max_size=200), st.integers(2, 30))
def test_bins_hold_enough_rows(values: list[float], most_bins: int) -> None:
    edges = quantile_edges(values, most_bins)
    filled = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    assert filled.sum() == len(values)
    assert len(edges) == 0 or filled.min() >= FEWEST_PER_BIN


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_counts_are_those_by_hand_and_add_up(profile: Profile, seed: int, cut: int) -> None:
    matrix, p = reference(41, seed)
    matrix[np.random.default_rng(seed).random(matrix.shape) < 0.1] = np.nan
    edges = profile.columns[1].edges
    matrix[0, 1], matrix[1, 1], matrix[2, 1] = (
        edges[0],
        np.nextafter(np.float32(edges[1]), np.float32(0)),
        1e30,
    )
    whole = profile.count(np.asfortranarray(matrix), p)
    assert_same(whole, counted_by_hand(profile, matrix, p))
    assert_same(profile.count(matrix[:cut], p[:cut]) + profile.count(matrix[cut:], p[cut:]), whole)
    assert_same(profile.empty() + whole, whole)
    assert_same(ProfileCounts.from_dict(json.loads(json.dumps(whole.to_dict()))), whole)


def test_what_was_learnt_from_is_the_reference(profile: Profile) -> None:
    matrix, p = reference()
    assert_same(profile.reference, counted_by_hand(profile, matrix, p))
    assert profile.fits(profile.reference)
    assert not profile.fits(ProfileCounts(0, {}, np.zeros(1, np.int64)))
    assert profile.columns[0].edges == (1.0, 2.0, 3.0, 4.0)
    assert profile.missing_share(profile.reference, "gap") == np.isnan(matrix[:, 1]).mean()
    assert profile.missing_share(profile.empty(), "gap") == 0.0
    assert (profile.first_cutoff, profile.last_cutoff) == ("2024-03-01T00:00:00Z", "2024-03-04T00:00:00Z")
    assert profile.parts == ("test",)


def test_what_moves_by_itself_is_the_most_that_one_cutoff_differs_by() -> None:
    rows = np.repeat([0.0, 1.0], [400, 400]).astype(np.float32)
    cutoffs = np.repeat(["2024-03-01", "2024-03-08"], [400, 400]).astype("datetime64[us]")
    column, p = Column("source", "category", ("ads", "fair")), np.full(800, 0.1)
    alone = learn_profile([column], rows[:, None], p, cutoffs=cutoffs)
    # All of one source on a day, half of each over both: shares 400.5/401 and .5/401 against one half each.
    share = np.array([400.5, 0.5]) / 401
    assert alone.natural["source"] == pytest.approx(float(((share - 0.5) * np.log(share / 0.5)).sum()))
    assert alone.natural["score"] == 0.0
    assert learn_profile([column], rows[:, None], p).natural == {"source": 0.0, "score": 0.0}
    mixed = learn_profile([column], rows[:, None], p, cutoffs=np.tile(cutoffs[[0, -1]], 400))
    assert mixed.natural["source"] == pytest.approx(0.0, abs=1e-4)


def test_an_index_of_the_same_rows_is_nothing(profile: Profile) -> None:
    assert set(stability_of(profile, profile.reference).values()) == {0.0}
    matrix, p = reference(seed=7)
    by_chance = stability_of(profile, profile.count(matrix, p))
    assert 0 < max(by_chance.values()) < 0.05
    matrix[:, 0] += 2
    assert stability_of(profile, profile.count(matrix, p))["calls"] > 1
    assert stability_index([5, 5], [0, 0]) == 0.0


def test_rows_of_another_shape_are_refused(profile: Profile) -> None:
    with pytest.raises(ValueError, match="3 columns"):
        profile.count(np.zeros((2, 2), np.float32), np.zeros(2))
    with pytest.raises(ValueError, match="a probability each"):
        learn_profile(COLUMNS, np.zeros((0, 3), np.float32), [])


def test_it_comes_back_as_it_was(profile: Profile) -> None:
    stored = json.loads(json.dumps(profile.to_dict()))
    restored = Profile.from_dict(stored)
    assert restored.to_dict() == profile.to_dict()
    matrix, p = reference(300, 5)
    assert_same(restored.count(matrix, p), profile.count(matrix, p))
    assert restored.score(p).tolist() == profile.score(p).tolist()


def put(*path: Any, value: Any) -> Any:
    def change(stored: Any) -> None:
        for step in path[:-1]:
            stored = stored[step]
        stored[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored.pop("natural"),
        put("extra", value=1),
        put("columns", value={}),
        put("columns", 0, "name", value="gap"),
        put("columns", 0, "name", value=3),
        put("columns", 0, "type", value="text"),
        put("columns", 0, "edges", value=[2.0, 1.0, 3.0, 4.0]),
        put("columns", 0, "edges", value=[1.0, 1.0, 3.0, 4.0]),
        put("columns", 0, "edges", value=[1.0, 2.0]),
        put("columns", 0, "edges", 0, value=float("nan")),
        put("columns", 0, "categories", value=["a"]),
        put("columns", 2, "categories", value=["ads", 2]),
        put("score_edges", value=[]),
        put("score_edges", 0, value="0.1"),
        put("reference", "rows", value=7),
        put("reference", "columns", "calls", 0, value=-1),
        put("reference", "columns", "calls", 0, value=1.5),
        put("reference", "columns", "calls", value=[2000]),
        put("reference", "scores", value=[1, 2]),
        put("quantiles", value=[0.1] * 100),
        put("quantiles", 100, value=1.5),
        put("quantiles", 3, value=0.9),
        put("natural", "calls", value=-0.1),
        put("natural", "other", value=0.1),
        put("natural", "calls", value=True),
        put("parts", value="test"),
        put("first_cutoff", value=None),
    ],
)
def test_anything_else_is_refused(profile: Profile, change: Any) -> None:
    stored = json.loads(json.dumps(profile.to_dict()))
    change(stored)
    with pytest.raises(BundleError, match="profile cannot be read"):
        Profile.from_dict(stored)


@pytest.mark.parametrize(("fewest", "parts"), [(30, ("test",)), (10_000, fitting.REFERENCE_PARTS)])
def test_the_latest_rows_are_the_reference(
    fewest: int, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is set aside for the size of the data, which is small to be quick."""
    config = {
        "name": "tests",
        "sources": {"nothing": {"file": "nothing.csv"}},
        "history": {"leads": {"source": "nothing"}},
        "observations": {"cutoffs": {"every": "3d"}, "max_age": "60d"},
        "labels": {"horizons": ["10d"]},
        "features": {"min_count": 2},
    }
    source = random_history(np.random.default_rng(3), leads=120, days=110, conversion_share=0.7)
    training_set = build_training_set(source, parse_project(config))
    model = ConversionModel(seeds=1, n_estimators=5, num_leaves=4, logistic_weight=0.0, n_jobs=1)
    model.fit(training_set.X("train"), training_set.y("train"))
    monkeypatch.setattr(fitting, "FEWEST_REFERENCE_ROWS", fewest)
    profile = fitting.fit_profile(training_set, model)
    rows = training_set.frame[training_set.frame["split"].isin(parts)]
    assert set(training_set.frame["split"]) == set(fitting.REFERENCE_PARTS)
    assert profile.parts == parts
    assert profile.reference.rows == len(rows)
    assert [column.name for column in profile.columns] == list(training_set.feature_set.model_names)
    p = model.predict_proba(rows[list(training_set.feature_set.model_names)])[:, 1]
    assert_same(
        profile.count(model.encoder_.encode(rows[list(model.feature_names_in_)]), p), profile.reference
    )
    monkeypatch.setattr(fitting, "MOST_REFERENCE_ROWS", 25)
    assert fitting.fit_profile(training_set, model).reference.rows == 25
