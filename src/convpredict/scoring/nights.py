"""Score every open lead on many nights with the models of the time, reading and indexing the history once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..config.base import Duration
from ..engines.buckets import BUCKET_EVENTS
from ..errors import ConfigError
from ..features.batches import map_features
from ..features.time_rule import NEVER, observation_bounds
from ..history.history import TIMESTAMP, History
from ..models.batch_scoring import BatchScorer
from ..models.bundle import Bundle
from ..training.labels import label_column, label_observations
from ..training.lead_ages import leaves_out
from ..training.lead_times import LeadTimes, known_times, microseconds_of, to_microseconds

NOT_JUDGED = -1


@dataclass(frozen=True)
class Stretch:
    """A model and the nights on which it scores, ascending; ``trained_at`` is all that it knew."""

    bundle: Bundle
    trained_at: datetime
    nights: tuple[datetime, ...]


@dataclass(frozen=True)
class NightScores:
    """Scores of all open leads on all nights, one row per lead and night, sorted by lead and night.

    ``lead_row`` int32, ``night`` int16 (position in ``nights``), ``p`` float64, ``points`` float64 (None
    without a scorecard), ``label`` int8: 1 or 0, -1 where the outcome is not known yet, or the lead had converted
    although that was not yet recorded. ``left_out`` counts the leads and nights that are not there because the night's
    model did not learn from leads of that age.
    """

    nights: tuple[datetime, ...]
    lead_row: NDArray[np.int32] = field(repr=False)
    night: NDArray[np.int16] = field(repr=False)
    p: NDArray[np.float64] = field(repr=False)
    points: NDArray[np.float64] | None = field(repr=False)
    label: NDArray[np.int8] = field(repr=False)
    left_out: int = 0


def score_nights(
    history: History,
    stretches: Sequence[Stretch],
    *,
    max_age: Duration | None = None,
    untrained_ages: Literal["leave_out", "score"] = "leave_out",
    bucket_events: int = BUCKET_EVENTS,
    progress: Callable[[float], None] | None = None,
) -> NightScores:
    """Score the open leads of every night as :func:`.scores.score_open_leads` would have done then, to the bit.

    Which leads are open is what was known on the night: a conversion that was recorded later does not show.
    Raises ConfigError for nights that do not ascend.
    """
    nights = tuple(night for stretch in stretches for night in stretch.nights)
    instants = np.array([to_microseconds(night) for night in nights], np.int64)
    if bool((np.diff(instants) <= 0).any()):
        raise ConfigError("the nights of a backtest must ascend from one model to the next; sort them")
    outcome = stretches[0].bundle.outcome if stretches else "conversion"
    lead_row, night = open_on_nights(history, instants, max_age, outcome)
    bounds = np.cumsum([0, *(len(stretch.nights) for stretch in stretches)])
    n_open = len(lead_row)
    if leaves_out(untrained_ages, outcome):
        kept = _of_learnt_ages(history, stretches, instants, lead_row, night)
        lead_row, night = lead_row[kept], night[kept]
    cutoff = instants[night]
    positions = [np.flatnonzero((night >= low) & (night < high)) for low, high in pairwise(bounds)]
    scorers = [BatchScorer(stretch.bundle) for stretch in stretches]
    with_points = bool(stretches) and all(stretch.bundle.scorecard is not None for stretch in stretches)
    p = np.empty(len(lead_row))
    points = np.empty(len(lead_row)) if with_points else None

    def score(number: int, batch: pa.RecordBatch) -> tuple[Any, Any]:
        return scorers[number].probability(batch), scorers[number].points(batch) if with_points else None

    requests = [
        (_observation_table(lead_row[rows], cutoff[rows]), stretch.bundle.feature_set)
        for rows, stretch in zip(positions, stretches, strict=True)
    ]
    results = map_features(history, requests, score, bucket_events=bucket_events, progress=progress)
    for number, first, (probability, own_points) in results:
        rows = positions[number][first : first + len(probability)]
        p[rows] = probability
        if points is not None:
            points[rows] = own_points
    label = np.full(len(lead_row), NOT_JUDGED, np.int8)
    if stretches:
        horizon = stretches[0].bundle.horizon
        known = label_observations(history, _observation_table(lead_row, cutoff), [horizon], outcome)
        label = known[label_column(horizon)].fill_null(NOT_JUDGED).to_numpy().astype(np.int8)
    return NightScores(nights, lead_row, night, p, points, label, n_open - len(lead_row))


def open_on_nights(
    history: History, nights: NDArray[np.int64], max_age: Duration | None, outcome: Any = "conversion"
) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """Lead row and night (a position in ``nights``, ascending µs) of every lead open on every night, sorted."""
    times = LeadTimes.of(history, outcome)
    ended, undated = _conversion_known_at(history) if outcome == "conversion" else (times.converted_at, None)
    oldest = max_age.microseconds if max_age is not None else NEVER
    first, *ends = observation_bounds(times.created_at, ended, times.lost_at, oldest)
    low = np.searchsorted(nights, first)
    high = np.maximum(low, np.searchsorted(nights, np.minimum.reduce(ends)))
    if undated is not None:
        high[undated] = low[undated]
    count = high - low
    begins = np.cumsum(count) - count
    lead_row = np.repeat(np.arange(history.n_leads, dtype=np.int32), count)
    night = np.arange(len(lead_row)) - np.repeat(begins - low, count)
    return lead_row, night.astype(np.int16)


def _of_learnt_ages(
    history: History,
    stretches: Sequence[Stretch],
    nights: NDArray[np.int64],
    lead_row: NDArray[np.int32],
    night: NDArray[np.int16],
) -> NDArray[np.bool_]:
    """Which open leads are of an age that the model of their night learnt from."""
    known = [stretch.bundle.ages for stretch in stretches for _ in stretch.nights]
    first = np.array([ages.first_us if ages is not None else 0 for ages in known], np.int64)
    last = np.array([ages.last_us if ages is not None else NEVER for ages in known], np.int64)
    age = nights[night] - microseconds_of(history.leads["created_at"])[lead_row]
    kept: NDArray[np.bool_] = (age >= first[night]) & (age <= last[night])
    return kept


def _conversion_known_at(history: History) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """When any conversion of each lead was known (µs), and which leads have one without a date of any kind."""
    conversions = history.all_conversions
    known = known_times(conversions, "converted_at")
    known_at = np.full(history.n_leads, NEVER, np.int64)
    np.minimum.at(known_at, conversions["lead_row"].to_numpy(), known)
    undated = known_at == -NEVER
    known_at[undated] = NEVER
    return known_at, undated


def _observation_table(lead_row: NDArray[np.int32], cutoff: NDArray[np.int64]) -> pa.Table:
    """Observations whose leads are named by their row: no texts are held for millions of them."""
    rows = pa.array(lead_row)
    return pa.table({"lead_row": rows, "lead_id": rows, "cutoff": pa.array(cutoff).cast(TIMESTAMP)})
