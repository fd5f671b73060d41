"""What the estimators refuse: weights, parameters, groups, times, columns and labels that they would misread."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from convpredict.config.training import ModelConfig
from convpredict.errors import ConfigError
from convpredict.models.conversion import ConversionModel
from convpredict.models.encoding import Encoder
from convpredict.models.inputs import LARGEST_SEED
from convpredict.models.scorecard import Scorecard
from convpredict.models.value import ValueModel

ROWS = 300
SMALL = {"seeds": 1, "n_estimators": 10, "num_leaves": 4, "logistic_weight": 0.3}


def small(**changes):
    return ConversionModel(**(SMALL | changes))


def table(names=("calls", "visits")):
    """Two columns of opposite effect, and the outcome."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(ROWS, 2))
    y = (rng.random(ROWS) < 1 / (1 + np.exp(1 - 2 * values[:, 0] + 2 * values[:, 1]))).astype(int)
    return pd.DataFrame(values, columns=list(names)), y


@pytest.fixture(params=[small(), ValueModel(), Scorecard()], ids=lambda model: type(model).__name__)
def estimator(request):
    return request.param


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.r_[-1.0, np.ones(ROWS - 1)], "-1 .* in 1 of 300 rows"),
        (-np.ones(ROWS), "-1 .* in 300 of 300 rows"),
        (np.r_[np.nan, np.ones(ROWS - 1)], "nan .* in 1 of 300 rows"),
        (np.r_[np.ones(ROWS - 1), np.inf], "inf .* in 1 of 300 rows"),
    ],
)
def test_what_is_no_weight_is_refused(estimator, weight, message):
    X, y = table()
    with pytest.raises(ValueError, match=f"sample_weight must be finite and not negative; got {message}"):
        estimator.fit(X, y, weight)


def test_negative_weights_are_refused_wherever_weights_are_taken():
    X, y = table()
    model = small().fit(X, y)
    for learn in (model.refit, model.calibrate):
        with pytest.raises(ValueError, match="sample_weight must be finite and not negative"):
            learn(X, y, sample_weight=-np.ones(ROWS))


def test_weights_of_nothing_but_0_say_so(estimator):
    X, y = table()
    with pytest.raises(ValueError, match=r"sample_weight contains only zeros: .* leave sample_weight out"):
        estimator.fit(X, y, np.zeros(ROWS))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *[(small(seeds=value), "seeds") for value in (0, 51, "two", 2.5, True, None)],
        *[(small(n_estimators=value), "n_estimators") for value in (0, "x", 10.0, -3)],
        *[(small(num_leaves=value), "num_leaves") for value in (1, "seven")],
        *[(small(logistic_weight=value), "logistic_weight") for value in (2, -0.1, np.nan, "half", None)],
        *[(small(learning_rate=value), "learning_rate") for value in (0, 1.5, "fast")],
        *[(small(calibrators=value), "calibrators") for value in ((), "none", ("platt",), None)],
        *[(small(n_jobs=value), "n_jobs") for value in (0, "all")],
        *[(small(random_state=value), "random_state") for value in (-1, LARGEST_SEED + 1, 1.0, "a")],
        (small(monotone=["calls"]), "monotone"),
        (small(lightgbm="max_bin=63"), "lightgbm"),
        *[(ValueModel(coverage=value), "coverage") for value in (0, 1, 80, "most")],
        (ValueModel(segments="source"), "segments"),
        (ValueModel(random_state="a"), "random_state"),
    ],
    ids=repr,
)
def test_a_parameter_out_of_range_is_refused_at_fit(model, name):
    X, y = table()
    for error in (ConfigError, ValueError):
        with pytest.raises(
            error, match=rf"^{name} must be .*; got {re.escape(repr(getattr(model, name)))}: "
        ):
            model.fit(X, y)


@pytest.mark.parametrize("model", [small, ValueModel])
def test_a_generator_is_no_seed_and_the_message_says_what_to_do(model):
    X, y = table()
    with pytest.raises(ValueError, match=r"random_state=int\(generator\.randint"):
        model(random_state=np.random.RandomState(0)).fit(X, y)


def test_numbers_of_numpy_are_parameters_like_those_of_python():
    X, y = table()
    plain = small(random_state=4).fit(X, y)
    changes = {name: np.asarray(value)[()] for name, value in SMALL.items()}
    numpy = ConversionModel(**changes, random_state=np.int64(4)).fit(X, y)
    assert numpy.trees_.texts == plain.trees_.texts


def test_what_the_configuration_accepts_fits():
    X, y = table()
    largest = ModelConfig(
        seeds=1, n_estimators=1, num_leaves=2, learning_rate=1, logistic_weight=1, seed=LARGEST_SEED
    )
    assert np.isfinite(ConversionModel.from_config(largest).fit(X, y).decision_function(X)).all()


