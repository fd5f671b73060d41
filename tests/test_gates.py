"""The gates before publishing: what trips each to a warning, to a stop, and what does not."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from convpredict.config.base import Duration
from convpredict.config.gates import AgeLimits, FreshnessConfig, GatesConfig, Limits
from convpredict.errors import DataError
from convpredict.history.history import History
from convpredict.scoring.gates import GATES, judge_gates, stopping
from convpredict.scoring.nightly.facts import GateResult, ModelIdentity, NightFacts
from nights import (
    CUTOFF,
    counts,
    history_of,
    manifest,
    night,
    stream,
    usual_kinds,
    usual_tables,
    validation,
)

DEFAULTS = GatesConfig()


def beyond_chance(scores: list[int], compared: int) -> float:
    """PSI of counts in ten bins against even ones of ``compared`` rows, less the .999 quantile of chance."""
    n = sum(scores)
    p, q = (np.full(10, compared / 10) + 0.5) / (compared + 5), (np.array(scores) + 0.5) / (n + 5)
    return float(np.sum((q - p) * np.log(q / p)) - (1 / n + 1 / compared) * chi2.isf(0.001, 9))


TILTED = [270, 150, 130, 100, 90, 80, 70, 50, 40, 20]
CRUSHED = [900, 50, 30, 20, 0, 0, 0, 0, 0, 0]
LEANING = [200, 150, 120, 110, 100, 90, 70, 60, 50, 50]
HALVED = [500, 300, 100, 50, 50, 0, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def usual() -> History:
    """A history in which all goes on as ever."""
    return history_of(usual_kinds(), **usual_tables())


def judged(facts: NightFacts, gate: str, config: GatesConfig = DEFAULTS) -> GateResult:
    """The result of one gate."""
    return next(result for result in judge_gates(facts, config) if result.gate == gate)


def table(bad: int, accepted: int = 10_000, reason: str = "unknown lead") -> dict[str, Any]:
    """What validation tells of the interactions."""
    return {"tables": {"interactions": {"accepted": accepted, "quarantined": {reason: bad} if bad else {}}}}


def before(**rows: int) -> dict[str, Any]:
    """The manifest of a last published night that had read so many rows of each table."""
    return manifest(data={"counts": rows, "quarantine": {}})


def test_on_a_usual_night_every_gate_passes(usual: History) -> None:
    results = judge_gates(night(history=usual), DEFAULTS)
    assert [(result.gate, result.verdict) for result in results] == [(gate, "pass") for gate in GATES]
    assert stopping(results) == []


CASES = [
    # gate, facts, verdict, value, words of the message
    ("rows", {"leads": 790, "counts": counts(790)}, "warn", 0.21, ["21% fewer", "1,000", "1 day before"]),
    ("rows", {"leads": 1_250, "counts": counts(1_250)}, "warn", 0.25, ["25% more"]),
    ("rows", {"leads": 450, "counts": counts(450)}, "stop", 0.55, ["55% fewer", "50%"]),
    ("rows", {"leads": 2_000, "counts": counts(2_000)}, "stop", 1.0, ["100% more"]),
    ("rows", {"leads": 810, "counts": counts(810)}, "pass", 0.19, []),
    ("rows", {"leads": 0, "counts": counts(0)}, "stop", 0.0, ["no lead was scored", "converted 12"]),
    ("rows", {"leads": 12, "last": manifest(leads=8)}, "pass", 0.0, ["vary by chance"]),
    ("rows", {"last": manifest(leads=0)}, "stop", 1e9, ["none on the last published night"]),
    (
        "missing",
        {"counts": counts(calls_30d=[400, 250, 150, 200])},
        "warn",
        0.16,
        ["calls_30d (20%, 0% in training)", "10%"],
    ),
    (
        "missing",
        {"counts": counts(days_since_visit=[200, 200, 600], calls_30d=[400, 250, 150, 200])},
        "stop",
        0.34,
        ["days_since_visit (60%, 20% in training), calls_30d"],
    ),
    ("missing", {"counts": counts(calls_30d=[455, 260, 195, 90])}, "pass", 0.06, ["calls_30d (9%"]),
    ("missing", {"leads": 6, "counts": counts(6, calls_30d=[2, 1, 1, 2])}, "pass", 0.04, ["33.3%"]),
    (
        "scores_training",
        {"counts": counts(scores=TILTED)},
        "warn",
        beyond_chance(TILTED, 10_000),
        ["PSI 0.4", "beyond what chance", "Jensen-Shannon", "1.00 times"],
    ),
    (
        "scores_training",
        {"counts": counts(scores=CRUSHED), "mean": 0.01},
        "stop",
        beyond_chance(CRUSHED, 10_000),
        ["PSI 5.", "0.20 times as high"],
    ),
    (
        "scores_training",
        {"counts": counts(scores=[130, 120, 110, 105, 100, 95, 90, 85, 85, 80])},
        "pass",
        0.0,
        [],
    ),
    (
        "scores_training",
        {"leads": 20, "counts": counts(20, scores=[6, 4, 3, 2, 2, 1, 1, 1, 0, 0])},
        "pass",
        0.0,
        [],
    ),
    (
        "scores_last_night",
        {"counts": counts(scores=LEANING)},
        "warn",
        beyond_chance(LEANING, 1_000),
        ["the last published night, 1 day before", "0.1"],
    ),
    (
        "scores_last_night",
        {"counts": counts(scores=HALVED), "mean": 0.02},
        "stop",
        beyond_chance(HALVED, 1_000),
        ["0.40 times as high", "loaded only in part"],
    ),
    (
        "scores_last_night",
        {"counts": counts(scores=[120, 110, 105, 100, 100, 100, 100, 95, 90, 80])},
        "pass",
        0,
        [],
    ),
    (
        "unknown",
        {"counts": counts(channel=[500, 300, 160, 40])},
        "warn",
        0.08,
        ["channel (16%, 4% in training)", "renamed"],
    ),
    (
        "unknown",
        {"counts": counts(channel=[100, 100, 790, 10])},
        "stop",
        0.70,
        ["channel (79%, 4% in training)"],
    ),
    ("unknown", {"counts": counts(channel=[580, 340, 70, 10])}, "pass", 0.0, []),
    ("unknown", {"known_kinds": ("call", "mail", "webinar")}, "stop", 0.57, ["'visit'", "7 days"]),
    ("unknown", {"known_kinds": ("mail", "visit", "webinar")}, "warn", 0.08, ["'call'"]),
    ("unknown", {"known_kinds": ("call", "mail", "visit")}, "pass", 0.0, []),
    (
        "model_age",
        {"model": ModelIdentity("demo", "3", "d" * 64, registered_at=CUTOFF - timedelta(days=130))},
        "warn",
        130,
        ["version 3", "130 days", "registered"],
    ),
    (
        "model_age",
        {"model": ModelIdentity("demo", "", "d" * 64, trained_until=CUTOFF - timedelta(days=400))},
        "stop",
        400,
        ["dddddddddddd", "known until"],
    ),
    (
        "model_age",
        {
            "model": ModelIdentity(
                "demo",
                "3",
                "d" * 64,
                trained_until=CUTOFF - timedelta(days=119),
                registered_at=CUTOFF + timedelta(days=2),
            )
        },
        "pass",
        119,
        ["known until"],
    ),
    (
        "tables",
        {"last": before(conversions=105), "validation": validation(conversions=0)},
        "stop",
        1.0,
        [
            "conversions has 0 rows, 100% fewer than the 105",
            "1 day before",
            "always stops",
            "waiver of 'tables'",
        ],
    ),
    (
        "tables",
        {"last": before(revenue=1), "validation": validation(revenue=0)},
        "stop",
        1.0,
        ["always stops"],
    ),
    (
        "tables",
        {"last": before(revenue=300), "validation": validation(leads=10)},
        "stop",
        1.0,
        ["no longer declared"],
    ),
    (
        "tables",
        {
            "last": before(leads=1_000, interactions=30_000),
            "validation": validation(leads=970, interactions=20_000),
        },
        "stop",
        0.333,
        ["interactions has 20,000 rows, 33.3% fewer than the 30,000", "leads has 970 rows, 3% fewer", "20%"],
    ),
    ("tables", {"last": before(leads=1_000), "validation": validation(leads=970)}, "warn", 0.03, ["2%"]),
    ("tables", {"last": before(leads=1_000), "validation": validation(leads=985)}, "pass", 0.015, []),
    ("tables", {"last": before(revenue=20), "validation": validation(revenue=16)}, "pass", 0.0, []),
    ("tables", {"last": before(revenue=20), "validation": validation(revenue=15)}, "stop", 0.25, []),
    (
        "tables",
        {"last": before(leads=100), "validation": validation(leads=301)},
        "warn",
        2.01,
        ["three times"],
    ),
    ("tables", {"last": before(leads=100), "validation": validation(leads=299)}, "pass", 0.0, []),
    ("tables", {"last": before(leads=5), "validation": validation(leads=90)}, "pass", 0.0, []),
    (
        "tables",
        {"last": before(leads=5, revenue=0), "validation": validation(leads=5, revenue=9)},
        "pass",
        0.0,
        [],
    ),
    ("quarantine", {"validation": table(200)}, "warn", 0.0196, ["1.96% of 10,200 rows of interactions"]),
    ("quarantine", {"validation": table(1_000)}, "stop", 0.0909, ["9.09%", "5%"]),
    ("quarantine", {"validation": table(1_000), "max_bad_share": 0.1}, "warn", 0.0909, ["9.09%"]),
    ("quarantine", {"validation": table(1_200), "max_bad_share": 0.1}, "stop", 0.1071, ["10.7%", "10%"]),
    ("quarantine", {"validation": table(90)}, "pass", 0.0089, []),
    ("quarantine", {"validation": table(1_000, reason="after known_until")}, "pass", 0.0, ["no row"]),
    ("quarantine", {"validation": table(4, accepted=6)}, "pass", 0.0, []),
    (
        "quarantine",
        {
            "validation": table(50),
            "last": manifest(
                data={"counts": {"interactions": 9_900}, "quarantine": {"interactions": {"odd": 10}}}
            ),
        },
        "warn",
        0.005,
        ["28.6% of the new ones", "gained"],
    ),
    (
        "quarantine",
        {
            "validation": table(50),
            "last": manifest(
                data={"counts": {"interactions": 9_900}, "quarantine": {"interactions": {"odd": 35}}}
            ),
        },
        "pass",
        0.005,
        [],
    ),
]


@pytest.mark.parametrize(
    ("gate", "given_", "verdict", "value", "words"),
    CASES,
    ids=[f"{case[0]}-{case[2]}-{n}" for n, case in enumerate(CASES)],
)
def test_a_gate_warns_stops_or_passes(
    usual: History, gate: str, given_: dict[str, Any], verdict: str, value: float, words: list[str]
) -> None:
    result = judged(night(history=usual, **given_), gate)
    assert result.verdict == verdict, result.message
    assert result.value == pytest.approx(value, rel=0.03, abs=0.01), result.message
    for word in words:
        assert word in result.message
    json.dumps(dataclasses.asdict(result), allow_nan=False)


@pytest.mark.parametrize(
    ("gate", "given_", "why"),
    [
        ("rows", {"last": None}, "first night"),
        ("scores_last_night", {"last": None}, "first night"),
        ("scores_last_night", {"last": manifest(model={"version": "2", "digest": "e" * 64})}, "version 2"),
        ("scores_last_night", {"last": manifest(counts=None)}, "no counts"),
        ("missing", {"profile": None}, "no profile"),
        ("scores_training", {"profile": None}, "no profile"),
        ("unknown", {"profile": None, "known_kinds": None}, "no profile"),
        ("missing", {"leads": 0, "counts": counts(0)}, "no lead"),
        ("scores_training", {"leads": 0, "counts": counts(0)}, "no lead"),
        ("model_age", {"model": ModelIdentity("demo", "3", "d")}, "nothing tells"),
        (
            "model_age",
            {"model": ModelIdentity("demo", "3", "d", trained_until=CUTOFF + timedelta(days=1))},
            "back-fill",
        ),
        ("quarantine", {"validation": {}}, "no report"),
        ("tables", {"last": None}, "first night"),
        ("tables", {"last": manifest(data={})}, "counted no rows"),
        ("tables", {"last": before(leads=0)}, "counted no rows"),
    ],
)
def test_what_cannot_be_judged_says_why(usual: History, gate: str, given_: dict[str, Any], why: str) -> None:
    result = judged(night(history=usual, **given_), gate)
    assert result.verdict == "not judged"
    assert result.message.startswith("not judged: ")
    assert why in result.message


@pytest.mark.parametrize(
    "last",
    [None, manifest(data={}), before(conversions=0, leads=1_500)],
    ids=["first", "untold", "empty too"],
)
@pytest.mark.parametrize("limits", [Limits(warn=0.02, stop=0.2), Limits(warn=None, stop=None)])
def test_a_table_that_the_model_learnt_from_warns_where_it_has_no_row(
    usual: History, last: Any, limits: Limits
) -> None:
    """Nothing but the model tells that conversions should be there; one that is not declared is the user's word."""
    config = GatesConfig(tables=limits)
    facts = night(
        history=usual,
        last=last,
        learnt_from=("conversions", "revenue", "interactions"),
        validation=validation(leads=1_500, interactions=10_000, conversions=0),
    )
    result = judged(facts, "tables", config)
    assert result.verdict == "warn"
    assert result.message.startswith(
        "conversions has no row at all, although the model learnt from such rows"
    )
    assert result.details["empty"] == ["conversions"]
    some = validation(leads=1_500, interactions=10_000, conversions=1)
    assert judged(dataclasses.replace(facts, validation=some), "tables", config).verdict != "warn"
    assert judged(dataclasses.replace(facts, learnt_from=()), "tables", config).verdict != "warn"


