"""Monitoring, the pure part: the sequential test, drift, realised quality, which nights are due."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import gamma, poisson

from convpredict.config.base import Duration
from convpredict.config.monitoring import DriftConfig, RealisedConfig
from convpredict.features.time_rule import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from convpredict.models.profile import ColumnProfile, Profile, ProfileCounts
from convpredict.monitoring.changes import judge_changes
from convpredict.monitoring.drift import judge_drift
from convpredict.monitoring.outcomes import due_nights, recording_delays, settling_delay
from convpredict.monitoring.realised import judge_leads, pool, ratio
from convpredict.monitoring.segments import SegmentValues
from convpredict.monitoring.sequential import FACTORS, evidence_of_change, judge_change
from convpredict.monitoring.weights import weighted
from convpredict.scoring.ledger.index import LedgerRun
from convpredict.scoring.nightly.facts import ModelIdentity
from factories import day, make_history, to_us


def likelihood(observed, expected, prior, factors):
    """Probability of counts whose common ratio is gamma distributed, by numerical integration."""
    ratios = np.linspace(1e-4, 6, 6_001)
    chance = poisson.pmf(observed, ratios[:, None] * factors * expected).prod(axis=1)
    return trapezoid(gamma.pdf(ratios, prior, scale=1 / prior) * chance, ratios)


def test_evidence_is_the_likelihood_ratio_with_the_ratio_integrated_out():
    observed, expected = np.array([3, 5, 1, 0, 2]), np.array([2.5, 4.0, 3.0, 2.0, 3.5])
    found = evidence_of_change(observed, expected, prior=10.0)
    calm = likelihood(observed, expected, 10.0, np.ones(5))
    for since in range(5):
        for k, factor in enumerate(FACTORS):
            changed = likelihood(observed, expected, 10.0, np.where(np.arange(5) >= since, factor, 1.0))
            assert found[since, k] == pytest.approx(np.log(changed / calm), abs=1e-6)


def test_without_a_change_the_statistic_grows_by_one_a_night():
    draw = np.random.default_rng(0)
    total = []
    for _ in range(2_000):
        true = draw.gamma(10, 0.1)
        change = judge_change(draw.poisson(2.0 * true, 4), np.full(4, 2.0), nights_per_alarm=100)
        total.append(np.exp(change.evidence))
    error = np.std(total) / np.sqrt(len(total))
    assert abs(np.mean(total) - 4) < 4 * error
    assert error < 0.3


@pytest.mark.parametrize("expected", [0.5, 4.0])
def test_chance_alarms_keep_to_the_budget(expected):
    draw = np.random.default_rng(1)
    nights, budget, series = 30, 120, 60
    alarms = 0
    for _ in range(series):
        observed = draw.poisson(expected * draw.gamma(10, 0.1), nights)
        due = np.full(nights, expected)
        alarms += any(
            judge_change(observed[:n], due[:n], nights_per_alarm=budget).exceeds for n in range(1, nights + 1)
        )
    share = nights / budget
    assert alarms / series <= share + 3 * np.sqrt(share * (1 - share) / series)


def test_smoothing_over_overlapping_nights_makes_no_more_alarms():
    draw = np.random.default_rng(2)
    single, smooth = 0, 0
    for _ in range(100):
        days = draw.poisson(1.0, 106)
        over = np.convolve(days, np.ones(7) / 7, mode="valid")
        due = np.ones(100)
        single += judge_change(days[6:], due, nights_per_alarm=50).exceeds
        smooth += judge_change(over, due, nights_per_alarm=50).exceeds
    assert smooth <= single + 3


def test_a_halved_segment_is_found_after_some_forty_expected_conversions():
    draw = np.random.default_rng(3)
    delays = []
    for _ in range(40):
        observed = np.concatenate([draw.poisson(13, 30), draw.poisson(6.5, 20)])
        delays.append(
            next(
                n - 30
                for n in range(31, 51)
                if judge_change(observed[:n], np.full(n, 10.0), nights_per_alarm=1_000).exceeds
            )
        )
    assert np.median(delays) <= 6


def test_a_segment_that_never_fitted_is_no_change():
    observed, expected = np.full(40, 5.0), np.full(40, 10.0)
    change = judge_change(observed, expected, nights_per_alarm=52)
    assert not change.exceeds or change.since < 3
    assert judge_change([0.0], [0.0], nights_per_alarm=52) is None


def entry(cutoff, segments, weight=1.0, horizon="7d"):
    expected = sum(e for e, _ in segments.values())
    observed = sum(o for _, o in segments.values())
    return {
        "cutoff": day(cutoff).isoformat(),
        "horizon": horizon,
        "weight": weight,
        "expected": expected,
        "observed": observed,
        "segments": {"channel": {name: [100, e, o] for name, (e, o) in segments.items()}},
    }


def test_changes_are_tested_on_the_shortest_horizon_and_share_the_budget():
    calm = [entry(7 * k, {"web": (9.0, 9), "fair": (3.0, 3)}) for k in range(30)]
    halved = [entry(7 * (30 + k), {"web": (9.0, 4), "fair": (3.0, 3)}) for k in range(10)]
    long = [entry(0, {"web": (50.0, 0), "fair": (50.0, 0)}, horizon="30d")]
    found = {
        (c.attribute, c.value): c
        for c in judge_changes(
            calm + halved + long, RealisedConfig(false_alarms_per_year=1), nights_per_year=52
        )
    }
    assert set(found) == {("", ""), ("channel", "web"), ("channel", "fair")}
    web, fair = found["channel", "web"], found["channel", "fair"]
    assert web.changed
    assert web.began == day(210).isoformat()
    assert web.factor < 0.6
    assert not fair.changed
    assert web.limit == pytest.approx(np.log(52 / (0.5 * 0.75)))
    assert fair.limit == pytest.approx(np.log(52 / (0.5 * 0.25)))
    assert found["", ""].limit == pytest.approx(np.log(52 / 0.5))


def test_a_change_that_is_too_small_to_matter_is_none():
    nights = [entry(7 * k, {"web": (1000.0, 1000 if k < 30 else 780)}) for k in range(60)]
    changed = {
        c.value: c.changed
        for c in judge_changes(nights, RealisedConfig(false_alarms_per_year=1), nights_per_year=52)
    }
    assert not any(changed.values())
    strict = RealisedConfig(least_change=0.1)
    assert {c.value: c.changed for c in judge_changes(nights, strict, nights_per_year=52)}["web"]


def profile_of(counts, natural=None):
    columns = tuple(
        ColumnProfile(name, "number", tuple(range(1, len(own) - 1))) for name, own in counts.items()
    )
    arrays = {name: np.array(own) for name, own in counts.items()}
    rows = int(next(iter(arrays.values())).sum())
    scores = np.array([rows // 2, rows - rows // 2])
    return Profile(columns, (0.5,), ProfileCounts(rows, arrays, scores), natural=natural or {})


def test_drift_needs_effect_more_than_chance_and_more_than_its_own_past():
    even = [500, 500, 500, 500, 0]
    profile = profile_of({"a": even, "b": even, "c": even}, {"c": 0.4})
    moved = np.array([100, 300, 600, 1000, 0])
    night = ProfileCounts(2000, {"a": np.array(even), "b": moved, "c": moved}, np.array([1000, 1000]))
    found = {column.column: column for column in judge_drift(profile, night, DriftConfig())}
    assert {name for name, column in found.items() if column.drifted} == {"b"}
    assert found["b"].psi > 0.2
    assert found["c"].psi == found["b"].psi
    blocks = {column.column: column for column in judge_drift(profile, night, DriftConfig(), shared={"b"})}
    assert (blocks["b"].drifted, blocks["b"].judged, blocks["b"].psi) == (False, False, found["b"].psi)
    restless = profile_of(dict.fromkeys("abc", even), {"b": 0.6})
    unsteady = {column.column: column for column in judge_drift(restless, night, DriftConfig())}
    assert (unsteady["b"].drifted, unsteady["b"].judged, unsteady["c"].drifted) == (False, False, True)
    few = ProfileCounts(12, {name: np.array([0, 2, 3, 7, 0]) for name in "abc"}, np.array([6, 6]))
    small = {column.column: column for column in judge_drift(profile, few, DriftConfig())}
    assert small["a"].psi > 0.2
    assert not small["a"].drifted
    assert small["a"].chance > small["a"].psi
    assert judge_drift(profile, ProfileCounts(0, night.columns, night.scores), DriftConfig()) == []
    other = ProfileCounts(2000, {"a": moved}, np.array([1000, 1000]))
    assert judge_drift(profile, other, DriftConfig()) == []


def test_drift_alarms_at_random_once_a_month_at_most():
    draw = np.random.default_rng(4)
    share = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    names = [f"x{k}" for k in range(30)]
    alarms, nights = 0, 60
    for _ in range(nights):
        profile = profile_of({name: draw.multinomial(5_000, share) for name in names})
        counts = {name: draw.multinomial(1_000, share) for name in names}
        night = ProfileCounts(1_000, counts, np.array([500, 500]))
        alarms += sum(column.drifted for column in judge_drift(profile, night, DriftConfig(psi=1e-9)))
    months = nights / (365.25 / 12)
    assert alarms <= months + 3 * np.sqrt(months)


def test_weekly_nights_may_each_alarm_more_easily_than_daily_ones():
    profile = profile_of({"a": [500, 500, 500, 0]})
    night = ProfileCounts(300, {"a": np.array([100, 100, 100, 0])}, np.array([150, 150]))
    daily = judge_drift(profile, night, DriftConfig(), nights_per_month=30.4)[1]
    weekly = judge_drift(profile, night, DriftConfig(), nights_per_month=4.3)[1]
    assert weekly.chance < daily.chance


def test_counts_of_a_night_by_hand():
    label, p = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.5, 0.25, 0.25, 0.5])
    own = judge_leads(label, p, {"channel": np.array(["web", None, "web", "fair"], object)}, [0.5])
    assert (own["leads"], own["expected"], own["observed"]) == (4, 1.5, 2)
    assert own["loss"] == pytest.approx(-np.log(0.5) - np.log(0.75) - np.log(0.25) - np.log(0.5))
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert own["promised_loss"] == pytest.approx(2 * np.log(2) + 2 * quarter)
    assert own["promised_variance"] == pytest.approx(2 * 0.25 * 0.75 * np.log(3) ** 2)
    assert own["captured"]["0.5"] == pytest.approx(1.0)
    assert own["segments"]["channel"] == {
        "(not given)": [1, 0.25, 0],
        "fair": [1, 0.5, 0],
        "web": [2, 0.75, 2],
    }


def test_pooled_nights_count_each_conversion_once():
    night = judge_leads(
        np.array([1.0, 0.0]), np.array([0.5, 0.5]), {"channel": np.array(["web", "web"])}, [0.5]
    )
    nights = [{**night, "cutoff": day(k).isoformat(), "weight": 0.25} for k in range(8)]
    whole = pool(nights, 0.95)
    assert (whole["expected"], whole["observed"], whole["ratio"]) == (2.0, 2.0, 1.0)
    assert whole["segments"]["channel"]["web"]["observed"] == 2.0
    assert whole["loss"] == pytest.approx(np.log(2)) == whole["promised_loss"]


def test_the_interval_of_a_ratio_is_garwoods():
    found = ratio(10.0, 10.0, 0.95)
    assert (10 / found["low"], 10 / found["high"]) == pytest.approx((18.390, 4.795), abs=1e-3)
    none = ratio(3.0, 0.0, 0.95)
    assert none["ratio"] is None
    assert none["high"] is None
    assert 3 / none["low"] == pytest.approx(3.689, abs=1e-3)


def test_recording_delays_are_those_of_the_last_year():
    hours = [timedelta(hours=30 if k % 20 == 0 else 0) for k in range(100)]
    leads = [(f"l{k:03d}", day(0)) for k in range(100)]
    late = [(f"l{k:03d}", day(10 + k), day(10 + k) + hours[k]) for k in range(100)]
    history = make_history(leads, conversions=late, known_until=day(200))
    found = recording_delays(history, day(200))
    assert found.tolist() == [0] * 95 + [30 * MICROSECONDS_PER_HOUR] * 5
    assert len(recording_delays(history, day(20))) == 0, "too few are known by then"
    assert len(recording_delays(history, day(800))) == 0, "all are older than a year"


def test_a_night_is_settled_once_ninety_nine_percent_of_its_outcomes_are_recorded():
    days = np.array([10 * MICROSECONDS_PER_DAY])
    assert settling_delay(days, Duration("30d")) == pytest.approx(9.7 * MICROSECONDS_PER_DAY, rel=0.01)
    assert settling_delay(np.zeros(9, np.int64), Duration("7d")) == 0
    assert settling_delay(np.zeros(0, np.int64), Duration("7d")) == 0
    assert settling_delay(40 * days, Duration("7d")) == 30 * MICROSECONDS_PER_DAY


NONE_LATE = np.zeros(0, np.int64)


def run_of(number, cutoff, *, knew_later=False, columns=("p_convert_7d", "p_convert_30d"), suffix=""):
    return LedgerRun(
        f"demo-{cutoff}{suffix}",
        number,
        day(cutoff),
        ModelIdentity("demo", "1", "d"),
        knew_later,
        "",
        columns,
        5,
        "",
    )


def test_a_night_is_due_once_its_horizon_and_the_delay_have_passed():
    runs = [run_of(1, 0), run_of(2, 1), run_of(3, 20)]
    due = due_nights(runs, set(), day(8), NONE_LATE)
    assert [(night.run.run_id, str(night.horizon)) for night in due] == [("demo-0", "7d"), ("demo-1", "7d")]
    delayed = due_nights(runs, set(), day(8), np.array([MICROSECONDS_PER_DAY // 2]))
    assert [night.run.run_id for night in delayed] == ["demo-0"]
    left = due_nights(runs, {due[0].key}, day(40), NONE_LATE)
    assert [(night.run.run_id, str(night.horizon)) for night in left] == [
        ("demo-1", "7d"),
        ("demo-20", "7d"),
        ("demo-0", "30d"),
        ("demo-1", "30d"),
    ]


def test_of_a_cutoff_that_was_published_twice_the_last_counts_and_a_back_fill_that_knew_later_never():
    runs = [run_of(1, 0), run_of(3, 0, suffix="-2"), run_of(2, 5, knew_later=True)]
    due = due_nights(runs, set(), day(14), NONE_LATE)
    assert [(night.run.run_id, night.horizon) for night in due] == [("demo-0-2", Duration("7d"))]


def judged_on(*days, horizon="7d"):
    return [{"cutoff": day(k).isoformat(), "horizon": horizon} for k in days]


def weights_of(judged, published=()):
    return [night["weight"] for night in weighted(judged, published)]


def test_a_night_weighs_the_time_to_the_next_one():
    assert weights_of(judged_on(0, 1, 20)) == pytest.approx([1 / 7, 1.0, 1.0])
    assert weights_of(judged_on(0), [(day(3), ("p_convert_7d",))]) == pytest.approx([3 / 7])
    assert weights_of(judged_on(0), [(day(3), None)]) == pytest.approx([3 / 7])
    assert weights_of(judged_on(0), [(day(3), ("p_convert_30d",))]) == [1.0]
    assert weights_of(judged_on(0), [(day(0), None)]) == [1.0], "a night again is no other night"
    frozen = [{**night, "weight": 1.0} for night in judged_on(0, 1)]
    assert weights_of(frozen) == pytest.approx([1 / 7, 1.0]), "what former reports kept is made anew"
    assert weighted(judged_on(0, 3), [])[0] == {**judged_on(0)[0], "weight": pytest.approx(3 / 7)}


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=20, unique=True),
    st.lists(st.integers(0, 60), max_size=40),
)
def test_nights_in_between_never_make_a_stretch_count_more_than_it_is_long(first, later):
    """Weights times the horizon sum up to the days that the nights cover, however the nights came to be."""
    nights = sorted({*first, *later})
    covered = len({each for night in nights for each in range(night, night + 7)})
    assert 7 * sum(weights_of(judged_on(*nights))) == pytest.approx(covered)
    shuffled = judged_on(*first, *(night for night in nights if night not in first))
    assert 7 * sum(weights_of(shuffled)) == pytest.approx(covered)


class TestSegmentValues:
    """A lead of 'fair' that becomes one of 'web' on day 10, which is written on day 12."""

    history = make_history(
        [
            ("a", day(0), None, {"channel": "fair", "size": 5.0, "due": day(3)}),
            ("b", day(0), None, {"channel": None, "size": None, "due": None}),
        ],
        attribute_changes=[
            ("a", "channel", "web", day(10), day(12)),
            ("a", "size", "7", day(10), None),
            ("b", "channel", "(other)", day(10), None),
        ],
        lead_attributes={"channel": "category", "size": "number", "due": "time"},
    )

    def at(self, name, cutoff):
        return SegmentValues.of(self.history, name).at(np.array([0, 1]), to_us(day(cutoff))).tolist()

    def test_it_is_the_one_visible_at_the_cutoff(self):
        assert self.at("channel", 12) == ["fair", "(other)"]
        assert self.at("channel", 10) == ["fair", None]
        assert self.at("channel", 13) == ["web", "(other)"]

    def test_numbers_and_times_can_be_segments_too(self):
        assert self.at("size", 10) == [5.0, pytest.approx(np.nan, nan_ok=True)]
        assert self.at("size", 11)[0] == 7.0
        assert self.at("due", 3) == [None, None]
        assert self.at("due", 4) == ["2024-01-04T00:00:00.000000", None]
