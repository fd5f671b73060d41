"""Whether events still arrive: silences that must be found, and those that must not alarm."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from convpredict.config.base import Duration
from convpredict.config.gates import AgeLimits, FreshnessConfig, GatesConfig, Limits
from convpredict.config.history import KindOutage, SimulatorConfig
from convpredict.config.load import load_project
from convpredict.history.history import History
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.history.simulator.run import simulation_config_tables
from convpredict.scoring.gates.activity import read_activity
from convpredict.scoring.gates.evidence import Evidence
from convpredict.scoring.gates.freshness import judge_data, judge_kinds
from convpredict.scoring.gates.silence import (
    expected_counts,
    find_holes,
    longest_silences,
    overdispersion,
    probability_of_none,
    weekly_overdispersion,
    zero_runs,
)
from convpredict.scoring.nightly.facts import GateResult
from convpredict.training.as_of import history_as_of
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
    without,
)

HOUR = 3_600_000_000


def kinds_on(
    history: History, *, cutoff: datetime = CUTOFF, days_ago: float | None = 1.0, **options: Any
) -> GateResult:
    """What the gate of the kinds says."""
    last = None
    if days_ago is not None:
        last = {**manifest(), "cutoff": (cutoff - timedelta(days=days_ago)).isoformat()}
    config = GatesConfig(freshness=FreshnessConfig(**options))
    return judge_kinds(Evidence(night(history=history, cutoff=cutoff, last=last), config))


def data_on(history: History, *, cutoff: datetime = CUTOFF, **options: Any) -> GateResult:
    """What the gate of the data says."""
    config = GatesConfig(freshness=FreshnessConfig(**options))
    return judge_data(Evidence(night(history=history, cutoff=cutoff), config))


def broken(kind: str, first_day: float, days: float) -> History:
    """The usual history, in which a kind did not arrive for some days."""
    kinds = usual_kinds()
    return history_of({**kinds, kind: without(kinds[kind], first_day, days)})


def test_a_kind_that_stopped_is_named_with_its_last_event() -> None:
    history = broken("call", DAYS - 3, 30)
    last = int(without(usual_kinds()["call"], DAYS - 3, 30)[-1])
    since = datetime.fromtimestamp(last / 1e6, tz=CUTOFF.tzinfo)
    result = kinds_on(history)
    # Thursday to Saturday: 16 x (1.1 + 1.0 + 0.3) = 38 calls
    assert CUTOFF.strftime("%A") == "Sunday"
    assert result.verdict == "stop"
    assert result.value == pytest.approx(38, rel=0.25)
    assert f"no interactions of the kind 'call' since {since:%A %Y-%m-%d %H:%M} UTC (about " in result.message
    assert [hole["kind"] for hole in result.details["holes"]] == ["call"]
    assert result.details["judged"] == ["call", "mail", "visit"]
    assert result.details["not_judged"] == ["webinar"]
    assert "not judged, too rare or too new: 'webinar'" in result.message


def test_a_shorter_silence_warns_and_half_a_day_is_none() -> None:
    assert kinds_on(broken("call", DAYS - 2, 30)).verdict == "warn"
    assert kinds_on(broken("call", DAYS - 0.4, 30)).verdict == "pass"


def test_a_mended_hole_warns_once_with_its_days() -> None:
    history = broken("mail", DAYS - 5, 3)
    result = kinds_on(history, days_ago=4)
    assert result.verdict == "warn"
    assert "from Tuesday 2025-04-01 until Friday 2025-04-04 (about 1" in result.message
    assert "they came again" in result.message
    assert kinds_on(history, days_ago=2).verdict == "pass"
    assert kinds_on(history, days_ago=7).verdict == "warn"
    assert kinds_on(history, days_ago=None).verdict == "warn"


def test_a_hole_of_long_ago_is_no_news() -> None:
    history = broken("mail", DAYS - 20, 3)
    assert [kinds_on(history, days_ago=days).verdict for days in (1, 14, 60, None)] == ["pass"] * 4


def test_a_silence_goes_on_alarming_for_weeks() -> None:
    verdicts = [kinds_on(broken("mail", DAYS - days, 90)).verdict for days in (2, 10, 20, 35)]
    assert verdicts == ["stop"] * 4


def test_a_kind_that_ended_on_purpose_can_be_left_out() -> None:
    history = broken("call", DAYS - 5, 30)
    assert kinds_on(history, ignore_kinds=("call",)).verdict == "pass"
    assert kinds_on(history, ignore_kinds=("mail",)).verdict == "stop"


def test_limits_may_stand_alone() -> None:
    history = broken("call", DAYS - 5, 30)
    assert kinds_on(history, missing_events=Limits(warn=10)).verdict == "warn"
    assert kinds_on(history, missing_events=Limits(stop=500)).verdict == "pass"
    assert kinds_on(history, missing_events=Limits()).verdict == "not judged"


def test_what_was_recorded_after_the_cutoff_was_not_there() -> None:
    kinds = usual_kinds()
    delay = {"call": 5 * 24 * HOUR}
    late = history_of(kinds, late=delay)
    result = kinds_on(late)
    assert result.verdict == "stop"
    assert [hole["kind"] for hole in result.details["holes"]] == ["call"]
    assert kinds_on(late, cutoff=CUTOFF - timedelta(days=1)).verdict == "stop"
    assert data_on(history_of({"call": kinds["call"]}, late=delay)).value == pytest.approx(5 * 24, abs=24)


def test_a_later_event_is_not_seen_from_an_earlier_cutoff() -> None:
    history = broken("call", 60, 4)
    assert kinds_on(history, cutoff=START + timedelta(days=64)).verdict == "stop"
    assert kinds_on(history, cutoff=START + timedelta(days=60)).verdict == "pass"


def test_a_cutoff_within_the_day_counts_days_up_to_itself() -> None:
    cutoff = CUTOFF - timedelta(hours=10)
    result = kinds_on(broken("visit", DAYS - 3 + 14 / 24 - 1, 30), cutoff=cutoff)
    assert result.verdict == "stop"
    assert result.details["holes"][0]["from"] == (cutoff - timedelta(days=3)).isoformat()


def test_on_a_public_holiday_quiet_kinds_do_not_alarm() -> None:
    kinds = usual_kinds()
    week = history_of({name: without(times, DAYS - 4, 1) for name, times in kinds.items() if name == "call"})
    assert kinds_on(week, days_ago=7).verdict == "warn"
    # The same Wednesday without calls, but on which everything else is quiet too
    quiet = {
        name: times if name == "call" else np.sort(np.concatenate([without(times, DAYS - 4, 1), few(times)]))
        for name, times in {**kinds, "call": without(kinds["call"], DAYS - 4, 1)}.items()
    }
    assert kinds_on(history_of(quiet), days_ago=7).verdict == "pass"


def few(times: np.ndarray) -> np.ndarray:
    """Every fourth event of the Wednesday."""
    begin = microseconds(START + timedelta(days=DAYS - 4))
    return times[(times >= begin) & (times < begin + 24 * HOUR)][::4]


def test_a_new_kind_and_an_empty_history_are_not_judged() -> None:
    young = without(usual_kinds()["call"], 0, DAYS - 20)
    result = kinds_on(history_of({"call": without(young, DAYS - 4, 30)}))
    assert result.verdict == "not judged"
    assert "'call'" in result.message
    assert kinds_on(history_of({})).verdict == "not judged"


def test_interactions_without_a_kind_are_one_kind() -> None:
    history = history_of({"": without(usual_kinds()["visit"], DAYS - 3, 30)})
    assert "no interactions without a kind since" in kinds_on(history).message


def test_all_kinds_at_once_stop_too() -> None:
    history = history_of({name: without(times, DAYS - 2, 30) for name, times in usual_kinds().items()})
    result = kinds_on(history)
    assert result.verdict == "stop"
    assert {hole["kind"] for hole in result.details["holes"]} == {"call", "mail", "visit"}


@pytest.mark.parametrize(("silent_days", "verdict"), [(0.5, "pass"), (2, "warn"), (4, "stop")])
def test_the_age_of_the_newest_interaction(silent_days: float, verdict: str) -> None:
    history = history_of({"mail": without(usual_kinds()["mail"], DAYS - silent_days, 30)})
    result = data_on(history)
    assert result.verdict == verdict
    assert ("no events since" in result.message) == (verdict != "pass")
    assert data_on(history, data=AgeLimits(warn=Duration("30d"))).verdict == "pass"
    assert data_on(history, data=AgeLimits()).verdict == "not judged"


def test_a_weekend_is_a_habit_and_a_longer_one_is_not() -> None:
    working = stream(30, 1, week=np.array([1, 1, 1, 1, 1, 0, 0]))
    monday = START + timedelta(days=84)
    assert monday.strftime("%A") == "Monday"
    before = without(working, 84, 30)
    result = data_on(history_of({"call": before}), cutoff=monday)
    assert (result.verdict, "are usual here" in result.message) == ("pass", True)
    assert result.details["hours"] > 36
    assert data_on(history_of({"call": before}), cutoff=monday + timedelta(days=1)).verdict == "stop"
    assert kinds_on(history_of({"call": before}), cutoff=monday).verdict == "pass"


def test_former_outages_lift_the_limit_for_a_warning_and_never_that_for_a_stop() -> None:
    times = stream(30, 1, week=np.ones(7))
    for first in (30, 45, 60):
        times = without(times, first, 5)
    late = history_of({"call": without(times, DAYS - 115 / 24, 30)})
    result = data_on(late)
    assert (result.verdict, result.stop) == ("stop", 72)
    assert "no events since Monday 2025-03-31" in result.message
    assert result.details["habit_hours"] < 36
    # Without a limit for a stop there is no ceiling
    assert data_on(late, data=AgeLimits(warn=Duration("36h"))).verdict == "pass"
    for first in (38, 53, 70):
        times = without(times, first, 2)
    usual = data_on(history_of({"call": without(times, DAYS - 2, 30)}))
    assert (usual.verdict, "are usual here" in usual.message) == ("pass", True)
    assert usual.details["habit_hours"] > 48


def test_without_interactions_the_newest_lead_tells() -> None:
    result = data_on(history_of({}), cutoff=START + timedelta(days=2))
    assert result.verdict == "warn"
    assert "2 days" not in result.message
    assert result.details["newest"] == START.isoformat()
    assert data_on(history_of({}), cutoff=START).verdict == "not judged"


def test_an_interaction_of_long_ago_is_still_the_newest() -> None:
    result = data_on(history_of({"call": np.array([microseconds(START)])}))
    assert (result.verdict, result.value) == ("stop", DAYS * 24)
    assert f"no events since Monday {START:%Y-%m-%d}, 2,160 hours" in result.message


def test_expected_counts_are_those_of_the_weekday_and_never_above_the_last_two_weeks() -> None:
    week = np.array([7, 6, 5, 4, 3, 2, 1])
    past = np.concatenate([np.tile(week, 4), [7, 6]])
    assert expected_counts(past, 9).tolist() == [5, 4, 3, 2, 1, 7, 6, 5, 4]
    falling = np.concatenate([np.tile(week * 2, 2), np.tile(week, 2)])
    # weekday means are 1.5 weeks, of which the last two bear out 1 / 1.5
    assert expected_counts(falling, 7) == pytest.approx(week)
    rising = np.concatenate([np.tile(week, 2), np.tile(week * 2, 2)])
    assert expected_counts(rising, 7) == pytest.approx(week * 1.5)
    assert expected_counts(np.zeros(28, np.int64), 3).tolist() == [0, 0, 0]


def test_the_chance_of_no_event_by_hand() -> None:
    assert probability_of_none(np.array([1.0, 2.0]), 0.0, 0.0, 1e9) == pytest.approx(np.exp(-3))
    # a negative binomial with variance m + m^2 / 2 has (1 + m / 2)^-2 at zero
    assert probability_of_none(np.array([2.0, 6.0]), 0.5, 0.0, 1e9) == pytest.approx(2.0**-2 * 4.0**-2)
    # eight days are a week of 7 and one of 1
    assert probability_of_none(np.ones(8), 0.0, 0.5, 1e9) == pytest.approx(4.5**-2 * 1.5**-2)
    # a level known from 10 events only: (1 + 5 / 10)^-10
    assert probability_of_none(np.array([5.0]), 0.0, 0.0, 10.0) == pytest.approx(1.5**-10)
    assert probability_of_none(np.zeros(3), 0.3, 0.3, 0.0) == 1.0


def test_overdispersion_finds_what_was_put_in() -> None:
    random = np.random.default_rng(3)
    mean = np.tile([20.0, 20, 20, 20, 20, 5, 5], 200)
    assert overdispersion(random.poisson(mean)) < 0.01
    gamma = random.gamma(1 / 0.3, 0.3, len(mean))
    assert overdispersion(random.poisson(mean * gamma)) == pytest.approx(0.3, rel=0.2)
    assert overdispersion(np.zeros(28, np.int64)) == 0.0
    weekly = np.repeat(random.gamma(1 / 0.3, 0.3, 200), 7)
    assert weekly_overdispersion(random.poisson(mean * weekly)) == pytest.approx(0.3, rel=0.3)
    assert weekly_overdispersion(random.poisson(mean)) < 0.01
    assert weekly_overdispersion(np.zeros(30, np.int64)) == weekly_overdispersion(np.ones(6, np.int64)) == 0.0


@given(st.lists(st.integers(0, 2), max_size=40))
def test_runs_of_zeros_are_found_whole(counts: list[int]) -> None:
    runs = zero_runs(np.array(counts, np.int64))
    inside = [position for first, last in runs for position in range(first, last + 1)]
    assert inside == [position for position, count in enumerate(counts) if not count]
    for first, last in runs:
        assert first == 0 or counts[first - 1]
        assert last == len(counts) - 1 or counts[last + 1]
    gaps = longest_silences(np.array(counts, np.int64), 99)
    assert gaps == sorted(
        (last - first + 1 for first, last in runs if first > 0 and last < len(counts) - 1), reverse=True
    )


@pytest.mark.parametrize("dispersion", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("per_day", [0.4, 1.5, 4.0, 12.0])
def test_streams_in_which_nothing_happens_hardly_ever_alarm(dispersion: float, per_day: float) -> None:
    random = np.random.default_rng(int(per_day * 10 + dispersion * 1000))
    week = np.array([1.2, 1.3, 1.3, 1.2, 1.1, 0.5, 0.4])
    alarms = Counter[str]()
    nights = 0
    for _ in range(3):
        days = 70 + 365
        mean = per_day * week[np.arange(days) % 7] * np.linspace(1, 2, days)
        burst = random.gamma(1 / dispersion, dispersion, days) if dispersion else np.ones(days)
        counts = random.poisson(mean * burst)
        for day in range(70, days):
            nights += 1
            for hole in find_holes(counts[None, day - 70 : day], 1, 56):
                if hole.is_surprising(1e-5) and hole.missing >= 10:
                    alarms["stop" if hole.missing >= 30 else "warn"] += 1
    assert nights == 3 * 365
    assert alarms["stop"] == 0
    assert alarms["warn"] <= 3


def test_bursts_with_long_pauses_are_the_habit_of_a_kind() -> None:
    monthly = np.zeros(70, np.int64)
    for day in (5, 33, 61):
        monthly[day : day + 3] = [300, 120, 30]
    holes = find_holes(monthly[None, :], 14, 56)
    assert all(not hole.is_surprising(1e-5) for hole in holes)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A simulated year, in which no mail was seen to be opened on the days 200 to 202."""
    folder = tmp_path_factory.mktemp("outage")
    config = SimulatorConfig(
        leads=1_500, days=300, seed=4, outage=KindOutage(kind="email_open", from_day=200)
    )
    simulate(config, folder)
    content = {"name": "outage", "features": {"default": True}, **simulation_config_tables(config)}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    project = load_project(folder / "config.yaml")
    return load_history(project.config, project.data_dir)