def test_an_empty_table_hides_no_loss_of_another(usual: History) -> None:
    facts = night(
        history=usual,
        last=before(leads=1_500),
        learnt_from=("conversions",),
        validation=validation(leads=700, conversions=0),
    )
    result = judged(facts, "tables")
    assert result.verdict == "stop"
    assert "leads has 700 rows" in result.message
    assert "Besides, conversions has no row at all" in result.message


def test_without_the_name_of_its_column_no_ratio_of_probabilities_is_told(usual: History) -> None:
    told = judged(night(history=usual), "scores_training")
    assert told.details["mean_probability_ratio"] == pytest.approx(1.0)
    untold = judged(night(history=usual, probability_column=None), "scores_training")
    assert (untold.verdict, untold.details["mean_probability_ratio"]) == ("pass", None)


def test_kinds_are_judged_without_a_profile_and_categories_without_kinds(usual: History) -> None:
    kinds = judged(night(history=usual, profile=None, known_kinds=("call", "mail")), "unknown")
    assert (kinds.verdict, "no profile" in kinds.message) == ("stop", True)
    columns = judged(
        night(history=usual, known_kinds=None, counts=counts(channel=[0, 0, 1000, 0])), "unknown"
    )
    assert (columns.verdict, "model reads none" in columns.message) == ("stop", True)


