"""Revenue as an outcome: boundaries, what was known when, refunds, and the course of revenue over time."""

from __future__ import annotations

import numpy as np
import pytest

import convpredict.training.revenue_outcomes as revenue_outcomes
from convpredict.config.training import LabelsConfig
from convpredict.errors import ConfigError
from convpredict.training.revenue_outcomes import revenue_by_age, revenue_columns
from factories import day, make_history, random_history, to_us

DAY = 86_400_000_000
YEAR = LabelsConfig(value_horizon="10d")
PURCHASE = LabelsConfig(value_horizon="10d", outcome="purchase")


def columns(history, cutoffs, known_by, labels=YEAR):
    """``revenue`` and ``revenue_followed_us`` (in days) of observations given as (lead row, cutoff)."""
    lead_row = np.array([row for row, _ in cutoffs], np.int32)
    cutoff = np.array([to_us(instant) for _, instant in cutoffs], np.int64)
    known = np.full(len(cutoffs), to_us(known_by), np.int64)
    got = revenue_columns(history, lead_row, cutoff, known, labels)
    assert got["revenue"].dtype == np.float64
    assert got["revenue_followed_us"].dtype == np.int64
    return got["revenue"].tolist(), (got["revenue_followed_us"] / DAY).tolist()


def test_the_window_starts_at_the_conversion_and_is_half_open():
    history = make_history(
        [("a", day(0))],
        conversions=[("a", day(5))],
        revenue=[
            ("a", day(5, microseconds=-1), 1.0),
            ("a", day(5), 10.0),
            ("a", day(15, microseconds=-1), 100.0),
            ("a", day(15), 1000.0),
        ],
        known_until=day(40),
    )
    assert columns(history, [(0, day(1)), (0, day(5))], day(40)) == ([110.0, 110.0], [10.0, 10.0])


def test_what_is_asked_earlier_knows_less():
    history = make_history(
        [("a", day(0))],
        conversions=[("a", day(5))],
        revenue=[("a", day(6), 10.0), ("a", day(9), 100.0)],
        known_until=day(40),
    )
    assert columns(history, [(0, day(1))], day(9)) == ([10.0], [4.0])
    assert columns(history, [(0, day(1))], day(9, microseconds=1))[0] == [110.0]
    revenue, followed = columns(history, [(0, day(1))], day(5))
    assert np.isnan(revenue).all()
    assert followed[0] * DAY == -1


def test_revenue_recorded_late_counts_from_then_on():
    history = make_history(
        [("a", day(0))],
        conversions=[("a", day(5))],
        revenue=[("a", day(6), 10.0, day(20)), ("a", day(7), 100.0, day(50))],
        known_until=day(40),
    )
    assert columns(history, [(0, day(1))], day(20))[0] == [0.0]
    assert columns(history, [(0, day(1))], day(20, microseconds=1))[0] == [10.0]
    assert columns(history, [(0, day(1))], day(40))[0] == [110.0]


def test_a_conversion_recorded_late_is_known_from_then_on():
    history = make_history(
        [("a", day(0))],
        conversions=[("a", day(5), day(8))],
        revenue=[("a", day(6), 10.0)],
        known_until=day(40),
    )
    assert np.isnan(columns(history, [(0, day(1))], day(8))[0]).all()
    assert columns(history, [(0, day(1))], day(8, microseconds=1))[0] == [10.0]


def test_refunds_are_negative_and_who_buys_nothing_brings_nothing():
    history = make_history(
        [("a", day(0)), ("b", day(0)), ("c", day(0)), ("d", day(0))],
        conversions=[("a", day(5)), ("b", day(5)), ("d", None)],
        revenue=[("a", day(6), 30.0), ("a", day(7), -50.0), ("c", day(6), 5.0), ("d", day(6), 5.0)],
        known_until=day(40),
    )
    revenue, followed = columns(history, [(row, day(1)) for row in range(4)], day(40))
    assert revenue[:2] == [-20.0, 0.0]
    assert np.isnan(revenue[2:]).all()
    assert followed[:2] == [10.0, 10.0]
    assert [entry * DAY for entry in followed[2:]] == [-1, -1]


