"""The rule that decides on a champion: paired comparison of two models, what it asks for, and who was champion when."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.config.base import Duration
from convpredict.config.promotion import PromotionConfig
from convpredict.config.root import Config
from convpredict.config.training import EvaluationConfig
from convpredict.evaluation.horizon_comparison import HorizonPair, compare_horizons
from convpredict.evaluation.metrics import auc, calibration_ratio, captured_in_top, log_loss
from convpredict.evaluation.model_comparison import compare_models, simultaneous_intervals
from convpredict.evaluation.promotion import judge, judge_alone, told_apart
from convpredict.evaluation.value_comparison import ValuePair, compare_values
from convpredict.evaluation.value_metrics import normalised_gini, total_ratio
from convpredict.features.build import build_features
from convpredict.models.bundle import Bundle
from convpredict.scoring.model_pairs import lost_columns, score_pair
from convpredict.tracking.champions import Change, former_champions, happened
from convpredict.training.observations import open_observations
from factories import day, make_history
from served_leads import served_bundle, served_history, served_rows
from strategies import INTERACTION_ATTRIBUTES, LEAD_ATTRIBUTES

CONFIG = EvaluationConfig(resamples=200, top_shares=(0.05, 0.2))
AT = datetime(2024, 1, 1, tzinfo=UTC)


def leads_of(seed: int, *, leads: int = 1500, rows: int = 3, rate: float = 0.1):
    """Labels, true probabilities and ids: the rows of a lead share its probability."""
    rng = np.random.default_rng(seed)
    logit = np.repeat(rng.normal(np.log(rate / (1 - rate)), 1.5, leads), rows)
    p = 1 / (1 + np.exp(-logit))
    return (rng.random(len(p)) < p).astype(float), p, np.repeat(np.arange(leads), rows), rng


def blurred(p, rng, by: float):
    """The probabilities with noise on the logit: a worse model."""
    return 1 / (1 + np.exp(-(np.log(p / (1 - p)) + rng.normal(0, by, len(p)))))


def test_values_are_those_of_the_metrics_alone():
    y, p, lead, rng = leads_of(0)
    other = blurred(p, rng, 1.0)
    found = compare_models(y, p, other, lead, CONFIG)
    for side, probability in (("challenger", p), ("champion", other)):
        told = {name: entry["value"] for name, entry in found[side].items()}
        assert told == {
            "log_loss": pytest.approx(log_loss(y, probability), rel=1e-12),
            "auc": pytest.approx(auc(y, probability), rel=1e-12),
            "captured_top_5pct": pytest.approx(captured_in_top(y, probability, 0.05), rel=1e-12),
            "captured_top_20pct": pytest.approx(captured_in_top(y, probability, 0.2), rel=1e-12),
            "calibration_ratio": pytest.approx(calibration_ratio(y, probability), rel=1e-12),
        }
    gap = found["difference"]["log_loss"]
    assert gap["value"] == pytest.approx(log_loss(y, p) - log_loss(y, other))
    assert gap["low"] < gap["value"] < gap["high"] < 0
    assert found["counts"]["leads"] == 1500
    json.dumps(found, allow_nan=False)


def test_the_roles_exchanged_turn_every_difference_around():
    y, p, lead, rng = leads_of(1)
    other, channel = blurred(p, rng, 0.5), np.where(lead % 3 == 0, "web", "fair")
    one = compare_models(y, p, other, lead, CONFIG, segments={"channel": channel})
    two = compare_models(y, other, p, lead, CONFIG, segments={"channel": channel})
    for name in ("log_loss", "captured_top_5pct"):
        assert one["difference"][name]["value"] == pytest.approx(-two["difference"][name]["value"])
    for left, right in zip(one["segments"], two["segments"], strict=True):
        assert left["log_loss"]["low"] == pytest.approx(-right["log_loss"]["high"])


def test_segments_are_the_losses_of_their_rows():
    y, p, lead, rng = leads_of(2)
    other = blurred(p, rng, 1.0)
    channel = np.array(["web", "fair", None, "rare"], object)[np.where(lead < 8, 3, lead % 3)]
    found = compare_models(y, p, other, lead, CONFIG, segments={"channel": channel})["segments"]
    assert {entry["value"] for entry in found} == {"web", "fair", "(not given)", "(all others)"}
    for entry in found:
        names = {"(not given)": [None], "(all others)": ["rare"]}.get(entry["value"], [entry["value"]])
        rows = np.isin(channel.astype(str), [str(name) for name in names])
        assert entry["rows"] == rows.sum()
        assert entry["leads"] == len(np.unique(lead[rows]))
        assert entry["converting_leads"] == len(np.unique(lead[rows & (y > 0)]))
        told = entry["log_loss"]["value"]
        assert told == pytest.approx(log_loss(y[rows], p[rows]) - log_loss(y[rows], other[rows]))
        assert (entry["log_loss"]["low"] is None) == (entry["converting_leads"] < 10)


def test_simultaneous_intervals_hold_together_as_often_as_they_say():
    """Twenty means of 200 values each, 150 times: all twenty intervals hold in about 95 % of the times."""
    rng, held = np.random.default_rng(3), 0
    for _ in range(150):
        sample = rng.normal(size=(200, 20))
        draws = np.stack([sample[rng.integers(0, 200, 200)].mean(axis=0) for _ in range(200)])
        ends = simultaneous_intervals(sample.mean(axis=0), draws, 0.95)
        held += all(low <= 0 <= high for low, high in ends)
    assert 0.90 <= held / 150 <= 0.99


def test_equal_models_are_rarely_told_apart():
    """Two equally good models on eight segments: each twentieth comparison may tell them apart, and no more."""
    worse = 0
    for seed in range(40):
        y, p, lead, rng = leads_of(100 + seed, leads=400)
        one, two = blurred(p, rng, 0.5), blurred(p, rng, 0.5)
        found = compare_models(y, one, two, lead, CONFIG, segments={"channel": (lead % 8).astype(str)})
        checks = {check.name: check for check in judge(found, PromotionConfig()).checks}
        worse += checks["segments"].holds is False
    assert worse <= 6


@pytest.mark.parametrize(
    ("rule", "better", "equal", "worse"),
    [("better", True, False, False), ("not_worse", True, True, False), ("any", None, None, None)],
)
def test_what_the_rule_asks_for(rule, better, equal, worse):
    y, p, lead, rng = leads_of(4)
    bad, channel = blurred(p, rng, 1.5), (lead % 2).astype(str)
    config = PromotionConfig(log_loss=rule, captured=rule, segments=rule, calibration_ratio=(0.1, 10))
    for one, two, expected in ((p, bad, better), (p, p, equal), (bad, p, worse)):
        figures = compare_models(y, one, two, lead, CONFIG, segments={"channel": channel})
        verdict = judge(figures, config)
        holds = {check.name: check.holds for check in verdict.checks}
        assert [holds[name] for name in ("log_loss", "captured", "segments")] == [expected] * 3
        assert verdict.holds == (expected is not False)


def test_few_converting_leads_decide_nothing():
    y, p, lead, rng = leads_of(5)
    figures = compare_models(y, p, blurred(p, rng, 1.5), lead, CONFIG)
    converting = figures["counts"]["converting_leads"]
    assert judge(figures, PromotionConfig(min_converting_leads=converting)).holds
    verdict = judge(figures, PromotionConfig(min_converting_leads=converting + 1))
    assert not verdict.holds
    assert (
        f"{converting:,} of the leads converted; the rule asks for {converting + 1:,}"
        in verdict.checks[0].sentence
    )


def test_a_challenger_that_promises_too_much_is_not_promoted():
    y, p, lead, _ = leads_of(6)
    figures = compare_models(y, np.minimum(1.6 * p, 0.99), np.minimum(1.7 * p, 0.99), lead, CONFIG)
    checks = {check.name: check for check in judge(figures, PromotionConfig()).checks}
    assert checks["log_loss"].holds
    assert checks["calibration_ratio"].holds is False
    assert judge(figures, PromotionConfig(calibration_ratio=(0.8, 2.0))).holds


def alone(gap: tuple[float, float], ratio: tuple[float, float], converting: int = 50):
    def entry(ends):
        return {"value": sum(ends) / 2, "low": ends[0], "high": ends[1]}

    return {
        "converting_leads": converting,
        "model": {"calibration_ratio": entry(ratio)},
        "difference": {"log_loss": entry(gap)},
    }


@pytest.mark.parametrize(
    ("gap", "ratio", "converting", "holds"),
    [
        ((-0.02, -0.01), (0.9, 1.1), 50, True),
        ((-0.02, 0.01), (0.9, 1.1), 50, True),
        ((0.01, 0.02), (0.9, 1.1), 50, False),
        ((-0.02, -0.01), (1.3, 1.6), 50, False),
        ((-0.02, -0.01), (0.9, 1.1), 5, False),
    ],
)
def test_a_first_champion_is_held_to_its_own_test_part(gap, ratio, converting, holds):
    for rule in ("better", "not_worse"):  # beside a scorecard, not worse is enough
        assert judge_alone(alone(gap, ratio, converting), PromotionConfig(log_loss=rule)).holds == holds


def test_without_a_scorecard_calibration_and_numbers_count():
    verdicts = {**alone((0, 0), (0.9, 1.1)), "difference": {}}
    assert [check.name for check in judge_alone(verdicts, PromotionConfig()).checks] == [
        "converting_leads",
        "calibration_ratio",
    ]


def further_pairs(seed: int = 7):
    """The later rows of each lead are known within 90 days, all within 7."""
    y, p, lead, rng = leads_of(seed)
    bad, early = blurred(p, rng, 1.5), np.arange(len(y)) % 3 < 2
    pairs = {
        "7d": HorizonPair(y, p, p, lead),
        "90d": HorizonPair(y[early], bad[early], p[early], lead[early]),
        "1y": HorizonPair(y[:0], p[:0], p[:0], lead[:0]),
    }
    return y, p, lead, pairs


def test_further_horizons_are_compared_where_each_is_known():
    _, _, _, pairs = further_pairs()
    found = compare_horizons(pairs, CONFIG)
    wanted = pairs["90d"]
    gap = log_loss(wanted.label, wanted.p_challenger) - log_loss(wanted.label, wanted.p_champion)
    assert found["90d"]["log_loss"]["value"] == pytest.approx(gap)
    assert 0 < found["90d"]["log_loss"]["low"] < gap < found["90d"]["log_loss"]["high"]
    assert found["90d"]["champion"] == pytest.approx(log_loss(wanted.label, wanted.p_champion))
    assert found["7d"]["log_loss"] == {"value": 0, "low": 0, "high": 0}
    assert (found["7d"]["rows"], found["90d"]["rows"], found["1y"]["rows"]) == (4500, 3000, 0)
    assert found["90d"]["converting_leads"] == len(np.unique(wanted.lead_ids[wanted.label > 0]))
    json.dumps(found, allow_nan=False)


def test_a_challenger_that_is_worse_on_a_further_horizon_is_not_promoted():
    y, p, lead, pairs = further_pairs()
    figures = compare_models(y, p, p, lead, CONFIG)
    assert judge(figures, PromotionConfig()).holds
    figures["further"] = compare_horizons(pairs, CONFIG)
    verdict = judge(figures, PromotionConfig())
    (check,) = [check for check in verdict.checks if check.holds is False]
    assert check.name == "further_horizons"
    assert "log loss within 90d +" in check.sentence
    assert check.sentence.endswith("Not judged, as too few leads converted: 1y (0).")
    assert judge(figures, PromotionConfig(further_horizons="any")).holds
    del figures["further"]["90d"], figures["further"]["7d"]
    assert judge(figures, PromotionConfig()).holds


@pytest.fixture(scope="module")
def served():
    """A history and a bundle of three horizons with a value model."""
    history = served_history()[1]
    return history, served_bundle(history)


def test_a_challenger_that_takes_columns_from_readers_is_not_promoted(served):
    whole = served[1]
    less = Bundle(
        whole.name, whole.model, whole.feature_set, whole.horizon, whole.scorecard, profile=whole.profile
    )
    assert lost_columns(whole, less) == lost_columns(whole, whole) == []
    lost = lost_columns(less, whole)
    values = ["expected_value", "value"]
    assert set(lost) == {
        *("p_convert_7d", "p_convert_90d", "median_days_to_conversion"),
        *(name + end for name in values for end in ("", "_low", "_high")),
    }
    y, p, lead, rng = leads_of(4)
    figures = {**compare_models(y, p, blurred(p, rng, 1.5), lead, CONFIG), "lost_columns": lost}
    verdict = judge(figures, PromotionConfig())
    assert [check.sentence for check in verdict.checks if check.holds is False] == [
        f"readers would lose 9 columns that the champion gives them: {', '.join(lost)}."
    ]
    kept = judge({**figures, "lost_columns": []}, PromotionConfig())
    assert kept.holds
    assert "value" not in {check.name for check in kept.checks}


def test_the_text_says_how_small_a_difference_could_not_have_been_told():
    reaches = []
    for leads in (100, 1500):
        y, p, lead, rng = leads_of(8, leads=leads)
        figures = compare_models(y, p, blurred(p, rng, 0.5), lead, CONFIG)
        gap, own = figures["difference"]["log_loss"], figures["champion"]["log_loss"]["value"]
        reaches.append((gap["high"] - gap["low"]) / 2)
        told = f"below {reaches[-1]:.4f} in log loss ({100 * reaches[-1] / own:.0f} % of the champion's), "
        assert told in told_apart(figures)
        assert "in captured_top_5pct" in told_apart(figures)
    assert reaches[0] > 2 * reaches[1]
    nothing = {"value": None, "low": None, "high": None}
    assert "any difference" in told_apart({**figures, "difference": {"log_loss": nothing}})


def test_pairs_are_scored_where_any_horizon_that_both_predict_is_known(served):
    """The first horizon keeps the rows that it has alone, and a further one has the rows of its own labels."""
    history, whole = served
    less = Bundle(whole.name, whole.model, whole.feature_set, whole.horizon, whole.scorecard)
    config = pairs_config()
    both = score_pair(history, whole, whole, config, day(0))
    alone = score_pair(history, less, whole, config, day(0))
    assert alone.further == {}
    for name in ("label", "p_challenger", "p_champion"):
        np.testing.assert_array_equal(getattr(both, name), getattr(alone, name))
    assert both.lead_ids.equals(alone.lead_ids)
    assert both.cutoff.equals(alone.cutoff)
    assert {title: len(column) for title, column in both.segments.items()} == dict.fromkeys(
        alone.segments, len(alone.label)
    )
    rows = {name: len(pair.label) for name, pair in both.further.items()}
    assert rows["7d"] > len(both.label) > rows["90d"]
    for pair in both.further.values():
        np.testing.assert_array_equal(pair.p_challenger, pair.p_champion)
        assert len(pair.lead_ids) == len(pair.label)
    assert (np.mean(both.further["7d"].label)) < np.mean(both.label)


def value_pair(seed: int, *, leads: int = 800, rate: float = 0.25):
    """Two rows a lead, some weeks apart; what a conversion brings is exponential around the lead's own mean."""
    rng = np.random.default_rng(seed)
    lead = np.repeat(np.arange(leads), 2)
    mean = np.exp(rng.normal(4, 0.8, leads))[lead]
    label = (rng.random(leads) < rate)[lead].astype(float)
    revenue = label * (mean[::2] * rng.exponential(1, leads))[lead]
    week = np.tile([0, 1], leads) * 7 + 14 * rng.integers(0, 8, leads)[lead]
    cutoff = np.datetime64("2024-01-01") + week * np.timedelta64(1, "D")
    return ValuePair(label, revenue, rate * mean, rate * mean, lead, cutoff), rng