def test_without_limits_a_gate_is_off_but_for_a_night_without_leads(usual: History) -> None:
    off = Limits()
    config = GatesConfig(
        rows=off,
        missing=off,
        scores_training=off,
        scores_last_night=off,
        unknown=off,
        tables=off,
        freshness=FreshnessConfig(data=AgeLimits(), missing_events=off),
        volume=off,
        hours=off,
        model_age=AgeLimits(),
        quarantine=off,
    )
    results = judge_gates(night(history=usual), config)
    assert {result.verdict for result in results} == {"not judged"}
    assert all("switched off" in result.message for result in results)
    empty = judge_gates(night(history=usual, leads=0, counts=counts(0)), config)
    assert [result.gate for result in stopping(empty)] == ["rows"]
    emptied = judge_gates(night(history=usual, validation=validation(leads=0)), config)
    assert [result.gate for result in stopping(emptied)] == ["tables"]


def test_a_limit_that_is_reached_counts_and_one_may_stand_alone(usual: History) -> None:
    facts = night(history=usual, leads=500, counts=counts(500))
    assert judged(facts, "rows", GatesConfig(rows=Limits(warn=0.5, stop=0.6))).verdict == "warn"
    assert judged(facts, "rows", GatesConfig(rows=Limits(stop=0.5))).verdict == "stop"
    assert judged(facts, "rows", GatesConfig(rows=Limits(stop=0.51))).verdict == "pass"
    assert judged(facts, "rows", GatesConfig(rows=Limits(warn=0.1))).verdict == "warn"


