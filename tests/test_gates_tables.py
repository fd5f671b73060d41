"""Whether leads, conversions, revenue and interactions come as usual: what trips the gates, and what does not."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from convpredict.config.gates import FreshnessConfig, GatesConfig, Limits
from convpredict.history.history import History
from convpredict.scoring.gates.evidence import Evidence
from convpredict.scoring.gates.freshness_tables import judge_freshness_of_tables
from convpredict.scoring.gates.hours import judge_hours
from convpredict.scoring.gates.volume import (
    chance_of_so_few,
    judge_volume,
    read_weeks,
    weekly_variation,
)
from convpredict.scoring.nightly.facts import GateResult
from nights import (
    CUTOFF,
    DAYS,
    START,
    history_of,
    manifest,
    microseconds,
    night,
    stream,
    usual_kinds,
    usual_tables,
    without,
)

DAY = 86_400_000_000


def tables_on(history: History, *, cutoff: datetime = CUTOFF, limits: Limits | None = None) -> GateResult:
    """What the gate of the tables' freshness says."""
    freshness = FreshnessConfig(missing_events=limits) if limits else FreshnessConfig()
    return judge_freshness_of_tables(
        Evidence(night(history=history, cutoff=cutoff), GatesConfig(freshness=freshness))
    )


def volume_on(history: History, *, cutoff: datetime = CUTOFF, limits: Limits | None = None) -> GateResult:
    """What the gate of the volume says."""
    config = GatesConfig(volume=limits) if limits else GatesConfig()
    return judge_volume(Evidence(night(history=history, cutoff=cutoff), config))


def hours_on(
    history: History, *, last: dict[str, Any] | None = None, limits: Limits | None = None
) -> GateResult:
    """What the gate of the hours says."""
    config = GatesConfig(hours=limits) if limits else GatesConfig()
    return judge_hours(Evidence(night(history=history, last=last), config))


def moved(hours: float, first_day: float) -> History:
    """The usual kinds, of which those from a day on are told some hours later."""
    begin = microseconds(START) + int(first_day * DAY)
    return history_of(
        {
            name: np.where(times >= begin, times + int(hours * DAY / 24), times)
            for name, times in usual_kinds().items()
        }
    )


def silent(table: str, days: float) -> History:
    """The usual history, in which a table got no row in the last days."""
    tables = usual_tables()
    return history_of(usual_kinds(), **{**tables, table: without(tables[table], DAYS - days, 30 + days)})


def thinned(times: np.ndarray, first_day: float, keep: float, days: float = 99) -> np.ndarray:
    """The times, of which only a share is kept within some days."""
    begin = microseconds(START) + int(first_day * DAY)
    inside = (times >= begin) & (times < begin + int(days * DAY))
    return times[~inside | (np.random.default_rng(5).random(len(times)) < keep)]


def thin(keep: float, *, first_day: float = DAYS - 7, days: float = 99, seed: int = 1) -> History:
    """The usual kinds, of which only a share came in some days."""
    return history_of(
        {name: thinned(times, first_day, keep, days) for name, times in usual_kinds(seed).items()}
    )


@pytest.mark.parametrize(
    ("table", "days", "verdict", "expected"),
    [
        ("leads", 14, "stop", 75),
        ("leads", 4, "warn", 16),
        ("leads", 1, "pass", 0),
        ("conversions", 35, "stop", 47),
        ("conversions", 19, "warn", 25),
        ("conversions", 5, "pass", 0),
        ("revenue", 21, "stop", 56),
        ("revenue", 8, "warn", 20),
        ("revenue", 2, "pass", 0),
    ],
)
def test_a_table_that_gets_no_more_rows_is_told(table: str, days: int, verdict: str, expected: float) -> None:
    result = tables_on(silent(table, days))
    assert result.verdict == verdict, result.message
    assert result.value == pytest.approx(expected, rel=0.3)
    if verdict == "pass":
        assert result.message == "rows kept coming to leads, conversions, revenue"
    else:
        assert f"no new row of {table} since " in result.message
        told = result.details["tables"][table]
        assert days <= told["days"] <= days + 3
        assert f"{told['days']} whole days (about " in result.message
        assert told["missing"] == pytest.approx(result.value, abs=0.1)
        assert told["probability"] < 1e-5


def test_a_silence_of_months_still_stops() -> None:
    start = stream(6, 3)
    cutoff = START + timedelta(days=DAYS + 200)
    result = tables_on(history_of({}, leads=start), cutoff=cutoff)
    assert (result.verdict, "200 whole days" in result.message) == ("stop", True)


def test_several_silent_tables_are_told_together() -> None:
    tables = {name: without(times, DAYS - 30, 60) for name, times in usual_tables().items()}
    result = tables_on(history_of(usual_kinds(), **tables))
    assert result.verdict == "stop"
    assert all(f"no new row of {name}" in result.message for name in ("leads", "conversions", "revenue"))