@pytest.fixture(scope="module")
def equal_figures():
    y, p, lead, _ = leads_of(9)
    return compare_models(y, p, p, lead, CONFIG)


def value_check(figures, found, config=None):
    verdict = judge({**figures, "value": {"value_horizon": "90d", **found}}, config or PromotionConfig())
    (check,) = [check for check in verdict.checks if check.name == "value"]
    return verdict, check


def test_values_are_compared_by_the_metrics_of_values():
    pair, rng = value_pair(0)
    other = replace(pair, champion=rng.permutation(pair.champion) * 1.5)
    found = compare_values(other, CONFIG)
    for side, predicted in (("challenger", other.challenger), ("champion", other.champion)):
        assert found[side]["total_ratio"]["value"] == pytest.approx(total_ratio(other.revenue, predicted))
        assert found[side]["normalised_gini"]["value"] == pytest.approx(
            normalised_gini(other.revenue, predicted)
        )
    again = np.repeat(np.arange(len(other.lead_ids)), 1 + other.lead_ids % 3)
    twice = compare_values(ValuePair(*(getattr(other, f.name)[again] for f in fields(other))), CONFIG)
    assert twice["champion"]["normalised_gini"]["value"] == pytest.approx(
        normalised_gini(other.revenue, other.champion, weight=1.0 + other.lead_ids % 3)
    )
    one, two = (np.log(found[side]["total_ratio"]["value"]) for side in ("challenger", "champion"))
    assert found["difference"]["total_error"]["value"] == pytest.approx(abs(one) - abs(two))
    assert found["counts"]["revenue"] == pytest.approx(other.revenue.sum())
    assert found["counts"]["converting_leads"] == len(np.unique(other.lead_ids[other.revenue > 0]))
    json.dumps(found, allow_nan=False)
    back = compare_values(replace(other, challenger=other.champion, champion=other.challenger), CONFIG)
    for name, entry in found["difference"].items():
        assert back["difference"][name]["value"] == pytest.approx(-entry["value"])


