"""Customers as leads: the real purchases of configs/cdnow*.yaml arrive; a past shorter than two horizons teaches."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from convpredict.config.load import load_project, parse_project
from convpredict.config.training import ModelConfig
from convpredict.evaluation.metrics import auc, calibration_ratio
from convpredict.evaluation.value_judgement import judge_value
from convpredict.history.history import History
from convpredict.models.bundle import load_bundle, write_bundle
from convpredict.models.fitting import fit_conversion_model, make_bundle
from convpredict.models.horizons import SHORT_PAST, fit_further_horizons
from convpredict.models.value_fitting import developed_share, fit_value_model
from convpredict.scoring.nights import Stretch, score_nights
from convpredict.scoring.scores import score_open_leads
from convpredict.training.labels import label_observations
from convpredict.training.lead_ages import LearntAges
from convpredict.training.observations import make_observations
from convpredict.training.repeat_revenue import repeat_revenue
from convpredict.training.training_set import build_training_set
from convpredict.workflows.common import read_history
from factories import day, make_history

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared/data/cdnow"
CONFIG = ModelConfig(n_estimators=60, num_leaves=4, logistic_weight=0.3, seeds=1)
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real purchases are not there ({DATA})")


@pytest.fixture(scope="module")
def history() -> History:
    return read_history(load_project(ROOT / "configs/cdnow.yaml", data=DATA), require=())


@real
def test_every_purchase_arrives_also_several_a_day_and_those_for_nothing(history: History) -> None:
    assert (history.n_leads, history.n_interactions, history.revenue.num_rows) == (23_570, 69_659, 69_659)
    amount = history.revenue["amount"].to_numpy()
    assert (amount == 0).sum() == 80
    assert (amount < 0).sum() == 0


@real
def test_everybody_is_a_customer_when_the_test_part_begins(history: History) -> None:
    for name, n_cutoffs in (("cdnow", 11), ("cdnow_spend", 8)):
        config = load_project(ROOT / f"configs/{name}.yaml", data=DATA).config
        made = make_observations(history, config.observations).table
        cutoffs, counts = np.unique(made["cutoff"].to_numpy(), return_counts=True)
        assert len(cutoffs) == n_cutoffs
        assert config.split.test_from is not None
        assert cutoffs[-1] == np.datetime64(config.split.test_from.replace(tzinfo=None), "us")
        assert counts[-1] == 23_570


@real
def test_the_labels_of_the_half_year_are_known(history: History) -> None:
    config = load_project(ROOT / "configs/cdnow.yaml", data=DATA).config
    made = make_observations(history, config.observations).table
    labels = label_observations(history, made, config.labels.horizons[-1:], config.labels.outcome)
    assert labels.column(0).null_count < made.num_rows


@real
def test_repeat_revenue_leaves_the_first_day_out(history: History) -> None:
    test_from = load_project(ROOT / "configs/cdnow_spend.yaml", data=DATA).config.split.test_from
    assert test_from is not None
    revenue, exposure = repeat_revenue(history, test_from)
    assert len(revenue) == 39
    assert (np.diff(exposure) <= 0).all()
    assert revenue.sum() < history.revenue["amount"].to_numpy().sum()


@pytest.fixture(scope="module")
def learnt():
    rng = np.random.default_rng(5)
    leads, purchases = [], []
    for number in range(600):
        created = rng.uniform(0, 60)
        days_until_next, active_days = 30 / rng.gamma(1.0, 1.0), rng.exponential(150)
        gaps = rng.exponential(days_until_next, 60)
        repeats = np.cumsum(gaps[np.cumsum(gaps) < active_days])
        purchases += [
            (f"customer-{number:03d}", day(float(at)), float(rng.gamma(2.0, 10.0)))
            for at in (created, *(created + repeats))
            if at < 310
        ]
        leads.append((f"customer-{number:03d}", day(float(created))))
    source = make_history(
        leads,
        [(lead, at, "purchase", None, {"amount_eur": amount}) for lead, at, amount in purchases],
        revenue=purchases,
        known_until=day(310),
    )
    project = parse_project(
        {
            "name": "customers",
            "sources": {"nothing": {"file": "nothing.csv"}},
            "history": {"leads": {"source": "nothing"}},
            "observations": {"cutoffs": {"every": "28d"}},
            "labels": {"outcome": "purchase", "horizons": ["28d", "100d"], "value_horizon": "100d"},
            "split": {"test_from": day(196).isoformat()},
            "features": {"declare": [{"family": "repeat"}], "exclude": ["calendar_*", "share_*"]},
            "value": {"family": "tweedie"},
        }
    )
    training_set = build_training_set(source, project)
    model = fit_conversion_model(training_set, CONFIG, n_jobs=1)
    further = fit_further_horizons(training_set, CONFIG, model, n_jobs=1)
    labels = project.config.labels
    value = fit_value_model(training_set, project.config.value, labels, history=source)
    return project, source, training_set, make_bundle(training_set, model, None, further, value)


class TestShortPast:
    """Customers won in 60 days, and 150 days later asked for the next 100: nobody was followed for two horizons."""

    def test_a_horizon_without_rows_to_calibrate_on_learns_from_all_that_ended(self, learnt):
        _, _, training_set, bundle = learnt
        horizon = training_set.horizons[1]
        followed = training_set.outcomes("development", horizon).followed_us
        assert (followed >= horizon.microseconds).any()
        assert bundle.further[horizon].selection_["calibration"] == SHORT_PAST
        assert "calibration" not in bundle.model.selection_
        known = training_set.outcomes("test", horizon)
        label, first = known.label, known.followed_us >= horizon.microseconds
        p = bundle.predict_horizons(training_set.X("test"))[horizon]
        assert auc(label[first], p[first]) > 0.75
        young = fit_further_horizons(
            training_set, CONFIG.model_copy(update={"immature": "ignore"}), bundle.model, n_jobs=1
        )[horizon]
        of_young = young.predict_proba(training_set.X("test"))[first, 1]
        assert 1 < calibration_ratio(label[first], p[first]) < calibration_ratio(label[first], of_young)

    def test_every_window_teaches_what_customers_spend_completed_by_their_age(self, learnt):
        project, source, training_set, bundle = learnt
        frame = training_set.frame
        taught = frame[(frame["split"] != "test") & (frame["revenue_followed_us"] >= 0)]
        assert (taught["revenue"] == 0).any()
        share = developed_share(training_set, taught, project.config.labels, source)
        assert bundle.value.n_leads_ == (share >= 0.25).sum()
        complete = (
            taught["revenue_followed_us"].to_numpy() == project.config.labels.value_horizon.microseconds
        )
        assert (share[complete] == 1).all()
        assert (share[~complete] < 1).all()

    def test_the_value_is_the_expected_value_whatever_the_probability(self, learnt, tmp_path):
        project, source, training_set, bundle = learnt
        X, settings = training_set.X("test"), project.config
        judged = [
            judge_value(training_set, bundle.value, p, settings.labels, settings.evaluation)
            for p in (np.full(len(X), 0.1), np.full(len(X), 0.9))
        ]
        assert judged[0] == judged[1]
        assert judged[0]["value"] is None
        found = judged[0]["expected_value"]
        assert 0.8 < found["model"]["total_ratio"]["value"] < 1.25
        assert (
            found["model"]["normalised_gini"]["value"] > 0.5 > found["same_value"]["normalised_gini"]["value"]
        )
        assert 0.6 < found["coverage"] < 0.95
        write_bundle(tmp_path / "bundle", bundle)
        table = score_open_leads(source, load_bundle(tmp_path / "bundle")).table.to_pandas()
        assert (table["expected_value"] == table["value"]).all()
        assert (table["expected_value_high"] == table["value_high"]).all()
        assert len(table) == 600


def test_customers_are_scored_at_any_age_and_it_is_said(learnt):
    _, source, _, bundle = learnt
    assert bundle.ages is not None
    young = replace(bundle, ages=LearntAges(0, bundle.ages.oldest_us // 4))
    everybody = score_open_leads(source, young)
    assert everybody.table.num_rows == 600
    assert everybody.age_doubt is not None
    assert "600 scored leads are older than" in everybody.age_doubt
    nights = (source.known_until - timedelta(days=7), source.known_until)
    scored = score_nights(source, [Stretch(young, nights[0], nights)])
    assert scored.left_out == 0
    assert (scored.night == 1).sum() == 600
