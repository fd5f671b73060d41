"""The default feature set: what it derives from which tables, and how large it gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convpredict.config.base import Duration
from convpredict.config.features import FeaturesConfig
from convpredict.features.default_set import MAX_COLUMNS, default_declarations
from convpredict.features.feature_set import FeatureSet
from convpredict.features.vocabulary import learn_vocabularies
from convpredict.history.history import History
from factories import day, make_history, random_history


def fit(history: History, *, until: Any = None, horizon: str = "30d", **more: Any) -> FeatureSet:
    config = FeaturesConfig(**{"min_count": 1, **more})
    return FeatureSet.fit(history, config, until=until or day(200), horizon=Duration(horizon))


def families(fitted: FeatureSet) -> set[str]:
    return {column.declaration.family for column in fitted.columns}


def test_a_typical_history_gets_every_family() -> None:
    history = random_history(np.random.default_rng(0), leads=200, days=200, interactions_per_lead=10)
    fitted = fit(history)
    assert families(fitted) == {
        "count", "aggregate", "recency", "age", "decayed", "distinct", "gap", "last", "trend", "share",
        "topic", "attribute", "calendar", "rate",
    }  # fmt: skip
    assert 60 <= len(fitted) <= MAX_COLUMNS
    assert {
        "attribute_source",
        "attribute_budget",
        "attribute_renewal",
        "rate_source",
    } < set(fitted.names)
    assert {"sum_minutes_30d", "count_7d__kind_call", "count_30d__outcome_good"} < set(fitted.names)


def test_leads_without_interactions_are_described_by_their_attributes() -> None:
    leads = [(f"l{i:02d}", day(i), None, {"source": "ads" if i % 2 else "web"}) for i in range(30)]
    fitted = fit(make_history(leads, conversions=[("l01", day(40))]))
    assert fitted.names == (
        "age", "attribute_source", "calendar_weekday", "rate_source",
    )  # fmt: skip


def test_a_single_kind_is_not_split() -> None:
    fitted = fit(make_history([("a", day(0))], [("a", day(1), "call")]))
    assert not any("kind" in name for name in fitted.names)
    assert "count_7d" in fitted.names


def test_windows_are_no_longer_than_the_history() -> None:
    history = make_history([("a", day(0))], [("a", day(1), "call"), ("a", day(2), "mail")])
    names = set(fit(history, until=day(20)).names)
    assert {"count_1d", "count_7d", "count_all"} < names
    assert not any("30d" in name or "90d" in name for name in names)


def test_the_span_of_rates_is_the_horizon_and_needs_conversions() -> None:
    leads = [(f"l{i:02d}", day(i), None, {"source": "ads" if i % 2 else "web"}) for i in range(30)]
    rates = [
        c
        for c in fit(make_history(leads, conversions=[("l01", day(40))]), horizon="9d").columns
        if c.function == "rate"
    ]
    assert [column.declaration.within for column in rates] == [Duration("9d")]  # type: ignore[union-attr]
    assert "rate" not in families(fit(make_history(leads)))


def test_values_that_are_nearly_unique_make_no_rates_and_no_categories() -> None:
    leads = [(f"l{i:03d}", day(0), None, {"email": f"{i}@x", "source": f"s{i % 3}"}) for i in range(300)]
    fitted = fit(make_history(leads, conversions=[("l001", day(5))]), min_count=10)
    assert fitted.names[1:2] == ("attribute_source",)
    assert [name for name in fitted.names if name.startswith("rate")] == ["rate_source"]


def test_a_constant_makes_no_rates() -> None:
    leads = [(f"l{i:02d}", day(i), None, {"source": "web"}) for i in range(30)]
    assert "rate" not in families(fit(make_history(leads, conversions=[("l01", day(5))])))


def test_owners_have_a_load() -> None:
    leads = [
        (f"l{i:02d}", day(i), None, {"sales_owner": f"o{i % 3}", "ownership": f"p{i % 3}"}) for i in range(60)
    ]
    loads = [name for name in fit(make_history(leads)).names if name.startswith("load")]
    assert loads == ["load_sales_owner_30d"]


def test_many_kinds_are_split_by_the_most_frequent_only() -> None:
    events = [("a", day(1), f"kind {i:02d}") for i in range(25) for _ in range(30 - i)]
    names = [
        name for name in fit(make_history([("a", day(0))], events)).names if name.startswith("count_7d__")
    ]
    assert names == [f"count_7d__kind_kind_{i:02d}" for i in range(12)]


@pytest.mark.parametrize("n_attributes", [1, 8, 40])
def test_many_attributes_do_not_make_the_set_explode(n_attributes: int) -> None:
    rng = np.random.default_rng(1)
    drawn = [
        {f"number {i}": 1.0, f"category {i}": f"v{rng.integers(10)}"}
        for i in range(n_attributes)
        for _ in range(30)
    ]
    events = [("a", day(1), f"kind {index % 10}", None, values) for index, values in enumerate(drawn)]
    fitted = fit(make_history([("a", day(0))], events))
    assert len(fitted) <= MAX_COLUMNS
    assert {"count_7d", "recency", "gap_mean", "age"} < set(fitted.names)
    assert "count_7d__kind_kind_0" in fitted.names, (
        "what each kind did matters more than the fortieth attribute"
    )


def test_the_attributes_of_leads_are_all_kept() -> None:
    values = {f"attribute {i}": float(i) for i in range(250)}
    fitted = fit(make_history([("a", day(0), None, values)], [("a", day(1), "call"), ("a", day(1), "mail")]))
    assert sum(name.startswith("attribute_") for name in fitted.names) == 250


def test_the_same_history_gives_the_same_declarations() -> None:
    history = random_history(np.random.default_rng(2), leads=60, days=100)
    vocabularies = learn_vocabularies(history, until=day(80), max_values=30, min_count=1)
    first, second = (
        default_declarations(history, vocabularies, until=day(80), horizon=Duration("30d")) for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == len(first)


def test_nothing_after_the_training_window_decides_what_there_is() -> None:
    early = [(f"l{i:02d}", day(i), None, {"source": "ads" if i % 2 else "web"}) for i in range(30)]
    late = [(f"m{i:02d}", day(60), None, {"source": f"s{i}"}) for i in range(30)]
    events = [(f"l{i:02d}", day(i + 1), kind) for i in range(30) for kind in ("call", "mail")]
    after = [("l00", day(60), "fax"), ("l01", day(10), "fax", day(60))]
    won = [("l01", day(3))]
    first = fit(make_history(early, events, won), until=day(60))
    second = fit(make_history([*early, *late], [*events, *after], won), until=day(60))
    assert first == second


def test_the_default_leaves_out_what_only_tells_the_time() -> None:
    """A month before two years are seen, and volumes: tests lie in the future, where both take new values."""

    def names(days: int) -> set[str]:
        rng = np.random.default_rng(0)
        return set(fit(random_history(rng, leads=60, days=days), until=day(days)).names)

    assert "calendar_month" not in names(700)
    assert "calendar_month" in names(800)
    assert not any(name.startswith("volume_") for name in names(800))