@pytest.mark.parametrize("model", [small(), ValueModel()], ids=lambda model: type(model).__name__)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"groups": [1, 2, 3]}, r"groups must hold one lead id per row of X, 300; got the shape \(3,\)"),
        ({"groups": np.zeros((ROWS, 2))}, r"groups must hold .* shape \(300, 2\)"),
        (
            {"groups": [None, *range(ROWS - 1)]},
            "groups must hold a lead id for every row; got none for 1 of 300",
        ),
        ({"times": [1, 2]}, r"times must hold one cutoff per row of X, 300; got the shape \(2,\)"),
        (
            {"times": np.full(ROWS, "NaT", "datetime64[us]")},
            "times must hold a cutoff for every row; got none for 300 of 300",
        ),
        ({"times": np.arange(ROWS) / 1.0}, r"instants, or integers in µs; got float64, .*to_datetime"),
    ],
)
def test_groups_and_times_are_those_of_the_rows(model, given, message):
    X, y = table()
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, **given)


def test_calibration_groups_are_those_of_its_rows():
    X, y = table()
    with pytest.raises(ValueError, match="groups must hold one lead id per row"):
        small().fit(X, y, calibration=(X, y, [1, 2]))


def test_labels_of_a_horizon_below_0_would_be_known_before_they_came():
    X, y = table()
    with pytest.raises(ConfigError, match="horizon_us must be a whole number of µs from 0 on; got -1"):
        small().fit(X, y, horizon_us=-1)


@pytest.mark.parametrize(
    "model", [small(), ValueModel(family="mean")], ids=lambda model: type(model).__name__
)
def test_columns_named_by_numbers_are_known_by_name(model):
    X, y = table((0, 1))
    model.fit(X, y)
    before = model.predict(X)
    assert np.array_equal(model.predict(X.copy()), before)
    assert np.array_equal(model.predict(X.to_numpy()), before), "an array has no names"
    with pytest.raises(ValueError, match="columns that the model was fitted on: in another order"):
        model.predict(X[[1, 0]])
    with pytest.raises(ValueError, match="fitted on: without '0', '1' and with '7', '8'"):
        model.predict(X.set_axis([7, 8], axis=1))


def test_after_an_array_columns_have_no_names():
    X, y = table((7, 8))
    model = small().fit(X.to_numpy(), y)
    assert np.array_equal(model.decision_function(X), model.decision_function(X.to_numpy()))


@pytest.mark.parametrize(
    "missing",
    [
        lambda y: np.where(np.arange(ROWS) < 2, np.nan, y),
        lambda y: np.where(np.arange(ROWS) < 2, None, y.astype(object)),
        lambda y: pd.array(np.where(np.arange(ROWS) < 2, None, y.astype(object)), dtype="Int64"),
        lambda y: pd.Series(np.where(y == 1, "won", "open")).where(np.arange(ROWS) >= 2),
    ],
    ids=["nan", "none", "NA", "text"],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_labels_that_are_missing_are_named(estimator, missing, as_array):
    X, y = table()
    with pytest.raises(
        ValueError, match=r"y is missing in 2 of 300 rows.*drop the rows .*build_training_set"
    ):
        estimator.fit(X.to_numpy() if as_array else X, missing(y))


def test_complex_columns_are_refused_and_not_halved():
    X, y = table()
    model = small().fit(X, y)
    odd = X.assign(visits=X["visits"] + 1j)
    for read in (lambda: small().fit(odd, y), lambda: model.predict_proba(odd)):
        with pytest.raises(ValueError, match="'visits' must hold real numbers; got dtype complex128"):
            read()


def test_categories_that_are_the_same_text_are_refused():
    X, y = table()
    twins = X.assign(size=pd.Categorical([1, "1"] * (ROWS // 2), categories=[1, "1"]))
    with pytest.raises(ValueError, match="'size' has the categories 1 and '1', which are the same text"):
        small().fit(twins, y)
    encoder = Encoder.learn(X.assign(size=pd.Categorical(["1", "2"] * (ROWS // 2))))
    with pytest.raises(ValueError, match="same text"):
        encoder.encode(twins)


def test_a_weight_is_how_often_a_row_counts():
    """Scikit-learn's rule, and why weights are not divided by their mean: two rows alike are one of weight 2."""
    X, y = table()
    model = small(n_estimators=1, logistic_weight=1.0)
    twice = model.fit(pd.concat([X, X]), np.r_[y, y]).decision_function(X)
    once = model.fit(X, y).decision_function(X)
    by_weight = model.fit(X, y, np.full(ROWS, 2.0)).decision_function(X)
    np.testing.assert_allclose(by_weight, twice, rtol=1e-5)
    assert np.abs(by_weight - once).max() > 0.01
