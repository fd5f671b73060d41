"""From a training set to a fitted value model: which rows teach what a conversion brings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from convpredict.config.training import LabelsConfig
from convpredict.config.value import ValueConfig
from convpredict.errors import ConfigError, NotEnoughDataError
from convpredict.features.time_rule import MICROSECONDS_PER_DAY
from convpredict.history.history import History
from convpredict.training.labels import label_column
from convpredict.training.lead_times import LeadTimes, to_microseconds
from convpredict.training.repeat_revenue import repeat_revenue
from convpredict.training.revenue_outcomes import revenue_by_age
from convpredict.training.training_set import TrainingSet

from .value import ValueModel
from .value_ages import AgeLaw
from .value_development import DevelopmentCurve

AGE_STEP_DAYS = 7


def fit_value_model(
    training_set: TrainingSet,
    config: ValueConfig,
    labels: LabelsConfig,
    *,
    history: History | None = None,
) -> ValueModel | None:
    """Learn E[revenue within the value horizon | conversion within the horizon] from all rows before the test part.

    Every row with a conversion within the first horizon teaches, with the revenue that was known when the test part
    begins; the rows of one lead count one together. Windows that were still open then are completed by the
    development of the earlier ones: from the course of each customer's revenue where the ``history`` is given, else
    from the totals in the frame, which is noisier.

    With ``outcome: purchase`` the model learns E[revenue within the value horizon after the cutoff], whether anything
    is bought or not, so every row teaches, and counts one: each window is an outcome of its own. What is expected
    of an open window follows from the customer's age (:class:`.value_ages.AgeLaw`) where the ``history`` is given.

    None where the training set has no revenue (no ``labels.value_horizon``, or no revenue declared), where no
    conversion is known, or where no window was followed long enough.
    """
    if "revenue" not in training_set.frame or labels.value_horizon is None:
        return None
    frame = training_set.frame
    customers = labels.outcome == "purchase"
    taught = (frame["split"] != "test") & (frame["revenue_followed_us"] >= 0)
    if not customers:
        taught &= frame[label_column(training_set.horizons[0])] == 1
    rows = frame[taught]
    if not len(rows):
        return None
    followed = followed_share(rows, labels)
    weight = np.ones(len(rows)) if customers else None
    development = None
    try:
        if history is not None and (followed < 1.0).any():
            if customers:
                followed = developed_share(training_set, rows, labels, history)
                development = DevelopmentCurve.complete()
            else:
                development = learn_development(training_set, rows, labels, history)
        return ValueModel.from_config(config).fit(
            rows[list(training_set.feature_set.model_names)],
            rows["revenue"].to_numpy(np.float64),
            weight,
            followed_share=followed,
            groups=rows["lead_id"].to_numpy(),
            times=rows["cutoff"].to_numpy(),
            development=development,
        )
    except NotEnoughDataError:
        return None


def followed_share(rows: pd.DataFrame, labels: LabelsConfig) -> NDArray[np.float64]:
    """How much of each row's value window was followed (0 to 1), from ``revenue_followed_us``."""
    if labels.value_horizon is None:
        raise ConfigError("labels.value_horizon is not set, so no value window can be followed")
    followed = rows["revenue_followed_us"].to_numpy(np.float64) / labels.value_horizon.microseconds
    return np.asarray(np.clip(followed, 0.0, 1.0), np.float64)


def developed_share(
    training_set: TrainingSet, rows: pd.DataFrame, labels: LabelsConfig, history: History
) -> NDArray[np.float64]:
    """Share of each customer's window that is expected when the test part begins, from their age."""
    assert labels.value_horizon is not None
    law = AgeLaw.fit(*repeat_revenue(history, training_set.test_from, step_days=AGE_STEP_DAYS), AGE_STEP_DAYS)
    lead_row, cutoff = _positions(rows, history)
    age = (cutoff - LeadTimes.of(history).created_at[lead_row]) / MICROSECONDS_PER_DAY
    followed = rows["revenue_followed_us"].to_numpy(np.float64) / MICROSECONDS_PER_DAY
    return law.share(age, followed, labels.value_horizon.days)


def learn_development(
    training_set: TrainingSet, rows: pd.DataFrame, labels: LabelsConfig, history: History
) -> DevelopmentCurve:
    """How revenue comes in over the value horizon, as known when the test part begins, each lead counting once."""
    known_by = np.full(len(rows), to_microseconds(training_set.test_from), np.int64)
    lead_row, cutoff = _positions(rows, history)
    courses = revenue_by_age(history, lead_row, cutoff, known_by, labels)
    _, code, count = np.unique(lead_row, return_inverse=True, return_counts=True)
    return DevelopmentCurve.of_courses(courses, 1.0 / count[code])


def _positions(rows: pd.DataFrame, history: History) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The leads' positions in the history, and the cutoffs (µs)."""
    cutoff = rows["cutoff"].dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    lead_ids = history.leads["lead_id"].combine_chunks()
    wanted = pa.array(rows["lead_id"].to_numpy(), lead_ids.type)
    lead_row = pc.index_in(wanted, lead_ids).to_numpy(zero_copy_only=False).astype(np.int32)
    return lead_row, cutoff
