"""Every family of event features on small cases whose values are worked out by hand."""

from __future__ import annotations

import os
from datetime import timedelta
from math import log, sqrt

import numpy as np
import pyarrow as pa
import pytest

from convpredict.config.base import Duration
from convpredict.config.features import (
    AgeFeature,
    AggregateFeature,
    CountFeature,
    DecayedFeature,
    DistinctFeature,
    Feature,
    GapFeature,
    LastKindsFeature,
    RecencyFeature,
    RepeatFeature,
    ShareFeature,
    TopicFeature,
    TrendFeature,
)
from convpredict.features.build import build_features
from convpredict.features.feature_set import FeatureSet
from convpredict.features.kernels import drop_stale_kernels
from convpredict.features.vocabulary import Vocabularies, column_types
from convpredict.history.history import TIMESTAMP, History
from factories import day, make_history

NAN = float("nan")
DAY = Duration("1d")
WEEK = Duration("7d")
VOCABULARY = {("interactions", "kind"): ("call", "mail"), ("interactions", "page"): ("home", "price")}


def features(history: History, cutoffs, *declarations: Feature, lead: int = 0) -> dict[str, list]:
    """Columns of one lead at some cutoffs (days)."""
    vocabularies = Vocabularies(VOCABULARY, column_types(history))
    observations = pa.table(
        {
            "lead_row": pa.array([lead] * len(cutoffs), pa.int32()),
            "lead_id": pa.array([history.leads["lead_id"][lead].as_py()] * len(cutoffs)),
            "cutoff": pa.array([day(cutoff) for cutoff in cutoffs], TIMESTAMP),
        }
    )
    table = build_features(history, observations, FeatureSet.declare(declarations, vocabularies), n_jobs=1)
    return {name: table[name].to_pylist() for name in table.column_names[2:]}


def one_lead(*events, **options) -> History:
    """Events of one lead: (day, kind, recorded day, attributes)."""
    rows = []
    for event in events:
        at, kind, recorded, attributes = (*event, *[None] * (4 - len(event)))
        rows.append(("a", day(at), kind, None if recorded is None else day(recorded), attributes))
    return make_history([("a", day(0))], rows, known_until=day(1000), **options)


def close(found, expected) -> None:
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=2e-7, atol=0)


def test_counts_per_window_with_half_open_bounds():
    history = one_lead((1, "call"), (3, "mail"), (3, "call"), (10, "web"))
    found = features(history, [3, 4, 10, 10.5], CountFeature(windows=(WEEK, "all")))
    # at 3 the events at 3 lie in the future; at 10 the window [3, 10) holds both at 3; at 10.5 they have left
    close(found["count_7d"], [1, 3, 2, 1])
    close(found["count_all"], [1, 3, 3, 4])


def test_counts_by_value_with_other_and_missing():
    page = lambda value: {"page": value}  # noqa: E731
    history = one_lead(
        (1, "call", None, page("home")),
        (2, "web", None, page("blog")),
        (3, "call", None, page(None)),
        (4, None),
    )
    found = features(
        history, [5], CountFeature(windows=("all",), by="page"), CountFeature(windows=("all",), by="kind")
    )
    assert {name: value[0] for name, value in found.items()} == {
        "count_all__page_home": 1,
        "count_all__page_price": 0,
        "count_all__page_other": 1,
        "count_all__kind_call": 2,
        "count_all__kind_mail": 0,
        "count_all__kind_other": 1,
    }


def test_a_late_record_counts_once_it_is_known_and_only_while_it_is_in_the_window():
    # recorded exactly at the cutoff is not yet visible; recorded after it has left the window it never counts there
    history = one_lead((1, "call", 5), (2, "call"), (1, "mail", 30))
    found = features(history, [3, 5, 6, 8, 9, 31], CountFeature(windows=(WEEK, "all")))
    # [1, 8) still holds day 1 at 8; at 9 the window begins at 2, which is inside
    close(found["count_7d"], [1, 1, 2, 2, 1, 0])
    close(found["count_all"], [1, 1, 2, 2, 2, 3])


