"""Further horizons beside the model's: a model each, probabilities that never fall with the horizon, a median time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from convpredict.config.base import Duration
from convpredict.config.training import ModelConfig
from convpredict.errors import NotEnoughDataError
from convpredict.training.training_set import TrainingSet

from .calibration import Floats
from .completion import DevelopmentCurve, EndedRows, OpenRows, microseconds, refit_completed
from .conversion import ConversionModel

CALIBRATE_SHARE = 0.2
FEWEST_POSITIVES = 10
MOST_SHIFT = 3.0
SHORT_PAST = "none: the past is shorter than two horizons, the open rows set the level"
_PARTS = ("development", "recent")


def fit_further_horizons(
    training_set: TrainingSet,
    config: ModelConfig,
    primary: ConversionModel,
    *,
    n_jobs: int | None = None,
) -> dict[Duration, ConversionModel]:
    """A calibrated model for each horizon of the training set but the first, of the size that the first one has.

    Each learns from every row before the test part with what was known when that begins: first from the rows whose
    own horizon had ended, of which the latest choose the calibrator, then from all, where the others are
    completed (see ``completion.py``), unless ``config`` says ``immature: ignore`` or ``refit: false``.

    Where the past is shorter than two horizons, no row had ended before the latest ones began, so that nothing is left
    to choose a calibrator on. Then all rows that have ended teach, uncalibrated, and what came of the open rows
    sets the level; ``selection_["calibration"]`` of the model says so.

    Raises
    ------
    NotEnoughDataError
        Too few rows with a conversion have a horizon that has ended.
    """
    return {
        horizon: _fit_one(training_set, horizon, config, primary, n_jobs)
        for horizon in training_set.horizons[1:]
    }


def non_decreasing(primary: Duration, probabilities: Mapping[Duration, Floats]) -> dict[Duration, Floats]:
    """Probabilities that never fall with the horizon, from the shortest to the longest; the primary's as they are.

    A longer horizon has at least the probability of the next shorter one, a shorter one at most that of the next
    longer one, starting from ``primary``.

    >>> week, month, year = Duration("7d"), Duration("30d"), Duration("365d")
    >>> made = non_decreasing(month, {month: np.array([.2]), year: np.array([.1]), week: np.array([.3])})
    >>> [float(p[0]) for p in made.values()]
    [0.2, 0.2, 0.2]
    """
    lengths = sorted(probabilities)
    middle = lengths.index(primary)
    result = {horizon: probabilities[horizon] for horizon in lengths}
    for position in range(middle + 1, len(lengths)):
        result[lengths[position]] = np.maximum(result[lengths[position]], result[lengths[position - 1]])
    for position in range(middle - 1, -1, -1):
        result[lengths[position]] = np.minimum(result[lengths[position]], result[lengths[position + 1]])
    return result


def median_days(probabilities: Mapping[Duration, Floats]) -> Floats:
    """Median days to the outcome, given that it comes within the longest horizon; NaN where it cannot be told.

    It is the time t at which P(t) = P(longest) / 2. P is taken to rise from one horizon to the next like a constant
    hazard, 1 - P(t) being exponential between them. Before the shortest horizon nothing is known of its shape, so
    where half of the conversions come by then, and with one horizon only, the median cannot be told.

    >>> week, month = Duration("7d"), Duration("28d")
    >>> median_days({week: np.array([.10, .10]), month: np.array([.28, .15])}).round(1).tolist()
    [11.3, nan]
    """
    horizons = sorted(probabilities)
    survival = np.log1p(-np.column_stack([probabilities[horizon] for horizon in horizons]))
    days = np.array([horizon.days for horizon in horizons])
    target = np.log1p(-np.asarray(probabilities[horizons[-1]]) / 2)
    result = np.full(len(target), np.nan)
    for left in range(len(horizons) - 1):
        begin, end = survival[:, left], survival[:, left + 1]
        inside = (begin > target) & (target >= end)
        part = (begin[inside] - target[inside]) / (begin[inside] - end[inside])
        result[inside] = days[left] + part * (days[left + 1] - days[left])
    return result


def _fit_one(
    training_set: TrainingSet,
    horizon: Duration,
    config: ModelConfig,
    primary: ConversionModel,
    n_jobs: int | None,
) -> ConversionModel:
    X = pd.concat([training_set.X(part) for part in _PARTS])
    rows = pd.concat([training_set.part(part) for part in _PARTS])
    outcomes = [training_set.outcomes(part, horizon) for part in _PARTS]
    label = np.concatenate([known.label for known in outcomes])
    followed = np.concatenate([known.followed_us for known in outcomes])
    cutoff = microseconds(rows["cutoff"])
    ended = followed >= horizon.microseconds
    first, later = _divide(cutoff, ended, horizon)
    model = ConversionModel.from_config(_sized(config, primary), n_jobs=n_jobs)
    ignored = config.immature == "ignore" or bool(ended.all())
    if _teaches(label[first]) and _teaches(label[later]):
        model.fit(
            X[first],
            label[first].astype(np.int8),
            calibration=(X[later], label[later].astype(np.int8), rows["lead_id"][later].to_numpy()),
        )
        if config.refit and ignored:
            known = label[ended].astype(np.int8)
            return model.refit(X[ended], known, recent=(X[later], label[later].astype(np.int8)))
        unseen = ~first[ended]
    else:
        _check(horizon, label[ended])
        model.fit(X[ended], label[ended].astype(np.int8))
        model.selection_["calibration"] = SHORT_PAST
        unseen = None
    if ignored or not config.refit:
        return model
    lead, known_after = (rows[name].to_numpy() for name in ("lead_id", "event_known_after_us"))
    known_after = np.where(label == 1, known_after, -1)
    over = EndedRows(
        X[ended], lead[ended], cutoff[ended], label[ended].astype(np.int8), known_after[ended], unseen
    )
    still_open = OpenRows(X[~ended], lead[~ended], cutoff[~ended], known_after[~ended], followed[~ended])
    refit_completed(model, over, still_open, horizon_us=horizon.microseconds)
    return model if unseen is not None else set_level_by_open_rows(model, over, still_open)


def set_level_by_open_rows(model: ConversionModel, ended: EndedRows, still_open: OpenRows) -> ConversionModel:
    """Make the outcomes that are expected of the open rows so far add up to those that came.

    For a past shorter than two horizons: the rows that have ended are those of the youngest leads, whose level is
    not what an older lead comes back to.
    """
    hits = ended.developed
    curve = DevelopmentCurve.learn(model.decision_function(ended.X[hits]), ended.known_after_us[hits])
    logit = model.decision_function(still_open.X)
    share, came = curve.share(logit, still_open.elapsed_us), int(still_open.converted.sum())

    def surplus(shift: float) -> float:
        return float(expit(logit + shift) @ share) - came

    if surplus(-MOST_SHIFT) < 0 < surplus(MOST_SHIFT):
        shift = float(brentq(surplus, -MOST_SHIFT, MOST_SHIFT))
        model.calibrator_ = model.calibrator_.shifted(shift)
        model.selection_["level"] = {"shift": shift, "how": "what came of the open rows so far"}
    return model


def _sized(config: ModelConfig, primary: ConversionModel) -> ModelConfig:
    chosen = primary.capacity_
    size = {name: getattr(chosen, name) for name in ("num_leaves", "n_estimators", "logistic_weight")}
    return config.model_copy(update=size)


def _divide(
    cutoff: npt.NDArray[np.int64], ended: npt.NDArray[np.bool_], horizon: Duration
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Rows to learn from and, later by a horizon, rows to choose the calibrator on."""
    if not ended.any():
        return ended, ended
    boundary = np.quantile(cutoff[ended], 1 - CALIBRATE_SHARE, method="lower")
    return ended & (cutoff + horizon.microseconds <= boundary), ended & (cutoff >= boundary)


def _teaches(label: Floats) -> bool:
    positives = int((label == 1).sum())
    return FEWEST_POSITIVES <= positives < len(label)


def _check(horizon: Duration, label: Floats) -> None:
    """``label`` of the rows whose horizon has ended."""
    if not _teaches(label):
        raise NotEnoughDataError(
            f"labels.horizons has {horizon}, but of the rows before the test part the {len(label):,} whose {horizon} "
            f"had ended by then hold {int((label == 1).sum()):,} with a conversion (at least {FEWEST_POSITIVES}, and "
            "not all, are needed); drop this horizon, begin the test part later (split.test_from), or give data "
            "that covers a longer time"
        )
