"""The level of probabilities for the time to come: how much of what the newest outcomes say is still true next month.

Conversions of the past are counted by calendar time beside those that the model expects, and the ratio is taken for
a process: it wanders about its long-run mean and comes back within some time, and once in a while it jumps and stays.
How far it wanders and how long it takes is averaged over what the past supports (Bayes), so that a few conversions
more or less move nothing, while a change that the counts show beyond chance is followed, as far as it will last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from .calibration import Floats, clip_logit, level_shift
from .calibrator_choice import group_codes

Integers = npt.NDArray[np.int64]

NEAR_HORIZONS = 8
PERIODS_PER_HORIZON = 4
"""Periods are a quarter of a horizon long for the last eight horizons; before that they grow by a quarter each."""

WANDER = (0.0, 0.1, 0.25, 0.5, 1.0)
WANDER_SCALE = 0.15
"""Standard deviations of the log level that are weighed, and the mean of their (exponential) prior."""

MEMORY_HORIZONS = (0.5, 1.5, 4.0, 12.0)
"""Times, in horizons, after which a deviation has fallen to 1/e: all the same a priori."""

JUMP_RATE = 0.03
JUMP_SIZE = 0.7
JUMPS_BEFORE = (6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5)
"""A lasting jump: its prior probability per horizon (with months: one in three years), its standard deviation on the
log, and when it may have come, in horizons before now. What is older is part of the long-run level."""

MEAN_SCALE = 0.2
"""How well the long-run mean is known: the model was fitted to it, as far as the outcomes had come."""

_AHEAD = np.array([0.25, 0.75, 1.25, 1.75])
_AHEAD_WEIGHT = np.array([0.2, 0.3, 0.3, 0.2])
"""When, in horizons from now, the outcomes fall that a model will be asked about within its first horizon of use."""


class Course(Protocol):
    """How fast outcomes become known (:class:`.completion.DevelopmentCurve`)."""

    def share(self, logit: npt.ArrayLike, elapsed_us: npt.ArrayLike) -> Floats:
        """Share of a row's outcomes within the horizon that are known a time (µs) after its cutoff."""


@dataclass(frozen=True)
class Periods:
    """Conversions by calendar time beside those that a model expected, oldest period first.

    ``middle``
        of each period in horizons, 0 being now and the past negative.
    ``conversions``, ``expected``
        in units of independent conversions: one that several rows of a lead hold counts once.
    """

    middle: Floats
    conversions: Floats
    expected: Floats


@dataclass(frozen=True)
class LevelForecast:
    """What the outcomes within the next horizons will be, over what the model expects of the same rows.

    ``factor`` is the expected ratio; ``wander`` (standard deviation of the log level), ``memory_horizons`` and
    ``jump_probability`` are posterior means: why it is what it is.
    """

    factor: float
    wander: float
    memory_horizons: float
    jump_probability: float


def count_by_period(
    logit: npt.ArrayLike,
    cutoff_us: npt.ArrayLike,
    known_after_us: npt.ArrayLike,
    until_us: int,
    horizon_us: int,
    course: Course,
    *,
    groups: npt.ArrayLike | None = None,
) -> Periods:
    """Conversions that became known before ``until_us``, and those expected by then, by when they became known.

    A row with probability p is expected to bring ``p (G(b - cutoff) - G(a - cutoff))`` in a period [a, b), whether
    its horizon has ended or not. ``known_after_us``: time from the cutoff to knowledge of an outcome within the
    horizon, -1: none. All rows of a lead (``groups``) before one conversion hold that one, in one period: both
    counts are divided by the mean number of rows that a conversion is held by, weighted by itself, which is how
    much the variance of such a count exceeds Poisson's.

    Raises ValueError where there is no row.
    """
    z, cutoff = clip_logit(logit), np.asarray(cutoff_us, np.int64)
    if not len(z):
        raise ValueError("the level of no rows is unknown: give the rows that a model learns from")
    known = np.asarray(known_after_us, np.int64)
    hit = (known >= 0) & (cutoff + known < until_us)
    edges = until_us - _ages_us(int(until_us - cutoff.min()), horizon_us)
    expected = np.zeros(len(edges) - 1)
    p, begun = expit(z), np.zeros(len(z))
    begun[:] = course.share(z, np.zeros(len(z), np.int64))
    for number, end in enumerate(edges[1:]):
        rows = np.flatnonzero((cutoff < end) & (begun < 1))
        grown = course.share(z[rows], end - cutoff[rows])
        expected[number] = float(p[rows] @ (grown - begun[rows]))
        begun[rows] = grown
    instant = (cutoff + known)[hit]
    period = np.searchsorted(edges, instant, side="right") - 1
    conversions = np.bincount(period, minlength=len(expected)).astype(np.float64)
    repeats = _rows_per_conversion(group_codes(groups, len(z))[hit], instant)
    middle = ((edges[1:] - until_us) + (edges[:-1] - until_us)) / (2 * horizon_us)
    return Periods(middle, conversions / repeats, expected / repeats)