def test_without_any_visible_event():
    history = one_lead((9, "call", None, {"v": 1.0, "page": "home"}))
    found = features(
        history,
        [2],
        CountFeature(windows=(WEEK,)),
        AggregateFeature(attribute="v", functions=("sum", "mean", "max", "last"), windows=(WEEK, "all")),
        RecencyFeature(),
        AgeFeature(of="first"),
        DecayedFeature(half_lives=(DAY,)),
        DistinctFeature(windows=(WEEK,)),
        DistinctFeature(of="page", windows=(WEEK,)),
        GapFeature(),
        LastKindsFeature(k=2),
        TrendFeature(short=DAY, long=WEEK),
        ShareFeature(of="hour"),
        ShareFeature(of="weekday"),
        TopicFeature(of="page"),
    )
    zero = ["count_7d", "sum_v_7d", "sum_v_all", "decayed_1d", "distinct_active_days_7d", "distinct_page_7d"]
    zero.append("trend_1d_7d")
    for name, (value,) in found.items():
        if name in zero:
            assert value == 0.0, name
        else:
            assert value is None or np.isnan(value), name


def test_aggregates_of_an_attribute_leave_missing_values_out():
    v = lambda value: {"v": value}  # noqa: E731
    history = one_lead(
        (1, "call", None, v(4.0)),
        (2, "mail", None, v(None)),
        (3, "call", None, v(-1.5)),
        (9, "mail", None, v(0.25)),
    )
    found = features(
        history,
        [4, 9, 9.5, 17],
        AggregateFeature(attribute="v", functions=("sum", "mean", "max", "last"), windows=(WEEK, "all")),
        AggregateFeature(attribute="v", functions=("sum", "mean", "max"), windows=("all",), by="kind"),
    )
    # windows of a week: at 4 {4, -1.5}; at 9 [2, 9) {-1.5}; at 9.5 {-1.5, .25}; at 17 nothing
    close(found["sum_v_7d"], [2.5, -1.5, -1.25, 0])
    close(found["mean_v_7d"], [1.25, -1.5, -0.625, NAN])
    close(found["max_v_7d"], [4, -1.5, 0.25, NAN])
    close(found["last_v_7d"], [-1.5, -1.5, 0.25, NAN])
    close(found["sum_v_all"], [2.5, 2.5, 2.75, 2.75])
    close(found["mean_v_all"], [1.25, 1.25, 2.75 / 3, 2.75 / 3])
    close(found["max_v_all"], [4, 4, 4, 4])
    close(found["last_v_all"], [-1.5, -1.5, 0.25, 0.25])
    close(found["sum_v_all__kind_mail"], [0, 0, 0.25, 0.25])
    close(found["mean_v_all__kind_mail"], [NAN, NAN, 0.25, 0.25])
    close(found["max_v_all__kind_call"], [4, 4, 4, 4])


def test_the_last_value_is_the_last_that_happened_not_the_last_recorded():
    v = lambda value: {"v": value}  # noqa: E731
    history = one_lead((1, "call", 6, v(1.0)), (2, "call", None, v(2.0)))
    found = features(history, [3, 7], AggregateFeature(attribute="v", functions=("last",), windows=("all",)))
    close(found["last_v_all"], [2, 2])


def test_recency_and_age_of_the_first_follow_late_records():
    history = one_lead((2, "call"), (1, "mail", 5), (4, "call", 6))
    found = features(
        history, [2, 3, 5.5, 6.5], RecencyFeature(), AgeFeature(of="first"), RecencyFeature(by="kind")
    )
    close(found["recency"], [NAN, 1, 3.5, 2.5])
    close(found["first_age"], [NAN, 1, 4.5, 5.5])
    close(found["recency__kind_mail"], [NAN, NAN, 4.5, 5.5])
    close(found["recency__kind_other"], [NAN, NAN, NAN, NAN])


def test_decayed_counts_halve_with_every_half_life():
    history = one_lead((0, "call"), (1, "mail"), (2, "call", 4))
    found = features(
        history, [3, 5], DecayedFeature(half_lives=(DAY,)), DecayedFeature(half_lives=(DAY,), by="kind")
    )
    # at 3: ages 3 and 2; at 5: ages 5, 4 and 3
    close(found["decayed_1d"], [0.125 + 0.25, 1 / 32 + 1 / 16 + 1 / 8])
    close(found["decayed_1d__kind_call"], [0.125, 1 / 32 + 1 / 8])
    close(found["decayed_1d__kind_mail"], [0.25, 1 / 16])


