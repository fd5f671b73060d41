"""cdnow: customers as leads, purchases as their history. Who buys again, and what everybody spends.

Training knows what was known at the test cutoff, so no customer has been followed for as long as is predicted: rows
whose horizon has not ended are completed (``models.completion``), and open value windows by the law by which
revenue falls with the customers' age (``models.value_ages``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from convpredict.config.base import Duration
from convpredict.config.load import Project, load_project
from convpredict.evaluation.metrics import auc, calibration_ratio, log_loss
from convpredict.evaluation.resampling import interval, resample_leads
from convpredict.evaluation.value_metrics import decile_mape, normalised_gini, rmse, spearman, total_ratio
from convpredict.features.build import build_features
from convpredict.features.feature_set import FeatureSet
from convpredict.features.time_rule import MICROSECONDS_PER_DAY
from convpredict.history.history import History
from convpredict.models.completion import EndedRows, OpenRows, refit_completed
from convpredict.models.conversion import ConversionModel
from convpredict.models.value import ValueModel
from convpredict.models.value_ages import AgeLaw
from convpredict.models.value_development import DevelopmentCurve
from convpredict.training.lead_times import LeadTimes, microseconds_of
from convpredict.training.observations import make_observations
from convpredict.training.repeat_revenue import repeat_revenue
from convpredict.training.revenue_outcomes import revenue_columns
from convpredict.training.training_set import TrainingSet, build_training_set
from convpredict.workflows.common import read_history

from .rows import RESAMPLES, ROOT, Row, row

PURCHASE = "any purchase in 1998-01-01..1998-06-30, from what was known before 1998"
SPEND = "spend in the 39 weeks after 1997-09-30, from what was known by then"
STEP_DAYS = 7
BETTER_BELOW = {"log_loss", "decile_mape"}
BARS = {"auc": 0.812, "log_loss": 0.414, "normalised_gini": 0.695, "decile_mape": 0.12}
REFERENCES = {
    "auc": (0.8060, "plain LightGBM (Pareto/NBD .7998)"),
    "log_loss": (0.4171, "plain LightGBM (Pareto/NBD .4208)"),
    "normalised_gini": (0.6845, "Pareto/NBD x Gamma-Gamma"),
    "decile_mape": (0.213, "BG/NBD x Gamma-Gamma"),
    "rmse": (92.87, "Pareto/NBD x Gamma-Gamma"),
    "calibration_ratio": (1.0, "perfect calibration"),
    "total_ratio": (1.0, "what they spent"),
}


def load(name: str, data: Path) -> tuple[Project, History]:
    """The project of a configuration and its history."""
    project = load_project(ROOT / f"configs/{name}.yaml", data=data / "cdnow")
    return project, read_history(project, require=())


def fit_purchases(training_set: TrainingSet, horizon: Duration) -> ConversionModel:
    """P(any purchase within the horizon): learnt from the rows whose horizon has ended, then from all, completed.

    No customer was followed for two horizons, so there are no later rows for a calibrator: none is used.
    """
    parts = ("development", "recent")
    features = pd.concat([training_set.X(part) for part in parts])
    rows = pd.concat([training_set.part(part) for part in parts])
    known = [training_set.outcomes(part, horizon) for part in parts]
    label = np.concatenate([outcomes.label for outcomes in known])
    followed = np.concatenate([outcomes.followed_us for outcomes in known])
    ended = followed >= horizon.microseconds
    still_open = ~ended
    model = ConversionModel().fit(features[ended], label[ended].astype(np.int8))
    return refit_completed(
        model,
        EndedRows(
            features[ended], label[ended].astype(np.int8), rows["event_known_after_us"][ended].to_numpy()
        ),
        OpenRows(
            features[still_open],
            rows["lead_id"][still_open].to_numpy(),
            label[still_open] == 1,
            followed[still_open],
        ),
        prior_shift=0.0,
    )


def purchases(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customer, whether they bought in the first half of 1998, and the probability that was given."""
    project, history = load("cdnow", data)
    training_set = build_training_set(history, project)
    horizon = project.config.labels.horizons[-1]
    model = fit_purchases(training_set, horizon)
    label = training_set.outcomes("test", horizon).label
    p = model.predict_proba(training_set.X("test"))[:, 1]
    return training_set.lead_ids("test").to_numpy(), label, p


def spend(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customer, what they spent in the 39 weeks, and what was expected."""
    project, history = load("cdnow_spend", data)
    labels, test_from = project.config.labels, project.config.split.test_from
    assert test_from is not None
    assert labels.value_horizon is not None
    observed = make_observations(history, project.config.observations).table
    feature_set = FeatureSet.fit(
        history, project.config.features, until=test_from, horizon=labels.horizons[0]
    )
    frame = build_features(history, observed, feature_set).to_pandas()[list(feature_set.model_names)]
    lead_row, cutoff = observed["lead_row"].to_numpy(), microseconds_of(observed["cutoff"])
    begin = int(pa.scalar(test_from).cast(pa.timestamp("us", "UTC")).value)
    train, test = cutoff < begin, cutoff == begin
    known_by = np.full(int(train.sum()), begin)
    so_far = revenue_columns(history, lead_row[train], cutoff[train], known_by, labels)
    age_days = (cutoff - LeadTimes.of(history).created_at[lead_row])[train] / MICROSECONDS_PER_DAY
    followed_days = so_far["revenue_followed_us"] / MICROSECONDS_PER_DAY
    law = AgeLaw.fit(*repeat_revenue(history, test_from, step_days=STEP_DAYS), STEP_DAYS)
    model = ValueModel.from_config(project.config.value).fit(
        frame[train],
        so_far["revenue"],
        np.ones(int(train.sum())),
        followed_share=law.share(age_days, followed_days, labels.value_horizon.days),
        groups=lead_row[train],
        times=cutoff[train],
        development=DevelopmentCurve.complete(),  # the shares above are those of the revenue already
    )
    end = cutoff[test] + labels.value_horizon.microseconds
    actual = revenue_columns(history, lead_row[test], cutoff[test], end, labels)["revenue"]
    return lead_row[test], actual, model.predict(frame[test])


def measure(data: Path) -> list[Row]:
    """Both protocols; intervals by resampling customers."""
    customer, label, p = purchases(data)
    first = _rows(PURCHASE, (auc, log_loss, calibration_ratio), customer, label, p)
    customer, actual, expected = spend(data)
    metrics = (normalised_gini, decile_mape, total_ratio, spearman, rmse)
    return first + _rows(SPEND, metrics, customer, actual, expected)


def _rows(
    protocol: str, metrics: tuple, customer: np.ndarray, actual: np.ndarray, predicted: np.ndarray
) -> list[Row]:
    drawn = resample_leads(
        lambda weight: np.array([metric(actual, predicted, weight=weight) for metric in metrics]),
        customer,
        resamples=RESAMPLES,
    )
    rows = []
    for position, metric in enumerate(metrics):
        name, value = metric.__name__, float(drawn.value[position])
        low, high = interval(value, drawn.draws[:, position])
        reference, of = REFERENCES.get(name, (None, ""))
        bar = BARS.get(name)
        met = None if bar is None else value < bar if name in BETTER_BELOW else value > bar
        rows.append(row("cdnow", protocol, name, value, low, high, reference, of, met=met))
    return rows
