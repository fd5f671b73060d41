"""Lists at every capacity agree with the one capacity that is spoken of, and with a count by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from convpredict.evaluation.calls import QUARTER_DAYS, replay_calls
from convpredict.evaluation.capacity import capacity_curve
from convpredict.evaluation.segment_quality import MISSING, OTHERS, gain_with_interval, quality_by_segment
from report_inputs import predictions

START = pd.Timestamp("2024-01-01", tz="UTC")


@pytest.mark.parametrize("tied", [False, True])
def test_agrees_with_the_replay_of_one_capacity(tied):
    frame = predictions(150, tied=tied)
    arguments = (frame["label"], frame["p"], frame["scorecard_points"])
    options = {"resamples": 60, "seed": 4}
    curve = capacity_curve(*arguments, None, frame["cutoff"], frame["lead_id"], also_per_week=[13], **options)
    one = replay_calls(*arguments, frame["lead_id"], frame["cutoff"], calls_per_week=13, **options)
    at = curve.table.iloc[curve.nearest(13)]
    assert at["per_week"] == 13
    for who, column in (
        ("model", "model_conversions"),
        ("scorecard", "scorecard_conversions"),
        ("difference", "gain"),
    ):
        for end in ("value", "low", "high"):
            name = column if end == "value" else f"{column}_{end}"
            assert at[name] == pytest.approx(one["conversions"][who][end])


def test_a_lead_that_is_listed_again_counts_once():
    # Two weeks, one place each. "a" is on both lists and converts: one conversion. The second list adds 7 of its 30
    # days, so that at a constant hazard .3 + (.4 - (1 - .6 ** (23 / 30))) are expected.
    week = pd.Timedelta(days=7)
    curve = capacity_curve(
        [1, 0, 1, 0],
        [0.3, 0.1, 0.4, 0.1],
        None,
        [30.0, 1.0, 40.0, 1.0],
        [START, START, START + week, START + week],
        ["a", "b", "a", "b"],
        revenue=[500.0, np.nan, 500.0, np.nan],
        resamples=50,
    )
    first = curve.table.iloc[0] * 14 / QUARTER_DAYS
    assert first["calls"] == pytest.approx(2)
    assert first["model_conversions"] == pytest.approx(1)
    assert first["model_revenue"] == pytest.approx(500)
    assert first["model_expected"] == pytest.approx(0.3 + 0.6 ** (23 / 30) - 0.6)
    assert first["model_expected_revenue"] == pytest.approx(100 * (0.3 + 0.6 ** (23 / 30) - 0.6))
    assert curve.lists == 2
    assert curve.open_leads == 2


def test_more_calls_find_no_less():
    frame = predictions(150, tied=True)
    table = capacity_curve(
        frame["label"],
        frame["p"],
        frame["scorecard_points"],
        None,
        frame["cutoff"],
        frame["lead_id"],
        resamples=50,
    ).table
    assert table["per_week"].is_monotonic_increasing
    for name in ("model_conversions", "scorecard_conversions", "model_expected"):
        assert (table[name].diff().dropna() > -1e-9).all()
    assert (table["model_conversions_low"] <= table["model_conversions"]).all()
    assert (table["model_conversions"] <= table["model_conversions_high"]).all()


def test_what_is_expected_comes_true_where_the_probabilities_are_true():
    # A constant hazard per day: P(30 days) = .3 whatever happened before, so expectations may be added up.
    rng = np.random.default_rng(5)
    hazard = -np.log(1 - 0.3) / 30
    converts = rng.exponential(1 / hazard, 20_000)
    rows = [(lead, 7 * k) for lead in range(20_000) for k in range(6) if converts[lead] >= 7 * k]
    lead, day = np.array(rows).T
    label = (converts[lead] < day + 30).astype(int)
    curve = capacity_curve(
        label, np.full(len(label), 0.3), None, None, START + pd.to_timedelta(day, unit="D"), lead,
        also_per_week=[1e9], resamples=50,
    )  # fmt: skip
    everybody = curve.table.iloc[-1]
    assert everybody["model_expected"] / everybody["model_conversions"] == pytest.approx(1, abs=0.05)


def test_segments_by_hand():
    rng = np.random.default_rng(0)
    label = np.array([1, 0] * 20 + [0] * 30 + [1, 0, 0])
    p = np.where(label > 0, 0.9, 0.1)
    segment = ["a"] * 40 + [None] * 30 + ["x", "y", "z"]
    table = quality_by_segment(label, p, segment, np.arange(73), resamples=50).set_index("segment")
    assert table.index.tolist() == ["a", MISSING, OTHERS]
    assert table.loc["a", ["rows", "positives", "converting_leads", "auc"]].tolist() == [40, 20, 20, 1.0]
    assert np.isnan(table.loc[MISSING, "auc"])
    assert np.isnan(table.loc[OTHERS, "auc"])
    assert table.loc[OTHERS, "rows"] == 3
    shuffled = rng.permutation(73)
    again = quality_by_segment(
        label[shuffled], p[shuffled], np.array(segment)[shuffled], shuffled, resamples=50
    )
    assert again["rows"].tolist() == table["rows"].tolist()


def test_gain_holds_its_value_within_the_band():
    frame = predictions(150)
    table = gain_with_interval(frame["label"], {"model": frame["p"]}, frame["lead_id"], resamples=80)["model"]
    assert {0.01, 0.05, 0.1, 0.2, 0.5, 1.0} <= set(table["share"])
    assert table["captured"].iloc[-1] == 1
    assert (table["captured_low"] <= table["captured"]).mean() > 0.95
    assert (table["captured"] <= table["captured_high"]).mean() > 0.95
