"""Rates and loads across leads: hand-computed cases, and a slow oracle over random histories."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from convpredict.config.base import Duration
from convpredict.config.features import LoadFeature, RateFeature
from convpredict.features.feature_set import FeatureSet
from convpredict.features.grouped_times import GroupedTimes, Moments
from convpredict.features.lead_columns import CrossLeadTables, lead_columns
from convpredict.features.vocabulary import Vocabularies, column_types
from convpredict.history.history import TIMESTAMP, History
from factories import day, make_history, random_history


def compute(history: History, declarations: list[Any], pairs: list[tuple[int, Any]]) -> dict[str, np.ndarray]:
    """Columns of the declarations for (lead_row, cutoff) pairs."""
    feature_set = FeatureSet.declare(declarations, Vocabularies({}, column_types(history)))
    observations = pa.table(
        {
            "lead_row": pa.array([row for row, _ in pairs], pa.int32()),
            "cutoff": pa.array([cutoff for _, cutoff in pairs], TIMESTAMP),
        }
    )
    tables = CrossLeadTables.build(history, feature_set)
    return lead_columns(history, tables, observations, feature_set.columns)


def with_source(name: str, created: float, source: str | None = "ads") -> tuple[Any, ...]:
    return (name, day(created), None, {"source": source})


RATE = RateFeature(keys=("source",), within=Duration("10d"), prior_leads=2.0)


def test_rate_by_hand() -> None:
    """At day 20, seen from lead e, a (converted), b and d (web, converted) are settled, c is too young."""
    history = make_history(
        [
            with_source("a", 0),
            with_source("b", 5),
            with_source("c", 15),
            with_source("d", 1, "web"),
            with_source("e", 12),
        ],
        conversions=[("a", day(4)), ("d", day(3)), ("c", day(16))],
    )
    columns = compute(history, [RATE], [(4, day(20))])
    base = (2 + 0.5) / (3 + 1)
    assert columns["volume_source"].tolist() == [2.0]
    assert columns["rate_source"][0] == np.float32((1 + 2 * base) / (2 + 2))
    assert columns["rate_source"].dtype == columns["volume_source"].dtype == np.float32


def test_own_lead_is_left_out_of_group_and_base() -> None:
    history = make_history(
        [with_source("a", 0), with_source("b", 0), with_source("c", 0, "web")], conversions=[("a", day(1))]
    )
    columns = compute(history, [RATE], [(0, day(30)), (1, day(30))])
    assert columns["volume_source"].tolist() == [1.0, 1.0]
    base_of_a, base_of_b = (0 + 0.5) / (2 + 1), (1 + 0.5) / (2 + 1)
    expected = [(0 + 2 * base_of_a) / 3, (1 + 2 * base_of_b) / 3]
    np.testing.assert_array_equal(columns["rate_source"], np.float32(expected))


def test_a_lead_is_settled_from_the_very_instant_that_its_span_ends() -> None:
    history = make_history([with_source("a", 0), with_source("z", 0)])
    cutoffs = [day(10, microseconds=-1), day(10), day(10, microseconds=1)]
    columns = compute(history, [RATE], [(1, cutoff) for cutoff in cutoffs])
    assert columns["volume_source"].tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("converted", "recorded", "cutoff", "counts"),
    [
        (day(10, microseconds=-1), None, day(10), True),  # just in time, and visible
        (day(10), None, day(40), False),  # one microsecond late
        (day(2), day(12), day(12), False),  # recorded at the cutoff itself: not visible yet
        (day(2), day(12), day(12, microseconds=1), True),
        (day(2), day(1), day(10), True),  # recorded before it happened: visible when it happens
        (day(-3), None, day(10), True),  # before creation
    ],
)
def test_which_conversions_count(converted: Any, recorded: Any, cutoff: Any, counts: bool) -> None:
    history = make_history(
        [with_source("a", 0), with_source("z", 0)], conversions=[("a", converted, recorded)]
    )
    columns = compute(history, [RATE], [(1, cutoff)])
    base = (counts + 0.5) / 2
    assert columns["volume_source"].tolist() == [1.0]
    assert columns["rate_source"][0] == np.float32((counts + 2 * base) / 3)


def test_an_undated_conversion_is_not_seen_by_any_cutoff() -> None:
    history = make_history(
        [with_source("a", 0), with_source("b", 0), with_source("z", 0)], conversions=[("a", None)]
    )
    columns = compute(history, [RATE], [(2, day(30)), (0, day(30))])
    assert columns["volume_source"].tolist() == [2.0, 2.0]
    assert columns["rate_source"][0] == np.float32((0 + 2 * 0.5 / 3) / 4)


def test_missing_keys_are_a_group_and_pairs_are_groups_of_both() -> None:
    leads = [
        (f"l{index}", day(0), None, {"source": source, "campaign": campaign})
        for index, (source, campaign) in enumerate(
            [("ads", "x"), ("ads", None), (None, None), (None, None), ("ads", "x"), (None, "x")]
        )
    ]
    history = make_history(leads, lead_attributes={"source": "category", "campaign": "category"})
    pair = RateFeature(keys=("source", "campaign"), within=Duration("10d"))
    columns = compute(history, [RATE, pair], [(row, day(30)) for row in range(6)])
    assert columns["volume_source"].tolist() == [2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert columns["volume_source_campaign"].tolist() == [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def test_rates_of_two_spans_and_priors_do_not_mix() -> None:
    history = make_history(
        [with_source("a", 0), with_source("b", 0), with_source("z", 0)], conversions=[("a", day(15))]
    )
    long = RateFeature(keys=("source",), within=Duration("20d"), prior_leads=2.0)
    heavy = RateFeature(keys=("source",), within=Duration("20d"), prior_leads=8.0)
    columns = compute(history, [RATE, long, heavy], [(2, day(30))])
    base = 1.5 / 3
    assert columns["rate_source"][0] == np.float32((0 + 2 * 0.5 / 3) / 4)
    assert columns["rate_source_2"][0] == np.float32((1 + 2 * base) / 4)
    assert columns["rate_source_3"][0] == np.float32((1 + 8 * base) / 10)


def test_load_by_hand() -> None:
    history = make_history(
        [
            ("a", day(0), None, {"owner": "kim"}),
            ("b", day(3), None, {"owner": "kim"}),
            ("c", day(3), None, {"owner": None}),
            ("d", day(10), None, {"owner": "kim"}),
            ("e", day(4), None, {"owner": "lee"}),
        ]
    )
    load = LoadFeature(key="owner", windows=(Duration("7d"), "all"))
    pairs = [
        (0, day(10)),
        (0, day(10, microseconds=1)),
        (1, day(10)),
        (2, day(10)),
        (4, day(11)),
        (3, day(11)),
    ]
    columns = compute(history, [load], pairs)
    np.testing.assert_array_equal(columns["load_owner_7d"], np.float32([1, 1, 0, np.nan, 0, 0]))
    np.testing.assert_array_equal(columns["load_owner_all"], np.float32([1, 2, 1, np.nan, 0, 2]))


def test_load_where_every_key_is_missing() -> None:
    history = make_history([("a", day(0)), ("b", day(1))], lead_attributes={"owner": "category"})
    columns = compute(history, [LoadFeature(key="owner", windows=("all",))], [(0, day(5)), (1, day(5))])
    assert np.isnan(columns["load_owner_all"]).all()


def slow_rate(
    history: History, row: int, cutoff: Any, key: Any, within: timedelta, m: float
) -> tuple[float, int]:
    """The definition, lead by lead."""
    outcomes = {entry["lead_row"]: entry for entry in history.conversions.to_pylist()}
    leads = history.leads.to_pylist()
    n = k = n_all = k_all = 0
    for other, lead in enumerate(leads):
        outcome = outcomes.get(other)
        if other == row or lead["created_at"] + within > cutoff:
            continue
        converted = False
        if outcome is not None and outcome["converted_at"] is not None:
            known = max(outcome["converted_at"], outcome["recorded_at"] or outcome["converted_at"])
            converted = outcome["converted_at"] < lead["created_at"] + within and known < cutoff
        n_all, k_all = n_all + 1, k_all + converted
        if lead[key] == leads[row][key]:
            n, k = n + 1, k + converted
    base = (k_all + 0.5) / (n_all + 1)
    return (k + m * base) / (n + m), n


@pytest.mark.parametrize("seed", range(8))
def test_rates_and_loads_agree_with_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    history = random_history(rng, leads=25, days=40, undated_share=0.2, late_share=0.5)
    grain = timedelta(hours=6)
    pairs = [(int(rng.integers(25)), day(0) + int(rng.integers(0, 170)) * grain) for _ in range(120)]
    declarations = [
        RateFeature(keys=("source",), within=Duration("5d"), prior_leads=3.0),
        LoadFeature(key="source", windows=(Duration("10d"),)),
    ]
    columns = compute(history, declarations, pairs)
    leads = history.leads.to_pylist()
    for index, (row, cutoff) in enumerate(pairs):
        rate, volume = slow_rate(history, row, cutoff, "source", timedelta(days=5), 3.0)
        assert columns["rate_source"][index] == np.float32(rate)
        assert columns["volume_source"][index] == volume
        group = leads[row]["source"]
        load = sum(
            other != row
            and lead["source"] == group
            and cutoff - timedelta(days=10) <= lead["created_at"] < cutoff
            for other, lead in enumerate(leads)
        )
        np.testing.assert_equal(
            columns["load_source_10d"][index], np.float32(np.nan if group is None else load)
        )


def test_what_becomes_known_at_or_after_the_cutoff_changes_nothing() -> None:
    leads = [with_source(f"l{index:02d}", index) for index in range(12)]
    before = [("l01", day(3)), ("l02", day(5), day(14))]
    after = [*before, ("l03", day(6), day(15)), ("l04", day(15)), ("l05", day(20))]
    pairs = [(row, day(15)) for row in range(12)]
    first = compute(make_history(leads, conversions=before), [RATE], pairs)
    second = compute(make_history([*leads, with_source("l99", 15)], conversions=after), [RATE], pairs)
    for name in first:
        assert first[name].tobytes() == second[name].tobytes()


@pytest.mark.parametrize("n_cutoffs", [2, 400])
def test_counting_is_the_same_from_a_table_and_one_by_one(n_cutoffs: int) -> None:
    """Few distinct cutoffs are answered from a table of counts, many by a search each."""
    rng = np.random.default_rng(5)
    group, times = rng.integers(0, 7, 300), rng.integers(0, 50, 300)
    cutoffs, asked = rng.choice(rng.integers(-3, 55, n_cutoffs), 500), rng.integers(0, 7, 500)
    counted = GroupedTimes(group, times, n_groups=7)
    moments = Moments.of(cutoffs)
    for inclusive in (False, True):
        before = (
            times[None, :] <= cutoffs[:, None] - 2 if inclusive else times[None, :] < cutoffs[:, None] - 2
        )
        expected = (before & (group[None, :] == asked[:, None])).sum(axis=1)
        found = counted.count(asked, moments, shift_us=2, inclusive=inclusive)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(
            counted.total(moments, shift_us=2, inclusive=inclusive), before.sum(axis=1)
        )


def test_slices_give_the_same_bits_as_the_whole() -> None:
    history = random_history(np.random.default_rng(3), leads=30, days=40)
    pairs = [(row, day(10 + step * 5)) for row in range(30) for step in range(6)]
    whole = compute(history, [RATE], pairs)
    parts = [compute(history, [RATE], pairs[start : start + 7]) for start in range(0, len(pairs), 7)]
    for name, values in whole.items():
        assert values.tobytes() == np.concatenate([part[name] for part in parts]).tobytes()
