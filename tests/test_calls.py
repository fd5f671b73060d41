"""Weekly call lists replayed: counts worked out by hand, ties, repeats, resampling."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from convpredict.evaluation.calls import QUARTER_DAYS, replay_calls, state_calls, weekly_lists

WEEKS = ["2024-01-01", "2024-01-08"]


def replay(label, p, points, leads, cutoffs, **settings):
    result = replay_calls(label, p, points, leads, cutoffs, resamples=50, **settings)
    scale = result["lists"] * result["period_days"] / QUARTER_DAYS
    return {name: entry["value"] * scale for name, entry in result["conversions"].items()}


def test_a_lead_on_two_lists_is_one_conversion() -> None:
    leads, cutoffs = ["a", "b", "a", "b"], [WEEKS[0]] * 2 + [WEEKS[1]] * 2
    found = replay([1, 0, 1, 0], [0.9, 0.1, 0.9, 0.1], [0.0, 1.0, 0.0, 1.0], leads, cutoffs, calls_per_week=1)
    assert found["model"] == pytest.approx(1)
    assert found["scorecard"] == 0
    assert found["difference"] == pytest.approx(1)
    assert found["random"] == pytest.approx(0.75)


def test_equal_points_share_the_last_place() -> None:
    found = replay([1, 0, 0], [0.3, 0.2, 0.1], [5.0, 5.0, 5.0], list("abc"), [WEEKS[0]] * 3, calls_per_week=1)
    assert found["scorecard"] == pytest.approx(1 / 3)
    assert found["model"] == pytest.approx(1)


def test_only_the_newest_row_of_a_week_is_on_its_list() -> None:
    cutoffs = ["2024-01-01", "2024-01-04", "2024-01-04"]
    lists = weekly_lists(cutoffs, ["a", "a", "b"], 1)
    assert lists.rows.tolist() == [1, 2]
    assert lists.lists == 1


def test_rarer_cutoffs_give_rarer_lists_with_more_calls() -> None:
    lists = weekly_lists(["2024-01-01", "2024-01-15", "2024-01-29"], ["a", "a", "a"], 10)
    assert (lists.period_days, lists.calls, lists.calls_per_week) == (14, 20, 10)
    assert lists.burn_in == 1
    assert lists.per_quarter == pytest.approx(QUARTER_DAYS / 28)


def test_by_default_a_twentieth_of_the_open_leads_is_called() -> None:
    lists = weekly_lists([WEEKS[0]] * 100, np.arange(100))
    assert lists.calls == 5


def test_more_calls_than_leads_find_everybody_and_the_amount_is_theirs() -> None:
    label, p = [1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]
    result = replay_calls(
        label,
        p,
        None,
        list("abcd"),
        [WEEKS[0]] * 4,
        calls_per_week=50,
        amount=[10, np.nan, 20, 30],
        resamples=50,
    )
    scale = 7 / QUARTER_DAYS
    assert result["conversions"]["model"]["value"] * scale == pytest.approx(3)
    assert result["amount"]["model"]["value"] * scale == pytest.approx(60)
    assert "scorecard" not in result["conversions"]


def test_the_interval_comes_from_leads_and_holds_the_value() -> None:
    rng = np.random.default_rng(3)
    a_week, weeks = 400, 9
    lead = np.arange(a_week * weeks)
    at = np.repeat(pd.date_range("2024-01-01", periods=weeks, freq="7D", tz="UTC"), a_week)
    strength = rng.normal(size=len(lead))
    label = (strength + rng.normal(size=len(lead)) > 2.2).astype(float)
    result = replay_calls(label, strength, rng.normal(size=len(lead)), lead, at, calls_per_week=20)
    gap = result["conversions"]["difference"]
    assert gap["low"] < gap["value"] < gap["high"]
    assert gap["low"] > 0
    assert result["conversions"]["model"]["value"] > result["conversions"]["random"]["value"]


def test_the_sentence_adds_up_as_it_is_rounded() -> None:
    entry = {"low": 3.2, "high": 12.4}
    found = {
        "model": {"value": 17.61, **entry},
        "scorecard": {"value": 9.13, **entry},
        "difference": {"value": 8.48, **entry},
    }
    text = state_calls({"calls_per_week": 17.0, "conversions": found})
    assert "hold 9 more conversions" in text
    assert text.endswith("18 against 9.")


@pytest.mark.parametrize(
    ("model", "points", "low", "high", "said"),
    [
        (1.2, 1.2, -1.0, 1.0, "as many conversions per quarter as the points' [95 % interval -1 to 1, which"),
        (
            3.31,
            2.06,
            0.2,
            3.4,
            "1.2 more conversions per quarter than the points' [95 % interval 0.2 to 3.4]: 3.3",
        ),
        (
            12.0,
            10.0,
            0.2,
            3.4,
            "2 more conversions per quarter than the points' [95 % interval 0.2 to 3.4]: 12",
        ),
        (12.0, 10.0, 0.02, 3.4, "interval 0 to 3, which all but includes no difference]: 12 against 10."),
        (12.0, 8.0, -0.3, 8.4, "[95 % interval 0 to 8, which includes no difference]: 12 against 8."),
        (
            10.0,
            12.0,
            -3.4,
            -0.2,
            "2 fewer conversions per quarter than the points' [95 % interval -3.4 to -0.2]",
        ),
    ],
)
def test_a_rounded_interval_keeps_its_verdict(model, points, low, high, said) -> None:
    found = {
        "model": {"value": model},
        "scorecard": {"value": points},
        "difference": {"value": model - points, "low": low, "high": high},
    }
    assert said in state_calls({"calls_per_week": 17.0, "conversions": found})


def test_no_conversion_at_all_is_said_and_does_not_fail() -> None:
    result = replay_calls(
        [0, 0], [0.1, 0.2], [1, 2], ["a", "b"], [WEEKS[0]] * 2, calls_per_week=1, resamples=50
    )
    assert result["conversions"]["model"]["value"] == 0
    assert "At 1 call a week the model's lists hold as many conversions" in state_calls(result)
    assert "includes no difference" in state_calls(result)


def test_a_certainty_among_few_converters_is_not_claimed() -> None:
    sure = {"low": 0.0, "high": 0.0}
    found = {
        "model": {"value": 3.0, **sure},
        "scorecard": {"value": 3.0, **sure},
        "difference": {"value": 0.0, **sure},
        "random": {"value": 1.0},
    }
    calls = {"calls_per_week": 17.0, "conversions": found}
    for conversions in (found, {name: found[name] for name in ("model", "random")}):
        text = state_calls(calls | {"conversions": conversions}, converting_leads=5)
        assert "[too few converters for an interval]" in text
    assert "interval 0 to 0, which includes no difference" in state_calls(calls, converting_leads=500)


@pytest.fixture(scope="module")
def steady() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leads that arrive and convert at a steady rate: day of birth, hazard, day of conversion."""
    rng = np.random.default_rng(0)
    born = rng.uniform(0, 1_000, 3_000)
    hazard = rng.choice([0.003, 0.01, 0.03], 3_000)
    at = born + rng.exponential(1 / hazard)
    return born, hazard, np.where(at < born + 120, at, np.inf)


