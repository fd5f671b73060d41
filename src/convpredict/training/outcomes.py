"""What became of observations, as far as it was known at some instant: labels, times to the outcome, censoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from convpredict.errors import ConfigError
from convpredict.features.time_rule import NEVER
from convpredict.history.history import History

from .lead_times import known_conversions, known_times, microseconds_of

OutcomeKind = Literal["conversion", "purchase"]
EVENT_COLUMNS = ("event_after_us", "event_known_after_us")
"""Columns of a training set's frame: see :func:`events_known_by`."""

NOT_KNOWN = -1
"""Stands for a label that is not known yet, and for an outcome that nobody knows of."""


@dataclass(frozen=True)
class Outcomes:
    """What was known of observations at one instant, aligned with their rows.

    ``label``
        1.0: the outcome came within the horizon; 0.0: it did not, and the data covers the whole horizon; NaN:
        not known yet. Rows with an early outcome are known before the others, so the known labels of rows
        whose horizon has not ended are no fair sample: see ``models/completion.py``.
    ``event_after_us``
        time (µs) from the cutoff to the outcome, whatever the horizon; -1 where none is known.
    ``followed_us``
        how long (µs) after the cutoff outcomes are known.
    """

    label: NDArray[np.float64]
    event_after_us: NDArray[np.int64]
    followed_us: NDArray[np.int64]


def outcomes_within(
    event_after_us: NDArray[np.int64],
    event_known_after_us: NDArray[np.int64],
    followed_us: NDArray[np.int64],
    horizon_us: int,
) -> Outcomes:
    """The outcomes within a horizon, as known ``followed_us`` after each cutoff.

    Where the data covers the horizon, an outcome counts from when it happened, however late it was recorded:
    that is the label. Before that, only what had been recorded is known.

    >>> after, known = np.array([3, 3, 3, -1, -1]), np.array([3, 3, 8, -1, -1])
    >>> outcomes_within(after, known, np.array([9, 5, 5, 9, 5]), 7).label.tolist()
    [1.0, 1.0, nan, 0.0, nan]
    """
    happened = event_after_us >= 0
    within = happened & (event_after_us < horizon_us)
    mature = followed_us >= horizon_us
    known = happened & (event_known_after_us < followed_us) | within & mature
    label = np.where(mature, within.astype(np.float64), np.where(known & within, 1.0, np.nan))
    return Outcomes(label, np.where(known, event_after_us, NOT_KNOWN), followed_us)


