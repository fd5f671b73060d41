"""On simulated data, whose true probabilities are known, the whole line comes close to them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from convpredict.config.load import parse_project
from convpredict.history.load import load_history
from convpredict.history.simulator.run import simulate
from convpredict.models.fitting import fit_conversion_model
from convpredict.training.training_set import build_training_set

PROJECT = {
    "name": "recovery",
    "simulator": {"leads": 8_000, "days": 540, "seed": 1},
    "sources": {name: {"file": f"{name}.parquet"} for name in ("leads", "interactions", "conversions")},
    "history": {
        "leads": {
            "source": "leads",
            "attributes": {
                **dict.fromkeys(
                    ("industry", "company_size", "job_role", "channel", "landing_page"), "category"
                ),
                "employees": "number",
            },
        },
        "interactions": {"source": "interactions", "attributes": {"topic": "category"}},
        "conversions": {"source": "conversions"},
    },
    "observations": {"cutoffs": {"every": "28d"}, "max_age": "180d"},
    "model": {"seeds": 2},
}


@pytest.fixture(scope="module")
def recovered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recovery")
    project = parse_project(PROJECT, data=folder)
    simulation = simulate(project.config.simulator, folder)
    project = parse_project(
        {**PROJECT, "history": {**PROJECT["history"], "known_until": simulation.known_until}}, data=folder
    )
    training_set = build_training_set(load_history(project.config, folder), project)
    model = fit_conversion_model(training_set, project.config.model)
    test = training_set.part("test")
    truth = simulation.true_probability(test["lead_id"], test["cutoff"], training_set.horizons[0])
    return training_set, model, np.asarray(truth), model.predict_proba(training_set.X("test"))[:, 1]


def expected_log_loss(p, truth):
    """Log loss in expectation over the labels: free of their noise, and lowest at the truth."""
    return float(-np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p)))


def test_log_loss_comes_close_to_the_truths(recovered):
    training_set, _, truth, p = recovered
    base = np.full(len(truth), training_set.y("development").mean())
    lowest, ours, constant = (expected_log_loss(q, truth) for q in (truth, p, base))
    assert ours < 1.05 * lowest
    assert (constant - ours) / (constant - lowest) > 0.6


def test_probabilities_are_of_the_right_size(recovered):
    _, _, truth, p = recovered
    assert p.mean() == pytest.approx(truth.mean(), rel=0.2)
    for tenth in np.array_split(np.argsort(p), 5)[2:]:
        assert p[tenth].mean() == pytest.approx(truth[tenth].mean(), rel=0.35)


def test_leads_are_ranked_nearly_as_well_as_the_truth_ranks_them(recovered):
    training_set, _, truth, p = recovered
    y = training_set.y("test")
    assert roc_auc_score(y, p) > roc_auc_score(y, truth) - 0.06
