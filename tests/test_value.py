"""The value model: scikit-learn's contract, families, levels, open windows, small data, intervals, files."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from convpredict.config.value import ValueConfig
from convpredict.errors import BundleError, ConfigError, NotEnoughDataError
from convpredict.models.value import ValueModel
from convpredict.models.value_development import DevelopmentCurve
from convpredict.models.value_families import FAMILIES
from convpredict.models.value_intervals import fit_interval
from convpredict.models.value_level import tail_factor
from convpredict.models.value_outliers import hold_decisive_lead, outlier_note
from convpredict.models.value_segments import fit_segment_means
from convpredict.models.value_selection import deviance, forward_folds

FIXED = [family for family in FAMILIES if family != "mean"]


@parametrize_with_checks([ValueModel(family="lognormal")])
def test_is_a_scikit_learn_regressor(estimator, check):
    check(estimator)


def customers(n_leads, *, seed=0, zeros=0.0, spread=0.8):
    """Converted leads: (frame, revenue, true mean); the mean follows size and sector, the rest is noise."""
    rng = np.random.default_rng(seed)
    size = rng.choice(["large", "medium", "small"], n_leads)
    sector = rng.choice(["bank", "farm", "shop", "school"], n_leads)
    log_mean = 6.0 + np.select([size == "large", size == "medium"], [1.2, 0.5], 0.0)
    log_mean += np.where(sector == "bank", 0.7, np.where(sector == "school", -0.7, 0.0))
    bought = rng.random(n_leads) >= zeros * np.where(size == "small", 1.5, 0.5)
    revenue = np.where(bought, np.exp(log_mean + spread * rng.normal(size=n_leads)), 0.0)
    truth = np.exp(log_mean + spread**2 / 2) * (1 - zeros * np.where(size == "small", 1.5, 0.5))
    frame = pd.DataFrame(
        {
            "size": pd.Categorical(size),
            "sector": pd.Categorical(sector),
            **{f"noise_{i}": rng.normal(size=n_leads).astype(np.float32) for i in range(6)},
        }
    )
    return frame, revenue, truth


@pytest.mark.parametrize("family", FIXED)
def test_every_family_learns_the_mean_of_zero_inflated_heavy_tails(family):
    X, revenue, truth = customers(900, zeros=0.3)
    model = ValueModel(family=family).fit(X, revenue, times=np.arange(len(X)))
    fresh, _, fresh_truth = customers(2_000, seed=1, zeros=0.3)
    predicted = model.predict(fresh)
    assert model.candidate_.family == family
    assert predicted.sum() == pytest.approx(fresh_truth.sum() * revenue.sum() / truth.sum(), rel=0.05)
    assert np.corrcoef(np.log(predicted), np.log(fresh_truth))[0, 1] > 0.9


def test_auto_takes_the_simplest_family_that_the_data_supports():
    X, revenue, _ = customers(800)
    model = ValueModel().fit(X, revenue, times=np.arange(len(X)))
    losses = model.selection_["deviance"]
    assert set(losses) == set(FAMILIES)
    assert model.candidate_.family != "mean"  # two columns matter, and a segment is one
    assert losses[model.candidate_.family] < losses["mean"]
    noise = np.random.default_rng(0).exponential(100.0, len(X))
    assert ValueModel().fit(X, noise, times=np.arange(len(X))).candidate_.family == "mean"


@pytest.mark.parametrize("zeros", [0.0, 0.4])
def test_the_interval_covers_new_leads_in_every_part_of_the_list(zeros):
    X, revenue, _ = customers(2_500, zeros=zeros)
    model = ValueModel(family="lognormal").fit(X, revenue, times=np.arange(len(X)))
    fresh, actual, _ = customers(6_000, seed=1, zeros=zeros)
    low, high = model.predict_interval(fresh)
    inside = (low <= actual) & (actual <= high)
    assert 0.76 < inside.mean() < 0.84  # what 1,250 leads tell is off by .011 itself
    order = np.argsort(model.predict(fresh))
    assert all(0.7 < inside[part].mean() < 0.9 for part in np.array_split(order, 3))
    assert (low <= high).all()


def test_open_windows_are_completed_and_the_dishonest_choices_are_not_right():
    """Revenue comes evenly; the level triples for leads won late, whose windows are open."""
    rng = np.random.default_rng(0)
    n_leads = 3_000
    age = np.linspace(3.0, 0.2, n_leads)  # of the window, at the end of the data: the last third is open
    total = np.exp(rng.normal(size=n_leads)) * np.where(age < 1.0, 3.0, 1.0) * 100.0
    followed = np.minimum(age, 1.0)
    courses = total[:, None] * np.linspace(0.1, 1.0, 10)
    courses[np.linspace(0.1, 1.0, 10)[None, :] > followed[:, None] + 1e-9] = np.nan
    X = pd.DataFrame({"late": (age < 1.0).astype(np.float32), "noise": rng.normal(size=n_leads)})
    late = X["late"] == 1
    level = 300.0 * np.exp(0.5)
    fit = {"times": np.arange(n_leads)}
    revenue = total * followed
    curve = DevelopmentCurve.of_courses(courses)
    np.testing.assert_allclose(curve.shares, np.linspace(0.1, 1.0, 10), atol=1e-6)
    honest = ValueModel(family="lognormal").fit(X, revenue, followed_share=followed, development=curve, **fit)
    as_complete = ValueModel(family="lognormal").fit(X, revenue, **fit)
    left_out = ValueModel(family="lognormal").fit(
        X[followed >= 1], revenue[followed >= 1], times=np.arange((followed >= 1).sum())
    )
    assert honest.predict(X[late]).mean() == pytest.approx(level, rel=0.1)
    assert as_complete.predict(X[late]).mean() < 0.75 * level
    assert left_out.predict(X[late]).mean() < 0.5 * level


def test_the_chain_ladder_by_hand():
    # From 1 to 2: (6 + 8 + 3) / (2 + 4 + 2) = 17 / 8; from 2 to 3, customers a and b only: 16 / 14.
    rows = np.array([[2.0, 6.0, 7.0], [4.0, 8.0, 9.0], [2.0, 3.0, np.nan], [9.0, np.nan, np.nan]])
    curve = DevelopmentCurve.of_courses(np.repeat(rows, 5, axis=0))
    np.testing.assert_allclose(curve.shares, [8 / 17 * 14 / 16, 14 / 16, 1.0])
    np.testing.assert_allclose(curve.at([0.0, 1 / 3, 0.5, 2.0]), [0.0, 7 / 17, (7 / 17 + 7 / 8) / 2, 1.0])
    assert DevelopmentCurve.from_dict(json.loads(json.dumps(curve.to_dict()))) == curve
    with pytest.raises(NotEnoughDataError, match="followed over the whole value horizon"):
        DevelopmentCurve.of_courses(rows)


def test_development_from_totals_is_rougher_but_rises_to_one():
    rng = np.random.default_rng(0)
    followed = np.minimum(rng.uniform(0.05, 2.0, 4_000), 1.0)
    curve = DevelopmentCurve.of_totals(followed * rng.exponential(1.0, 4_000), followed)
    assert curve.shares[-1] == 1.0
    assert list(curve.shares) == sorted(curve.shares)
    np.testing.assert_allclose(curve.at([0.3, 0.7]), [0.3, 0.7], atol=0.1)


def test_little_data_falls_back_to_segments_and_to_the_mean_of_all():
    X, revenue, _ = customers(150)
    few = ValueModel().fit(X, revenue, times=np.arange(150))
    assert few.candidate_.family == "mean"
    assert few.predict(X).sum() == pytest.approx(revenue.sum() * few.tail_factor_)
    tiny = ValueModel(family="gamma").fit(X[:20], revenue[:20])
    np.testing.assert_allclose(tiny.predict(X), revenue[:20].mean())
    low, high = tiny.predict_interval(X)
    assert (low < tiny.predict(X)).all()
    assert (high > tiny.predict(X)).all()


def test_credibility_by_hand():
    # Cells of 2 and 2: means 1 and 5, within variance (2 + 2) / (4 - 2) = 2; overall 3; between: (2 * 4 + 2 * 4 -
    # 1 * 2) / (4 - 8 / 4) = 7; credibility 2 / (2 + 2 / 7) = 7 / 8: 1 -> 3 - 2 * 7 / 8, 5 -> 3 + 2 * 7 / 8.
    matrix = np.array([[0.0], [0.0], [1.0], [1.0]])
    fit = fit_segment_means(matrix, np.array([0.0, 2.0, 4.0, 6.0]), np.ones(4), [0])
    assert fit.predict(np.array([[0.0], [1.0], [np.nan]])).tolist() == [1.25, 4.75, 3.0]


def test_one_outlier_does_not_decide_the_level():
    X, revenue, _ = customers(400)
    plain = ValueModel(family="lognormal").fit(X, revenue)
    typed_wrong = revenue.copy()
    typed_wrong[7] *= 10_000
    spoilt = ValueModel(family="lognormal").fit(X, typed_wrong)
    assert spoilt.predict(X).sum() < 1.25 * plain.predict(X).sum()


@pytest.mark.parametrize(("few", "large"), [(5, 200_000.0), (2, 150e6), (12, 1e4)])
def test_a_few_customers_who_bring_most_keep_their_revenue(few, large):
    revenue = np.concatenate([np.full(12 if large > 1e8 else 100 - few, 500.0), np.full(few, large)])
    X = pd.DataFrame({"calls": np.arange(len(revenue)) % 7})
    model = ValueModel(family="mean", segments=()).fit(X, revenue)
    assert model.predict(X)[0] == pytest.approx(revenue.mean())
    assert (model.outlier_cut_, model.tail_factor_) == (0.0, 1.0)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0, 2.5])
def test_heavy_tails_keep_their_mean_unless_one_lead_outweighs_the_others(sigma):
    rng = np.random.default_rng(int(10 * sigma))
    for n in (12, 50, 400, 3000):
        for _ in range(25):
            amount = np.exp(rng.normal(0.0, sigma, n))
            held, cut = hold_decisive_lead(amount, np.ones(n), np.arange(n))
            if amount.max() <= amount.sum() / 2:
                assert held is amount
                assert cut == 0.0
            else:
                assert 1.0 - held.sum() / amount.sum() == pytest.approx(cut)
                assert held.mean() <= 2.0 * np.sort(amount)[:-1].mean()
                assert (held <= amount).all()


def test_one_absurd_amount_cannot_lift_the_level_nor_is_it_forgotten():
    X = pd.DataFrame({"calls": np.arange(200) % 7})
    revenue = np.full(200, 500.0)
    revenue[7] = 1e9
    model = ValueModel(family="mean", segments=()).fit(X, revenue)
    assert 500.0 < model.predict(X)[0] < 550.0  # (199 x 500 + sqrt(200) x 500) / 200 = 532.9
    assert 0.999 < model.outlier_cut_ < 1.0
    assert "more revenue than all others" in outlier_note(model.outlier_cut_)
    assert ValueModel.from_files(model.to_files()).outlier_cut_ == model.outlier_cut_
    # the effect has no jump: just above what all others bring, a lead counts as much as just below
    for excess in (0.999, 1.001):
        amount = np.append(np.full(199, 500.0), 199 * 500.0 * excess)
        held, _ = hold_decisive_lead(amount, np.ones(200), np.arange(200))
        assert held[-1] == pytest.approx(199 * 500.0, rel=0.002)
    # rows of one lead are one lead, and the only one who brought anything stays
    rows = np.append(np.full(199, 500.0), [5e8, 5e8])
    held, _ = hold_decisive_lead(rows, np.ones(201), np.append(np.arange(199), [199, 199]))
    assert held[-2:].sum() == pytest.approx(np.sqrt(200) * 500.0)
    alone = np.append(np.zeros(99), 500.0)
    assert hold_decisive_lead(alone, np.ones(100), np.arange(100))[0].sum() == 500.0


def test_segments_that_lose_money_have_an_interval_in_order():
    rng = np.random.default_rng(4)
    segment = rng.choice(["won", "returned"], 400)
    X = pd.DataFrame({"segment": pd.Categorical(segment)})
    revenue = np.where(segment == "won", rng.gamma(3.0, 400.0, 400), -rng.gamma(3.0, 100.0, 400))
    model = ValueModel(family="mean", segments=["segment"]).fit(X, revenue)
    low, high = model.predict_interval(X)
    assert (model.predict(X)[segment == "returned"] < 0).all()
    assert (low <= high).all()


def test_leads_count_not_rows():
    X, revenue, _ = customers(300)
    lead = np.arange(300)
    times = np.where(revenue > np.median(revenue), 9, 1)
    rows = np.repeat(lead, times)
    repeated = ValueModel(family="mean", segments=()).fit(X.iloc[rows], revenue[rows], groups=rows)
    assert repeated.predict(X)[0] == pytest.approx(revenue.mean() * repeated.tail_factor_)
    assert repeated.tail_factor_ == pytest.approx(tail_factor(revenue, np.ones(300), lead), rel=1e-3)
    assert repeated.n_leads_ == pytest.approx(300)


def test_refunds_lower_the_level_and_nothing_but_refunds_is_a_loss():
    X, revenue, _ = customers(300)
    refunded = revenue.copy()
    refunded[:30] = -50.0
    model = ValueModel(family="tweedie").fit(X, refunded, times=np.arange(300))
    assert model.predict(X).sum() == pytest.approx(refunded.sum(), rel=0.05)
    loss = ValueModel().fit(X, -revenue)
    assert loss.predict(X).sum() == pytest.approx(-revenue.sum())


def test_the_same_data_twice_gives_the_same_files_and_files_predict_to_the_bit():
    X, revenue, _ = customers(400, zeros=0.2)
    for family in ("zero_inflated_lognormal", "mean"):
        model = ValueModel(family=family).fit(X, revenue, times=np.arange(400))
        files = model.to_files()
        assert clone(model).fit(X, revenue, times=np.arange(400)).to_files() == files
        restored = ValueModel.from_files(files)
        assert restored.to_files() == files
        assert restored.predict(X).tobytes() == model.predict(X).tobytes()
        assert model.predict(X[5:6])[0] == model.predict(X)[5]
    with pytest.raises(BundleError, match="export the bundle anew"):
        ValueModel.from_files({"value.json": files["value.json"].replace('"interval"', '"other"')})


def test_forward_folds_keep_leads_whole_and_time_in_order():
    rng = np.random.default_rng(0)
    lead = rng.integers(0, 50, 300)
    time = rng.integers(0, 1_000, 300)
    folds = forward_folds(time, lead, np.ones(300))
    assert len(folds) == 5
    last = pd.Series(time).groupby(lead).max()
    for train, held_out in folds:
        assert not set(lead[train]) & set(lead[held_out])
        assert last[lead[train]].max() <= last[lead[held_out]].min()


def test_the_deviance_is_least_at_the_mean():
    actual = np.array([0.0, 0.0, 1.0, 7.0])
    grid = np.linspace(0.5, 5.0, 181)
    losses = [deviance(actual, np.full(4, mean)).mean() for mean in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(actual.mean())


def test_the_interval_counts_zeros_and_shares_the_weight_of_a_lead():
    prediction, revenue = np.full(40, 10.0), np.concatenate([np.zeros(20), np.arange(20.0) + 1])
    low, high = fit_interval(prediction, revenue, np.ones(40)).at(np.array([10.0]))
    assert low[0] == 0.0
    assert high[0] == 13.0  # half are zero, so nothing lies below: the rank ceil(41 * .8) = 33 of 40
    twice = fit_interval(np.tile(prediction, 2), np.tile(revenue, 2), np.full(80, 0.5))
    assert twice.at(np.array([10.0]))[1][0] == high[0]


def test_what_is_wrong_is_named():
    X, revenue, _ = customers(60)
    with pytest.raises(ConfigError, match=r"value\.family must be one of auto, mean"):
        ValueModel(family="poisson").fit(X, revenue)
    with pytest.raises(ConfigError, match="which is no category among the model's columns"):
        ValueModel(segments=("country",)).fit(X, revenue, times=np.arange(60))
    with pytest.raises(NotEnoughDataError, match="followed long enough"):
        ValueModel().fit(
            X, revenue, followed_share=np.full(60, 0.01), development=DevelopmentCurve((0.5, 1.0), (0.6, 1.0))
        )
    assert ValueModel.from_config(ValueConfig(coverage=0.9)).coverage == 0.9
