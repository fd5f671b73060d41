"""Metrics against scikit-learn, against slow definitions written out, and on degenerate input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from convpredict.evaluation import metrics
from convpredict.evaluation.calibration import Calibration, equal_mass_bins
from convpredict.evaluation.ranking import Ranking

RANKING = (metrics.auc, metrics.average_precision, lambda y, s, **k: metrics.captured_in_top(y, s, 0.1, **k))
PROBABILITY = (
    metrics.log_loss,
    metrics.brier,
    metrics.binned_calibration_error,
    metrics.smooth_calibration_error,
    lambda y, p, **k: metrics.calibration_line(y, p, **k)[1],
    metrics.calibration_ratio,
)


@st.composite
def weighted_samples(draw):
    """Labels of both classes, probabilities with many ties, whole-number weights for both classes."""
    rows = draw(st.integers(2, 40))
    label = draw(
        st.lists(st.integers(0, 1), min_size=rows, max_size=rows).filter(lambda y: 0 < sum(y) < len(y))
    )
    p = draw(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.51, 0.9, 1.0]), min_size=rows, max_size=rows))
    weight = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    label, p, weight = np.array(label), np.array(p), np.array(weight)
    weight[np.argmax(label)] += 1
    weight[np.argmin(label)] += 1
    return label, p, weight


@settings(max_examples=150, deadline=None)
@given(weighted_samples())
def test_agrees_with_scikit_learn_with_ties_and_weights(sample):
    label, p, weight = sample
    keywords = {"sample_weight": weight}
    assert metrics.auc(label, p, weight=weight) == pytest.approx(
        roc_auc_score(label, p, **keywords), abs=1e-12
    )
    assert metrics.average_precision(label, p, weight=weight) == pytest.approx(
        average_precision_score(label, p, **keywords), abs=1e-12
    )
    assert metrics.brier(label, p, weight=weight) == pytest.approx(
        brier_score_loss(label, p, **keywords), abs=1e-12
    )
    assert metrics.log_loss(label, p, weight=weight) == pytest.approx(
        sklearn_log_loss(label, p, **keywords), rel=1e-10, abs=1e-12
    )


@settings(max_examples=100, deadline=None)
@given(weighted_samples())
def test_a_whole_weight_is_a_repeated_row(sample):
    label, p, weight = sample
    repeated = np.repeat(np.arange(len(label)), weight)
    for metric in (*RANKING, metrics.log_loss, metrics.brier, metrics.calibration_ratio):
        expected = metric(label[repeated], p[repeated])
        assert metric(label, p, weight=weight) == pytest.approx(expected, rel=1e-10, abs=1e-12, nan_ok=True)
    weighted, plain = (
        metrics.calibration_line(label, p, weight=weight),
        metrics.calibration_line(label[repeated], p[repeated]),
    )
    assert weighted == pytest.approx(plain, rel=1e-5, abs=1e-6, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(weighted_samples(), st.randoms(use_true_random=False))
def test_row_order_changes_nothing(sample, random):
    label, p, weight = sample
    order = list(range(len(label)))
    random.shuffle(order)
    for metric in (*RANKING, *PROBABILITY):
        expected = metric(label, p, weight=weight)
        shuffled = metric(label[order], p[order], weight=weight[order])
        assert shuffled == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.5, 0.65, 1.0])
def test_captured_is_the_mean_over_all_orders_of_ties(share):
    label = np.array([1, 0, 1, 0, 0, 1])
    score = np.array([3, 2, 2, 2, 1, 1])

    def captured_in_order(order: tuple[int, ...]) -> float:
        wanted, found = share * len(label), 0.0
        for row in order:
            found += label[row] * min(1.0, max(0.0, wanted))
            wanted -= 1
        return found / label.sum()

    orders = [
        o for o in itertools.permutations(range(6)) if list(score[list(o)]) == sorted(score, reverse=True)
    ]
    expected = np.mean([captured_in_order(o) for o in orders])
    assert metrics.captured_in_top(label, score, share) == pytest.approx(expected, abs=1e-12)


def test_captured_by_hand():
    # 20 rows, the best two are looked at: ranks 1 and 2 hold one of the four converters.
    label = np.zeros(20)
    label[[0, 5, 10, 15]] = 1
    assert metrics.captured_in_top(label, -np.arange(20), 0.1) == 0.25
    assert metrics.captured_in_top(label, np.zeros(20), 0.1) == pytest.approx(0.1)


def smooth_error_by_definition(label: np.ndarray, p: np.ndarray) -> float:
    """The definition with the kernel summed over its mirror images and a fixed point by root finding."""
    t = (np.arange(20_000) + 0.5) / 20_000

    def smoothed(sigma: float) -> float:
        total = np.zeros_like(t)
        for probability, residual in zip(p, label - p, strict=True):
            for image in itertools.chain.from_iterable(
                (2 * k + probability, 2 * k - probability) for k in (-1, 0, 1)
            ):
                total += residual * np.exp(-0.5 * ((t - image) / sigma) ** 2)
        return float(np.abs(total).mean() / (sigma * math.sqrt(2 * math.pi)) / len(p))

    return float(brentq(lambda sigma: smoothed(sigma) - sigma, 1e-3, 1.0, xtol=1e-7))


@pytest.mark.parametrize(("seed", "bend"), [(0, 0.0), (1, 1.5), (2, -1.0)])
def test_smooth_error_follows_its_definition(seed, bend):
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.5, 1.0, 60)
    p = 1 / (1 + np.exp(-logit))
    label = (rng.random(60) < 1 / (1 + np.exp(-logit - bend))).astype(int)
    expected = smooth_error_by_definition(label, p)
    assert metrics.smooth_calibration_error(label, p) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("rate", [0.3, 0.003])
def test_smooth_error_shrinks_with_rows_when_calibrated_and_stays_when_not(rate):
    rng = np.random.default_rng(3)
    p = np.clip(rng.gamma(2.0, rate / 2, 400_000), 0, 0.9)
    calibrated = (rng.random(len(p)) < p).astype(int)
    inflated = np.minimum(1.5 * p, 1.0)
    few = metrics.smooth_calibration_error(calibrated[:4000], p[:4000])
    assert metrics.smooth_calibration_error(calibrated, p) < 0.4 * few
    assert metrics.smooth_calibration_error(calibrated, inflated) == pytest.approx(0.5 * p.mean(), rel=0.15)


def test_binned_error_by_hand():
    # Ten rows in two bins of five: predicted .1 against 1/5, predicted .5 against 2/5 -> (.5 + .5) / 10.
    label = [1, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    p = [0.1] * 5 + [0.5] * 5
    assert metrics.binned_calibration_error(label, p, bins=2) == pytest.approx(0.1)


def test_bins_hold_equal_mass_and_never_divide_ties():
    p = np.random.default_rng(0).random(1000)
    assert np.ptp(np.bincount(equal_mass_bins(p, 7))) <= 1
    coarse = np.round(p, 1)
    bins = equal_mass_bins(coarse, 7)
    assert all(len(set(bins[coarse == value])) == 1 for value in np.unique(coarse))


def test_line_agrees_with_unpenalised_logistic_regression():
    rng = np.random.default_rng(5)
    logit = rng.normal(-2, 1.3, 3000)
    label = (rng.random(3000) < 1 / (1 + np.exp(-0.4 - 0.7 * logit))).astype(int)
    weight = rng.integers(0, 3, 3000)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        logit[:, None], label, sample_weight=weight
    )
    intercept, slope = metrics.calibration_line(label, 1 / (1 + np.exp(-logit)), weight=weight)
    assert (intercept, slope) == pytest.approx((fitted.intercept_[0], fitted.coef_[0, 0]), abs=1e-3)


def test_pooling_of_many_probabilities_moves_the_line_little():
    rng = np.random.default_rng(6)
    logit = rng.normal(-5, 1.2, 50_000)
    p = 1 / (1 + np.exp(-logit))
    label = (rng.random(50_000) < p).astype(int)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], label)
    assert metrics.calibration_line(label, p) == pytest.approx(
        (fitted.intercept_[0], fitted.coef_[0, 0]), abs=2e-3
    )


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_is_undefined_for_rankings_and_lines_only(value):
    label, p = np.full(5, value), np.linspace(0.1, 0.5, 5)
    assert math.isnan(metrics.auc(label, p))
    assert all(map(math.isnan, metrics.calibration_line(label, p)))
    assert math.isnan(metrics.average_precision(label, p)) == (value == 0)
    assert math.isnan(metrics.captured_in_top(label, p, 0.5)) == (value == 0)
    assert metrics.log_loss(label, p) > 0
    assert metrics.brier(label, p) > 0
    assert metrics.calibration_ratio(label, p) == (pytest.approx(0.3) if value else math.inf)


def test_separated_classes_and_constant_probabilities_have_no_line():
    assert all(map(math.isnan, metrics.calibration_line([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.3])))
    assert all(map(math.isnan, metrics.calibration_line([0, 1, 0, 1], [0.2] * 4)))


def test_perfect_probabilities():
    label = [0, 0, 1]
    assert metrics.smooth_calibration_error(label, label) < 1e-5
    assert metrics.binned_calibration_error(label, label) == 0
    assert metrics.log_loss(label, label) < 1e-15
    assert metrics.calibration_ratio(label, label) == 1


@pytest.mark.parametrize(
    ("label", "p", "message"),
    [
        ([], [], "no observations"),
        ([0, 2], [0.1, 0.2], "0 and 1 only; row 1 holds 2"),
        ([0, np.nan], [0.1, 0.2], "0 and 1 only; row 1 holds nan"),
        ([0, 1], [0.1, np.nan], "must be finite; row 1"),
        ([0, 1], [0.1, 1.2], "probabilities in \\[0, 1\\]; row 1 holds 1.2"),
        ([0, 1], [0.1], "1 rows and 'label' has 2"),
        ([[0], [1]], [0.1, 0.2], "one-dimensional"),
        (["no", "yes"], [0.1, 0.2], "must be numeric"),
    ],
)
def test_bad_input_is_named(label, p, message):
    for metric in PROBABILITY:
        with pytest.raises(ValueError, match=message):
            metric(label, p)


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"\.05 for the top 5 %; got 5"):
        metrics.captured_in_top([0, 1], [1, 2], 5)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        metrics.binned_calibration_error([0, 1], [0.1, 0.2], bins=0)
    with pytest.raises(ValueError, match="no negative value"):
        metrics.auc([0, 1], [1, 2], weight=[0, 0])


def test_classes_and_functions_agree():
    rng = np.random.default_rng(8)
    p = rng.random(500)
    label = (rng.random(500) < p).astype(int)
    ranking, calibration = Ranking(label, p), Calibration(label, p)
    expected = [
        metrics.auc(label, p),
        metrics.average_precision(label, p),
        metrics.captured_in_top(label, p, 0.2),
    ]
    assert ranking.statistics([0.2]).tolist() == pytest.approx(expected)
    intercept, slope = metrics.calibration_line(label, p)
    assert calibration.statistics().tolist() == pytest.approx(
        [
            metrics.log_loss(label, p),
            metrics.brier(label, p),
            metrics.smooth_calibration_error(label, p),
            metrics.binned_calibration_error(label, p),
            slope,
            intercept,
            metrics.calibration_ratio(label, p),
        ]
    )
