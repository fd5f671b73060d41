"""Columns of declarations: names, order, units, labels, concepts, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from convpredict.config.base import Duration
from convpredict.config.features import (
    AgeFeature,
    AggregateFeature,
    AttributeFeature,
    CalendarFeature,
    CountFeature,
    DecayedFeature,
    DistinctFeature,
    GapFeature,
    LastKindsFeature,
    LoadFeature,
    RateFeature,
    RecencyFeature,
    ShareFeature,
    TopicFeature,
    TrendFeature,
)
from convpredict.errors import ConfigError
from convpredict.features.columns import columns_of, columns_of_all
from convpredict.features.vocabulary import Vocabularies

DAY, WEEK, MONTH = Duration("1d"), Duration("7d"), Duration("30d")
US = 86_400_000_000
VOCABULARIES = Vocabularies(
    {
        ("interactions", "kind"): ("call", "page_view"),
        ("interactions", "outcome"): ("no answer",),
        ("leads", "source"): ("Web", "ads"),
    },
    {
        ("interactions", "amount_eur"): "number",
        ("interactions", "talk_minutes"): "number",
        ("leads", "budget_usd"): "number",
        ("leads", "trial_started_at"): "time",
        ("leads", "owner"): "category",
        ("leads", "campaign"): "category",
    },
)


def described(declaration: Any) -> list[tuple[str, str, str, str]]:
    return [(c.name, c.label, c.unit, c.concept) for c in columns_of(declaration, VOCABULARIES)]


def test_counts_overall_and_by_value_in_order() -> None:
    assert described(CountFeature(windows=(WEEK, DAY, "all"))) == [
        ("count_7d", "interactions in the last 7 days", "interactions", "activity"),
        ("count_1d", "interactions in the last 24 hours", "interactions", "activity"),
        ("count_all", "interactions over the whole history", "interactions", "activity"),
    ]
    columns = columns_of(CountFeature(windows=(WEEK, "all"), by="kind"), VOCABULARIES)
    assert [(c.name, c.label, c.window_us, c.value) for c in columns] == [
        ("count_7d__kind_call", "calls in the last 7 days", 7 * US, "call"),
        ("count_7d__kind_page_view", "page views in the last 7 days", 7 * US, "page_view"),
        ("count_7d__kind_other", "interactions of other kinds in the last 7 days", 7 * US, "(other)"),
        ("count_all__kind_call", "calls over the whole history", None, "call"),
        ("count_all__kind_page_view", "page views over the whole history", None, "page_view"),
        ("count_all__kind_other", "interactions of other kinds over the whole history", None, "(other)"),
    ]
    assert [c.concept for c in columns[:3]] == ["call", "page view", "other kinds"]


def test_named_values_have_columns_for_themselves_alone() -> None:
    columns = columns_of(CountFeature(windows=("all",), by="kind", values=("page_view",)), VOCABULARIES)
    assert [c.name for c in columns] == ["count_all__kind_page_view"]


def test_aggregates_go_by_window_then_function_then_value() -> None:
    declaration = AggregateFeature(
        attribute="amount_eur", functions=("sum", "last"), windows=(WEEK, "all"), by="kind"
    )
    columns = columns_of(declaration, VOCABULARIES)
    assert [c.name for c in columns[:4]] == [
        "sum_amount_eur_7d__kind_call",
        "sum_amount_eur_7d__kind_page_view",
        "sum_amount_eur_7d__kind_other",
        "last_amount_eur_7d__kind_call",
    ]
    assert columns[0].label == "total amount (EUR) of calls in the last 7 days"
    assert (columns[0].unit, columns[0].function, columns[3].function) == ("EUR", "sum", "last")
    assert described(
        AggregateFeature(attribute="talk_minutes", functions=("mean", "max"), windows=("all",))
    ) == [
        ("mean_talk_minutes_all", "mean talk minutes over the whole history", "minutes", "talk minutes"),
        ("max_talk_minutes_all", "largest talk minutes over the whole history", "minutes", "talk minutes"),
    ]


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        (RecencyFeature(), [("recency", "days since the last interaction", "days", "activity")]),
        (
            RecencyFeature(by="outcome"),
            [
                (
                    "recency__outcome_no_answer",
                    "days since the last interaction with outcome 'no answer'",
                    "days",
                    "outcome no answer",
                ),
                (
                    "recency__outcome_other",
                    "days since the last interaction with another outcome",
                    "days",
                    "outcome other",
                ),
            ],
        ),
        (AgeFeature(), [("age", "days since creation", "days", "age")]),
        (AgeFeature(of="first"), [("first_age", "days since the first interaction", "days", "activity")]),
        (
            DecayedFeature(half_lives=(Duration("14d"),)),
            [("decayed_14d", "interactions, halved every 14 days", "interactions", "activity")],
        ),
        (
            DistinctFeature(windows=(WEEK,)),
            [("distinct_active_days_7d", "days with activity in the last 7 days", "days", "activity")],
        ),
        (
            DistinctFeature(of="outcome", windows=(WEEK,)),
            [("distinct_outcome_7d", "different outcomes in the last 7 days", "values", "outcome")],
        ),
        (
            TrendFeature(short=WEEK, long=MONTH),
            [
                (
                    "trend_7d_30d",
                    "trend of interactions: last 7 days against last 30 days",
                    "log ratio",
                    "activity",
                )
            ],
        ),
        (
            AttributeFeature(attribute="budget_usd"),
            [("attribute_budget_usd", "budget (USD)", "USD", "budget usd")],
        ),
        (
            AttributeFeature(attribute="trial_started_at"),
            [("attribute_trial_started_at", "days since trial started", "days", "trial started")],
        ),
        (
            CalendarFeature(parts=("hour",)),
            [("calendar_hour", "hour of the day, UTC", "hour", "calendar")],
        ),
        (
            LoadFeature(key="owner", windows=(MONTH,)),
            [
                (
                    "load_owner_30d",
                    "other leads with the same owner created in the last 30 days",
                    "leads",
                    "owner",
                )
            ],
        ),
        (
            RateFeature(keys=("source", "campaign"), within=MONTH),
            [
                (
                    "rate_source_campaign",
                    "conversion rate of earlier leads with the same source and campaign, within 30 days",
                    "share",
                    "source and campaign",
                ),
                (
                    "volume_source_campaign",
                    "earlier leads with the same source and campaign, known for 30 days",
                    "leads",
                    "source and campaign",
                ),
            ],
        ),
    ],
)
def test_names_labels_units_and_concepts(declaration: Any, expected: list[tuple[str, str, str, str]]) -> None:
    assert described(declaration) == expected


def test_indexed_and_named_functions() -> None:
    assert [c.function for c in columns_of(GapFeature(), VOCABULARIES)] == ["mean", "deviation", "silence"]
    hours = columns_of(ShareFeature(of="hour"), VOCABULARIES)
    assert [(c.name, c.index) for c in hours] == [(f"share_hour_{i}", i) for i in range(4)]
    weekdays = columns_of(ShareFeature(of="weekday"), VOCABULARIES)
    assert [c.index for c in weekdays] == list(range(7))
    assert (weekdays[0].label, weekdays[6].label) == (
        "share of interactions on Mondays",
        "share of interactions on Sundays",
    )
    trend = columns_of(TrendFeature(short=WEEK, long=MONTH, by="kind"), VOCABULARIES)
    assert (trend[0].name, trend[0].window_us) == ("trend_7d_30d__kind_call", 7 * US)
    assert columns_of(DecayedFeature(half_lives=(DAY,)), VOCABULARIES)[0].half_life_us == US


def test_category_columns_carry_their_categories() -> None:
    last = columns_of(LastKindsFeature(k=2), VOCABULARIES)
    assert [(c.name, c.type, c.index, c.categories) for c in last] == [
        ("last_kind_1", "category", 1, ("call", "page_view", "(other)")),
        ("last_kind_2", "category", 2, ("call", "page_view", "(other)")),
    ]
    assert last[1].label == "kind of the second last interaction"
    topic = columns_of(TopicFeature(of="outcome", windows=(WEEK,)), VOCABULARIES)[0]
    assert (topic.name, topic.label) == ("topic_outcome_7d", "most frequent outcome in the last 7 days")
    source = columns_of(AttributeFeature(attribute="source"), VOCABULARIES)[0]
    assert (source.type, source.categories) == ("category", ("Web", "ads", "(other)"))


def test_colliding_names_get_a_number_and_colliding_labels_their_name() -> None:
    kinds = Vocabularies(
        {("interactions", "kind"): ("Page View", "page-view", "page_view_2", "Звонок", "факс")}
    )
    columns = columns_of(RecencyFeature(by="kind"), kinds)
    assert [c.name for c in columns] == [
        "recency__kind_page_view",
        "recency__kind_page_view_2",
        "recency__kind_page_view_2_2",
        "recency__kind_value",
        "recency__kind_value_2",
        "recency__kind_other",
    ]
    assert columns[0].label == "days since the last page view"
    assert columns[1].label == "days since the last page view [recency__kind_page_view_2]"
    assert [c.value for c in columns[:2]] == ["Page View", "page-view"]


def test_what_is_declared_twice_appears_once() -> None:
    declarations = [
        CountFeature(windows=(DAY, WEEK)),
        CountFeature(windows=(Duration("24h"), "all")),
        CountFeature(windows=(WEEK,), by="kind", values=("call",)),
        CountFeature(windows=(WEEK,), by="kind"),
    ]
    assert [column.name for column in columns_of_all(declarations, VOCABULARIES)] == [
        "count_1d",
        "count_7d",
        "count_all",
        "count_7d__kind_call",
        "count_7d__kind_page_view",
        "count_7d__kind_other",
    ]
    assert [c.name for c in columns_of(CountFeature(windows=(DAY, Duration("24h"))), VOCABULARIES)] == [
        "count_1d"
    ]


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (CountFeature(windows=("all",), by="kindd"), r"'count' feature has by: kindd.*did you mean 'kind'\?"),
        (
            CountFeature(windows=("all",), by="amount_eur"),
            r"amount_eur, which is a number .* needs a category",
        ),
        (
            AggregateFeature(attribute="kind", windows=("all",)),
            r"kind, which is a category .* needs a number",
        ),
        (AggregateFeature(attribute="zzz", windows=("all",)), r"no such column; There are: amount_eur, kind"),
        (AttributeFeature(attribute="sorce"), r"the leads have no such column; did you mean 'source'\?"),
        (AttributeFeature(attribute="amount_eur"), r"the leads have no such column"),
        (
            AttributeFeature(attribute="budget_usd", values=("9",)),
            r"a number in the leads, and this needs a category",
        ),
        (
            RateFeature(keys=("source", "trial_started_at"), within=WEEK),
            r"which is a time .* needs a category",
        ),
        (LoadFeature(key="ownr", windows=("all",)), r"key: ownr.*did you mean 'owner'\?"),
        (
            CountFeature(windows=("all",), by="kind", values=("cal",)),
            r"split by kind names the value 'cal'.*'call'",
        ),
    ],
)
def test_declarations_that_do_not_fit_are_refused_with_the_remedy(declaration: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        columns_of(declaration, VOCABULARIES)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TrendFeature(short=MONTH, long=WEEK), "short 30d, long 7d"),
        (lambda: TrendFeature(short=WEEK, long=WEEK), "short window against a longer one"),
        (lambda: AgeFeature(by="kind"), "one creation, not one by kind"),
        (lambda: RecencyFeature(values=("call",)), "'values' needs 'by'"),
        (lambda: RateFeature(keys=("a", "a"), within=WEEK), "keys of a rate must differ"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build()


texts = st.text(max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(texts.filter(lambda text: text != "(other)"), unique=True, max_size=8),
    attributes=st.lists(texts, unique=True, max_size=5),
)
def test_names_are_unique_and_plain_whatever_the_data_is_called(
    kinds: list[str], attributes: list[str]
) -> None:
    vocabularies = Vocabularies(
        {("interactions", "kind"): tuple(kinds)}, {("leads", name): "number" for name in attributes}
    )
    declarations = [
        CountFeature(windows=(WEEK, "all"), by="kind"),
        LastKindsFeature(),
        *(AttributeFeature(attribute=name) for name in attributes),
    ]
    columns = columns_of_all(declarations, vocabularies)
    names = [column.name for column in columns]
    assert len(columns) == 2 * (len(kinds) + 1) + 3 + len(attributes)
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    assert len({column.label for column in columns}) == len(columns)