def test_rare_and_new_tables_are_named_and_not_judged() -> None:
    rare = history_of({}, leads=stream(6, 1), conversions=stream(0.08, 2), revenue=stream(5, 3)[-60:])
    result = tables_on(rare)
    assert (result.verdict, result.details["not_judged"]) == ("pass", ["conversions", "revenue"])
    assert "not judged, too rare or too new: conversions, revenue" in result.message
    assert tables_on(history_of({})).verdict == "not judged"
    assert tables_on(silent("leads", 14), limits=Limits()).verdict == "not judged"


def test_limits_of_missing_rows_may_stand_alone() -> None:
    history = silent("leads", 14)
    assert tables_on(history, limits=Limits(warn=10)).verdict == "warn"
    assert tables_on(history, limits=Limits(stop=30)).verdict == "stop"
    assert tables_on(history, limits=Limits(stop=500)).verdict == "not judged"


def test_monthly_imports_and_a_weekend_are_habits() -> None:
    days = np.arange(4, DAYS, 28)
    monthly = np.repeat(microseconds(START) + days * DAY, 200)
    assert tables_on(history_of({}, revenue=monthly)).verdict == "pass"
    working = stream(30, 1, week=np.array([1, 1, 1, 1, 1, 0, 0]))
    assert tables_on(history_of({}, leads=working), cutoff=START + timedelta(days=84)).verdict == "pass"


def test_holidays_on_which_nothing_happens_do_not_stop() -> None:
    tables, kinds = usual_tables(), usual_kinds()
    leads = without(tables["leads"], DAYS - 7, 30)
    busy = tables_on(history_of(kinds, **{**tables, "leads": leads}))
    quiet = {name: thinned(times, DAYS - 7, 0.2) for name, times in kinds.items()}
    holidays = tables_on(history_of(quiet, **{**tables, "leads": leads}))
    assert (busy.verdict, holidays.verdict) == ("stop", "pass")


def test_rows_count_from_when_they_were_recorded() -> None:
    tables = usual_tables()
    late = history_of(usual_kinds(), **tables, recorded=20 * DAY)
    assert tables_on(late).verdict == "pass"
    assert tables_on(late, cutoff=CUTOFF - timedelta(days=3)).verdict == "pass"
    stopped = {**tables, "revenue": without(tables["revenue"], DAYS - 41, 99)}
    assert tables_on(history_of(usual_kinds(), **stopped, recorded=20 * DAY)).verdict == "stop"


@pytest.mark.parametrize(
    ("keep", "verdict"), [(0.0, "stop"), (0.25, "stop"), (0.45, "warn"), (0.75, "pass"), (1.0, "pass")]
)
def test_a_week_that_came_thinly_is_told(keep: float, verdict: str) -> None:
    result = volume_on(thin(keep))
    assert result.verdict == verdict, result.message
    assert result.details["expected"] == pytest.approx(925, rel=0.1)
    if verdict != "pass":
        assert result.value == pytest.approx(1 - keep, abs=0.06)
        assert "interactions since Sunday 2025-03-30" in result.message
        assert "most of all 'visit', 'mail', 'call'" in result.message


def test_after_a_thin_week_whose_end_was_as_usual_the_gate_only_warns() -> None:
    # The cutoff is a Sunday night: Saturday has a quarter of the events of a working day, which tells enough
    result = volume_on(thin(0.05, first_day=DAYS - 7, days=6))
    assert (result.verdict, "as usual again" in result.message) == ("warn", True)
    assert volume_on(thin(0.05, first_day=DAYS - 7, days=7)).verdict == "stop"


def test_thin_days_go_on_being_told_until_the_weeks_before_are_thin_too() -> None:
    verdicts = [volume_on(thin(0.25, first_day=DAYS - days)).verdict for days in (5, 7, 14, 21, 35, 49)]
    assert verdicts == ["warn", "stop", "stop", "stop", "pass", "pass"]


def test_a_stream_that_falls_slowly_or_grows_passes() -> None:
    week = np.ones(7)
    for trend in (np.linspace(1, 0.3, DAYS), np.linspace(0.3, 1, DAYS)):
        times = stream(100, 4, week=week)
        day = (times - microseconds(START)) // DAY
        kept = times[np.random.default_rng(1).random(len(times)) < trend[day]]
        assert volume_on(history_of({"visit": kept})).verdict == "pass"


def test_weeks_that_come_and_go_are_a_habit() -> None:
    times = stream(100, 4, week=np.ones(7))
    weeks_before = (microseconds(CUTOFF) - 1 - times) // (7 * DAY)
    every_other = times[(weeks_before % 2 == 1) | (np.random.default_rng(1).random(len(times)) < 0.3)]
    assert volume_on(history_of({"visit": every_other})).verdict == "pass"


