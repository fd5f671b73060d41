"""Further horizons: never falling, the primary untouched, a median by hand, learnt without what comes after T."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.config.base import Duration
from convpredict.config.load import parse_project
from convpredict.config.training import EvaluationConfig, ModelConfig
from convpredict.errors import BundleError, NotEnoughDataError
from convpredict.evaluation.judgement import judge_test_part
from convpredict.models.bundle import load_bundle, write_bundle
from convpredict.models.fitting import fit_conversion_model, make_bundle
from convpredict.models.horizons import fit_further_horizons, median_days, non_decreasing
from convpredict.scoring.scores import score_open_leads
from convpredict.training.training_set import build_training_set
from factories import day, make_history

HORIZONS = [Duration(text) for text in ("7d", "30d", "90d", "12h")]
MODEL = ModelConfig(n_estimators=20, num_leaves=4, logistic_weight=0.3, seeds=1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), primary=st.sampled_from(HORIZONS))
def test_probabilities_never_fall_and_the_primary_stays(seed, primary):
    rng = np.random.default_rng(seed)
    raw = {horizon: rng.uniform(0.001, 0.999, 20) for horizon in HORIZONS}
    made = non_decreasing(primary, raw)
    assert list(made) == sorted(HORIZONS)
    assert np.array_equal(made[primary], raw[primary])
    assert (np.diff(np.column_stack(list(made.values())), axis=1) >= 0).all()
    median = median_days(made)
    told = ~np.isnan(median)
    assert ((median[told] > 0.5) & (median[told] <= 90)).all()


def test_the_median_of_a_constant_hazard_is_its_own():
    """1 - P(t) = exp(-t / 50): half of P(90) = .8347 is reached at -50 ln(1 - .41735) = 27.01 days."""
    p = {horizon: np.array([-np.expm1(-horizon.days / 50)]) for horizon in HORIZONS}
    assert median_days(p) == pytest.approx([27.01], abs=0.01)
    assert np.isnan(median_days({HORIZONS[0]: np.array([0.3])})).all()


def history():
    rng = np.random.default_rng(2)
    leads = [(f"lead-{n:04d}", day(n / 4), None, {"source": ("ads", "fair")[n % 2]}) for n in range(1200)]
    conversions = []
    for lead, created, _, values in leads:
        if rng.random() < (0.7 if values["source"] == "fair" else 0.35):
            conversions.append((lead, created + timedelta(days=float(rng.exponential(25)) + 0.1)))
    until = day(300)
    return make_history(leads, conversions=[row for row in conversions if row[1] < until], known_until=until)


def project(horizons=("20d", "60d", "7d")):
    return parse_project(
        {
            "name": "tests",
            "sources": {"nothing": {"file": "nothing.csv"}},
            "history": {"leads": {"source": "nothing"}},
            "observations": {"cutoffs": {"every": "7d"}, "max_age": "80d"},
            "labels": {"horizons": list(horizons)},
        }
    )


@pytest.fixture(scope="module")
def trained():
    training_set = build_training_set(history(), project())
    model = fit_conversion_model(training_set, MODEL, n_jobs=1)
    return training_set, model, fit_further_horizons(training_set, MODEL, model, n_jobs=1)


class TestTraining:
    def test_each_horizon_is_calibrated_on_rows_it_did_not_see(self, trained):
        training_set, model, further = trained
        assert [str(horizon) for horizon in further] == ["60d", "7d"]
        judged = judge_test_part(
            training_set, model, None, EvaluationConfig(resamples=50), further=further
        ).metrics["horizons"]
        assert list(judged) == ["7d", "20d", "60d"]
        rows = [judged[name]["counts"]["rows"] for name in judged]
        assert rows[0] == rows[1] > rows[2]
        for entry in judged.values():
            assert 0.8 < entry["calibration_ratio"]["value"] < 1.25
            assert entry["calibration_ratio"]["low"] <= entry["calibration_ratio"]["high"]
            assert entry["auc"]["value"] > 0.52

    def test_a_horizon_that_nothing_is_known_of_is_refused(self):
        training_set = build_training_set(history(), project(("20d", "290d")))
        model = fit_conversion_model(training_set, MODEL, n_jobs=1)
        with pytest.raises(NotEnoughDataError, match=r"labels\.horizons has 290d, but .* drop this horizon"):
            fit_further_horizons(training_set, MODEL, model)


class TestBundle:
    def test_it_keeps_every_horizon_to_the_bit(self, trained, tmp_path):
        training_set, model, further = trained
        bundle = make_bundle(training_set, model, None, further)
        write_bundle(tmp_path / "b", bundle)
        again = load_bundle(tmp_path / "b")
        assert again.horizons == tuple(sorted(training_set.horizons))
        X = training_set.X("test")
        for horizon, p in bundle.predict_horizons(X).items():
            assert np.array_equal(again.predict_horizons(X)[horizon], p)
        assert np.array_equal(again.predict_horizons(X)[again.horizon], model.predict_proba(X)[:, 1])
        assert again.digest == bundle.digest != make_bundle(training_set, model).digest
        single = set(make_bundle(training_set, model).files)
        assert not [name for name in single if name.startswith("horizon_")]

    def test_an_altered_or_missing_model_is_refused(self, trained, tmp_path):
        training_set, model, further = trained
        write_bundle(tmp_path / "b", make_bundle(training_set, model, None, further))
        path = tmp_path / "b" / "horizon_60d" / "calibrator.json"
        text = path.read_text()
        path.write_text(text + " ")
        with pytest.raises(BundleError, match=r"horizon_60d/calibrator\.json .* was altered"):
            load_bundle(tmp_path / "b")
        path.unlink()
        with pytest.raises(BundleError, match=r"lacks horizon_60d/calibrator\.json"):
            load_bundle(tmp_path / "b")

    def test_scores_hold_all_horizons_and_a_median(self, trained):
        training_set, model, further = trained
        scores = score_open_leads(history(), make_bundle(training_set, model, None, further))
        names = ["p_convert_7d", "p_convert_20d", "p_convert_60d"]
        at = scores.table.column_names.index("p_convert_7d")
        rest = ["score", "median_days_to_conversion", "rank"]
        assert scores.table.column_names[at : at + 6] == [*names, *rest]
        table = scores.table.to_pandas()
        assert (np.diff(table[names].to_numpy(), axis=1) >= 0).all()
        assert table["p_convert_20d"].is_monotonic_decreasing
        told = table["median_days_to_conversion"].dropna()
        assert len(told) > 0
        assert told.between(7, 60).all()
        alone = score_open_leads(history(), make_bundle(training_set, model)).table
        assert "median_days_to_conversion" not in alone.column_names


def test_what_comes_after_t_changes_no_model(trained):
    """Rows before T hold nothing learnt later: another future gives the same models, further horizons too."""
    training_set, model, further = trained
    source, end = history(), training_set.test_from
    leads = [tuple(row.values()) for row in source.leads.to_pylist()]
    ids = [row[0] for row in leads]
    conversions = [
        (ids[row["lead_row"]], row["converted_at"])
        if row["converted_at"] < end
        else (ids[row["lead_row"]], row["converted_at"] + timedelta(days=0.3))
        for row in source.conversions.to_pylist()
    ]
    other_leads = [(lead, created, lost, {"source": source_of}) for lead, created, lost, source_of in leads]
    changed = make_history(other_leads, conversions=conversions, known_until=day(300))
    split = {
        "test_from": end.isoformat(),
        "calibrate_from": training_set.calibrate_from.isoformat(),
    }
    config = project()
    fixed = parse_project({**config.config.model_dump(mode="json", exclude_unset=True), "split": split})
    other = build_training_set(changed, fixed)
    before = training_set.frame[training_set.frame["split"] != "test"].reset_index(drop=True)
    after = other.frame[other.frame["split"] != "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(after, before)
    again = fit_conversion_model(other, MODEL, n_jobs=1)
    X = training_set.X("test")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    same = fit_further_horizons(other, MODEL, again, n_jobs=1)
    for horizon, each in further.items():
        assert np.array_equal(same[horizon].predict_proba(X), each.predict_proba(X))
