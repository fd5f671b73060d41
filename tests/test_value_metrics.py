"""Metrics of amounts, against values worked out by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from convpredict.evaluation.value_metrics import (
    coverage,
    decile_mape,
    decile_table,
    mae,
    normalised_gini,
    rmse,
    spearman,
    total_ratio,
)

ALL = (total_ratio, normalised_gini, spearman, decile_mape, rmse, mae)


def test_normalised_gini_by_hand():
    # Lorenz curve of (0, 0, 10, 30) in its own order: 0, 0, 0, 1/4, 1; area (0 + 0 + 1/8 + 5/8) / 4 = 3/16;
    # G = 1 - 6/16 = 5/8. In the order of the predictions (0, 0, 30, 10): 0, 0, 0, 3/4, 1; area (3/8 + 7/8) / 4
    # = 5/16; G = 3/8. Ratio 3/5.
    assert normalised_gini([0, 0, 10, 30], [1, 2, 5, 3]) == pytest.approx(3 / 5)
    # The best order of all, and the worst.
    assert normalised_gini([0, 0, 10, 30], [1, 2, 3, 4]) == pytest.approx(1.0)
    assert normalised_gini([0, 0, 10, 30], [4, 3, 2, 1]) == pytest.approx(-1.0)
    # A constant orders nothing, in whichever order the rows come.
    assert normalised_gini([30, 10, 0, 0], [7, 7, 7, 7]) == pytest.approx(0.0)
    assert np.isnan(normalised_gini([5, 5], [1, 2]))
    assert np.isnan(normalised_gini([0, 0], [1, 2]))


def test_deciles_by_hand():
    table = decile_table([0, 2, 4, 10], [1, 2, 3, 6], bins=2)
    assert table["predicted"].tolist() == [9.0, 3.0]
    assert table["actual"].tolist() == [14.0, 2.0]
    # (|9 - 14| / 14 + |3 - 2| / 2) / 2
    assert decile_mape([0, 2, 4, 10], [1, 2, 3, 6], bins=2) == pytest.approx((5 / 14 + 1 / 2) / 2)


def test_equal_predictions_share_the_deciles_that_they_fill():
    rng = np.random.default_rng(0)
    actual = rng.exponential(1.0, 50)
    table = decile_table(actual, np.full(50, 1.0))
    np.testing.assert_allclose(table["actual"], actual.sum() / 10)
    assert decile_mape(actual, np.full(50, actual.mean())) == pytest.approx(0.0)


def test_a_decile_that_brought_nothing_has_no_percentage():
    actual = np.zeros(100)
    actual[50:] = 1.0
    assert np.isnan(decile_mape(actual, np.arange(100.0)))


def test_zeros_for_everybody_win_by_absolute_error_only():
    actual = np.zeros(100)
    actual[:10] = 100.0
    mean = np.full(100, 10.0)
    assert mae(actual, np.zeros(100)) < mae(actual, mean)
    assert rmse(actual, np.zeros(100)) > rmse(actual, mean)
    assert total_ratio(actual, np.zeros(100)) == 0.0
    assert total_ratio(actual, mean) == 1.0


def test_spearman_agrees_with_scipy():
    rng = np.random.default_rng(1)
    actual = np.maximum(rng.normal(size=200), 0.0)
    predicted = np.round(actual + rng.normal(size=200), 1)
    assert spearman(actual, predicted) == pytest.approx(spearmanr(actual, predicted).statistic)


def test_weights_count_rows_several_times():
    rng = np.random.default_rng(2)
    actual, predicted = rng.exponential(1.0, 40), rng.exponential(1.0, 40)
    weight = rng.integers(0, 4, 40).astype(float)
    times = weight.astype(int)
    for metric in ALL:
        expected = metric(np.repeat(actual, times), np.repeat(predicted, times))
        assert metric(actual, predicted, weight=weight) == pytest.approx(expected), metric.__name__


def test_coverage_counts_the_ends():
    assert coverage([1, 2, 3, 4], [1, 1, 1, 5], [1, 2, 2, 6]) == 0.5


@pytest.mark.parametrize("metric", ALL)
def test_what_is_wrong_is_named(metric):
    with pytest.raises(ValueError, match="'actual' must be of shape"):
        metric([], [])
    with pytest.raises(ValueError, match="'predicted' must be finite"):
        metric([1.0], [np.nan])
