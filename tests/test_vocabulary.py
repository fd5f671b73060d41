"""Vocabularies: learnt from what was known before the end of the training window, in a fixed order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from convpredict.features.vocabulary import Vocabularies, column_types, learn_vocabularies, microseconds_of
from convpredict.history.history import History
from factories import day, make_history

KIND = ("interactions", "kind")
SOURCE = ("leads", "source")


def calls(*kinds: str, at: float = 1.0, recorded: Any = None, outcome: Any = None) -> list[tuple[Any, ...]]:
    return [("a", day(at), kind, recorded, {"outcome": outcome}) for kind in kinds]


def history_of(interactions: list[tuple[Any, ...]], **more: Any) -> History:
    return make_history(
        [("a", day(0), None, {"source": "web"})],
        interactions,
        interaction_attributes={"outcome": "category", "minutes": "number"},
        **more,
    )


def learn(history: History, *, max_values: int = 10, min_count: int = 1, **more: Any) -> Vocabularies:
    return learn_vocabularies(history, until=day(10), max_values=max_values, min_count=min_count, **more)


def test_the_most_frequent_come_first_and_ties_go_by_value() -> None:
    history = history_of(calls("mail", "call", "visit", "call", "Zoom", "mail", "visit", "visit"))
    assert learn(history)[KIND] == ("visit", "call", "mail", "Zoom")
    assert learn(history, max_values=2)[KIND] == ("visit", "call")
    assert learn(history, min_count=2)[KIND] == ("visit", "call", "mail")


def test_only_what_was_visible_before_the_end_of_the_training_window_counts() -> None:
    just_before, at_the_end = day(10, microseconds=-1), day(10)
    interactions = [
        ("a", just_before, "in time"),
        ("a", at_the_end, "too late"),
        ("a", day(1), "recorded too late", at_the_end),
        ("a", day(1), "recorded in time", just_before),
    ]
    assert learn(history_of(interactions))[KIND] == ("in time", "recorded in time")


def test_leads_count_by_creation_and_changes_by_visibility() -> None:
    leads = [
        ("a", day(0), None, {"source": "web"}),
        ("b", day(10, microseconds=-1), None, {"source": "ads"}),
        ("c", day(10), None, {"source": "fair"}),
        ("d", day(1), None, {"source": None}),
    ]
    changes = [
        ("d", "source", "partner", day(2), None),
        ("d", "source", "recorded late", day(2), day(10)),
        ("d", "source", "later", day(10), None),
        ("d", "size", "xl", day(2), None),
        ("d", "source", None, day(3), None),
    ]
    assert learn(make_history(leads, attribute_changes=changes))[SOURCE] == ("ads", "partner", "web")


def test_named_values_are_kept_however_rare() -> None:
    history = history_of(calls("call", "call", "mail"))
    named = {KIND: {"mail", "fax", "call", "(other)"}}
    assert learn(history, min_count=2, named=named)[KIND] == ("call", "fax", "mail")
    assert learn(history, max_values=1, named=named)[KIND] == ("call", "fax", "mail")


def test_the_name_of_the_bucket_is_not_a_value() -> None:
    assert learn(history_of(calls("(other)", "(other)", "call")))[KIND] == ("call",)


def test_missing_values_do_not_count_and_unusual_names_can_be_read() -> None:
    history = make_history(
        [("a", day(0), None, {'so"urce': "web"})],
        [("a", day(1), "call", None, {'out"come': "good"}), ("a", day(1), "call", None, {'out"come': None})],
    )
    vocabularies = learn(history)
    assert vocabularies["interactions", 'out"come'] == ("good",)
    assert vocabularies["leads", 'so"urce'] == ("web",)


def test_columns_can_be_chosen_and_types_are_known() -> None:
    vocabularies = learn(history_of(calls("call", outcome="good")), columns={KIND})
    assert dict(vocabularies) == {KIND: ("call",)}
    assert vocabularies.type_of(("interactions", "minutes")) == "number"
    assert vocabularies.type_of(("interactions", "outcome")) == "category"
    assert vocabularies.type_of(("leads", "nothing")) is None
    assert vocabularies.categories(KIND) == ("call", "(other)")


def test_without_interactions_the_vocabulary_is_empty() -> None:
    history = make_history([("a", day(0))])
    assert column_types(history) == {KIND: "category"}
    assert learn(history)[KIND] == ()


@pytest.mark.parametrize("zone", [None, UTC])
def test_microseconds_are_exact_far_from_the_epoch(zone: Any) -> None:
    assert microseconds_of(datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=zone)) == 1_704_067_200_000_001
    assert microseconds_of(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=zone)) == -1
