"""Calibrators: increasing, exact in JSON, better than nothing where something is wrong, and nothing where not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from convpredict.errors import BundleError, NotEnoughDataError
from convpredict.models.calibration import (
    CALIBRATOR_NAMES,
    CalibratorName,
    calibrator_from_dict,
    make_calibrator,
)
from convpredict.models.calibrator_choice import choose_calibrator, clustered_standard_error, deal_folds


def distorted(n_rows, *, slope=1.0, shift=0.0, seed=0):
    """Scores whose true logit is ``slope * logit + shift``."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1.5, 1.5, n_rows)
    return expit(z), (rng.random(n_rows) < expit(slope * z + shift)).astype(float)


def log_loss(p, y):
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


scores = st.lists(st.floats(0, 1), min_size=2, max_size=40)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(CALIBRATOR_NAMES), p=scores, bits=st.integers(0, 2**40 - 1), asked=scores)
def test_every_calibrator_is_increasing_inside_the_open_interval_and_exact_in_json(name, p, bits, asked):
    y = [(bits >> i) & 1 for i in range(len(p))]
    calibrator = make_calibrator(name).fit(p, y)
    asked = np.sort(np.asarray(asked))
    result = calibrator.transform(asked)
    assert np.all(np.diff(result) >= -1e-15)
    assert np.all((result > 0) & (result < 1))
    restored = calibrator_from_dict(json.loads(json.dumps(calibrator.to_dict())))
    assert restored.transform(asked).tobytes() == result.tobytes()
    assert restored.to_dict() == calibrator.to_dict()


@pytest.mark.parametrize("name", ["sigmoid", "beta", "isotonic"])
def test_a_distorted_model_gets_better(name):
    p, y = distorted(20_000, slope=0.5, shift=-0.7)
    unseen_p, unseen_y = distorted(50_000, slope=0.5, shift=-0.7, seed=1)
    calibrated = make_calibrator(name).fit(p, y).transform(unseen_p)
    truth = log_loss(expit(0.5 * np.log(unseen_p / (1 - unseen_p)) - 0.7), unseen_y)
    assert log_loss(calibrated, unseen_y) < truth + 0.002 < log_loss(unseen_p, unseen_y) - 0.02
    assert calibrated.mean() == pytest.approx(unseen_y.mean(), rel=0.03)


def test_sigmoid_recovers_slope_and_shift():
    p, y = distorted(200_000, slope=0.6, shift=-0.4)
    fitted = make_calibrator("sigmoid").fit(p, y).to_dict()
    assert fitted["slope"] == pytest.approx(0.6, abs=0.02)
    assert fitted["intercept"] == pytest.approx(-0.4, abs=0.03)


def test_isotonic_keeps_scores_apart():
    p, y = distorted(5_000, slope=0.5)
    assert len(np.unique(make_calibrator("isotonic").fit(p, y).transform(p))) == len(np.unique(p))


def test_weights_count_like_rows():
    p, y = distorted(3_000, slope=0.5)
    weight = np.random.default_rng(3).integers(0, 4, len(p))
    rows = np.repeat(np.arange(len(p)), weight)
    for name in CALIBRATOR_NAMES:
        weighted = make_calibrator(name).fit(p, y, weight).transform(p)
        repeated = make_calibrator(name).fit(p[rows], y[rows]).transform(p)
        np.testing.assert_allclose(weighted, repeated, rtol=1e-6)


def test_a_reversed_model_is_flattened_not_turned_round():
    p, y = distorted(5_000, slope=-1.0)
    for name in ("sigmoid", "beta"):
        result = make_calibrator(name).fit(p, y).transform(np.sort(p))
        assert np.all(np.diff(result) >= 0)


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([0.1, np.nan], [0, 1], "NaN"),
        ([0.1, 0.2], [0, 2], "0 and 1"),
        ([0.1, 0.2], [0, 1, 1], "one length"),
    ],
)
def test_unusable_input_is_named(p, y, message):
    with pytest.raises(ValueError, match=message):
        make_calibrator("sigmoid").fit(p, y)