@pytest.mark.parametrize(
    ("worse", "named"),
    [
        (lambda p, rng: 3 * p, "total_error"),
        (lambda p, rng: rng.permutation(p), "normalised_gini"),
        (lambda p, rng: p.mean() ** 2 / p, "called_revenue"),
    ],
)
def test_a_challenger_whose_values_are_worse_is_not_promoted(worse, named, equal_figures):
    pair, rng = value_pair(1, leads=3000)
    config = CONFIG.model_copy(update={"calls_per_week": 80})
    found = compare_values(replace(pair, challenger=worse(pair.challenger, rng)), config)
    verdict, check = value_check(equal_figures, found)
    assert check.holds is False
    assert not verdict.holds
    assert f"{named} " in check.sentence.split("against the champion")[1]
    assert value_check(equal_figures, found, PromotionConfig(value="any"))[0].holds
    back = compare_values(replace(pair, champion=worse(pair.champion, rng)), config)
    for rule in ("not_worse", "better"):
        assert value_check(equal_figures, back, PromotionConfig(value=rule))[1].holds is True


def test_equal_values_are_not_worse_and_not_better(equal_figures):
    pair, _ = value_pair(2)
    found = compare_values(pair, CONFIG)
    assert value_check(equal_figures, found)[1].holds is True
    assert value_check(equal_figures, found, PromotionConfig(value="better"))[1].holds is False


