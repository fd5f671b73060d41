"""From a simulated history to expected values: which rows teach, what is judged, what bundles and scores hold."""

from __future__ import annotations

import numpy as np
import pytest

from convpredict.config.history import SimulatorConfig
from convpredict.config.load import parse_project
from convpredict.errors import BundleError
from convpredict.evaluation.value_judgement import judge_value
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate, simulation_config_tables
from convpredict.models.bundle import load_bundle, write_bundle
from convpredict.models.conversion import ConversionModel
from convpredict.models.fitting import make_bundle
from convpredict.models.value_fitting import fit_value_model, followed_share
from convpredict.scoring.scores import score_open_leads
from convpredict.training.training_set import build_training_set


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("value")
    simulator = SimulatorConfig(leads=4_000, seed=3, interactions_per_lead=6)
    simulate(simulator, folder)
    project = parse_project(
        {
            "name": "value",
            "data": str(folder),
            **simulation_config_tables(simulator),
            "observations": {"cutoffs": {"every": "28d"}, "max_age": "84d"},
            "labels": {"horizons": ["30d"], "value_horizon": "120d"},
            "value": {"family": "lognormal"},
        }
    )
    history = load_history(project.config, project.data_dir, require=("conversions",))
    training_set = build_training_set(history, project)
    value = fit_value_model(training_set, project.config.value, project.config.labels, history=history)
    model = ConversionModel(seeds=1, n_estimators=20, num_leaves=7, logistic_weight=0.0)
    model.fit(training_set.X("development"), training_set.y("development"))
    return project, history, training_set, value, model


def test_leads_that_converted_before_the_test_part_teach(learnt):
    project, _, training_set, value, _ = learnt
    frame = training_set.frame
    taught = frame[(frame["split"] != "test") & (frame["label_30d"] == 1)]
    followed = followed_share(taught, project.config.labels)
    assert (followed < 1).any()
    shares = value.development_.at(followed)
    assert value.n_leads_ == pytest.approx(
        (1 / taught.groupby("lead_id")["lead_id"].transform("size"))[shares >= 0.25].sum()
    )
    assert list(value.development_.shares) == sorted(value.development_.shares)
    rough = fit_value_model(training_set, project.config.value, project.config.labels)
    assert rough.development_ != value.development_


def test_without_revenue_there_is_no_model(learnt):
    project, _, training_set, _, _ = learnt
    labels = project.config.labels.model_copy(update={"value_horizon": None})
    assert fit_value_model(training_set, project.config.value, labels) is None


def test_expected_values_are_judged_against_the_revenue_of_the_test_rows(learnt):
    project, _, training_set, value, model = learnt
    p = model.predict_proba(training_set.X("test"))[:, 1]
    judged = judge_value(training_set, value, p, project.config.labels, project.config.evaluation)
    part = training_set.part("test")
    revenue = part.loc[part["label_30d"] == 1, "revenue"].sum()
    total = judged["expected_value"]["model"]["total_ratio"]
    assert sum(judged["deciles"]["actual"]) == pytest.approx(revenue)
    assert total["low"] < total["value"] < total["high"]
    assert total["value"] * revenue == pytest.approx(sum(judged["deciles"]["predicted"]))
    assert judged["expected_value"]["zero"]["total_ratio"]["value"] == 0.0
    high = value.predict_interval(training_set.X("test"))[1]
    above = (value.predict(training_set.X("test")) > high).mean()
    assert judged["mean_above_interval"] == above
    assert 0.0 <= judged["value"]["complete_share"] < 1.0
    assert "one_value_for_all" not in judged["value"]
    assert judged["value"]["model"]["normalised_gini"]["value"] is not None
    assert judged["counts"]["converted_rows"] == (part["label_30d"] == 1).sum()


def test_one_value_for_all_ranks_no_converted_lead(learnt):
    project, history, training_set, _, model = learnt
    config = project.config.value.model_copy(update={"family": "mean", "segments": ()})
    constant = fit_value_model(training_set, config, project.config.labels, history=history)
    p = model.predict_proba(training_set.X("test"))[:, 1]
    judged = judge_value(training_set, constant, p, project.config.labels, project.config.evaluation)
    alone = judged["value"]
    assert constant.development_ is not None  # the share of open windows would rank the rows, were it asked
    assert alone["one_value_for_all"] is True
    for who in ("model", "same_value"):
        assert alone[who]["normalised_gini"]["value"] is None
        assert alone[who]["spearman"] is None
        assert alone[who]["total_ratio"]["value"] > 0
    assert 0.0 <= alone["coverage"] <= 1.0
    assert judged["expected_value"]["model"]["normalised_gini"]["value"] > 0


def test_bundles_keep_the_value_model_and_scores_hold_it(learnt, tmp_path):
    _, history, training_set, value, model = learnt
    bundle = make_bundle(training_set, model, value=value)
    write_bundle(tmp_path / "bundle", bundle)
    restored = load_bundle(tmp_path / "bundle")
    assert restored.digest == bundle.digest
    X = training_set.part("test")
    for left, right in zip(restored.predict_value(X), bundle.predict_value(X), strict=True):
        assert left.tobytes() == right.tobytes()
    scores = score_open_leads(history, restored).table.to_pandas()
    np.testing.assert_allclose(scores["expected_value"], scores["p_convert_30d"] * scores["value"])
    assert (scores["value_low"] <= scores["value_high"]).all()
    np.testing.assert_allclose(scores["expected_value_high"], scores["p_convert_30d"] * scores["value_high"])


def test_a_bundle_without_a_value_model_says_so(learnt, tmp_path):
    _, history, training_set, _, model = learnt
    bundle = make_bundle(training_set, model)
    assert not any(name.startswith("value/") for name in bundle.files)
    with pytest.raises(BundleError, match="the bundle predicts no value"):
        bundle.predict_value(training_set.part("test"))
    assert "expected_value" not in score_open_leads(history, bundle).table.column_names


def test_a_changed_value_file_is_refused(learnt, tmp_path):
    _, _, training_set, value, model = learnt
    write_bundle(tmp_path / "bundle", make_bundle(training_set, model, value=value))
    path = tmp_path / "bundle" / "value" / "value.json"
    path.write_text(path.read_text().replace('"coverage": 0.8', '"coverage": 0.9'))
    with pytest.raises(BundleError):
        load_bundle(tmp_path / "bundle")
