"""Revenue as an outcome: what a conversion brought within the value horizon, as far as that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convpredict.config.training import LabelsConfig
from convpredict.errors import ConfigError
from convpredict.features.time_rule import NEVER
from convpredict.history.history import History

from .lead_times import LeadTimes, microseconds_of, to_microseconds

Floats = NDArray[np.float64]
Instants = NDArray[np.int64]

DEVELOPMENT_STEPS = 20
"""Into how many equal ages the value horizon is cut where the course of revenue over time is looked at."""

_PAIRS = 2_000_000


def revenue_columns(
    history: History,
    lead_row: NDArray[np.int32],
    cutoff_us: Instants,
    known_by_us: Instants,
    labels: LabelsConfig,
) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    """Revenue within the value horizon of each observation, as it was known at ``known_by_us``.

    Parameters
    ----------
    history
        Where conversions and revenue come from. Refunds are negative amounts and count as such.
    lead_row, cutoff_us, known_by_us
        One entry per observation: the lead's position, the cutoff, and the instant at which somebody asks, in
        µs. A fact counts iff it had occurred and was recorded before that instant; asked at or after
        ``history.known_until``, everything that is in the data was recorded.
    labels
        With ``outcome: conversion`` the value window is [converted_at, converted_at + value_horizon), with
        ``outcome: purchase`` it is [cutoff, cutoff + value_horizon).

    Returns
    -------
    dict
        ``revenue`` (float64): the sum of the amounts in the value window before ``known_by_us``; 0 where nothing
        was bought. NaN where no conversion at or after the cutoff is known (also where nobody knows its date)
        or, with ``purchase``, where the cutoff is not before ``known_by_us``.
        ``revenue_followed_us`` (int64): how much of the value window lies before ``known_by_us``, at most the value
        horizon; -1 where ``revenue`` is NaN. Less than the value horizon: the window is still open.

    Raises
    ------
    ConfigError
        ``labels.value_horizon`` is not set.
    """
    window = _Windows.of(history, lead_row, cutoff_us, known_by_us, labels)
    total = np.where(window.known, 0.0, np.nan)
    for row, _, amount in _facts(history, window):
        total += np.bincount(row, amount, minlength=len(total))
    return {"revenue": total, "revenue_followed_us": np.where(window.known, window.followed_us, -1)}


def revenue_by_age(
    history: History,
    lead_row: NDArray[np.int32],
    cutoff_us: Instants,
    known_by_us: Instants,
    labels: LabelsConfig,
    *,
    steps: int = DEVELOPMENT_STEPS,
) -> Floats:
    """How the revenue of each observation's value window came in: cumulated, at ``steps`` equal ages.

    Parameters as in :func:`revenue_columns`. The value in column k is the revenue within the first
    ``(k + 1) / steps`` of the value horizon, NaN where the window was not followed that far; shape
    (rows, steps). What it teaches about windows that are still open: ``models.value_development``.
    """
    window = _Windows.of(history, lead_row, cutoff_us, known_by_us, labels)
    ages = np.arange(1, steps + 1) * (window.length / steps)
    step_amounts = np.zeros(len(window.known) * steps)
    for row, age, amount in _facts(history, window):
        step = np.minimum(np.searchsorted(ages, age, side="right"), steps - 1)
        step_amounts += np.bincount(row * steps + step, amount, minlength=len(step_amounts))
    cumulated = np.cumsum(step_amounts.reshape(-1, steps), axis=1)
    seen = window.known[:, None] & (ages[None, :] <= window.followed_us[:, None])
    return np.where(seen, cumulated, np.nan)


@dataclass(frozen=True)
class _Windows:
    """The value window of each observation: where it starts (µs), whether it is known, how far it is followed."""

    lead_row: NDArray[np.int32]
    start: Instants
    known: NDArray[np.bool_]
    known_by: Instants
    followed_us: Instants
    length: int

    @classmethod
    def of(
        cls,
        history: History,
        lead_row: NDArray[np.int32],
        cutoff_us: Instants,
        known_by_us: Instants,
        labels: LabelsConfig,
    ) -> _Windows:
        if labels.value_horizon is None:
            raise ConfigError(
                "labels.value_horizon is not set, so nobody can say which revenue belongs to a conversion; "
                "set it, for example to 365d"
            )
        length = labels.value_horizon.microseconds
        cutoff, known_by = np.asarray(cutoff_us, np.int64), np.asarray(known_by_us, np.int64)
        if labels.outcome == "purchase":
            start, known = cutoff, cutoff < known_by
        else:
            start = LeadTimes.of(history).converted_at[lead_row]
            told = _recorded(history, start, _conversion_records(history)[lead_row], known_by)
            known = told & (start != NEVER) & (start >= cutoff)
        followed = np.clip(known_by - start, 0, length)
        return cls(np.asarray(lead_row), start, known, known_by, followed, length)


def _conversion_records(history: History) -> Instants:
    """Per lead, when its conversion was recorded (µs); ``-NEVER``: when it happened."""
    recorded = np.full(history.n_leads, -NEVER, np.int64)
    rows = history.conversions["lead_row"].to_numpy()
    recorded[rows] = microseconds_of(history.conversions["recorded_at"], missing=-NEVER)
    return recorded


def _recorded(
    history: History, occurred: Instants, recorded: Instants, known_by: Instants
) -> NDArray[np.bool_]:
    """Whether facts were known at ``known_by``: the end of the data knows all that is in it."""
    told = np.maximum(occurred, recorded) < known_by
    return told | ((occurred < known_by) & (known_by >= to_microseconds(history.known_until)))


def _facts(history: History, window: _Windows) -> Iterator[tuple[NDArray[np.intp], Instants, Floats]]:
    """The amounts that count, block by block: (position of the observation, age in the window in µs, amount)."""
    table = history.revenue
    order = np.argsort(table["lead_row"].to_numpy(), kind="stable")
    lead = table["lead_row"].to_numpy()[order]
    occurred = microseconds_of(table["occurred_at"])[order]
    recorded = microseconds_of(table["recorded_at"], missing=-NEVER)[order]
    amount = table["amount"].to_numpy().astype(np.float64)[order]
    rows = np.flatnonzero(window.known)
    first = np.searchsorted(lead, window.lead_row[rows])
    count = np.searchsorted(lead, window.lead_row[rows], side="right") - first
    rows, first, count = rows[count > 0], first[count > 0], count[count > 0]
    ends = np.cumsum(count)
    begin = 0
    while begin < len(rows):
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + _PAIRS, side="right")))
        size = count[begin:stop]
        row = np.repeat(rows[begin:stop], size)
        entry = np.arange(int(size.sum())) - np.repeat(
            ends[begin:stop] - size - done - first[begin:stop], size
        )
        age = occurred[entry] - window.start[row]
        counts = (age >= 0) & (age < window.length) & np.isfinite(amount[entry])
        counts &= _recorded(history, occurred[entry], recorded[entry], window.known_by[row])
        yield row[counts], age[counts], amount[entry][counts]
        begin = stop
