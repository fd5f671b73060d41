"""Resampling of leads: what is drawn, and whether the intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from convpredict.evaluation.calibration import Calibration
from convpredict.evaluation.resampling import code_leads, interval, resample_leads


def test_leads_are_drawn_whole_and_as_many_as_there_are():
    leads = np.repeat(["c", "a", "b", "d"], [1, 4, 2, 3])
    seen: list[np.ndarray] = []

    def record(weight):
        if weight is not None:
            seen.append(weight)
        return np.zeros(1)

    resample_leads(record, leads, resamples=100)
    for weight in seen:
        per_lead = pd.Series(weight).groupby(leads)
        assert (per_lead.nunique() == 1).all()
        assert per_lead.first().sum() == 4
    times = np.array([pd.Series(w).groupby(leads).first().to_numpy() for w in seen])
    assert times.mean(axis=0) == pytest.approx(np.ones(4), abs=0.35)
    assert len(np.unique(times, axis=0)) > 20


def test_draws_depend_on_the_seed_and_not_on_their_number_or_the_row_order():
    rng = np.random.default_rng(0)
    leads, x = rng.integers(0, 30, 200), rng.normal(size=200)
    order = rng.permutation(200)

    def mean_of(values):
        return lambda weight: np.array([np.average(values, weights=weight)])

    first = resample_leads(mean_of(x), leads, resamples=60, seed=1).draws
    again = resample_leads(mean_of(x), leads, resamples=80, seed=1).draws
    shuffled = resample_leads(mean_of(x[order]), leads[order], resamples=60, seed=1).draws
    assert np.array_equal(first, again[:60])
    assert shuffled == pytest.approx(first)
    assert not np.array_equal(first, resample_leads(mean_of(x), leads, resamples=60, seed=2).draws)


@pytest.mark.parametrize(
    "ids",
    [
        ["b", "a", "b"],
        np.array([7, 3, 7]),
        pd.Series(["b", "a", "b"], dtype="category"),
        pa.array(["b", "a", "b"]),
    ],
    ids=["text", "integers", "categories", "arrow"],
)
def test_ids_of_every_kind(ids):
    codes, leads = code_leads(ids)
    assert codes.tolist() == [1, 0, 1]
    assert leads == 2


def test_a_missing_id_is_named():
    with pytest.raises(ValueError, match="row 1 holds none"):
        code_leads(["a", None, "b"])


def coverage(resampled_by_lead: bool) -> float:
    """How often the 90 % interval of a mean holds the truth, with six alike observations per lead."""
    held = 0
    for seed in range(150):
        rng = np.random.default_rng([seed, 99])
        x = np.repeat(rng.normal(size=60), 6) + 0.3 * rng.normal(size=360)
        leads = np.repeat(np.arange(60), 6) if resampled_by_lead else np.arange(360)
        result = resample_leads(
            lambda weight, x=x: np.array([x.mean() if weight is None else weight @ x / weight.sum()]),
            leads,
            resamples=200,
            seed=seed,
        )
        low, high = interval(result.value[0], result.draws[:, 0], 0.9)
        held += low <= 0 <= high
    return held / 150


def test_intervals_hold_the_truth_as_often_as_they_say_only_if_leads_are_resampled():
    assert 0.83 <= coverage(resampled_by_lead=True) <= 0.97
    assert coverage(resampled_by_lead=False) < 0.65


def test_basic_interval_comes_near_zero_for_a_calibrated_model():
    # Chance alone gives a calibration error and resampling adds as much again: quantiles lie far too high.
    ends = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        p = rng.uniform(0.05, 0.5, 600)
        calibration = Calibration((rng.random(600) < p).astype(int), p)
        result = resample_leads(
            lambda weight, c=calibration: np.array([c.binned_error(weight)]), np.arange(600), resamples=100
        )
        value, draws = result.value[0], result.draws[:, 0]
        low, high = interval(value, draws, method="basic")
        assert low <= value <= high
        ends.append((value, low, interval(value, draws)[0]))
    value, basic, percentile = np.mean(ends, axis=0)
    assert basic < 0.25 * value
    assert percentile > 0.8 * value


def test_undefined_and_unbounded_draws():
    draws = np.array([1.0] * 95 + [np.nan] * 5)
    assert interval(1.0, draws) == (1.0, 1.0)
    assert np.isnan(interval(1.0, np.array([1.0] * 80 + [np.nan] * 20))).all()
    assert np.isnan(interval(np.nan, draws)).all()
    assert interval(2.0, np.array([1.0] * 50 + [np.inf] * 50)) == (1.0, np.inf)


def test_progress_ends_at_one():
    seen: list[float] = []
    resample_leads(lambda weight: np.zeros(1), [1, 2], resamples=50, progress=seen.append)
    assert seen[-1] == 1
    assert len(seen) == 50
