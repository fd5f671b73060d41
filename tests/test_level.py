"""The level to come: by hand where it can be, and against processes drawn with a level that is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from convpredict.models.completion import DevelopmentCurve
from convpredict.models.level import Periods, _posterior, count_by_period, forecast_level, shift_to

WEEKS = np.arange(-40, 0) / 4 + 0.125


def counts(rng, level, per_period):
    """Periods in which a model expects ``per_period`` conversions and reality has a level of its own."""
    expected = np.full(len(WEEKS), float(per_period))
    return Periods(WEEKS, rng.poisson(expected * level).astype(float), expected)


class TestCounts:
    def test_by_hand(self):
        """Four rows of p = 1/2, two of which were followed for half of the horizon, half of the outcomes by then."""
        curve = DevelopmentCurve.learn(np.zeros(999), np.arange(999))
        periods = count_by_period(
            np.zeros(4), [0, 0, 1500, 1500], [100, -1, -1, 240], until_us=2000, horizon_us=1000, course=curve
        )
        assert periods.middle[-1] == -0.125
        assert periods.conversions.tolist()[-2:] == [1.0, 0.0]
        assert periods.conversions.sum() == 2
        assert periods.expected.sum() == pytest.approx(2 * 0.5 + 2 * 0.25, abs=0.01)
        assert periods.expected[-2:] == pytest.approx([0.25, 0.25], abs=0.01)

    def test_a_conversion_that_many_rows_of_a_lead_hold_counts_once(self):
        curve = DevelopmentCurve.learn(np.zeros(99), np.arange(99))
        cutoff, known = np.tile([0, 10, 20, 30], 50), np.tile([40, 30, 20, 10], 50)
        known[100:] = -1
        lead = np.repeat(np.arange(50), 4)
        rows = (np.zeros(200), cutoff, known, 200, 100, curve)
        alone, together = count_by_period(*rows), count_by_period(*rows, groups=lead)
        assert alone.conversions.sum() == 100
        assert together.conversions.sum() == 25
        assert together.expected == pytest.approx(alone.expected / 4)

    def test_what_becomes_known_at_the_end_or_later_does_not_count(self):
        curve = DevelopmentCurve.learn(np.zeros(9), np.arange(9))
        periods = count_by_period(np.zeros(2), [0, 0], [49, 50], until_us=50, horizon_us=100, course=curve)
        assert periods.conversions.sum() == 1

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10**6), span=st.integers(1, 40))
    def test_expected_conversions_of_ended_rows_add_up_to_their_probabilities(self, seed, span):
        rng = np.random.default_rng(seed)
        z = rng.normal(-2, 1, 50)
        curve = DevelopmentCurve.learn(rng.normal(-2, 1, 999), rng.integers(0, 100, 999))
        cutoff = rng.integers(0, span * 100, 50)
        periods = count_by_period(z, cutoff, np.full(50, -1), (span + 1) * 100, 100, curve)
        assert periods.expected.sum() == pytest.approx(expit(z).sum(), rel=0.02)
        assert (np.diff(periods.middle) > 0).all()
        assert (periods.expected >= 0).all()

    def test_no_rows(self):
        with pytest.raises(ValueError, match="no rows"):
            count_by_period([], [], [], 10, 5, DevelopmentCurve.learn([0.0], [1]))


class TestForecast:
    def test_nothing_is_changed_where_nothing_is_known(self):
        assert forecast_level(Periods(WEEKS, np.zeros(40), np.zeros(40))).factor == 1.0
        assert forecast_level(Periods(WEEKS[-4:], np.zeros(4), np.full(4, 0.01))).factor == pytest.approx(
            1, abs=0.05
        )

    def test_counts_as_expected_change_nothing(self):
        assert forecast_level(Periods(WEEKS, np.full(40, 6.0), np.full(40, 6.0))).factor == pytest.approx(
            1, abs=0.02
        )

    @pytest.mark.parametrize("per_period", [2, 30])
    def test_it_does_not_chase_noise(self, per_period):
        """A level that never changes: the error is far below that of the last horizon's, taken as it is."""
        rng = np.random.default_rng(per_period)
        drawn = [counts(rng, 1.0, per_period) for _ in range(6)]
        chased = [np.log((p.conversions[-4:].sum() + 0.5) / (p.expected[-4:].sum() + 0.5)) for p in drawn]
        shrunk = [np.log(forecast_level(p).factor) for p in drawn]
        assert np.std(shrunk) < np.std(chased) / 2

    @pytest.mark.parametrize("factor", [0.5, 2.0])
    def test_a_lasting_jump_is_followed_once_it_shows(self, factor):
        rng = np.random.default_rng(4)
        found = forecast_level(counts(rng, np.where(WEEKS > -2, factor, 1.0), 25))
        assert found.factor == pytest.approx(factor, rel=0.12)
        assert found.jump_probability > 0.9

    def test_the_more_it_has_wandered_the_more_the_newest_counts(self):
        steady = Periods(WEEKS, np.full(40, 30.0), np.full(40, 30.0))
        wave = np.exp(0.4 * np.sin(WEEKS * 2 * np.pi / 6))
        wandering = Periods(WEEKS, 30.0 * wave, np.full(40, 30.0))
        for periods in (steady, wandering):
            periods.conversions[-2:] = 39.0
        few, much = forecast_level(steady), forecast_level(wandering)
        assert few.wander < much.wander
        assert 1.0 <= few.factor < 1.12

    def test_the_posterior_of_one_count_is_that_of_a_fine_grid(self):
        """Log level N(-s^2/2, s^2) and one Poisson count, by quadrature; ahead it is the same level."""
        variance, hits, expected = 0.25, 9.0, 5.0
        evidence, level = _posterior(np.array([hits]), np.array([expected]), np.full((5, 5), variance))
        d = np.linspace(-4, 4, 20_001)
        density = (
            hits * (d + np.log(expected)) - expected * np.exp(d) - (d + variance / 2) ** 2 / (2 * variance)
        )
        weight = np.exp(density - density.max())
        assert level == pytest.approx(weight @ np.exp(d) / weight.sum(), rel=0.04)
        exact = np.log(np.exp(density).sum() * (d[1] - d[0]) / np.sqrt(2 * np.pi * variance))
        assert evidence + hits * np.log(expected) == pytest.approx(exact, abs=0.02)


class TestShift:
    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 10**6), factor=st.floats(0.05, 20))
    def test_the_sum_is_multiplied_and_all_stay_probabilities(self, seed, factor):
        z = np.random.default_rng(seed).normal(-2, 1.5, 200)
        p = expit(z + shift_to(z, factor))
        assert p.sum() == pytest.approx(min(factor * expit(z).sum(), 0.1 * expit(z).sum() + 180), rel=1e-6)
        assert (p < 1).all()

    def test_a_factor_of_one_is_no_shift(self):
        assert shift_to([logit(0.2), logit(0.4)], 1.0) == pytest.approx(0.0, abs=1e-9)
