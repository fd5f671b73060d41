"""The report of a real, small training run: everything it is made from fits together."""

from __future__ import annotations

import pandas as pd
import pytest

from convpredict.config.load import parse_project
from convpredict.evaluation.judgement import judge_test_part
from convpredict.evaluation.report.from_run import choose_segments, describe_model, report_from_run
from convpredict.evaluation.report.render import render_report
from convpredict.history.load import load_history
from convpredict.history.simulator.run import simulate
from convpredict.models.fitting import fit_conversion_model, fit_scorecard
from convpredict.models.scorecard import Scorecard
from convpredict.training.training_set import build_training_set

PROJECT = {
    "name": "small",
    "simulator": {"leads": 2_500, "days": 400, "seed": 3},
    "sources": {
        name: {"file": f"{name}.parquet"} for name in ("leads", "interactions", "conversions", "revenue")
    },
    "history": {
        "leads": {"source": "leads", "attributes": {"channel": "category", "country": "category"}},
        "interactions": {"source": "interactions", "attributes": {"topic": "category"}},
        "conversions": {"source": "conversions"},
        "revenue": {"source": "revenue"},
    },
    "observations": {"cutoffs": {"every": "14d"}, "max_age": "120d"},
    "labels": {"horizons": ["30d"]},
    "model": {"n_estimators": 40, "num_leaves": 7, "logistic_weight": 0.3, "seeds": 1},
    "evaluation": {"resamples": 50, "calls_per_week": 15},
    "scorecard": {"rules": [{"kind": "meeting", "points": 10}, {"kind": "download", "points": 3}]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    project = parse_project(PROJECT, data=folder)
    known = simulate(project.config.simulator, folder).known_until
    project = parse_project({**PROJECT, "history": {**PROJECT["history"], "known_until": known}}, data=folder)
    history = load_history(project.config, folder)
    card = Scorecard(project.config.scorecard)
    training_set = build_training_set(history, project, extra_features=card.declarations())
    model = fit_conversion_model(training_set, project.config.model)
    card = fit_scorecard(training_set, card)
    judgement = judge_test_part(training_set, model, card, project.config.evaluation)
    return project.config.evaluation, training_set, model, judgement, history


def test_a_run_becomes_a_report(run):
    config, training_set, model, judgement, history = run
    p = judgement.predictions["p"]
    inputs = report_from_run(
        "run-7",
        training_set,
        judgement,
        config=config,
        model=model,
        validation=history.report.to_dict(),
        expected_value=1000 * p,
        currency="EUR",
    )
    html = render_report(inputs)
    manifest = training_set.manifest
    for said in ("run-7", "At 15 calls a week", "Model finds", "first fit", "Show by", "channel", "EUR"):
        assert said in html
    assert f"{manifest['parts']['train']['observations']:,}" in html
    assert f"{history.report.tables['interactions'].read:,}" in html
    leads = training_set.part("test")["lead_id"]
    assert not any(f">{lead}<" in html for lead in leads.unique())
    assert len(html) < 1_000_000
    assert (inputs.predictions["expected_value"] == 1000 * p).all()
    assert "expected_value" not in judgement.predictions


def test_segments_are_the_attributes_of_the_judged_rows(run):
    _, training_set, *_ = run
    chosen = choose_segments(training_set, None)
    assert list(chosen) == ["channel", "country"]
    part = training_set.part("test")
    pd.testing.assert_series_equal(
        chosen["channel"].astype(str),
        part["attribute_channel"].reset_index(drop=True).astype(str),
        check_names=False,
    )
    assert list(choose_segments(training_set, ("country", "not_there"))) == ["country"]
    assert list(choose_segments(training_set, ("Country",))) == ["Country"]  # columns have the name's slug
    assert choose_segments(training_set, ("not_there",)) is None


def test_the_model_card_says_what_was_chosen(run):
    card = describe_model(run[2])
    assert card["trees"] == 40
    assert card["calibrator"] in ("none", "sigmoid", "beta", "isotonic")
    assert set(card["log_loss_of_the_calibrators"]) >= {card["calibrator"]}