def listed(
    steady: tuple[np.ndarray, np.ndarray, np.ndarray], first_day: float, lists: int, horizon: int
) -> float:
    born, hazard, converted = steady
    weeks = []
    for day in first_day + 7.0 * np.arange(lists):
        open_leads = np.flatnonzero((born < day) & (day < np.minimum(born + 120, converted)))
        converts = (converted[open_leads] < day + horizon).astype(float)
        weeks.append(pd.DataFrame({"lead": open_leads, "day": day, "y": converts, "p": hazard[open_leads]}))
    rows = pd.concat(weeks, ignore_index=True)
    at = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(rows["day"], unit="D")
    result = replay_calls(
        rows["y"], rows["p"], None, rows["lead"], at, horizon_days=horizon, calls_per_week=15, resamples=50
    )
    return result["conversions"]["model"]["value"]


def test_few_lists_promise_no_more_per_quarter_than_many(steady) -> None:
    many = listed(steady, 150, 100, 30)
    few = np.mean([listed(steady, 150 + 60 * start, 13, 30) for start in range(10)])
    assert few == pytest.approx(many, rel=0.04)


def test_weeks_without_observations_count_as_time() -> None:
    lists = weekly_lists(["2024-01-01", "2024-01-02", "2024-02-12"], ["a", "b", "a"], 1, horizon_days=7)
    assert lists.lists == 2
    assert lists.burn_in == 1
    assert lists.per_quarter == pytest.approx(QUARTER_DAYS / 42)


def test_what_the_first_lists_find_is_not_counted() -> None:
    cutoffs = pd.date_range("2024-01-01", periods=6, freq="7D", tz="UTC")
    lead = ["early"] * 3 + ["late"] * 3
    result = replay_calls([1, 1, 1, 1, 1, 1], [0.5] * 6, None, lead, cutoffs, calls_per_week=1, resamples=50)
    assert (result["lists"], result["burn_in_lists"]) == (6, 2)
    assert result["conversions"]["model"]["value"] * 28 / QUARTER_DAYS == pytest.approx(1)