def test_equally_good_values_are_rarely_told_apart(equal_figures):
    """Two equally noisy predictions: each twentieth comparison may tell them apart on one of the three, and no more."""
    worse, config = 0, CONFIG.model_copy(update={"resamples": 120})
    for seed in range(25):
        pair, rng = value_pair(200 + seed, leads=300)
        one, two = (pair.challenger * np.exp(rng.normal(0, 0.4, len(pair.label))) for _ in range(2))
        found = compare_values(replace(pair, challenger=one, champion=two), config)
        worse += value_check(equal_figures, found)[1].holds is False
    assert worse <= 3


@pytest.mark.parametrize(("rows", "told"), [(0, "no observation"), (40, "too little revenue")])
def test_without_revenue_to_judge_by_the_values_have_no_say_and_say_so(rows, told, equal_figures):
    pair, _ = value_pair(3)
    few = ValuePair(
        *(
            getattr(pair, name)[:rows]
            for name in ("label", "revenue", "challenger", "champion", "lead_ids", "cutoff")
        )
    )
    few = replace(few, revenue=np.where(np.arange(rows) < 8, few.revenue, 0))
    for rule in ("not_worse", "better"):
        verdict, check = value_check(equal_figures, compare_values(few, CONFIG), PromotionConfig(value=rule))
        assert (verdict.holds, check.holds) == (True, None)
        assert told in check.sentence
    verdict, check = value_check(equal_figures, {"not_compared": "the spans differ"})
    assert (verdict.holds, check.holds) == (True, None)
    assert "not compared: the spans differ" in check.sentence


