"""Rows whose horizon has not ended: the arithmetic by hand, and no bias where leads are drawn from a known truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from convpredict.models.completion import (
    DevelopmentCurve,
    EndedRows,
    OpenRows,
    complete_rows,
    estimate_level,
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
        done = complete_rows([0.0, 0.0], [True, False], [50, 50], curve)
        assert done.probability == pytest.approx([1.0, 1 / 3], abs=0.02)

    @pytest.mark.parametrize("shift", [0.0, -0.7, 0.5])
    def test_a_change_of_level_is_followed_and_nothing_is_biased(self, shift):
        rng = np.random.default_rng(3)
        x, _, hit, delay = draw(rng, 40_000)
        curve = DevelopmentCurve.learn(x[hit] - 2.5, delay[hit])
        x, p, hit, delay = draw(rng, 40_000, shift=shift)
        elapsed = rng.integers(1, HORIZON_US, len(x))
        done = complete_rows(x - 2.5, hit & (delay < elapsed), elapsed, curve)
        assert done.level_shift == pytest.approx(shift, abs=0.08)
        assert done.expected == pytest.approx(p.sum(), rel=0.07)
        assert done.probability.sum() == pytest.approx(p.sum(), rel=0.07)
        later = ~(hit & (delay < elapsed))
        assert done.probability[later].sum() == pytest.approx(hit[later].sum(), rel=0.12)

    def test_few_conversions_hardly_move_the_level(self):
        curve = DevelopmentCurve.learn(np.zeros(99), np.arange(99))
        z = np.full(60, logit(0.05))
        done = complete_rows(z, np.arange(60) < 3, np.full(60, 50), curve)
        assert 0 < done.level_shift < 0.15  # 1.5 expected, 3 came: by itself that would be ln 2 or more

    def test_rows_of_one_lead_count_as_dependent(self):
        z, hit = np.full(400, logit(0.1)), np.arange(400) < 80
        alone = estimate_level(z, hit)
        together = estimate_level(z, hit, groups=np.arange(400) // 10)
        assert 0 < together < alone < np.log(2.25)

    def test_the_level_is_kept_where_nothing_is_known(self):
        curve = DevelopmentCurve.learn(np.zeros(9), np.full(9, 1000))
        done = complete_rows(np.zeros(5), np.zeros(5, bool), np.zeros(5), curve, prior_shift=0.3)
        assert done.level_shift == pytest.approx(0.3, abs=0.05)
        assert complete_rows([], [], [], curve, prior_shift=0.3).level_shift == 0.3


def test_a_model_on_completed_rows_follows_a_shift_that_ended_rows_do_not_show():
    rng = np.random.default_rng(5)
    x, _, hit, delay = draw(rng, 12_000)
    new_x, new_p, new_hit, new_delay = draw(rng, 8_000, shift=-0.8)
    model = ConversionModel(n_estimators=30, num_leaves=5, logistic_weight=0.5, seeds=1)
    frame, new = pd.DataFrame({"x": x}), pd.DataFrame({"x": new_x})
    model.fit(frame[:9000], hit[:9000].astype(int), calibration=(frame[9000:], hit[9000:].astype(int), None))
    elapsed = rng.integers(1, HORIZON_US, len(new_x))
    known = new_hit & (new_delay < elapsed)
    refit_completed(
        model,
        EndedRows(frame, hit.astype(np.int8), delay),
        OpenRows(new, np.arange(len(new_x)), known, elapsed),
        prior_shift=0.0,
    )
    ratio = model.predict_proba(new)[:, 1].sum() / new_p.sum()
    assert 0.88 < ratio < 1.14  # 2.0 without the recent rows, .5 were they negatives
