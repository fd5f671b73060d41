"""Days on which a kind of event should have come, by its own past, and did not.

A hole is a run of whole days without any event of a kind. What was to be expected in it follows from the days
before: the mean of the same weekdays, no more than what the last two weeks bear out. How surprising the hole is
follows from the variation of these days, and of their weeks, around their expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_REFERENCE_DAYS = 28
_RECENT_DAYS = 14
_LEAST_OF_OTHERS = 20.0
_QUIET_FLOOR = 0.25


@dataclass(frozen=True)
class Hole:
    """Days ``first`` to ``last`` (positions, both included) without an event of the kind in row ``kind``.

    ``missing`` events were to be expected. ``probability`` of none at all, had nothing happened to the kind;
    ``usual`` is the second largest number that its own quiet stretches of the reference lack by the same
    reckoning: what is no more than that is its habit.
    """

    kind: int
    first: int
    last: int
    missing: float
    probability: float
    usual: float
    ongoing: bool

    @property
    def days(self) -> int:
        """Length in whole days."""
        return self.last - self.first + 1

    def is_surprising(self, alpha: float) -> bool:
        """Whether neither chance (with ``alpha``) nor the kind's habit explains it."""
        return self.probability < alpha and self.missing > self.usual


def find_holes(by_day: Ints, look_back: int, reference: int) -> list[Hole]:
    """The holes of each kind (a row of ``by_day``) that reach into the last ``look_back`` days.

    ``reference``: how many days before a hole tell what was to be expected; a kind that was not there for at least
    28 of them is not judged, and has no hole.
    """
    holes = []
    days = by_day.shape[1]
    for kind, counts in enumerate(by_day):
        for first, last in zero_runs(counts):
            if last < days - look_back:
                continue
            start = reference_start(counts, first, reference)
            if first - start < MIN_REFERENCE_DAYS:
                continue
            holes.append(_hole(by_day, kind, first, last, start))
    return holes


def zero_runs(counts: Ints) -> list[tuple[int, int]]:
    """First and last position of every run of zeros.

    >>> zero_runs(np.array([0, 3, 0, 0, 1, 0]))
    [(0, 0), (2, 3), (5, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], counts == 0, [False]]).astype(np.int8)))
    return [(int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def reference_start(counts: Ints, first: int, reference: int) -> int:
    """Where the reference of a hole from ``first`` on begins: not before the kind's first event."""
    seen = np.flatnonzero(counts[:first])
    return max(first - reference, int(seen[0])) if len(seen) else first


def expected_counts(past: Ints, days: int, recent_days: int = _RECENT_DAYS) -> Floats:
    """What the ``days`` days after ``past`` let expect: the mean of the same weekdays, lowered to the level of the
    last ``recent_days`` where that is less.

    A rise is not followed: a kind that falls silent while it grows lacks at least what it used to have.
    """
    fitted = weekday_means(past)
    recent = slice(-recent_days, None)
    usual = fitted[recent].sum()
    level = min(1.0, past[recent].sum() / usual) if usual else 1.0
    means = np.array([past[(len(past) - 7 + day) % 7 :: 7].mean() for day in range(7)])
    return np.asarray(level * means[np.arange(days) % 7])


def weekday_means(past: Ints) -> Floats:
    """For each day of ``past`` the mean of its weekday."""
    means = np.array([past[day::7].mean() for day in range(7)])
    return np.asarray(means[np.arange(len(past)) % 7])


def overdispersion(past: Ints) -> float:
    """By how much days vary beyond Poisson: ``a`` of the variance ``mean + a mean**2``, not below 0."""
    fitted = weekday_means(past)
    if not fitted.any():
        return 0.0
    squares = ((past - fitted) ** 2).sum() * len(past) / max(1, len(past) - 7)
    return float(max(0.0, (squares - fitted.sum()) / (fitted**2).sum()))


def weekly_overdispersion(past: Ints) -> float:
    """The same of whole weeks: large for a kind that comes in bursts with quiet weeks between."""
    weeks = past[len(past) % 7 :].reshape(-1, 7).sum(axis=1)
    mean = weeks.mean() if len(weeks) else 0.0
    return float(max(0.0, (weeks.var(ddof=1) - mean) / mean**2)) if mean and len(weeks) > 1 else 0.0


def probability_of_none(expected: Floats, daily: float, weekly: float, known_events: float) -> float:
    """The chance of no event where ``expected`` were to come on each day.

    The largest of three: days, and weeks, that vary like a negative binomial with the overdispersion ``daily`` and
    ``weekly``, and a level that is known from ``known_events`` events only.
    """
    weeks = np.add.reduceat(expected, np.arange(0, len(expected), 7))
    level = known_events * np.log1p(expected.sum() / known_events) if known_events else 0.0
    return float(np.exp(-min(_surprise(expected, daily), _surprise(weeks, weekly), level)))


def _surprise(expected: Floats, dispersion: float) -> float:
    """Minus the logarithm of a negative binomial's chance of zeros only."""
    return float(np.log1p(dispersion * expected).sum() / dispersion if dispersion > 1e-9 else expected.sum())


def _hole(by_day: Ints, kind: int, first: int, last: int, start: int) -> Hole:
    past = by_day[kind, start:first]
    length = last - first + 1
    expected = expected_counts(past, length) * quietness(by_day, first, last, start)
    chance = probability_of_none(
        expected, overdispersion(past), weekly_overdispersion(past), float(past[-_RECENT_DAYS:].sum())
    )
    usual = second_longest_quiet(past)
    return Hole(kind, first, last, float(expected.sum()), chance, usual, last == by_day.shape[1] - 1)


def quietness(by_day: Ints, first: int, last: int, start: int) -> Floats:
    """How active the kinds that did send something were on each day of a hole, of what was to be expected of them:
    1 and, on a public holiday, less. Not below a quarter, so that nothing hides behind a standstill of all."""
    span = slice(first, last + 1)
    others = by_day[by_day[:, span].sum(axis=1) > 0]
    length = last - first + 1
    if not len(others):
        return np.ones(length)
    usual = np.sum([expected_counts(row[start:first], length) for row in others], axis=0)
    ratio = others[:, span].sum(axis=0) / np.maximum(usual, 1e-9)
    return np.where(usual < _LEAST_OF_OTHERS, 1.0, np.clip(ratio, _QUIET_FLOOR, 1.0))


def second_longest_quiet(past: Ints) -> float:
    """How many events the second emptiest stretch of whole silent days lacks by the means of its weekdays.

    What happened twice is a habit. A run at the very end would be part of the hole.
    """
    means = weekday_means(past)
    quiet = sorted((float(means[a : b + 1].sum()) for a, b in zero_runs(past)), reverse=True)
    return quiet[1] if len(quiet) > 1 else 0.0


def longest_silences(by_hour: Ints, count: int, below: float = inf) -> list[int]:
    """The ``count`` longest runs of hours without any event between two events, longest first; runs of ``below``
    hours and more are left out.

    >>> longest_silences(np.array([0, 0, 0, 1, 0, 1, 0, 0, 2, 0]), 2)
    [2, 1]
    >>> longest_silences(np.array([1, 0, 0, 0, 1, 0, 1]), 2, below=3)
    [1]
    """
    active = np.flatnonzero(by_hour)
    gaps = sorted((int(later - earlier - 1) for earlier, later in pairwise(active)), reverse=True)
    return [gap for gap in gaps if 0 < gap < below][:count]