@pytest.mark.parametrize("total", [0.0, -1.0])
def test_a_challenger_that_predicts_nothing_in_all_is_worse(total, equal_figures):
    """|ln| of its total is infinite; its order is the champion's, so that only the total tells."""
    pair, _ = value_pair(4)
    shifted = pair.challenger - pair.challenger.mean() + total
    found = compare_values(replace(pair, challenger=shifted), CONFIG)
    json.dumps(found, allow_nan=False)
    entry = found["difference"]["total_error"]
    assert 0 < entry["low"] <= entry["value"] <= entry["high"]
    verdict, check = value_check(equal_figures, found)
    assert (verdict.holds, check.holds) == (False, False)
    assert "total_error +1" in check.sentence
    nothing = compare_values(replace(pair, challenger=0 * pair.challenger), CONFIG)
    assert nothing["difference"]["total_error"]["low"] > 0
    back = compare_values(replace(pair, champion=shifted), CONFIG)
    assert value_check(equal_figures, back, PromotionConfig(value="better"))[1].holds is True


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["challenger", "champion"])
def test_values_that_are_no_numbers_do_not_hold_and_are_counted(side, number, equal_figures):
    pair, _ = value_pair(5)
    values = np.where(np.arange(len(pair.label)) < 3, number, getattr(pair, side))
    found = compare_values(replace(pair, **{side: values}), CONFIG)
    json.dumps(found, allow_nan=False)
    verdict, check = value_check(equal_figures, found)
    assert (verdict.holds, check.holds) == (False, False)
    assert f"3 of the {side}'s expected values are no finite numbers" in check.sentence
    assert value_check(equal_figures, found, PromotionConfig(value="any"))[0].holds