def test_decay_reaches_over_thousands_of_half_lives():
    # with 6 h, 700 days are 2,800 half-lives, more than a float's exponent holds
    history = one_lead((0, "call"), (700, "call"), (699, "call", 700.5), (1, "mail", 701))
    found = features(history, [0.25, 600, 700.25, 701, 702], DecayedFeature(half_lives=(Duration("6h"),)))
    close(found["decayed_6h"], [0.5, 0, 0.5, 2**-4 + 2**-8, 2**-8 + 2**-12])


def test_distinct_values_and_active_days():
    page = lambda value: {"page": value}  # noqa: E731
    history = one_lead(
        (1.1, "call", None, page("home")),
        (1.9, "call", None, page("blog")),
        (2.0, "call", None, page("home")),
        (2.5, "call", None, page("faq")),
        (3.5, "call", None, page(None)),
        (1.2, "call", 6, page("late")),
    )
    found = features(
        history,
        [2, 4, 6.5, 8.15, 8.95, 30],
        DistinctFeature(windows=(WEEK, "all")),
        DistinctFeature(of="page", windows=(WEEK, "all")),
    )
    close(found["distinct_active_days_7d"], [1, 3, 3, 3, 2, 0])
    # blog and faq are two values although neither is in the vocabulary; from 8.15 on home counts by its second event
    close(found["distinct_page_7d"], [2, 3, 4, 4, 2, 0])
    close(found["distinct_page_all"], [2, 3, 4, 4, 4, 4])


def test_gaps():
    history = one_lead((0, "call"), (1, "call"), (4, "call"), (6, "call"))
    found = features(history, [1, 2, 5, 8], GapFeature())
    # gaps 1; then 1, 3; then 1, 3, 2
    close(found["gap_mean"], [NAN, 1, 2, 2])
    close(found["gap_deviation"], [NAN, 0, 1, sqrt(2 / 3)])
    close(found["gap_silence"], [NAN, 1 / 1, 1 / 2, 2 / 2])


def test_a_late_record_splits_a_gap():
    history = one_lead((0, "call"), (4, "call"), (1, "call", 5), (6, "call", 7), (-2, "call", 8))
    found = features(history, [4.5, 5.5, 7.5, 9], GapFeature())
    # 4; then 1, 3; then 1, 3, 2; then 2, 1, 3, 2
    close(found["gap_mean"], [4, 2, 2, 2])
    close(found["gap_deviation"], [0, 1, sqrt(2 / 3), sqrt(0.5)])
    close(found["gap_silence"], [0.5 / 4, 1.5 / 2, 1.5 / 2, 3 / 2])


def test_equal_gaps_have_no_deviation_and_equal_times_no_silence():
    history = one_lead(*[(number / 7, "call") for number in range(0, 70, 7)])
    assert features(history, [20], GapFeature())["gap_deviation"] == [0.0]
    same = one_lead((3, "call"), (3, "mail"))
    found = features(same, [4], GapFeature())
    close(found["gap_mean"], [0])
    close(found["gap_deviation"], [0])
    close(found["gap_silence"], [NAN])


def test_the_last_kinds():
    history = one_lead((1, "call"), (2, "web"), (2, "mail"), (3, None), (2.5, "call", 9))
    found = features(history, [2, 2.75, 4, 10], LastKindsFeature(k=3))
    # among equal times the later in the source is the more recent
    assert found["last_kind_1"] == ["call", "mail", None, None]
    assert found["last_kind_2"] == [None, "(other)", "mail", "call"]
    assert found["last_kind_3"] == [None, "call", "(other)", "mail"]


def test_trends():
    history = one_lead((1, "call"), (6.5, "mail"), (6.8, "mail"))
    found = features(
        history,
        [7, 7.6, 30],
        TrendFeature(short=DAY, long=WEEK),
        TrendFeature(short=DAY, long=WEEK, by="kind"),
    )
    close(found["trend_1d_7d"], [log(3 / (3 / 7 + 1)), log(2 / (3 / 7 + 1)), 0])
    close(found["trend_1d_7d__kind_call"], [log(1 / (1 / 7 + 1)), log(1 / (1 / 7 + 1)), 0])
    close(found["trend_1d_7d__kind_other"], [0, 0, 0])


