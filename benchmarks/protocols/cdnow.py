"""cdnow: customers as leads, purchases as their history. Who buys again, and what everybody spends.

Both as ``convpredict train`` does it on ``configs/cdnow.yaml`` and ``configs/cdnow_spend.yaml``. Nobody was
followed for as long as is predicted: rows whose horizon has not ended are completed (``models.completion``), and
open value windows by the law by which revenue falls with the customers' age (``models.value_ages``).

Two rows are no forecast but a ceiling for the purchases: the same learner on the same columns, taught the very outcomes
that it is judged on (ten folds by customer). They tell what the columns can say when neither season nor age is foreign.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from convpredict.config.load import Project, load_project
from convpredict.evaluation.metrics import auc, calibration_ratio, log_loss
from convpredict.evaluation.resampling import interval, resample_leads
from convpredict.evaluation.value_metrics import decile_mape, normalised_gini, rmse, spearman, total_ratio
from convpredict.history.history import History
from convpredict.models.conversion import ConversionModel
from convpredict.models.fitting import fit_conversion_model, make_bundle
from convpredict.models.horizons import fit_further_horizons
from convpredict.models.value_fitting import fit_value_model
from convpredict.training.training_set import TrainingSet, build_training_set
from convpredict.workflows.common import read_outcomes

from .rows import RESAMPLES, ROOT, Row, row

PURCHASE = "any purchase in 1998-01-01..1998-06-30, from what was known before 1998"
SPEND = "spend in the 39 weeks after 1997-09-30, from what was known by then"
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


def prepare(name: str, data: Path) -> tuple[Project, History, TrainingSet]:
    """The project of a configuration, its history and its training set."""
    project = load_project(ROOT / f"configs/{name}.yaml", data=data / "cdnow")
    history = read_outcomes(project)
    return project, history, build_training_set(history, project)


def purchases(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Customer, whether they bought in the first half of 1998, the probability that was given, and the ceiling's."""
    project, _, training_set = prepare("cdnow", data)
    primary = fit_conversion_model(training_set, project.config.model)
    further = fit_further_horizons(training_set, project.config.model, primary)
    horizon = training_set.horizons[-1]
    X, label = training_set.X("test"), training_set.outcomes("test", horizon).label
    p = make_bundle(training_set, primary, None, further).predict_horizons(X)[horizon]
    return training_set.lead_ids("test").to_numpy(), label, p, taught_the_outcomes(X, label)


def taught_the_outcomes(X: pd.DataFrame, label: np.ndarray) -> np.ndarray:
    """Probabilities by models that learnt from nine tenths of the rows to be judged, for the other tenth."""
    p = np.empty(len(label))
    for learn, judge in StratifiedKFold(10, shuffle=True, random_state=0).split(X, label):
        model = ConversionModel(num_leaves=7, n_estimators=150).fit(
            X.iloc[learn], label[learn].astype(np.int8)
        )
        p[judge] = model.predict_proba(X.iloc[judge])[:, 1]
    return p


def spend(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customer, what they spent in the 39 weeks, and what was expected."""
    project, history, training_set = prepare("cdnow_spend", data)
    model = fit_value_model(training_set, project.config.value, project.config.labels, history=history)
    assert model is not None
    actual = training_set.part("test")["revenue"].to_numpy(np.float64)
    return training_set.lead_ids("test").to_numpy(), actual, model.predict(training_set.X("test"))


def measure(data: Path) -> list[Row]:
    """Both protocols; intervals by resampling customers."""
    customer, label, p, taught = purchases(data)
    first = _rows(PURCHASE, (auc, log_loss, calibration_ratio), customer, label, p)
    first += [
        {**line, "metric": f"{line['metric']}, taught these outcomes"}
        for line in _rows(PURCHASE, (auc, log_loss), customer, label, taught)
    ]
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
