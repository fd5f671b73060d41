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
from convpredict.history.history import History
from convpredict.training.labels import label_column
from convpredict.training.lead_times import to_microseconds
from convpredict.training.revenue_outcomes import revenue_by_age
from convpredict.training.training_set import TrainingSet

from .value import ValueModel
from .value_development import DevelopmentCurve


def fit_value_model(
    training_set: TrainingSet,
    config: ValueConfig,
    labels: LabelsConfig,
    *,
    history: History | None = None,
) -> ValueModel | None:
    """Learn E[revenue within the value horizon | conversion within the horizon] from all rows before the test part.

    Every row with a conversion within the first horizon teaches, with the revenue that was known when the test part
    begins; the rows of one lead count one together (those of a customer who is observed after a purchase count one
    each: every window is an outcome of its own). Windows that were still open then are completed by the development
    of the earlier ones: from the course of each customer's revenue where the ``history`` is given, else from the
    totals in the frame, which is noisier.

    None where the training set has no revenue (no ``labels.value_horizon``, or no revenue declared), where no
    conversion is known, or where no window was followed long enough.
    """
    if "revenue" not in training_set.frame or labels.value_horizon is None:
        return None
    frame = training_set.frame
    taught = (
        (frame["split"] != "test")
        & (frame[label_column(training_set.horizons[0])] == 1)
        & (frame["revenue_followed_us"] >= 0)
    )
    rows = frame[taught]
    if not len(rows):
        return None
    followed = followed_share(rows, labels)
    weight = None if labels.outcome == "conversion" else np.ones(len(rows))
    development = None
    try:
        if history is not None and (followed < 1.0).any():
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


def learn_development(
    training_set: TrainingSet, rows: pd.DataFrame, labels: LabelsConfig, history: History
) -> DevelopmentCurve:
    """How revenue comes in over the value horizon, as known when the test part begins, each lead counting once."""
    known_by = np.full(len(rows), to_microseconds(training_set.test_from), np.int64)
    cutoff = rows["cutoff"].dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    lead_ids = history.leads["lead_id"].combine_chunks()
    wanted = pa.array(rows["lead_id"].to_numpy(), lead_ids.type)
    lead_row = pc.index_in(wanted, lead_ids).to_numpy(zero_copy_only=False).astype(np.int32)
    courses = revenue_by_age(history, lead_row, cutoff, known_by, labels)
    _, code, count = np.unique(lead_row, return_inverse=True, return_counts=True)
    return DevelopmentCurve.of_courses(courses, 1.0 / count[code])
