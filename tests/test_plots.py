"""Tables behind the figures against hand-made values, and figures that need neither display nor state."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from convpredict.evaluation import metrics, plots, segments


def make_observations(rows, base, seed=0):
    rng = np.random.default_rng(seed)
    logit = np.repeat(rng.normal(base, 1.2, rows // 4), 4)
    p = 1 / (1 + np.exp(-logit))
    label = (rng.random(rows) < p).astype(int)
    cutoff = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 300, rows), unit="D")
    return label, p, cutoff, np.repeat(np.arange(rows // 4), 4)


def png_of(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def test_segments_by_hand():
    # "a" holds rows 0, 1, 4: predicted (.1 + .2 + .6) / 3 = .3, one conversion in three. Row 5 is nowhere.
    table = segments.calibration_by_segment(
        [0, 1, 0, 0, 0, 1],
        [0.1, 0.2, 0.5, 0.5, 0.6, 0.9],
        ["a", "a", "b", "b", "a", None],
        [1, 1, 2, 2, 3, 4],
    )
    assert table["segment"].tolist() == ["a", "b"]
    assert table["rows"].tolist() == [3, 2]
    assert table["leads"].tolist() == [2, 1]
    assert table["positives"].tolist() == [1, 0]
    assert table["predicted"].tolist() == pytest.approx([0.3, 0.5])
    assert table["observed"].tolist() == pytest.approx([1 / 3, 0])
    assert table["ratio"].tolist() == pytest.approx([0.9, np.inf])
    assert table["observed_low"][1] == 0
    assert (table["ratio_low"] < table["ratio"]).all()


def test_interval_of_a_segment_is_wilsons_for_independent_rows():
    # Wilson (1927) for 10 of 100 at 95 %: .0552 to .1744.
    label = np.repeat([1, 0], [10, 90])
    table = segments.calibration_by_segment(label, np.full(100, 0.1), np.zeros(100), np.arange(100))
    assert table[["observed_low", "observed_high"]].values[0] == pytest.approx([0.0552, 0.1744], abs=1e-4)


def test_interval_of_a_segment_counts_leads_not_their_repetitions():
    label, p, _, _ = make_observations(400, -1.0)
    one = segments.calibration_by_segment(label, p, np.zeros(400), np.arange(400))
    repeated = segments.calibration_by_segment(
        np.tile(label, 9), np.tile(p, 9), np.zeros(3600), np.tile(np.arange(400), 9)
    )
    for column in ("observed_low", "observed_high", "ratio_low"):
        assert repeated[column][0] == pytest.approx(one[column][0], rel=1e-9)


def test_interval_of_a_segment_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        rate = rng.beta(1, 9, 80)
        label = (rng.random((80, 5)) < rate[:, None]).astype(int).ravel()
        table = segments.calibration_by_segment(
            label, np.full(400, 0.1), np.zeros(400), np.repeat(np.arange(80), 5), confidence=0.9
        )
        held += table["observed_low"][0] <= 0.1 <= table["observed_high"][0]
    assert 0.84 <= held / 120 <= 0.97


def test_gain_is_the_captured_share():
    label, p, _, _ = make_observations(400, -1.0)
    table = segments.gain_by_share(label, np.round(p, 1))
    for row in table.iloc[::40].itertuples():
        assert row.captured == pytest.approx(metrics.captured_in_top(label, np.round(p, 1), row.share))
    assert table["captured"].iloc[-1] == 1
    assert table["lift"].iloc[-1] == 1


@pytest.mark.parametrize(("rows", "base"), [(6000, -5.5), (1200, -0.5)], ids=["rare", "common"])
def test_every_figure_has_labels_and_is_the_same_twice(rows, base):
    label, p, cutoff, leads = make_observations(rows, base)

    def make():
        return plots.draw_evaluation(label, p, np.round(p, 1), leads, cutoff=cutoff)

    first, second = make(), make()
    assert list(first) == ["calibration", "gain", "scores", "calibration_by_month"]
    for name, figure in first.items():
        image = png_of(figure)
        assert image[:4] == b"\x89PNG"
        assert image == png_of(second[name]), name
        labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
        assert all(y for _, y in labels), name
        assert labels[-1][0], name


def test_model_and_scorecard_differ_in_more_than_colour():
    label, p, _, _ = make_observations(400, -1.0)
    table = segments.gain_by_share(label, p)
    lines = plots.draw_gain({"model": table, "scorecard": table}).axes[0].get_lines()
    styles = {line.get_label(): line.get_linestyle() for line in lines}
    assert len(set(styles.values())) == len(styles) == 3


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_and_few_rows_can_be_drawn(value):
    label, p = np.full(6, value), np.array([0.0, 0.0, 0.2, 0.5, 1.0, 1.0])
    cutoff = pd.Series(pd.Timestamp("2024-01-01", tz="UTC")).repeat(6)
    png_of(plots.draw_calibration(segments.calibration_by_score(label, p, range(6)), p))
    png_of(plots.draw_gain({"model": segments.gain_by_share(label, p)}))
    png_of(plots.draw_scores(label, p))
    png_of(plots.draw_calibration_by_month(segments.calibration_by_month(label, p, cutoff, range(6))))
    constant = np.full(6, 0.01)
    png_of(plots.draw_calibration(segments.calibration_by_score(label, constant, range(6)), constant))


def test_drawing_needs_no_pyplot():
    code = "import convpredict.evaluation.plots, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