def test_a_stop_can_be_waived_by_its_name_and_only_by_it() -> None:
    results = [
        GateResult("rows", "stop", "few"),
        GateResult("missing", "warn", "some"),
        GateResult("unknown", "stop", "new"),
    ]
    assert [result.gate for result in stopping(results)] == ["rows", "unknown"]
    assert [result.gate for result in stopping(results, {"rows": "a reason", "missing": "b"})] == ["unknown"]


@pytest.mark.parametrize(
    "error", [DataError("the file is gone"), RuntimeError("jo@example.com is no number")]
)
def test_a_gate_that_fails_itself_stops_and_the_others_go_on(usual: History, error: Exception) -> None:
    class Broken(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise error

    results = {
        result.gate: result for result in judge_gates(night(history=usual, validation=Broken()), DEFAULTS)
    }
    assert list(results) == list(GATES)
    # Both gates that read the report of the validation
    assert [gate for gate, result in results.items() if result.verdict != "pass"] == ["tables", "quarantine"]
    result = results["quarantine"]
    assert (result.verdict, result.details["failed"]) == ("stop", True)
    assert "'quarantine' failed itself" in result.message
    assert "test_gates.py" in result.message
    assert "jo@example.com" not in result.message
    assert ("the file is gone" in result.message) == isinstance(error, DataError)


def test_a_history_that_cannot_be_read_stops_every_gate_that_reads_it() -> None:
    broken = history_of({"call": stream(10, 1)})
    broken.connection.execute("DROP TABLE interactions")
    results = judge_gates(night(history=broken), DEFAULTS)
    assert [result.gate for result in stopping(results)] == [
        "unknown",
        "freshness_data",
        "freshness_kinds",
        "freshness_tables",
        "volume",
        "hours",
    ]


@settings(max_examples=12)
@given(
    leads=st.integers(0, 3_000),
    before=st.none() | st.integers(0, 3_000),
    seed=st.integers(0, 10**6),
    first=st.sampled_from(["registered_at", "trained_until"]),
    age=st.integers(-400, 400),
)
def test_every_gate_answers_whatever_the_night(
    usual: History, leads: int, before: int | None, seed: int, first: str, age: int
) -> None:
    random = np.random.default_rng(seed)
    drawn = {
        name: random.multinomial(leads, random.dirichlet(np.ones(k)))
        for name, k in (("calls_30d", 4), ("days_since_visit", 3), ("channel", 4), ("scores", 10))
    }
    facts = night(
        history=usual,
        leads=leads,
        counts=counts(leads, **{name: bins.tolist() for name, bins in drawn.items()}),
        last=None if before is None else manifest(leads=before),
        model=ModelIdentity("demo", "3", "d" * 64, **{first: CUTOFF - timedelta(days=age)}),
    )
    results = judge_gates(facts, DEFAULTS)
    assert [result.gate for result in results] == list(GATES)
    for result in results:
        assert not result.details.get("failed"), result.message
        assert result.message
        assert "nan" not in result.message.split()
        if result.verdict in ("warn", "stop") and leads and result.value is not None:
            limit = result.warn if result.verdict == "warn" else result.stop
            assert limit is not None
            assert result.value >= limit
    json.dumps([dataclasses.asdict(result) for result in results], allow_nan=False)
    assert judge_gates(facts, DEFAULTS) == results


def test_ages_are_held_in_days_and_hours() -> None:
    config = GatesConfig(model_age=AgeLimits(warn=Duration("12h"), stop=Duration("2d")))
    facts = night(model=ModelIdentity("demo", "3", "d", registered_at=CUTOFF - timedelta(hours=18)))
    result = judged(facts, "model_age", config)
    assert (result.verdict, result.value, result.warn, result.stop) == ("warn", 0.75, 0.5, 2.0)