def test_shares_of_the_day_and_of_the_week():
    # 2024-01-01 is a Monday
    history = one_lead((0, "call"), (0.2499, "call"), (0.25, "call"), (6.999, "call"), (8.5, "call"))
    found = features(history, [1, 10], ShareFeature(of="hour"), ShareFeature(of="weekday"))
    close([found[f"share_hour_{part}"][0] for part in range(4)], [2 / 3, 1 / 3, 0, 0])
    close([found[f"share_hour_{part}"][1] for part in range(4)], [0.4, 0.2, 0.2, 0.2])
    close([found[f"share_weekday_{number}"][1] for number in range(7)], [0.6, 0.2, 0, 0, 0, 0, 0.2])


def test_times_before_1970_have_a_weekday_too():
    history = make_history(
        [("a", day(-25_000))],
        # 1955-07-22 12:00 UTC, a Friday: 25,000 days before 2024-01-01, which is 3 days over 3,571 weeks
        [("a", day(-25_000) + timedelta(hours=12), "call")],
        known_until=day(1),
    )
    found = features(history, [0], ShareFeature(of="weekday"), ShareFeature(of="hour"))
    assert found["share_weekday_4"] == [1.0]
    assert found["share_hour_2"] == [1.0]


def test_topics_with_ties_to_the_most_recent():
    page = lambda value: {"page": value}  # noqa: E731
    history = one_lead(
        (1, "call", None, page("home")),
        (2, "call", None, page("price")),
        (3, "call", None, page("blog")),
        (4, "call", None, page("faq")),
        (5, "call", None, page(None)),
        (3.5, "call", 6, page("home")),
    )
    found = features(
        history, [0.5, 1.5, 2.5, 4.5, 6.5, 10.2, 30], TopicFeature(of="page", windows=(WEEK, "all"))
    )
    # at 4.5 blog and faq together are two of (other); at 6.5 home has two as well, but (other) was met more recently;
    # at 10.2 the window begins at 3.2: faq at 4 and home at 3.5, one each
    assert found["topic_page_7d"] == [None, "home", "price", "(other)", "(other)", "(other)", None]
    assert found["topic_page_all"] == [None, "home", "price", "(other)", "(other)", "(other)", "(other)"]


@pytest.mark.parametrize("late", [False, True])
def test_large_leads_aggregate_exactly(late):
    """More than 256 values in a window: sums without rounding, whatever has come and gone."""
    rng = np.random.default_rng(5)
    n = 1200
    at = np.sort(rng.integers(0, 60 * 24, n)) / 24
    value = np.where(rng.random(n) < 0.2, np.nan, rng.choice([1e16, -1e16, 0.1, 3.0, 1e-300, 7e-9], n))
    recorded = [a + 3 * rng.random() if late and rng.random() < 0.3 else None for a in at]
    kinds = rng.choice(["call", "mail", "web"], n)
    history = one_lead(
        *[
            (float(a), str(kind), r, {"v": None if np.isnan(v) else float(v)})
            for a, kind, r, v in zip(at, kinds, recorded, value, strict=True)
        ]
    )
    month = Duration("30d")
    cutoffs = [5, 20, 31, 47.5, 61, 80, 95]
    found = features(
        history,
        cutoffs,
        AggregateFeature(attribute="v", functions=("sum", "mean", "max", "last"), windows=(month, "all")),
        AggregateFeature(attribute="v", functions=("sum", "mean"), windows=(month,), by="kind"),
    )
    known = np.array([a if r is None else r for a, r in zip(at, recorded, strict=True)])
    for position, cutoff in enumerate(cutoffs):
        for window, start in (("30d", cutoff - 30), ("all", -1)):
            inside = (known < cutoff) & (at >= start) & ~np.isnan(value)
            many = ((known < cutoff) & (at >= start)).sum() > 256
            exact = sum_exactly(value[inside]) if many else sum(value[inside], 0.0)
            assert found[f"sum_v_{window}"][position] == pytest.approx(exact, rel=1e-6), (cutoff, window)
            if inside.any():
                assert found[f"mean_v_{window}"][position] == pytest.approx(exact / inside.sum(), rel=1e-6)
                assert found[f"max_v_{window}"][position] == np.float32(value[inside].max())
                assert found[f"last_v_{window}"][position] == np.float32(value[inside][-1])
        mail = (known < cutoff) & (at >= cutoff - 30) & ~np.isnan(value) & (kinds == "mail")
        if ((known < cutoff) & (at >= cutoff - 30)).sum() > 256:
            assert found["sum_v_30d__kind_mail"][position] == pytest.approx(
                sum_exactly(value[mail]), rel=1e-6
            )