def next_events(
    history: History,
    outcome: OutcomeKind,
    lead_row: NDArray[np.int32],
    cutoff: NDArray[np.int64],
    known_by: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When the outcome of each observation happened, and when that was known (µs; ``NEVER``: not at all).

    ``conversion``: the lead's first conversion, also where it lies before the cutoff. ``purchase``: its first
    revenue at or after the cutoff. With ``known_by``, the first of those known before that instant.
    """
    happened, known = np.full(len(lead_row), NEVER, np.int64), np.full(len(lead_row), NEVER, np.int64)
    bounds = np.full(len(lead_row), NEVER, np.int64) if known_by is None else known_by
    if outcome == "conversion":
        for bound in np.unique(bounds):
            rows = np.flatnonzero(bounds == bound)
            converted_at, known_at = _first_conversions(history, None if known_by is None else int(bound))
            happened[rows], known[rows] = converted_at[lead_row[rows]], known_at[lead_row[rows]]
        return happened, known
    purchases = _purchases(history)
    for bound in np.unique(bounds):
        rows = np.flatnonzero(bounds == bound)
        lead, occurred_at, known_at = purchases.visible_before(int(bound))
        found = _first_at_or_after(lead, occurred_at, lead_row[rows], cutoff[rows])
        hit = found >= 0
        happened[rows[hit]], known[rows[hit]] = occurred_at[found[hit]], known_at[found[hit]]
    return happened, known


def events_known_by(
    history: History,
    outcome: OutcomeKind,
    lead_row: NDArray[np.int32],
    cutoff: NDArray[np.int64],
    known_by: NDArray[np.int64],
    horizons_us: tuple[int, ...],
) -> dict[str, NDArray[np.int64]]:
    """Time (µs) from each cutoff to the outcome, and to when it was known; nothing that was learnt later.

    ``known_by`` is the instant up to which each row may know. The exception is the label's: an outcome within
    a horizon that has ended by then counts however late it was recorded (as known at ``known_by``). -1: none.
    """
    happened, known = next_events(history, outcome, lead_row, cutoff, known_by)
    told = (happened >= cutoff) & (happened < known_by) & (known < known_by)
    late, late_known = next_events(history, outcome, lead_row, cutoff)
    ended = np.zeros(len(cutoff), np.bool_)
    for horizon in horizons_us:
        ended |= (late >= cutoff) & (late < cutoff + horizon) & (cutoff + horizon <= known_by)
    after = np.where(ended, late - cutoff, np.where(told, happened - cutoff, NOT_KNOWN))
    known_after = np.where(ended, np.minimum(late_known, known_by) - cutoff, known - cutoff)
    return {
        "event_after_us": after,
        "event_known_after_us": np.where(after >= 0, known_after, NOT_KNOWN),
    }


def check_outcome(history: History, outcome: OutcomeKind) -> None:
    """Raise ConfigError where the history has no rows of what is to be predicted."""
    if outcome == "purchase" and not history.revenue.num_rows:
        raise ConfigError(
            "labels.outcome is 'purchase', but the history has no revenue, so nobody ever buys and there is "
            "nothing to predict; declare history.revenue, or use labels.outcome: conversion"
        )


def _first_conversions(history: History, known_by: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per lead, when its first dated conversion (of those known before an instant) happened and was known."""
    table = history.conversions if known_by is None else known_conversions(history, known_by)[0]
    happened, known = np.full(history.n_leads, NEVER, np.int64), np.full(history.n_leads, NEVER, np.int64)
    rows = table["lead_row"].to_numpy()
    happened[rows] = microseconds_of(table["converted_at"])
    known[rows] = np.where(happened[rows] == NEVER, NEVER, known_times(table, "converted_at"))
    return happened, known


@dataclass(frozen=True)
class _Purchases:
    """Revenue rows sorted by lead and time."""

    lead: NDArray[np.int32]
    occurred_at: NDArray[np.int64]
    known_at: NDArray[np.int64]

    def visible_before(self, instant: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """The rows that were known before an instant."""
        seen = self.known_at < instant
        return self.lead[seen], self.occurred_at[seen], self.known_at[seen]


def _purchases(history: History) -> _Purchases:
    table = history.revenue.filter(pc.is_valid(history.revenue["occurred_at"]))
    lead = table["lead_row"].to_numpy().astype(np.int32)
    occurred_at = microseconds_of(table["occurred_at"])
    known_at = np.maximum(occurred_at, microseconds_of(table["recorded_at"], missing=-NEVER))
    order = np.lexsort((known_at, occurred_at, lead))
    return _Purchases(lead[order], occurred_at[order], known_at[order])


def _first_at_or_after(
    lead: NDArray[np.int32],
    occurred_at: NDArray[np.int64],
    wanted_lead: NDArray[np.int32],
    cutoff: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Position of each lead's first row at or after its cutoff, -1: none; rows sorted by lead and time."""
    asked = np.concatenate([np.zeros(len(wanted_lead), np.int8), np.ones(len(lead), np.int8)])
    order = np.lexsort((asked, np.concatenate([cutoff, occurred_at]), np.concatenate([wanted_lead, lead])))
    is_row = asked[order] == 1
    position = np.cumsum(is_row)[~is_row]
    found = np.full(len(wanted_lead), -1, np.int64)
    query = order[~is_row]
    there = position < len(lead)
    same = np.zeros(len(query), np.bool_)
    same[there] = lead[position[there]] == wanted_lead[query[there]]
    found[query[same]] = position[same]
    return found
