"""Rows whose horizon has not ended: the arithmetic by hand, and no bias where leads are drawn from a known truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from convpredict.models.completion import (
    DevelopmentCurve,
    EndedRows,
    OpenRows,
    complete_rows,
    refit_completed,
)
from convpredict.models.conversion import ConversionModel

HORIZON_US = 30_000


def draw(rng, n_rows, *, shift=0.0):
    """Rows with a feature, a true probability and a time to the outcome: likely ones convert early."""
    x = rng.normal(size=n_rows)
    p = expit(x - 2.5 + shift)
    rate = np.where(x > 0, 3.0, 1.0)
    share = rng.uniform(size=n_rows)
    delay = HORIZON_US * -np.log1p(-share * -np.expm1(-rate)) / rate
    return x, p, rng.uniform(size=n_rows) < p, delay.astype(np.int64)


class TestCurve:
    def test_strata_have_their_own_course(self):
        z = np.repeat([-1.0, 1.0], 200)
        delay = np.concatenate([np.arange(200) + 800, np.arange(200)])
        curve = DevelopmentCurve.learn(z, delay)
        assert curve.share([-1.0, 1.0], [500, 500]) == pytest.approx([0.5 / 201, 200.5 / 201])

    def test_without_a_conversion_there_is_no_course(self):
        with pytest.raises(ValueError, match="no positive row"):
            DevelopmentCurve.learn([], [])

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10**6), n_rows=st.integers(1, 400))
    def test_it_never_falls_and_stays_inside(self, seed, n_rows):
        rng = np.random.default_rng(seed)
        curve = DevelopmentCurve.learn(rng.normal(size=n_rows), rng.integers(0, 1000, n_rows))
        times = np.sort(rng.integers(-10, 1100, 50))
        for z in rng.normal(size=3):
            share = curve.share(np.full(50, z), times)
            assert (np.diff(share) >= 0).all()
            assert ((share > 0) & (share < 1)).all()


class TestCompletion:
    def test_by_bayes_rule(self):
        """p = 1/2 and G = 1/2: of those not yet converted, a half of a half against a half: 1/3."""
        curve = DevelopmentCurve.learn(np.zeros(99), np.arange(99))
        assert complete_rows([0.0, 0.0], [True, False], [50, 50], curve) == pytest.approx(
            [1.0, 1 / 3], abs=0.02
        )

    def test_nothing_is_biased_where_the_level_is_right(self):
        rng = np.random.default_rng(3)
        x, _, hit, delay = draw(rng, 40_000)
        curve = DevelopmentCurve.learn(x[hit] - 2.5, delay[hit])
        x, p, hit, delay = draw(rng, 40_000, shift=-0.7)
        elapsed = rng.integers(1, HORIZON_US, len(x))
        known = hit & (delay < elapsed)
        done = complete_rows(x - 3.2, known, elapsed, curve)
        assert done.sum() == pytest.approx(p.sum(), rel=0.07)
        assert done[~known].sum() == pytest.approx(hit[~known].sum(), rel=0.12)


def planted(shift: float):
    """A model of rows of six horizons, and rows of three more: of the last of these nothing had ended, and from the
    first on the level may be another. Returns the completed model, the new rows and their true probabilities.
    """
    rng = np.random.default_rng(5)
    x, _, hit, delay = draw(rng, 12_000)
    new_x, new_p, new_hit, new_delay = draw(rng, 8_000, shift=shift)
    cutoff = rng.integers(0, 6 * HORIZON_US, len(x))
    new_cutoff = rng.integers(6 * HORIZON_US, 9 * HORIZON_US, len(new_x))
    until = 9 * HORIZON_US
    ended = new_cutoff <= until - HORIZON_US
    frame = pd.DataFrame({"x": np.r_[x, new_x[ended]]})
    label = np.r_[hit, new_hit[ended]].astype(np.int8)
    old = slice(0, 9000)
    model = ConversionModel(n_estimators=30, num_leaves=5, logistic_weight=0.5, seeds=1)
    model.fit(frame[old], label[old], calibration=(frame[9000:12000], label[9000:12000], None))
    elapsed = until - new_cutoff[~ended]
    known = new_hit[~ended] & (new_delay[~ended] < elapsed)
    new = pd.DataFrame({"x": new_x})
    refit_completed(
        model,
        EndedRows(
            frame,
            np.arange(len(frame)),
            np.r_[cutoff, new_cutoff[ended]],
            label,
            np.where(label == 1, np.r_[delay, new_delay[ended]], -1),
        ),
        OpenRows(
            new[~ended],
            np.arange(len(elapsed)) + len(frame),
            new_cutoff[~ended],
            np.where(known, new_delay[~ended], -1),
            elapsed,
        ),
        horizon_us=HORIZON_US,
    )
    return model, new, new_p


@pytest.mark.parametrize("shift", [0.0, -0.8, 0.6])
def test_a_model_on_completed_rows_follows_a_lasting_shift_and_stays_without_one(shift):
    model, new, true_p = planted(shift)
    ratio = model.predict_proba(new)[:, 1].sum() / true_p.sum()
    assert 0.9 < ratio < 1.11  # .55 to 2.2 at the level of before


def test_the_level_never_changes_a_ranking():
    model, new, _ = planted(-0.8)
    order = np.argsort(model.raw_logit(new), kind="stable")
    assert (np.diff(model.decision_function(new)[order]) >= 0).all()