def sum_exactly(values) -> float:
    from fractions import Fraction

    return float(sum((Fraction(float(value)) for value in values), Fraction(0)))


def test_sums_of_the_largest_and_smallest_floats():
    tiny, huge = 5e-324, 1.5e308
    values = [tiny] * 100 + [huge, -huge] * 100 + [2.0] * 3
    history = one_lead(*[(number / 100, "call", None, {"v": v}) for number, v in enumerate(values)])
    found = features(
        history, [50], AggregateFeature(attribute="v", functions=("sum", "mean"), windows=("all",))
    )
    assert found["sum_v_all"] == [6.0]
    assert found["mean_v_all"] == [np.float32(6 / 303)]


def test_counts_beyond_sixteen_bits():
    n = 70_000
    history = History.trusted(
        make_history([("a", day(0)), ("b", day(0))]).leads,
        pa.table(
            {
                "lead_row": pa.array(np.ones(n), pa.int32()),
                "occurred_at": pa.array(np.full(n, 1_704_067_200_000_000)),
                "visible_at": pa.array(np.full(n, 1_704_067_200_000_000)),
                "tie": pa.array(np.arange(n)),
                "kind": pa.array(["call"] * n),
            }
        ),
        known_until=day(10),
    )
    found = features(history, [1], CountFeature(windows=(WEEK,), by="kind"), GapFeature(), lead=1)
    assert found["count_7d__kind_call"] == [70_000]
    assert found["gap_mean"] == [0]


def test_compiled_kernels_older_than_any_source_are_dropped(tmp_path):
    folder = tmp_path / "kernels"
    (folder / "__pycache__").mkdir(parents=True)
    for number, path in enumerate(
        [
            folder / "__pycache__" / "old.nbi",
            tmp_path / "time_rule.py",
            folder / "sums.py",
            folder / "__pycache__" / "new.nbi",
        ]
    ):
        path.touch()
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
    assert drop_stale_kernels(folder) == 1
    assert [path.name for path in (folder / "__pycache__").iterdir()] == ["new.nbi"]


def test_repeats_by_hand() -> None:
    # Active on days 0, 2 and 10 (twice on day 2): two repeats, the last on day 10, seen from day 20.
    found = features(
        one_lead((0, "call"), (2, "call"), (2.25, "mail"), (10, "call"), (12, "call", 21)),
        [0, 20, 21.5],
        RepeatFeature(prior_repeats=1.0, prior_days=10.0),
    )
    silence = 3 * log(30 / 20)
    assert found["repeat_count"] == [pytest.approx(NAN, nan_ok=True), 2, 3]
    assert found["repeat_rate"][1:] == pytest.approx([3 / 30, 4 / 31.5])
    assert found["repeat_span"][1:] == pytest.approx([10 / 20, 12 / 21.5])
    assert found["repeat_silence"][1:] == pytest.approx([silence, 4 * log(31.5 / 22)])
    assert found["repeat_expected"][1] == pytest.approx(0.1 / (1 + 1.5**3 / 3))


def test_a_long_silence_leaves_nothing_to_expect() -> None:
    events = [(day_number, "call") for day_number in range(300)]
    found = features(one_lead(*events), [300, 3000], RepeatFeature(prior_repeats=0.5, prior_days=1.0))
    assert found["repeat_expected"][0] == pytest.approx(299.5 / 301, rel=0.02)
    assert found["repeat_expected"][1] == 0.0
