"""Attributes and their histories, age, calendar: hand-computed cases, a slow oracle over random changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from convpredict.config.base import Duration
from convpredict.config.features import (
    AgeFeature,
    AttributeFeature,
    CalendarFeature,
    CountFeature,
    LoadFeature,
    RateFeature,
)
from convpredict.errors import BundleError, DataError
from convpredict.features.feature_set import FeatureSet
from convpredict.features.lead_columns import CrossLeadTables, is_lead_column, lead_columns
from convpredict.features.vocabulary import Vocabularies, column_types
from convpredict.history.history import TIMESTAMP, History
from factories import day, make_history, random_history

SOURCES = {("leads", "source"): ("ads", "web")}


def observe(pairs: list[tuple[int, Any]]) -> pa.Table:
    rows, cutoffs = [row for row, _ in pairs], [cutoff for _, cutoff in pairs]
    return pa.table({"lead_row": pa.array(rows, pa.int32()), "cutoff": pa.array(cutoffs, TIMESTAMP)})


def compute(
    history: History, declarations: list[Any], pairs: list[tuple[int, Any]], vocabularies: Any = SOURCES
) -> dict[str, np.ndarray]:
    feature_set = FeatureSet.declare(declarations, Vocabularies(vocabularies, column_types(history)))
    tables = CrossLeadTables.build(history, feature_set)
    return lead_columns(history, tables, observe(pairs), feature_set.columns)


def test_categories_are_coded_by_the_vocabulary() -> None:
    """Codes: -1 missing, 0 and 1 the vocabulary, 2 the bucket of rare and unseen values."""
    values = ["web", None, "ads", "fair", "(other)", ""]
    history = make_history([(f"l{i}", day(0), None, {"source": value}) for i, value in enumerate(values)])
    codes = compute(history, [AttributeFeature(attribute="source")], [(i, day(1)) for i in range(6)])
    assert codes["attribute_source"].tolist() == [1, -1, 0, 2, 2, 2]
    assert codes["attribute_source"].dtype == np.int32


def test_numbers_and_times() -> None:
    history = make_history(
        [
            ("a", day(0), None, {"budget": 2.5, "renewal": day(4)}),
            ("b", day(0), None, {"budget": None, "renewal": None}),
            ("c", day(0), None, {"budget": -1.0, "renewal": datetime(1970, 1, 1, tzinfo=UTC)}),
        ],
        lead_attributes={"budget": "number", "renewal": "time"},
    )
    both = [AttributeFeature(attribute="budget"), AttributeFeature(attribute="renewal")]
    observed = [(0, day(1)), (0, day(4)), (0, day(5.5)), (1, day(1)), (2, day(0))]
    columns = compute(history, both, observed, {})
    np.testing.assert_array_equal(columns["attribute_budget"], np.float32([2.5, 2.5, 2.5, np.nan, -1.0]))
    # A date ahead (or at the cutoff) says what is going to happen, so it is missing.
    renewal = np.float32([np.nan, np.nan, 1.5, np.nan, 19_723.0])
    np.testing.assert_array_equal(columns["attribute_renewal"], renewal)


def test_age_of_creation_has_the_precision_of_microseconds() -> None:
    history = make_history([("a", day(1.25)), ("b", day(0))])
    columns = compute(
        history, [AgeFeature()], [(0, day(1.5)), (1, day(0, microseconds=1)), (1, day(400))], {}
    )
    np.testing.assert_array_equal(columns["age"], np.float32([0.25, 1 / 86_400_000_000, 400.0]))


@pytest.mark.parametrize(
    ("cutoff", "month", "weekday", "hour"),
    [
        (datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC), 2, 3, 23),  # a Thursday
        (datetime(2024, 3, 1, tzinfo=UTC), 3, 4, 0),
        (datetime(2023, 12, 31, 12, tzinfo=UTC), 12, 6, 12),  # a Sunday
        (datetime(1969, 12, 29, 5, tzinfo=UTC), 12, 0, 5),  # a Monday before the epoch
    ],
)
def test_calendar(cutoff: datetime, month: int, weekday: int, hour: int) -> None:
    history = make_history([("a", datetime(1960, 1, 1, tzinfo=UTC))])
    columns = compute(history, [CalendarFeature(parts=("month", "weekday", "hour"))], [(0, cutoff)], {})
    found = [columns[f"calendar_{part}"][0] for part in ("month", "weekday", "hour")]
    assert found == [month, weekday, hour]
    assert (weekday, hour) == (cutoff.weekday(), cutoff.hour)


def source_at(changes: list[tuple[Any, ...]], cutoff: Any) -> int:
    """Code of the source of one lead, whose table entry is 'web', at a cutoff."""
    history = make_history([("a", day(0), None, {"source": "web"}), ("b", day(0))], attribute_changes=changes)
    return int(compute(history, [AttributeFeature(attribute="source")], [(0, cutoff)])["attribute_source"][0])


def test_a_change_holds_from_the_first_instant_after_it_is_visible() -> None:
    change = [("a", "source", "ads", day(5), None)]
    assert [source_at(change, day(5)), source_at(change, day(5, microseconds=1))] == [1, 0]
    late = [("a", "source", "ads", day(5), day(8))]
    assert [source_at(late, day(8)), source_at(late, day(8, microseconds=1))] == [1, 0]
    ahead = [("a", "source", "ads", day(5), day(2))]
    assert [source_at(ahead, day(5)), source_at(ahead, day(5, microseconds=1))] == [1, 0]


def test_the_change_that_took_effect_last_wins_even_if_another_is_recorded_after_it() -> None:
    changes = [("a", "source", "fair", day(5), day(20)), ("a", "source", "ads", day(10), None)]
    assert [source_at(changes, day(at)) for at in (4, 11, 21)] == [1, 0, 0]


def test_ties_go_to_the_later_record_and_then_to_the_later_row() -> None:
    recorded = [("a", "source", "ads", day(5), day(7)), ("a", "source", "fair", day(5), day(6))]
    assert source_at(recorded, day(9)) == 0
    rows = [("a", "source", "fair", day(5), day(7)), ("a", "source", "ads", day(5), day(7))]
    assert source_at(rows, day(9)) == 0
    assert source_at(rows[::-1], day(9)) == 2


def test_a_null_change_makes_the_attribute_missing_and_other_leads_and_attributes_do_not_matter() -> None:
    assert source_at([("a", "source", None, day(5), None)], day(6)) == -1
    assert source_at([("b", "source", "ads", day(5), None), ("a", "size", "ads", day(5), None)], day(6)) == 1


def test_changes_of_numbers_and_times_are_read_from_text() -> None:
    history = make_history(
        [("a", day(0), None, {"budget": 1.0, "renewal": day(1)})],
        attribute_changes=[
            ("a", "budget", " 12.5 ", day(2), None),
            ("a", "budget", None, day(8), None),
            ("a", "renewal", "2024-01-03", day(2), None),
            ("a", "renewal", "2024-01-05T12:00:00", day(4), None),
            ("a", "renewal", "2024-01-07 00:00:00+02:00", day(6), None),
            ("a", "renewal", "2024-01-09T00:00:00.5Z", day(8), None),
            ("a", "renewal", "2024-01-09 00:00:00+00", day(9), None),
        ],
        lead_attributes={"budget": "number", "renewal": "time"},
    )
    both = [AttributeFeature(attribute="budget"), AttributeFeature(attribute="renewal")]
    columns = compute(history, both, [(0, day(at)) for at in (1, 3, 5, 7, 8.5, 10)], {})
    np.testing.assert_array_equal(
        columns["attribute_budget"], np.float32([1, 12.5, 12.5, 12.5, np.nan, np.nan])
    )
    half_a_second = 0.5 / 86_400
    expected = np.float32([np.nan, 1, 0.5, 7 - 6 + 2 / 24, 0.5 - half_a_second, 2])
    np.testing.assert_array_equal(columns["attribute_renewal"], expected)


@pytest.mark.parametrize(
    ("attribute", "kind", "value", "says"),
    [("budget", "number", "much", "numbers"), ("renewal", "time", "soon", "times in ISO 8601")],
)
def test_changes_that_cannot_be_read_are_an_error(attribute: str, kind: Any, value: str, says: str) -> None:
    history = make_history(
        [("a", day(0))],
        attribute_changes=[("a", attribute, value, day(1), None)],
        lead_attributes={attribute: kind},
    )
    with pytest.raises(DataError, match=rf"'{attribute}' must be {says}.*[Cc]orrect them"):
        compute(history, [AttributeFeature(attribute=attribute)], [(0, day(2))], {})


@pytest.mark.parametrize("seed", range(6))
def test_attribute_histories_agree_with_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    leads = [(f"l{row}", day(0), None, {"source": ["ads", "web", None][rng.integers(3)]}) for row in range(6)]
    changes = []
    for _ in range(40):
        valid_from = day(int(rng.integers(0, 12)))
        recorded_at = None if rng.random() < 0.5 else valid_from + timedelta(days=int(rng.integers(-2, 6)))
        value = ["ads", "web", "fair", None][rng.integers(4)]
        changes.append((f"l{rng.integers(5)}", "source", value, valid_from, recorded_at))
    history = make_history(leads, attribute_changes=changes)
    pairs = [(row, day(at, microseconds=tick)) for row in range(6) for at in range(20) for tick in (0, 1)]
    codes = compute(history, [AttributeFeature(attribute="source")], pairs)["attribute_source"]
    for (row, cutoff), code in zip(pairs, codes, strict=True):
        visible = [
            (valid_from, recorded_at or valid_from, index, value)
            for index, (lead, _, value, valid_from, recorded_at) in enumerate(changes)
            if lead == f"l{row}" and max(valid_from, recorded_at or valid_from) < cutoff
        ]
        value = max(visible)[3] if visible else leads[row][3]["source"]
        assert code == {"ads": 0, "web": 1, "fair": 2, None: -1}[value]


def test_slices_in_threads_give_the_bits_of_the_whole() -> None:
    history = random_history(np.random.default_rng(1), leads=40)
    declarations = [
        AttributeFeature(attribute="source"),
        AttributeFeature(attribute="renewal"),
        AgeFeature(),
        CalendarFeature(),
        RateFeature(keys=("source",), within=Duration("7d")),
        LoadFeature(key="source", windows=(Duration("7d"),)),
    ]
    feature_set = FeatureSet.declare(declarations, Vocabularies(SOURCES, column_types(history)))
    tables = CrossLeadTables.build(history, feature_set)
    observations = observe([(row, day(30 + step)) for row in range(40) for step in range(5)])
    slices = [observations.slice(start, 13) for start in range(0, len(observations), 13)]
    whole = lead_columns(history, tables, observations, feature_set.columns)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda part: lead_columns(history, tables, part, feature_set.columns), slices))
    assert list(whole) == list(feature_set.names)
    for name, values in whole.items():
        assert values.tobytes() == np.concatenate([part[name] for part in parts]).tobytes()


def test_no_observations_give_empty_columns() -> None:
    history = make_history([("a", day(0), None, {"source": "ads"})])
    declarations = [
        AttributeFeature(attribute="source"),
        RateFeature(keys=("source",), within=Duration("7d")),
    ]
    columns = compute(history, [*declarations, AgeFeature(), CalendarFeature()], [])
    assert {name: len(values) for name, values in columns.items()} == dict.fromkeys(columns, 0)


def test_which_columns_are_computed_here() -> None:
    kinds = Vocabularies({("interactions", "kind"): ("call",)})
    features = [AgeFeature(), AgeFeature(of="first"), CountFeature(windows=("all",)), CalendarFeature()]
    columns = FeatureSet.declare(features, kinds).columns
    assert [column.name for column in columns if is_lead_column(column)] == [
        "age",
        "calendar_month",
        "calendar_weekday",
    ]
    history = make_history([("a", day(0))])
    assert list(compute(history, features, [(0, day(1))], kinds.values_by_column)) == [
        "age",
        "calendar_month",
        "calendar_weekday",
    ]


def test_a_history_without_the_attribute_is_refused() -> None:
    feature_set = FeatureSet.declare([AttributeFeature(attribute="source")], Vocabularies(SOURCES))
    with pytest.raises(BundleError, match="'source' of the leads as a category, but the history has no such"):
        CrossLeadTables.build(make_history([("a", day(0))]), feature_set)
    with pytest.raises(BundleError, match="has it as a number"):
        CrossLeadTables.build(make_history([("a", day(0), None, {"source": 1.0})]), feature_set)