def forecast_level(periods: Periods) -> LevelForecast:
    """The level to come, averaged over all sizes, memories and jumps by how well each explains the counts.

    Counts are Poisson around expected times level. The log level is a Gaussian process: a constant, an
    Ornstein-Uhlenbeck process, and a jump at one of the last instants or none, each centred so that the level's
    mean is 1 before anything is seen; posteriors by Laplace's method (Rasmussen and Williams, 2006, section 3.4).

    >>> weeks = np.arange(-40, 0) / 4 + 0.125
    >>> as_expected = forecast_level(Periods(weeks, np.full(40, 25.0), np.full(40, 25.0)))
    >>> halved_since_long = forecast_level(Periods(weeks, np.where(weeks < -3, 25.0, 12.0), np.full(40, 25.0)))
    >>> round(as_expected.factor, 2), round(halved_since_long.factor, 1)
    (1.0, 0.5)
    """
    used = periods.expected > 1e-9
    if not used.any():
        return LevelForecast(1.0, 0.0, 0.0, 0.0)
    middle, hits, expected = (
        values[used] for values in (periods.middle, periods.conversions, periods.expected)
    )
    evidence, factors, traits = [], [], []
    for wander, memory, jump, log_prior in _processes(float(middle[0])):
        covariance = _covariance(np.r_[middle, _AHEAD], wander, memory, jump)
        log_evidence, factor = _posterior(hits, expected, covariance)
        evidence.append(log_prior + log_evidence)
        factors.append(factor)
        traits.append((wander, memory, float(jump is not None)))
    weight = np.exp(np.array(evidence) - max(evidence))
    weight /= weight.sum()
    wander, memory, jumped = weight @ np.array(traits)
    return LevelForecast(float(weight @ np.array(factors)), float(wander), float(memory), float(jumped))


def shift_to(logit: npt.ArrayLike, factor: float) -> float:
    """The constant on the logit that multiplies the sum of the probabilities by a factor, short of all being 1.

    >>> round(shift_to(np.zeros(4), 0.5), 6), shift_to([], 2.0)  # a half to a quarter: ln(1/3)
    (-1.098612, 0.0)
    """
    z = clip_logit(logit)
    if not len(z):
        return 0.0
    total = float(expit(z).sum())
    return level_shift(z, min(factor * total, total + 0.9 * (len(z) - total)))


def _ages_us(oldest_us: int, horizon_us: int) -> Floats:
    """Ages of the edges between periods, oldest first, 0 last."""
    step = horizon_us / PERIODS_PER_HORIZON
    ages = [0.0]
    while ages[-1] <= oldest_us:
        ages.append(ages[-1] + (step if ages[-1] < NEAR_HORIZONS * horizon_us else ages[-1] / 4))
    return np.array(ages[::-1])


def _rows_per_conversion(lead: npt.NDArray[np.intp], instant: Integers) -> float:
    if not len(lead):
        return 1.0
    _, rows = np.unique(np.column_stack([lead, instant]), axis=0, return_counts=True)
    return float(rows @ rows / rows.sum())


def _processes(oldest: float) -> Iterator[tuple[float, float, float | None, float]]:
    """(wander, memory, instant of a jump or None, log prior) of all that is weighed."""
    before = [age for age in JUMPS_BEFORE if -age > oldest]
    chance = JUMP_RATE * -np.diff([*before, 0.0])
    jumps: list[tuple[float | None, float]] = [(None, float(np.log1p(-chance.sum())))]
    jumps += [(-age, float(np.log(own))) for age, own in zip(before, chance, strict=True)]
    for wander in WANDER:
        memories = MEMORY_HORIZONS if wander > 0 else (0.0,)
        for memory in memories:
            for jump, log_jump in jumps:
                yield wander, memory, jump, -wander / WANDER_SCALE - np.log(len(memories)) + log_jump


def _covariance(time: Floats, wander: float, memory: float, jump: float | None) -> Floats:
    result = np.full((len(time), len(time)), MEAN_SCALE**2)
    if wander > 0:
        result += wander**2 * np.exp(-np.abs(time[:, None] - time) / memory)
    if jump is not None:
        after = (time >= jump).astype(np.float64)
        result += JUMP_SIZE**2 * np.outer(after, after)
    return result


def _posterior(hits: Floats, expected: Floats, covariance: Floats) -> tuple[float, float]:
    """Log evidence of the counts, and the expected level ahead."""
    n = len(hits)
    mean = -np.diag(covariance) / 2
    own = covariance[:n, :n]
    deviation = np.zeros(n)
    for _ in range(100):
        rate = expected * np.exp(mean[:n] + deviation)
        root = np.sqrt(rate)
        factor = cho_factor(np.eye(n) + root[:, None] * own * root, lower=True)
        pull = rate * deviation + hits - rate
        dual = pull - root * cho_solve(factor, root * (own @ pull))
        step = own @ dual - deviation
        largest = float(np.abs(step).max())
        deviation = deviation + step / max(1.0, largest)
        if largest < 1e-8:
            break
    rate = expected * np.exp(mean[:n] + deviation)
    logarithm = float(hits @ (mean[:n] + deviation) - rate.sum() - dual @ deviation / 2)
    logarithm -= float(np.log(np.diag(factor[0])).sum())
    across = covariance[n:, :n]
    reduced = np.einsum("ij,ji->i", across * root, cho_solve(factor, (across * root).T))
    ahead = mean[n:] + across @ dual + (np.diag(covariance)[n:] - reduced) / 2
    return logarithm, float(_AHEAD_WEIGHT @ np.exp(ahead))
