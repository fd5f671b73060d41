"""Contributions of the whole model: they add up to the exported probability's logit, under every calibrator."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from convpredict.errors import BundleError
from convpredict.models.calibration import (
    BetaCalibrator,
    IsotonicCalibrator,
    NoCalibrator,
    SigmoidCalibrator,
)
from convpredict.models.contributions import Explainer, calibrated, contributions
from convpredict.models.conversion import ConversionModel

CALIBRATORS = [
    NoCalibrator(),
    SigmoidCalibrator(0.7, -0.4),
    SigmoidCalibrator(0.0, -2.0),
    BetaCalibrator(0.6, 1.4, -0.2),
    IsotonicCalibrator([-3.0, -2.0, -1.0, 0.5], [-4.0, -2.5, -2.5, 1.0]),
]


def funnel(n_rows: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "calls": rng.poisson(2.0, n_rows).astype(np.float32),
            "silence": np.where(rng.random(n_rows) < 0.2, np.nan, rng.exponential(9.0, n_rows)),
            "source": pd.Categorical(rng.choice(["ads", "fair", "(other)"], n_rows)),
            "constant": np.zeros(n_rows),
        }
    )
    score = 0.7 * frame["calls"] - 2.5 + (frame["source"] == "fair") - 0.05 * frame["silence"].fillna(30.0)
    return frame, (rng.random(n_rows) < expit(score)).astype(int)


@pytest.fixture(scope="module")
def model() -> ConversionModel:
    X, y = funnel(1_200)
    return ConversionModel(seeds=3, n_estimators=40, num_leaves=7, logistic_weight=0.3).fit(X, y)


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: f"{c.name}")
def test_base_and_contributions_add_up_to_the_logit_of_the_probability(model, calibrator) -> None:
    fitted, (X, _) = model, funnel(500, seed=1)
    before, fitted.calibrator_ = fitted.calibrator_, calibrator
    try:
        parts = contributions(fitted, X)
        exported = logit(fitted.predict_proba(X)[:, 1])
    finally:
        fitted.calibrator_ = before
    np.testing.assert_allclose(parts.base + parts.values.sum(axis=1), exported, rtol=0, atol=1e-9)
    assert not parts.values[:, parts.names.index("constant")].any()


def test_the_base_is_the_mean_of_the_rows_of_the_fit(model) -> None:
    X, _ = funnel(1_200)
    assert Explainer(model).raw_base == pytest.approx(model.raw_logit(X).mean(), abs=0.02)
    logistic = model.logistic_
    matrix = model.encoder_.encode(X)
    np.testing.assert_allclose(logistic.contributions(matrix).mean(axis=0), logistic.centres, atol=1e-6)


def test_without_a_logistic_part_contributions_are_the_mean_of_lightgbms_own(model) -> None:
    X, y = funnel(800)
    trees = ConversionModel(seeds=2, n_estimators=30, num_leaves=7, logistic_weight=0.0).fit(X, y)
    matrix = trees.encoder_.encode(X)
    own = np.mean([booster.predict(matrix, pred_contrib=True) for booster in trees.trees_.boosters], axis=0)
    parts = contributions(trees, X)
    np.testing.assert_allclose(parts.values, own[:, :-1], rtol=0, atol=1e-9)
    assert parts.base == pytest.approx(own[0, -1], abs=1e-9)


def test_rows_are_explained_alike_in_any_company(model) -> None:
    X, _ = funnel(300, seed=2)
    explainer = Explainer(model)
    together = explainer.contributions(X, n_jobs=2).values
    np.testing.assert_array_equal(together[117:118], explainer.contributions(X.iloc[117:118]).values)
    np.testing.assert_array_equal(together[::-1], explainer.contributions(X.iloc[::-1], n_jobs=1).values)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(CALIBRATORS),
    st.floats(-5, 2),
    st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=1, max_size=5),
)
def test_calibration_keeps_signs_and_sums(calibrator, raw_base, rows) -> None:
    parts = np.array(rows)
    raw = raw_base + parts.sum(axis=1)
    base, values = calibrated(calibrator, raw_base, raw, parts)
    np.testing.assert_allclose(base + values.sum(axis=1), calibrator.transform_logit(raw), rtol=0, atol=1e-9)
    assert (values * parts >= 0).all()


def test_a_flat_part_of_the_calibrator_still_tells_both_sides() -> None:
    """g is flat from -2 to -1, where both ends lie; by hand for P = 2, N = 1, z0 = -2, z = -1.

    g(z0 + P) = g(0) = -2.5 + 3.5 * 1 / 1.5 = -1/6, g(z0 - N) = g(-3) = -4, so P' = N' = (7/3 + 1.5) / 2.
    """
    calibrator = CALIBRATORS[-1]
    base, values = calibrated(calibrator, -2.0, np.array([-1.0]), np.array([[2.0, -1.0]]))
    assert base == -2.5
    assert values[0].tolist() == pytest.approx([23 / 12, -23 / 12])


def test_columns_that_cancel_exactly_still_count() -> None:
    base, values = calibrated(SigmoidCalibrator(0.5, 1.0), -1.0, np.array([-1.0]), np.array([[2.0, -2.0]]))
    assert (base, values.tolist()) == (0.5, [[1.0, -1.0]])


def test_a_frame_without_a_column_is_refused(model) -> None:
    X, _ = funnel(5)
    with pytest.raises(BundleError, match="lacks silence"):
        contributions(model, X.drop(columns="silence"))