def test_one_former_outage_is_no_habit() -> None:
    kinds = {name: thinned(times, DAYS - 35, 0.0, 7) for name, times in usual_kinds().items()}
    history = history_of({name: thinned(times, DAYS - 7, 0.25) for name, times in kinds.items()})
    assert volume_on(history).verdict == "stop"


def test_what_is_always_recorded_late_lacks_in_every_week_alike() -> None:
    late = history_of(usual_kinds(), late=dict.fromkeys(usual_kinds(), 4 * DAY))
    weeks = read_weeks(late, CUTOFF, 9)
    assert weeks.min() > 0.7 * weeks.max()
    assert volume_on(late).verdict == "pass"


def test_weeks_end_at_the_cutoff_and_are_counted_as_they_were_seen() -> None:
    week = 7 * DAY
    times = microseconds(CUTOFF) - np.array([1, week, week + 1, 2 * week, 2 * week + 1, -1])
    assert read_weeks(history_of({"call": times}), CUTOFF, 3).tolist() == [1, 2, 2]
    assert read_weeks(history_of({"call": times}, late={"call": 1}), CUTOFF, 3).tolist() == [0, 1, 1]


def test_few_events_and_few_weeks_are_not_judged() -> None:
    rare = volume_on(history_of({"call": stream(2, 1)}))
    assert (rare.verdict, "fewer than 20 interactions a week" in rare.message) == ("not judged", True)
    young = volume_on(history_of({"call": stream(50, 1)}), cutoff=START + timedelta(days=27))
    assert young.verdict == "not judged"
    assert volume_on(history_of({})).verdict == "not judged"
    assert volume_on(thin(0.1), limits=Limits()).verdict == "not judged"
    assert volume_on(thin(0.1), limits=Limits(warn=0.4)).verdict == "warn"


@pytest.mark.parametrize("variation", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("mean", [30, 600])
def test_weeks_in_which_nothing_happens_hardly_ever_alarm(mean: float, variation: float) -> None:
    random = np.random.default_rng(int(mean + variation * 10))
    alarms = 0
    for _ in range(1_000):
        level = random.gamma(variation**-2, variation**2, 9) if variation else np.ones(9)
        *weeks, now = random.poisson(mean * level)
        expected = min(np.median(weeks), np.median(weeks[-5:]))
        chance = chance_of_so_few(int(now), float(expected), weekly_variation(np.array(weeks)))
        alarms += bool(now <= 0.6 * expected and chance < 1e-5)
    assert alarms <= 2


@pytest.mark.parametrize(
    ("hours", "verdict"), [(-6, "warn"), (5, "warn"), (1, "pass"), (-1, "pass"), (0, "pass")]
)
def test_times_that_moved_by_hours_are_told_and_daylight_saving_is_not(hours: int, verdict: str) -> None:
    result = hours_on(moved(hours, DAYS - 7.5))
    assert result.verdict == verdict, result.message
    if verdict == "warn":
        assert result.details["shift_hours"] == hours
        assert f"most alike if moved by {-hours:+d} hours" in result.message
        assert "those of the weeks before" in result.message
        assert hours_on(moved(hours, DAYS - 7.5), limits=Limits(stop=0.5)).verdict == "stop"


def test_times_that_all_moved_are_told_by_what_the_last_night_saw() -> None:
    before = hours_on(moved(0, 0))
    gates = [{"gate": "rows", "details": {}}, asdict(before)]
    result = hours_on(moved(5, 0), last=manifest(gates=gates))
    assert (result.verdict, result.details["shift_hours"]) == ("warn", 5)
    assert "those that the last published night saw, 1 day before" in result.message
    assert hours_on(moved(0, 0), last=manifest(gates=gates)).verdict == "pass"
    assert hours_on(moved(5, 0), last=manifest()).verdict == "pass"


def test_hours_are_those_of_the_day_whatever_the_cutoff() -> None:
    history = moved(0, 0)
    early = judge_hours(Evidence(night(history=history), GatesConfig()))
    cutoff = CUTOFF - timedelta(hours=14)
    late = judge_hours(
        Evidence(night(history=history, cutoff=cutoff, last=manifest(gates=[asdict(early)])), GatesConfig())
    )
    assert late.verdict == "pass"
    assert np.flatnonzero(late.details["by_hour"]).tolist() == list(range(7, 19))
    assert np.flatnonzero(early.details["by_hour"]).tolist() == list(range(7, 19))


def test_hours_of_few_events_are_not_judged() -> None:
    assert hours_on(history_of({"call": stream(3, 1)})).verdict == "not judged"
    assert hours_on(history_of({})).verdict == "not judged"
    assert hours_on(moved(6, DAYS - 7.5), limits=Limits()).verdict == "not judged"