def walk(history: History, first: int, end: int, step: int) -> dict[int, list[GateResult]]:
    """What both gates say on nights of the simulated year; a stopped night is not the last published one."""
    start = datetime(2024, 1, 1, tzinfo=CUTOFF.tzinfo)
    results: dict[int, list[GateResult]] = {}
    last = None
    for day in range(first, end, step):
        cutoff = start + timedelta(days=day)
        facts = night(history=history_as_of(history, cutoff), cutoff=cutoff, last=last)
        evidence = Evidence(facts, GatesConfig())
        results[day] = [judge_data(evidence), judge_kinds(evidence)]
        if all(result.verdict != "stop" for result in results[day]):
            last = {**manifest(), "cutoff": cutoff.isoformat()}
    return results


def test_nightly_runs_find_the_planted_outage_at_once_and_nothing_else(simulated: History) -> None:
    results = walk(simulated, 180, 215, 1)
    told = {
        day: [result.verdict for result in night]
        for day, night in results.items()
        if any(result.verdict != "pass" for result in night)
    }
    assert min(told) in (201, 202)
    assert max(told) == 204
    assert told[203] == ["pass", "stop"]
    assert told[204] == ["pass", "warn"]
    assert "'email_open' since" in results[203][1].message
    assert "'email_open' from Friday 2024-07-19 until Monday 2024-07-22" in results[204][1].message


@pytest.mark.parametrize("weekday", range(7))
def test_weekly_runs_find_the_planted_outage_whichever_day_they_run(simulated: History, weekday: int) -> None:
    results = walk(simulated, 183 + weekday, 225, 7)
    told = [day for day, night in results.items() if any(result.verdict != "pass" for result in night)]
    assert told
    assert all(201 <= day <= 210 for day in told)
    assert all(results[day][1].details["holes"][0]["kind"] == "email_open" for day in told)


def test_activity_counts_what_was_visible_by_hour() -> None:
    hour = microseconds(CUTOFF) - np.array([1, HOUR, HOUR + 1, 25 * HOUR, 48 * HOUR, 48 * HOUR + 1])
    activity = read_activity(history_of({"call": hour, "late": hour[:1]}, late={"late": HOUR}), CUTOFF, 2)
    assert activity.kinds == ("call",)
    assert np.flatnonzero(activity.by_hour[0]).tolist() == [0, 23, 46, 47]
    assert activity.by_hour.sum() == 5
    assert activity.by_day.tolist() == [[2, 3]]
    assert activity.newest_of_all == microseconds(CUTOFF) - 1
