"""The level of heavy tails: steadier where logs are normal, untouched where they are not, honest in the end."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from convpredict.models.value import ValueModel
from convpredict.models.value_level import FEWEST_PAYERS, tail_factor


def means(draw, n_leads, times=400):
    """Plain means of drawn amounts, and the means after the factor; both (times,)."""
    rng = np.random.default_rng(n_leads)
    plain, moved = np.empty(times), np.empty(times)
    for i in range(times):
        amount = draw(rng, n_leads)
        plain[i] = amount.mean()
        moved[i] = plain[i] * tail_factor(amount, np.ones(n_leads), np.arange(n_leads))
    return plain, moved


def error(estimate, truth):
    return float(np.sqrt(np.mean(np.log(estimate / truth) ** 2)))


def with_zeros(rng, n):
    return np.where(rng.random(n) < 0.4, 0.0, rng.lognormal(0.0, 2.0, n))


@pytest.mark.parametrize("n_leads", [100, 400])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng, n: rng.lognormal(0.0, 1.5, n), np.exp(1.125)),
        (lambda rng, n: rng.lognormal(0.0, 2.0, n), np.exp(2.0)),
        (with_zeros, 0.6 * np.exp(2.0)),
    ],
)
def test_heavy_lognormal_tails_have_a_steadier_and_unbiased_level(draw, truth, n_leads):
    plain, moved = means(draw, n_leads)
    assert error(moved, truth) < 0.97 * error(plain, truth)
    assert moved.mean() == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng, n: rng.pareto(1.6, n) + 1.0, 1.6 / 0.6),
        (lambda rng, n: rng.gamma(0.3, 1.0, n), 0.3),
        (lambda rng, n: rng.exponential(1.0, n), 1.0),
        (lambda rng, n: rng.lognormal(0.0, 1.0, n) * np.where(rng.random(n) < 0.05, 400.0, 1.0), 34.54),
        (lambda rng, n: rng.lognormal(0.0, 1.0, n) * np.where(rng.random(n) < 0.3, 0.01, 1.0), 1.159),
    ],
)
def test_other_tails_lose_nothing(draw, truth):
    plain, moved = means(draw, 300)
    assert error(moved, truth) < 1.02 * error(plain, truth)
    assert abs(moved.mean() / plain.mean() - 1.0) < 0.02


def test_the_factor_vanishes_with_enough_leads():
    rng = np.random.default_rng(0)
    amount = np.exp(rng.normal(size=100_000)) * np.where(rng.random(100_000) < 0.01, 100.0, 1.0)
    assert tail_factor(amount, np.ones(len(amount)), np.arange(len(amount))) == 1.0


def test_rows_of_a_lead_are_one_lead_and_the_unit_does_not_matter():
    amount = np.random.default_rng(3).lognormal(0.0, 2.0, 80)
    lead = np.arange(80)
    factor = tail_factor(amount, np.ones(80), lead)
    assert factor != 1.0
    repeated = np.repeat(lead, 3)
    assert tail_factor(amount[repeated], np.full(240, 1 / 3), repeated) == pytest.approx(factor)
    assert tail_factor(1e6 * amount, np.full(80, 7.0), lead) == pytest.approx(factor)


def test_too_few_equal_or_refunded_amounts_are_left_as_they_are():
    amount = np.random.default_rng(3).lognormal(0.0, 2.0, FEWEST_PAYERS)
    lead = np.arange(FEWEST_PAYERS)
    assert tail_factor(amount[1:], np.ones(FEWEST_PAYERS - 1), lead[1:]) == 1.0
    assert tail_factor(np.full(200, 500.0), np.ones(200), np.arange(200)) == pytest.approx(1.0)
    assert tail_factor(-amount, np.ones(FEWEST_PAYERS), lead) == 1.0
    # refunds keep their amount: only what was paid is moved
    factor = tail_factor(amount, np.ones(FEWEST_PAYERS), lead)
    refund = np.append(amount, -0.25 * amount.sum())
    moved = tail_factor(refund, np.ones(FEWEST_PAYERS + 1), np.arange(FEWEST_PAYERS + 1))
    assert moved == pytest.approx((factor - 0.25) / 0.75)


@pytest.mark.parametrize("family", ["mean", "lognormal"])
def test_the_model_takes_the_factor_and_its_interval_does_not_move(family):
    rng = np.random.default_rng(5)
    size = rng.choice(["large", "small"], 300)
    X = pd.DataFrame({"size": pd.Categorical(size), "calls": rng.poisson(3.0, 300)})
    revenue = rng.lognormal(np.where(size == "large", 8.0, 6.0), 2.0)
    model = ValueModel(family=family).fit(X, revenue)
    assert model.tail_factor_ != 1.0
    restored = ValueModel.from_files(model.to_files())
    assert restored.tail_factor_ == model.tail_factor_
    low, high = model.predict_interval(X)
    assert 0.7 < np.mean((low <= revenue) & (revenue <= high)) < 0.9


@pytest.mark.parametrize("seed", range(5))
def test_refunds_that_take_most_of_it_away_leave_the_level_alone(seed):
    amount = np.random.default_rng(seed).lognormal(0.0, 2.0, 200)
    refund = np.append(amount, -0.95 * amount.sum())
    assert tail_factor(refund, np.ones(201), np.arange(201)) == 1.0


def test_one_lead_that_outweighs_all_others_says_nothing_of_a_tail():
    amount, weight = np.random.default_rng(1).lognormal(0.0, 2.0, 50), np.ones(50)
    weight[0] = 1e18
    assert tail_factor(amount, weight, np.arange(50)) == 1.0