@pytest.mark.parametrize(
    "stored",
    [
        {"name": "venn"},
        {"name": "sigmoid", "slope": -1.0, "intercept": 0.0},
        {"name": "sigmoid", "slope": float("nan"), "intercept": 0.0},
        {"name": "sigmoid", "slope": True, "intercept": 0.0},
        {"name": "beta", "a": 1.0, "b": -1.0, "c": 0.0},
        {"name": "beta", "a": 1.0, "b": 1.0},
        {"name": "isotonic", "inputs": [], "outputs": []},
        {"name": "isotonic", "inputs": [1.0, 0.0], "outputs": [0.0, 1.0]},
        {"name": "isotonic", "inputs": [0.0, 1.0], "outputs": [1.0, 0.0]},
        {"name": "isotonic", "inputs": "01", "outputs": [1.0, 0.0]},
        [],
    ],
)
def test_a_stored_calibrator_that_is_not_one_is_refused(stored):
    with pytest.raises(BundleError, match="export"):
        calibrator_from_dict(stored)


def test_the_choice_is_none_for_a_calibrated_model_and_not_for_a_distorted_one():
    assert choose_calibrator(*distorted(20_000)).calibrator.name == "none"
    assert choose_calibrator(*distorted(20_000, shift=-1.0)).calibrator.name == "sigmoid"


def test_isotonic_is_chosen_where_only_it_fits():
    rng = np.random.default_rng(0)
    p = rng.random(60_000)
    y = rng.random(60_000) < np.select([p < 0.3, p < 0.7], [0.1, 0.4], 0.6)
    assert choose_calibrator(p, y).calibrator.name == "isotonic"


def test_little_data_narrows_the_choice():
    p, y = distorted(60, shift=-2.0)
    assert y.sum() < 10
    assert choose_calibrator(p, y).calibrator.name == "none"
    with pytest.raises(NotEnoughDataError, match="allow 'none'"):
        choose_calibrator(p, y, names=("isotonic",))
    with pytest.raises(ValueError, match="must be some of"):
        choose_calibrator(p, y, names=("platt",))


def test_repeated_rows_of_few_leads_do_not_pass_for_evidence():
    """A pattern that 40 leads show in 50 copies each counts as 40, not as 2,000."""
    p, y = distorted(40, shift=-0.6, seed=5)
    lead = np.repeat(np.arange(40), 50)
    by_row = choose_calibrator(p[lead], y[lead]).calibrator.name
    by_lead = choose_calibrator(p[lead], y[lead], groups=lead).calibrator.name
    assert (by_row, by_lead) == ("isotonic", "none") or (by_row != "none" and by_lead == "none")


def test_folds_keep_leads_whole_and_deal_converters_evenly():
    lead = np.repeat(np.arange(50), 4)
    y = np.zeros(200)
    y[:40:4] = 1
    fold = deal_folds(y, lead, 5, seed=0)
    assert all(len(set(fold[lead == one])) == 1 for one in range(50))
    assert [y[fold == number].sum() for number in range(5)] == [2.0] * 5


def test_clustered_standard_error_by_hand():
    # mean 1; lead sums of deviations: lead 0: (2-1) + (2-1) = 2, lead 1: (0-1) + (0-1) = -2; sqrt(4 + 4) / 4
    error = clustered_standard_error(np.array([2.0, 2.0, 0.0, 0.0]), np.ones(4), np.array([0, 0, 1, 1]))
    assert error == pytest.approx(np.sqrt(8) / 4)


@pytest.mark.parametrize("name", CALIBRATOR_NAMES)
def test_shifting_adds_a_constant_to_every_logit(name: CalibratorName) -> None:
    rng = np.random.default_rng(5)
    p = rng.uniform(0.01, 0.6, 3000)
    fitted = make_calibrator(name).fit(p, rng.random(3000) < p**1.3)
    z = np.linspace(-4, 1, 9)
    np.testing.assert_allclose(
        fitted.shifted(0.4).transform_logit(z), fitted.transform_logit(z) + 0.4, atol=1e-12
    )
    stored = calibrator_from_dict(fitted.shifted(0.4).to_dict())
    np.testing.assert_array_equal(stored.transform_logit(z), fitted.shifted(0.4).transform_logit(z))