def test_a_figure_that_is_not_defined_does_not_hold(equal_figures):
    """All rows brought the same, so that no order of them can be judged."""
    pair, _ = value_pair(6, rate=1.0)
    found = compare_values(replace(pair, revenue=np.full(len(pair.label), 50.0)), CONFIG)
    assert found["difference"]["normalised_gini"] == {"value": None, "low": None, "high": None}
    verdict, check = value_check(equal_figures, found)
    assert (verdict.holds, check.holds) == (False, False)
    assert "cannot be judged: " in check.sentence


def pairs_config(outcome: str = "conversion") -> Config:
    names = ("leads", "interactions", "conversions", "revenue")
    tables = {name: {"source": "leads"} for name in names}
    return Config.model_validate(
        {
            "name": "pairs",
            "sources": {"leads": {"file": "leads.parquet"}},
            "history": {**tables, "known_until": "2024-06-01"},
            "observations": {"cutoffs": {"every": "2d"}},
            "labels": {"outcome": outcome},
        }
    )


@pytest.mark.parametrize("outcome", ["conversion", "purchase"])
def test_values_are_paired_where_horizon_and_value_window_have_ended(served, outcome):
    """Each lead's revenue comes 3 and 11 days after its conversion; only the first is within ten days."""
    _, whole = served
    rows, converted = served_rows(), {}
    for lead_id, converted_at, _ in rows.conversions:
        if converted_at is not None:
            converted.setdefault(lead_id, converted_at)
    amounts = {lead_id: 100.0 * number for number, lead_id in enumerate(converted, 1)}
    history = make_history(
        rows.leads,
        rows.interactions,
        rows.conversions,
        revenue=[
            (lead_id, at + timedelta(days=days), factor * amounts[lead_id])
            for lead_id, at in converted.items()
            for days, factor in ((3, 1), (11, 7))
        ],
        attribute_changes=rows.attribute_changes,
        known_until=day(90),
        lead_attributes=LEAD_ATTRIBUTES,
        interaction_attributes=INTERACTION_ATTRIBUTES,
    )
    bundle = replace(whole, outcome=outcome)
    config = pairs_config(outcome)
    assert score_pair(history, bundle, bundle, config, day(0)).value is None
    pair = score_pair(history, bundle, bundle, config, day(0), value_horizon=Duration("10d")).value
    wait = 40 if outcome == "conversion" else 30
    assert len(pair.label) > 100
    assert max(pair.cutoff.to_pylist()) == day(90 - wait)
    expected = []
    for lead_id, cutoff in zip(pair.lead_ids.to_pylist(), pair.cutoff.to_pylist(), strict=True):
        at = converted.get(lead_id, day(-1000))
        if outcome == "conversion":
            expected.append(amounts[lead_id] if cutoff <= at < cutoff + timedelta(days=30) else 0.0)
            continue
        bought = ((at + timedelta(days=days), factor) for days, factor in ((3, 1), (11, 7)))
        inside = [factor for when, factor in bought if cutoff <= when < cutoff + timedelta(days=10)]
        expected.append(sum(inside) * amounts.get(lead_id, 0.0))
    assert pair.revenue.tolist() == pytest.approx(expected)
    assert pair.revenue.sum() > 0
    np.testing.assert_array_equal(pair.challenger, pair.champion)
    keys = list(zip(pair.lead_ids.to_pylist(), pair.cutoff.to_pylist(), strict=True))
    wanted = [lead_id for lead_id, cutoff in keys if cutoff == day(20)]
    frame = build_features(
        history, open_observations(history, day(20), outcome=outcome).table, bundle.feature_set
    )
    frame = frame.to_pandas().set_index("lead_id", drop=False).loc[wanted]
    told = bundle.expected_value(bundle.predict(frame), bundle.predict_value(frame)[0])
    at = [number for number, (_, cutoff) in enumerate(keys) if cutoff == day(20)]
    np.testing.assert_array_equal(pair.challenger[at], told)
    nothing = score_pair(history, bundle, bundle, config, day(0), value_horizon=Duration("120d")).value
    assert len(nothing.label) == 0
    assert compare_values(nothing)["judged"] is False


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "cut before", "cut after", "by hand", "back"]), st.integers(1, 4)),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_records_tell_who_was_champion_whatever_was_cut_off(steps):
    """Every change is recorded as begun, then the alias moves, then it is done; a crash may come between any two."""
    stored: list[Change] = []
    alias: str | None = None
    truth: list[str] = []
    cut = False

    def settle(at: datetime) -> list[Change]:
        real = happened(stored, alias, at)
        keys = {change.key for change in real}
        void = [Change(**{**c.__dict__, "state": "void"}) for c in stored if c.key not in keys]
        stored[:] = sorted([*real, *void], key=lambda change: (change.at, change.number))
        return real

    for number, (what, wanted) in enumerate(steps, 1):
        at = AT + timedelta(hours=number)
        if what == "by hand":
            if not cut:  # right after a crash, nothing could tell one from the other
                alias = str(wanted)
            continue
        real = settle(at - timedelta(minutes=1))
        if alias is not None and (not truth or truth[-1] != alias):
            truth.append(alias)
        stack = former_champions(real)
        version = str(wanted)
        if what == "back":
            if len(stack) < 2:
                continue
            version = stack[-2]
        by = "rollback" if what == "back" else "rule"
        begun = Change(1000 + number, at, alias, version, by, key=str(number))
        stored.append(begun)
        cut = what.startswith("cut")
        if what == "cut before":
            continue
        alias = version
        if truth[-1:] != [version]:
            truth.append(version)
        if what != "cut after":
            stored[-1] = Change(**{**begun.__dict__, "state": "done"})
    real = settle(AT + timedelta(days=9))
    if alias is not None and truth[-1:] != [alias]:
        truth.append(alias)
    told = [change.version for change in real]
    assert [v for i, v in enumerate(told) if not i or told[i - 1] != v] == truth
    assert (former_champions(real) or [None])[-1] == alias
    assert all(one.at < two.at for one, two in pairwise(real))