def test_a_lead_that_had_converted_before_the_cutoff_has_no_value():
    history = make_history(
        [("a", day(0))], conversions=[("a", day(5))], revenue=[("a", day(6), 1.0)], known_until=day(40)
    )
    assert np.isnan(columns(history, [(0, day(5, microseconds=1))], day(40))[0]).all()


def test_purchases_count_from_the_cutoff():
    history = make_history(
        [("a", day(0)), ("b", day(0))],
        revenue=[("a", day(3), 1.0), ("a", day(4), 10.0), ("a", day(14), 100.0)],
        known_until=day(40),
    )
    observed = [(0, day(3)), (0, day(4)), (0, day(5)), (1, day(3))]
    assert columns(history, observed, day(40), PURCHASE) == ([11.0, 10.0, 100.0, 0.0], [10.0] * 4)
    assert columns(history, observed, day(5), PURCHASE)[0][:2] == [11.0, 10.0]
    assert np.isnan(columns(history, observed, day(5), PURCHASE)[0][2])


def test_agrees_with_a_plain_loop_in_blocks_of_any_size(monkeypatch):
    rng = np.random.default_rng(3)
    history = random_history(rng, leads=60, days=50.0)
    lead_row = rng.integers(0, 60, 300).astype(np.int32)
    cutoff = np.array([to_us(day(float(number))) for number in rng.uniform(0, 40, 300)], np.int64)
    known_by = cutoff + rng.integers(-DAY, 30 * DAY, 300)
    for labels in (YEAR, PURCHASE):
        expected = [plain(history, *row, labels) for row in zip(lead_row, cutoff, known_by, strict=True)]
        for pairs in (1, 7, 2_000_000):
            monkeypatch.setattr(revenue_outcomes, "_PAIRS", pairs)
            got = revenue_columns(history, lead_row, cutoff, known_by, labels)
            np.testing.assert_allclose(got["revenue"], [value for value, _ in expected])
            assert got["revenue_followed_us"].tolist() == [followed for _, followed in expected]
        assert np.isfinite(got["revenue"]).sum() > 20


def plain(history, lead_row, cutoff, known_by, labels):
    """The definition, fact by fact."""
    end = to_us(history.known_until)

    def told(occurred, recorded):
        late = recorded is not None and to_us(recorded) >= known_by and known_by < end
        return to_us(occurred) < known_by and not late

    start = cutoff
    if labels.outcome == "conversion":
        found = [entry for entry in history.conversions.to_pylist() if entry["lead_row"] == lead_row]
        if not found or found[0]["converted_at"] is None:
            return np.nan, -1
        start = to_us(found[0]["converted_at"])
        if start < cutoff or not told(found[0]["converted_at"], found[0]["recorded_at"]):
            return np.nan, -1
    elif cutoff >= known_by:
        return np.nan, -1
    total = sum(
        entry["amount"]
        for entry in history.revenue.to_pylist()
        if entry["lead_row"] == lead_row
        and start <= to_us(entry["occurred_at"]) < start + 10 * DAY
        and told(entry["occurred_at"], entry["recorded_at"])
    )
    return total, min(known_by - start, 10 * DAY)


def test_the_course_of_revenue_over_the_window():
    history = make_history(
        [("a", day(0)), ("b", day(0))],
        conversions=[("a", day(5)), ("b", day(20))],
        revenue=[("a", day(5), 1.0), ("a", day(10), 2.0), ("a", day(14), 4.0), ("b", day(21), 8.0)],
        known_until=day(25),
    )
    course = revenue_by_age(
        history,
        np.array([0, 1], np.int32),
        np.full(2, to_us(day(1))),
        np.full(2, to_us(day(25))),
        YEAR,
        steps=4,
    )
    np.testing.assert_array_equal(course, [[1.0, 1.0, 3.0, 7.0], [8.0, 8.0, np.nan, np.nan]])


def test_a_missing_value_horizon_is_explained():
    history = make_history([("a", day(0))], known_until=day(9))
    with pytest.raises(ConfigError, match=r"labels\.value_horizon is not set"):
        revenue_columns(
            history, np.zeros(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.int64), LabelsConfig()
        )
