"""Rows whose horizon has not ended: completed with what is known of them, neither left out nor taken for negatives.

A row that converted early is a positive. One that has not is completed with q = P(converts in the rest of the
horizon | not in the part that has elapsed), and is learnt from twice: as a positive with weight q and as a negative
with weight 1 - q. With p the probability for the whole horizon and G(e) the share of a horizon's conversions that are
known a time e after the cutoff,

    q = p (1 - G(e)) / (1 - p G(e)).

p comes from a model of rows whose horizon has ended, moved on the logit to the level that the outcomes known so far let
expect of the time to come (see ``level.py``), so that a change of the rate in the last weeks is followed as far as it
exceeds chance.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from .calibration import Floats, clip_logit, level_shift
from .level import LevelForecast, count_by_period, forecast_level, shift_to

if TYPE_CHECKING:
    from .conversion import ConversionModel

Integers = npt.NDArray[np.int64]

POSITIVES_PER_STRATUM = 100
_MOST_STRATA = 5


@dataclass(frozen=True)
class DevelopmentCurve:
    """G(e): the share of a horizon's conversions that are known a time e after the cutoff, by strata of the logit.

    Likely converters convert early, so one curve for all would be wrong at both ends. ``edges``: the logits
    between the strata; ``delays_us``: per stratum the sorted times (µs) from cutoff to knowledge.
    """

    edges: Floats
    delays_us: tuple[Integers, ...]

    @classmethod
    def learn(cls, logit: npt.ArrayLike, known_after_us: npt.ArrayLike) -> DevelopmentCurve:
        """Learn it from the positives among rows whose horizon has ended, one entry per row.

        Raises ValueError without any.

        >>> curve = DevelopmentCurve.learn([0.0, 0.0, 0.0, 0.0], [1, 2, 3, 4])
        >>> curve.share(np.zeros(3), np.array([1, 3, 9])).round(2).tolist()
        [0.1, 0.5, 0.9]
        """
        z, delay = np.asarray(logit, np.float64), np.asarray(known_after_us, np.int64)
        if not len(z):
            raise ValueError("a development curve needs conversions to learn from; got no positive row")
        n_strata = int(np.clip(len(z) // POSITIVES_PER_STRATUM, 1, _MOST_STRATA))
        edges = np.unique(np.quantile(z, np.arange(1, n_strata) / n_strata))
        stratum = np.searchsorted(edges, z, side="right")
        delays = [np.sort(delay[stratum == number]) for number in range(len(edges) + 1)]
        return cls(edges, tuple(each if len(each) else np.sort(delay) for each in delays))

    def share(self, logit: npt.ArrayLike, elapsed_us: npt.ArrayLike) -> Floats:
        """G(e) of each row, strictly between 0 and 1: (number known before e + 1/2) / (number + 1)."""
        z, elapsed = np.asarray(logit, np.float64), np.asarray(elapsed_us, np.int64)
        stratum = np.searchsorted(self.edges, z, side="right")
        result = np.empty(len(z))
        for number, delays in enumerate(self.delays_us):
            rows = stratum == number
            result[rows] = (np.searchsorted(delays, elapsed[rows]) + 0.5) / (len(delays) + 1)
        return result


def complete_rows(
    logit: npt.ArrayLike,
    converted: npt.ArrayLike,
    elapsed_us: npt.ArrayLike,
    curve: DevelopmentCurve,
) -> Floats:
    """Probability of an outcome within the whole horizon given all that is known: 1 where it came, q elsewhere.

    ``logit``: of the whole horizon, calibrated and at the level of the time to come; ``converted`` (bool): the
    outcome is known to have come; ``elapsed_us``: how long each row was followed.

    >>> curve = DevelopmentCurve.learn(np.zeros(99), np.arange(99))
    >>> complete_rows(np.zeros(4), [True, False, False, False], np.full(4, 50), curve).round(2).tolist()
    [1.0, 0.33, 0.33, 0.33]
    """
    z = clip_logit(logit)
    share, p = curve.share(z, elapsed_us), expit(z)
    return np.where(np.asarray(converted, np.bool_), 1.0, p * (1 - share) / (1 - p * share))


@dataclass(frozen=True)
class OpenRows:
    """Rows whose horizon has not ended: features, lead ids, cutoffs (µs), and what is known of them.

    ``known_after_us``: time from the cutoff to knowledge of the outcome, -1 where none is known to have come;
    ``elapsed_us``: how long each row was followed, up to one instant that is the same for all.
    """

    X: pd.DataFrame
    groups: npt.NDArray[Any]
    cutoff_us: Integers
    known_after_us: Integers
    elapsed_us: Integers

    @property
    def converted(self) -> npt.NDArray[np.bool_]:
        """The rows whose outcome is known to have come."""
        known: npt.NDArray[np.bool_] = self.known_after_us >= 0
        return known


@dataclass(frozen=True)
class EndedRows:
    """Rows whose horizon has ended: features, lead ids, cutoffs (µs), labels, when a conversion was known.

    Labels are 0 or 1, ``known_after_us`` is the time from the cutoff. ``unseen`` marks the rows that the model has
    not learnt from (None: none of them); the development curve is taken from these where they hold conversions
    enough, as predictions of rows learnt from are too sure.
    """

    X: pd.DataFrame
    groups: npt.NDArray[Any]
    cutoff_us: Integers
    label: npt.NDArray[np.int8]
    known_after_us: Integers
    unseen: npt.NDArray[np.bool_] | None = None

    @property
    def developed(self) -> npt.NDArray[np.bool_]:
        """The conversions from which the development curve is learnt."""
        hits: npt.NDArray[np.bool_] = self.label == 1
        later = hits if self.unseen is None else np.logical_and(hits, self.unseen)
        return later if later.sum() >= POSITIVES_PER_STRATUM else hits


def microseconds(cutoffs: pd.Series[Any]) -> Integers:
    """Cutoffs (UTC) as µs since 1970, as :class:`OpenRows` and :class:`EndedRows` want them."""
    instants: Integers = cutoffs.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    return instants


def refit_completed(
    model: ConversionModel, ended: EndedRows, still_open: OpenRows, *, horizon_us: int
) -> ConversionModel:
    """Learn again from both, open rows being completed by the model as it is, then set the level to come.

    The rows whose horizon has ended hold the long-run level; how far the time to come lies above or below it is
    forecast from all outcomes known so far, with the first model to complete the rows, and again with the
    second for its own level. A constant is all that is added, so the ranking is what the refit made it.
    """
    hits = ended.developed
    curve = DevelopmentCurve.learn(model.decision_function(ended.X[hits]), ended.known_after_us[hits])
    shift, _ = level_to_come(model, ended, still_open, curve, horizon_us)
    q = complete_rows(
        model.decision_function(still_open.X) + shift, still_open.converted, still_open.elapsed_us, curve
    )
    model.refit(
        pd.concat([ended.X, still_open.X, still_open.X]),
        np.concatenate([ended.label, np.ones(len(q), np.int8), np.zeros(len(q), np.int8)]),
        np.concatenate([np.ones(len(ended.label)), q, 1 - q]),
    )
    hits = ended.label == 1
    curve = DevelopmentCurve.learn(model.decision_function(ended.X[hits]), ended.known_after_us[hits])
    shift, forecast = level_to_come(model, ended, still_open, curve, horizon_us)
    model.calibrator_ = model.calibrator_.shifted(shift)
    model.selection_ = {**model.selection_, "level": {"shift": shift, **asdict(forecast)}}
    return model


def level_to_come(
    model: ConversionModel, ended: EndedRows, still_open: OpenRows, curve: DevelopmentCurve, horizon_us: int
) -> tuple[float, LevelForecast]:
    """The constant (logit) that moves a model's predictions to the level to come, and the forecast behind it.

    First the probabilities of the ended rows are made to add up to their conversions; the forecast is relative to
    that. ``factor`` then multiplies what is expected of the open rows, those most like the ones to come.
    """
    z, z_open = (model.decision_function(rows.X) for rows in (ended, still_open))
    long_run = level_shift(z, float((ended.label == 1).sum()))
    cutoff = np.concatenate([ended.cutoff_us, still_open.cutoff_us])
    periods = count_by_period(
        np.concatenate([z, z_open]) + long_run,
        cutoff,
        np.concatenate([np.where(ended.label == 1, ended.known_after_us, -1), still_open.known_after_us]),
        int((still_open.cutoff_us + still_open.elapsed_us).max())
        if len(z_open)
        else int(cutoff.max() + horizon_us),
        horizon_us,
        curve,
        groups=np.concatenate([ended.groups, still_open.groups]),
    )
    forecast = forecast_level(periods)
    reference = z_open if len(z_open) else z
    return long_run + shift_to(reference + long_run, forecast.factor), forecast
