"""How far a distribution has moved: values derived by hand, and the rate of false alarms by simulation."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convpredict.evaluation.distribution_shift import (
    chance_jensen_shannon,
    chance_psi,
    jensen_shannon,
    n_used_bins,
    psi,
)

counts = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12)


def test_psi_by_hand() -> None:
    # 19.5 + 0.5 = 20 of 40 against 29.5 + 0.5 = 30 of 40: (0.75 - 0.5) ln 1.5 + (0.25 - 0.5) ln 0.5
    assert psi([19.5, 19.5], [29.5, 9.5]) == pytest.approx(0.25 * log(1.5) + 0.25 * log(2))


def test_jensen_shannon_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/4, 3/4), middle = (1/2, 1/2): both sums are 3/4 log2 3/2 + 1/4 log2 1/2
    expected = 0.75 * np.log2(1.5) - 0.25
    assert jensen_shannon([2.5, 0.5], [0.5, 2.5]) == pytest.approx(expected)


@given(counts)
def test_both_are_symmetric_not_negative_and_blind_to_bins_that_nobody_uses(
    pairs: list[tuple[int, int]],
) -> None:
    expected, actual = np.array(pairs).T
    for measure in (psi, jensen_shannon):
        value = measure(expected, actual)
        if not (expected.sum() and actual.sum()):
            assert np.isnan(value)
            continue
        assert value >= 0
        assert measure(actual, expected) == pytest.approx(value, abs=1e-12)
        assert measure([*expected, 0], [*actual, 0]) == pytest.approx(value, abs=1e-12)
    assert n_used_bins(expected, actual) == sum(1 for pair in pairs if pair != (0, 0))


@pytest.mark.parametrize("bins", [[100], [1, 0, 0, 0]])
def test_one_bin_cannot_move(bins: list[int]) -> None:
    assert psi(bins, bins) == 0
    assert jensen_shannon(bins, bins) == 0
    assert chance_psi(100, 100, n_used_bins(bins, bins)) == 0


@pytest.mark.parametrize(
    "shares",
    [np.full(10, 0.1), 0.7 ** np.arange(20), np.array([0.99, *[0.001] * 10])],
    ids=["even", "skewed", "one large bin"],
)
@pytest.mark.parametrize(("n", "m"), [(20_000, 60), (20_000, 3_000), (300, 300)])
def test_chance_raises_no_more_alarms_than_it_says(shares: np.ndarray, n: int, m: int) -> None:
    random = np.random.default_rng(5)
    shares = shares / shares.sum()
    pairs = list(zip(random.multinomial(n, shares, 1_000), random.multinomial(m, shares, 1_000), strict=True))
    alarms = [psi(p, q) > chance_psi(n, m, n_used_bins(p, q), 0.02) for p, q in pairs]
    divergent = [
        jensen_shannon(p, q) > chance_jensen_shannon(n, m, n_used_bins(p, q), 0.02) for p, q in pairs
    ]
    # 20 of 1,000 are to be expected; 35 lie 3.5 standard deviations above
    assert sum(alarms) <= 35
    assert sum(divergent) <= 35


def test_with_even_bins_the_chance_level_is_near_the_share_of_alarms_it_names() -> None:
    random = np.random.default_rng(6)
    shares = np.full(8, 1 / 8)
    pairs = zip(random.multinomial(5_000, shares, 3_000), random.multinomial(800, shares, 3_000), strict=True)
    alarms = np.mean([psi(p, q) > chance_psi(5_000, 800, 8, 0.1) for p, q in pairs])
    assert 0.08 < alarms < 0.12


def test_a_real_shift_is_beyond_chance() -> None:
    random = np.random.default_rng(7)
    before, after = random.multinomial(5_000, [0.5, 0.3, 0.2]), random.multinomial(500, [0.3, 0.3, 0.4])
    assert psi(before, after) > chance_psi(5_000, 500, 3)
    assert jensen_shannon(before, after) > chance_jensen_shannon(5_000, 500, 3)


def test_an_empty_sample_tells_nothing() -> None:
    assert np.isnan(psi([1, 2], [0, 0]))
    assert np.isnan(jensen_shannon([0, 0], [3, 4]))
    assert chance_psi(0, 10, 5) == float("inf")


@pytest.mark.parametrize("actual", [[1, 2, 3], [[1, 2]], [1, -1], [1, float("nan")]])
def test_what_is_no_count_of_the_same_bins_is_refused(actual: list[float]) -> None:
    for measure in (psi, jensen_shannon, n_used_bins):
        with pytest.raises(ValueError, match="counts"):
            measure([1, 2], actual)
