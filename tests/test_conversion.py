"""The conversion model: scikit-learn's contract, determinism, forward validation, directions, odd data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info, threadpool_limits

from convpredict.config.training import ModelConfig
from convpredict.errors import ConfigError, NotEnoughDataError
from convpredict.models.capacity import DEFAULT, choose_capacity, forward_folds, ladder, thin_negatives
from convpredict.models.conversion import ConversionModel
from convpredict.models.encoding import Encoder
from convpredict.models.logistic import _ONE_BLAS_THREAD
from convpredict.models.trees import tree_parameters

DAY = 86_400_000_000


@parametrize_with_checks([ConversionModel(seeds=1), ConversionModel(seeds=1, logistic_weight=0.0)])
def test_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)


def funnel(n_leads, *, weeks=20, base=-3.0, seed=0):
    """Weekly rows of leads: (frame, label, lead id, cutoff in µs, true logit)."""
    rng = np.random.default_rng(seed)
    lead = np.repeat(np.arange(n_leads), 4)
    start = np.repeat(rng.integers(0, weeks - 4, n_leads), 4)
    week = start + np.tile(np.arange(4), n_leads)
    source = rng.choice(["ads", "fair", "partner"], n_leads)[lead]
    calls = rng.poisson(2.0, len(lead)).astype(np.float32)
    silence = rng.exponential(10.0, len(lead)).astype(np.float32)
    logit = base + 0.5 * calls - 0.05 * silence + np.where(source == "partner", 1.0, 0.0)
    frame = pd.DataFrame(
        {
            "calls": calls,
            "silence_days": np.where(rng.random(len(lead)) < 0.1, np.nan, silence).astype(np.float32),
            "source": pd.Categorical(source, categories=["ads", "fair", "partner", "(other)"]),
            "noise": rng.normal(size=len(lead)).astype(np.float32),
        }
    )
    y = (rng.random(len(lead)) < expit(logit)).astype(np.int8)
    return frame, y, lead, (week * 7 * DAY).astype(np.int64), logit


@pytest.fixture(scope="module")
def fitted():
    X, y, lead, cutoff, _ = funnel(1_500)
    model = ConversionModel(seeds=2).fit(X, y, groups=lead, times=cutoff, horizon_us=14 * DAY)
    return model, X


def test_learns_a_simple_funnel(fitted):
    model, _ = fitted
    X, y, _, _, truth = funnel(5_000, seed=1)
    p = model.predict_proba(X)[:, 1]
    assert log_loss(y, p) < 1.03 * log_loss(y, expit(truth))
    assert roc_auc_score(y, p) > roc_auc_score(y, truth) - 0.02
    assert p.mean() == pytest.approx(y.mean(), rel=0.1)


def test_the_same_data_twice_gives_the_same_model(fitted):
    model, X = fitted
    _, y, lead, cutoff, _ = funnel(1_500)
    again = clone(model).set_params(n_jobs=1).fit(X, y, groups=lead, times=cutoff, horizon_us=14 * DAY)
    assert again.trees_.texts == model.trees_.texts
    assert again.logistic_ == model.logistic_
    assert again.selection_ == model.selection_
    assert again.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    other = clone(model).set_params(random_state=7).fit(X, y)
    assert other.trees_.texts[0] != model.trees_.texts[0]


def test_a_row_is_scored_alike_whatever_stands_beside_it(fitted):
    model, X = fitted
    whole = model.decision_function(X)
    assert model.decision_function(X.iloc[17:18])[0] == whole[17]
    assert np.array_equal(model.decision_function(X.iloc[::-1])[::-1], whole)


def test_parts_add_up_on_the_logit():
    X, y, *_ = funnel(300)
    model = ConversionModel(seeds=3, logistic_weight=0.3).fit(X, y)
    matrix = model.encoder_.encode(X)
    share = model.logistic_weight_
    assert share == 0.3
    trees = np.mean([booster.predict(matrix, raw_score=True) for booster in model.trees_.boosters], axis=0)
    linear = model.logistic_.intercept + model.logistic_.contributions(matrix).sum(axis=1)
    np.testing.assert_allclose(model.raw_logit(X), (1 - share) * trees + share * linear, rtol=1e-9)


def test_a_pattern_that_exists_in_the_future_only_is_not_learnt_from():
    """A column that tells the label until June and lies from July on must lose against one that always tells."""
    rng = np.random.default_rng(0)
    n_rows = 6_000
    week = np.sort(rng.integers(0, 40, n_rows))
    truth = rng.normal(size=n_rows)
    y = (rng.random(n_rows) < expit(2 * truth - 1)).astype(float)
    folds = forward_folds(y, week * 7 * DAY, np.arange(n_rows), 14 * DAY, seed=0)
    leak = np.where(week >= 30, y, rng.random(n_rows))
    scores = {}

    def trees(leaves):
        column = leak if leaves == 15 else truth
        result = []
        for train, validate in folds:
            slope = np.polyfit(column[train], y[train], 1)
            result.append([4 * np.polyval(slope, column[validate]) - 2])
        scores[leaves] = result
        return result

    choice = choose_capacity(
        folds,
        y,
        np.ones(n_rows),
        None,
        leaves=(7, 15),
        rounds=(100,),
        weights=(0.0,),
        fit_trees=trees,
        fit_logistic=list,
    )
    assert set(scores) == {7, 15}
    assert choice.capacity.num_leaves == 7


@pytest.mark.parametrize("positives", [300, 2_000, 12_000])
def test_folds_run_forward_and_keep_leads_apart(positives):
    rng = np.random.default_rng(0)
    n_rows = 30_000
    cutoff = rng.integers(0, 300, n_rows) * DAY
    lead = rng.integers(0, 5_000, n_rows)
    y = np.zeros(n_rows)
    y[rng.choice(n_rows, positives, replace=False)] = 1
    folds = forward_folds(y, cutoff, lead, 30 * DAY, seed=0)
    assert len(folds) == {300: 6, 2_000: 2, 12_000: 1}[positives]
    for train, validate in folds:
        assert cutoff[train].max() + 30 * DAY <= cutoff[validate].min()
        assert not set(lead[train]) & set(lead[validate])
        assert y[train].mean() == pytest.approx(y.mean(), rel=0.25)


def test_leads_that_stay_open_are_not_dropped_from_training():
    """Dropping every lead of the validation block would leave training to those that had converted."""
    n_leads = 2_000
    lead = np.repeat(np.arange(n_leads), 10)
    cutoff = np.tile(np.arange(10) * 7 * DAY, n_leads)
    y = np.zeros(len(lead))
    y[np.random.default_rng(0).choice(len(lead), 400, replace=False)] = 1
    closed = np.maximum.accumulate(y.reshape(n_leads, 10), axis=1).ravel() - y > 0
    lead, cutoff, y = lead[~closed], cutoff[~closed], y[~closed]
    for train, _ in forward_folds(y, cutoff, lead, 7 * DAY, seed=0):
        assert y[train].mean() == pytest.approx(y.mean(), rel=0.2)


def test_with_little_data_the_defaults_hold():
    X, y, lead, cutoff, _ = funnel(400)
    few = np.flatnonzero(y == 1)[:99].tolist() + np.flatnonzero(y == 0).tolist()
    model = ConversionModel(seeds=1).fit(X.iloc[few], y[few])
    assert "too little data" in model.selection_["reason"]
    assert model.capacity_ == DEFAULT
    rare = y * (np.arange(len(y)) % 40 == 0)
    model = ConversionModel(seeds=1).fit(X, rare, groups=lead, times=cutoff, horizon_us=14 * DAY)
    assert "too little data" in model.selection_["reason"]
    assert model.capacity_ == DEFAULT


def test_sizes_set_by_hand_are_taken():
    X, y, lead, cutoff, _ = funnel(300)
    model = ConversionModel(n_estimators=12, num_leaves=5, logistic_weight=0.25, seeds=3)
    model.fit(X, y, groups=lead, times=cutoff)
    assert model.selection_["reason"] == "set by hand"
    assert all(10 <= booster.num_trees() <= 12 for booster in model.trees_.boosters)
    assert len(model.trees_.texts) == 3
    assert model.logistic_weight_ == 0.25
    assert ladder(12, "auto", 0.25) == ((7, 15, 31, 63), (12,), (0.25,))


def test_datetimes_and_microseconds_are_the_same_times():
    X, y, lead, cutoff, _ = funnel(600, base=-2.0)
    model = ConversionModel(seeds=1)
    by_number = clone(model).fit(X, y, groups=lead, times=cutoff, horizon_us=14 * DAY)
    instants = pd.Series(pd.to_datetime(cutoff, unit="us", utc=True))
    by_instant = clone(model).fit(X, y, groups=lead, times=instants, horizon_us=14 * DAY)
    assert by_number.selection_ == by_instant.selection_
    assert by_number.selection_["validation_positives"] > 0


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_direction_is_honoured(weight):
    rng = np.random.default_rng(1)
    x = rng.random(4_000)
    X = pd.DataFrame({"count_7d": x, "count_30d": x + rng.normal(0, 0.1, 4_000), "age": rng.random(4_000)})
    y = rng.random(4_000) < expit(3 * np.sin(6 * x) - 1)
    model = ConversionModel(logistic_weight=weight, seeds=2, monotone={"count_*": 1}).fit(X, y)
    grid = pd.DataFrame({"count_7d": np.linspace(-0.2, 1.2, 60), "count_30d": 0.5, "age": 0.5})
    assert np.all(np.diff(model.decision_function(grid)) >= -1e-12)
    free = ConversionModel(logistic_weight=0.0, seeds=2).fit(X, y)
    assert np.any(np.diff(free.decision_function(grid)) < -1e-6)


@pytest.mark.parametrize("monotone", [{"nothing_*": 1}, {"source": 1}, {"calls": 2}])
def test_a_direction_that_cannot_be_honoured_is_an_error(monotone):
    X, y, *_ = funnel(100)
    with pytest.raises(ConfigError, match="monotone"):
        ConversionModel(seeds=1, monotone=monotone).fit(X, y)


@pytest.mark.parametrize("key", ["scale_pos_weight", "is_unbalance", "seed", "num_threads", "linear_tree"])
def test_parameters_that_would_break_a_promise_are_refused(key):
    X, y, *_ = funnel(100)
    with pytest.raises(ConfigError, match=key):
        ConversionModel(seeds=1, lightgbm={key: 1}).fit(X, y)


def test_a_parameter_that_lightgbm_does_not_know_is_an_error():
    X, y, *_ = funnel(100)
    with pytest.raises(ConfigError, match=r"num_leafs.*Did you mean 'num_lea"):
        ConversionModel(seeds=1, lightgbm={"num_leafs": 3}).fit(X, y)
    with pytest.raises(ConfigError, match="lambda_l2 as reg_lambda"):
        ConversionModel(seeds=1, lightgbm={"lambda_l2": 3, "reg_lambda": 4}).fit(X, y)


def test_an_alias_of_a_parameter_replaces_its_default():
    assert tree_parameters({"reg_lambda": 11.0}, (), seed=0, n_threads=1)["lambda_l2"] == 11.0
    assert "reg_lambda" not in tree_parameters({"reg_lambda": 11.0}, (), seed=0, n_threads=1)


def test_unseen_and_reordered_categories(fitted):
    model, X = fitted
    few = X.head(50)
    moved = few.assign(source=few["source"].cat.reorder_categories(["(other)", "partner", "fair", "ads"]))
    assert np.array_equal(model.decision_function(moved), model.decision_function(few))
    new = few.assign(source=pd.Categorical(["fax"] * 50))
    other = few.assign(source=pd.Categorical(["(other)"] * 50, categories=few["source"].cat.categories))
    assert np.array_equal(model.decision_function(new), model.decision_function(other))
    missing = few.assign(source=pd.Categorical([None] * 50, categories=["ads"]))
    assert np.isfinite(model.decision_function(missing)).all()


def test_a_new_category_without_other_bucket_is_taken_as_missing():
    frame = pd.DataFrame({"c": pd.Categorical(["a", "b", "a"])})
    unseen = pd.DataFrame({"c": pd.Categorical(["b", "z", None])})
    np.testing.assert_array_equal(Encoder.learn(frame).encode(unseen)[:, 0], [1.0, 2.0, 2.0])


def test_trees_tell_missing_categories_from_known_ones():
    """Twenty categories alike, a fifth missing, and only the missing convert: one division, not twenty."""
    rng = np.random.default_rng(5)
    names = rng.choice([f"c{i}" for i in range(20)], 2000)
    missing = rng.random(2000) < 0.2
    X = pd.DataFrame({"c": pd.Categorical(np.where(missing, None, names))})
    y = rng.random(2000) < np.where(missing, 0.5, 0.1)
    model = ConversionModel(num_leaves=2, n_estimators=100, logistic_weight=0.0, seeds=1).fit(X, y)
    p = model.predict_proba(X)[:, 1]
    assert abs(p[missing].mean() - y[missing].mean()) < 0.05
    assert p[~missing].max() - p[~missing].min() < 0.1


def test_arrow_backed_frames_are_read_like_others(fitted):
    model, X = fitted
    arrow = X.head(40).astype(
        {"calls": "float[pyarrow]", "silence_days": "Float32", "noise": "double[pyarrow]"}
    )
    assert np.array_equal(model.decision_function(arrow), model.decision_function(X.head(40)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X.assign(calls="many"), "must hold numbers or be a pandas Categorical"),
        (lambda X: X.assign(calls=np.inf), "infinity"),
        (lambda X: X.assign(calls=pd.Categorical(["a"] * len(X))), "was a number"),
        (lambda X: X.assign(source=1.0), "was a category"),
        (lambda X: X.drop(columns="calls"), "feature names"),
        (lambda X: X[["source", "calls", "silence_days", "noise"]], "feature names"),
        (lambda X: np.zeros((3, 4)), "give it a frame"),
    ],
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_rows_that_do_not_fit_are_refused(fitted, change, message):
    model, X = fitted
    with pytest.raises(ValueError, match=message):
        model.predict_proba(change(X.head(3)))


def test_ten_positives_are_enough_to_fit_and_none_are_not():
    X, y, *_ = funnel(200)
    y = np.zeros_like(y)
    y[::80] = 1
    p = ConversionModel(seeds=1).fit(X, y).predict_proba(X)[:, 1]
    assert y.sum() == 10
    assert p.mean() == pytest.approx(y.mean(), rel=0.3)
    for error in (NotEnoughDataError, ValueError):
        with pytest.raises(error, match="one class"):
            ConversionModel(seeds=1).fit(X, np.zeros(len(X)))


def test_a_column_without_values_or_without_change_does_no_harm():
    X, y, *_ = funnel(300)
    X = X.assign(empty=np.float32(np.nan), constant=np.float32(3), void=pd.Categorical([None] * len(X)))
    assert np.isfinite(ConversionModel(seeds=1).fit(X, y).decision_function(X)).all()


def test_calibrating_on_a_later_slice_follows_the_drift():
    X, y, *_ = funnel(1_500)
    later_X, later_y, lead, _, _ = funnel(4_000, base=-4.5, seed=2)
    model = ConversionModel(seeds=1).fit(X, y, calibration=(later_X, later_y, lead))
    assert model.calibrator_.name != "none"
    assert set(model.calibration_log_loss_) >= {"none", "sigmoid", "beta"}
    test_X, test_y, *_ = funnel(3_000, base=-4.5, seed=3)
    p = model.predict_proba(test_X)[:, 1]
    assert p.mean() == pytest.approx(test_y.mean(), rel=0.15)
    raw = expit(model.raw_logit(test_X))
    assert log_loss(test_y, p) < log_loss(test_y, raw) - 0.01


def test_refitting_keeps_capacity_and_calibrator(fitted):
    X, y, lead, _, _ = funnel(800)
    model = ConversionModel(seeds=1).fit(X.head(1_600), y[:1_600])
    model.calibrate(X.tail(1_600), y[-1_600:], lead[-1_600:])
    capacity, calibrator, text = model.capacity_, model.calibrator_, model.trees_.texts[0]
    model.refit(X, y)
    assert (model.capacity_, model.calibrator_) == (capacity, calibrator)
    assert model.trees_.texts[0] != text


def test_thinned_negatives_keep_the_base_rate():
    y = np.zeros(10_000)
    y[:100] = 1
    rows, weight = thin_negatives(y, 1_000, seed=0)
    assert len(rows) == 1_000
    assert y[rows].sum() == 100
    assert np.average(y[rows], weights=weight) == pytest.approx(0.01)


def test_the_configuration_maps_to_parameters():
    config = ModelConfig(seeds=3, num_leaves=15, monotone={"a": 1}, lightgbm={"max_bin": 63}, seed=9)
    model = ConversionModel.from_config(config)
    assert (model.seeds, model.num_leaves, model.monotone, model.random_state) == (3, 15, {"a": 1}, 9)
    assert ConversionModel.from_config(ModelConfig()).get_params() == ConversionModel().get_params()


def test_refit_keeps_the_shape_of_the_calibrator_and_takes_the_level_of_recent_rows() -> None:
    """A base rate that rose from 5 % to 20 %: the calibrator learnt the rise, and so does the second fit."""
    rng = np.random.default_rng(2)
    X = pd.DataFrame({"calls": rng.normal(size=6000)})
    late = np.arange(6000) >= 3000
    y = rng.random(6000) < expit(X["calls"] + np.where(late, -1.7, -3.3))
    model = ConversionModel(
        seeds=1, calibrators=("sigmoid",), logistic_weight=0.0, n_estimators=80, num_leaves=7
    )
    model.fit(X[~late], y[~late]).calibrate(X[late], y[late])
    twice = clone(model).fit(X[~late], y[~late]).calibrate(X[late], y[late]).refit(X, y)
    model.refit(X, y, recent=(X[late], y[late]))
    assert model.predict_proba(X[late])[:, 1].sum() == pytest.approx(y[late].sum(), rel=1e-9)
    assert twice.predict_proba(X[late])[:, 1].sum() > 1.3 * y[late].sum()


def test_fits_side_by_side_leave_the_number_of_blas_threads_alone():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with _ONE_BLAS_THREAD:
            with _ONE_BLAS_THREAD:
                assert set(threads()) == {1}
            assert set(threads()) == {1}
        assert threads() == before
