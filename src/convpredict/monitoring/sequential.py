"""Has the quality of a segment changed? A sequential test that may look every night and seldom alarms by chance.

What comes in, night by night, are the conversions that came and the conversions that were expected, of leads whose
outcome has become known. A segment has its own ratio of the two: models shrink, so that a segment which the model has
always promised too much is not news. News is a change of that ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, ndtri

Floats = NDArray[np.float64]

FACTORS = (0.5, 0.65, 1.6, 2.2)
"""By what the ratio may have been multiplied, and how the evidence is shared among these."""

FACTOR_WEIGHTS = (0.4, 0.25, 0.2, 0.15)

PRIOR_SEGMENT, PRIOR_OVERALL = 10.0, 25.0
"""How much is known beforehand of a segment's ratio, in conversions: with 10 it is within about a third of 1."""


@dataclass(frozen=True)
class Change:
    """What the test says of one segment after its last night.

    ``evidence``: log of the statistic; it alarms where that exceeds ``limit``. ``since``: the night (position) with
    which the likeliest change begins. ``ratio`` (with ends): observed over expected from then on, relative to before.
    ``before`` and ``after``: observed over expected then.
    """

    evidence: float
    limit: float
    since: int
    ratio: float
    low: float
    high: float
    before: float
    after: float

    @property
    def exceeds(self) -> bool:
        """Whether chance explains it no longer."""
        return self.evidence >= self.limit

    def matters(self, least_change: float) -> bool:
        """Whether the ratio has moved by at least that share, or as much upwards."""
        return self.ratio <= 1 - least_change or self.ratio >= 1 / (1 - least_change)


def evidence_of_change(
    observed: ArrayLike, expected: ArrayLike, *, prior: float = PRIOR_SEGMENT
) -> NDArray[np.float64]:
    r"""Log likelihood ratio of a change that begins with each night, by each of ``FACTORS``: shape (nights, factors).

    Parameters
    ----------
    observed, expected : arrays of shape (nights,)
        Conversions that came and that were expected, in the order of the nights, each conversion once.
    prior : how many conversions what is known of the ratio beforehand is worth

    Notes
    -----
    The counts are Poisson with mean r e before and :math:`\rho` r e from night s on; r has a gamma distribution with
    mean 1 and shape ``prior`` and is integrated out:

    .. math:: \rho^{O_s} \left( \frac{k + E}{k + E - E_s + \rho E_s} \right)^{k + O}

    with the totals O and E, and :math:`O_s`, :math:`E_s` from s on.

    >>> calm = evidence_of_change([5, 4, 6, 5], [5, 5, 5, 5])
    >>> halved = evidence_of_change([50, 49, 24, 25], [50, 50, 50, 50])
    >>> bool(calm.max() < 0.1), int(halved.max(axis=1).argmax())
    (True, 2)
    """
    came, wanted = np.asarray(observed, np.float64), np.asarray(expected, np.float64)
    if came.shape != wanted.shape or came.ndim != 1:
        raise ValueError(
            f"'observed' and 'expected' must have the same length, got {came.shape} and {wanted.shape}"
        )
    later = np.cumsum(came[::-1])[::-1, None]
    due = np.cumsum(wanted[::-1])[::-1, None]
    factor = np.array(FACTORS)
    total = prior + wanted.sum()
    exponent = prior + came.sum()
    return np.asarray(
        later * np.log(factor) + exponent * (math.log(total) - np.log(total + (factor - 1) * due))
    )


def judge_change(
    observed: ArrayLike,
    expected: ArrayLike,
    *,
    nights_per_alarm: float,
    prior: float = PRIOR_SEGMENT,
    confidence: float = 0.95,
) -> Change | None:
    """The Shiryaev-Roberts statistic of a segment after its last night; None where nothing was expected yet.

    The statistic is the sum, over the nights on which a change may have begun, of its likelihood ratio (a mixture over
    ``FACTORS``). Without a change it grows by 1 a night on average, whatever the expected numbers, so that the first
    night above ``nights_per_alarm`` comes after that many nights or more on average. Where several segments are
    watched, each gets its share: ``nights_per_alarm`` divided by it.

    Counts that were smoothed over overlapping nights (each conversion weighs 1 in all) vary less than Poisson
    counts, which makes chance alarms rarer still.

    Source: Shin, Ramdas & Rinaldo (2024), E-detectors: a nonparametric framework for sequential change detection,
    New England Journal of Statistics in Data Science 2.

    >>> change = judge_change([50, 49, 24, 25], [50, 50, 50, 50], nights_per_alarm=52)
    >>> change.exceeds, change.since, round(change.ratio, 2)
    (True, 2, 0.5)
    """
    came, wanted = np.asarray(observed, np.float64), np.asarray(expected, np.float64)
    if not wanted.sum() > 0:
        return None
    table = evidence_of_change(came, wanted, prior=prior) + np.log(FACTOR_WEIGHTS)
    since = int(np.unravel_index(int(table.argmax()), table.shape)[0])
    before = (prior + came[:since].sum()) / (prior + wanted[:since].sum())
    later, due = float(came[since:].sum()), float(wanted[since:].sum())
    after = (later + 0.5) / (due + 0.5 / before)
    z = float(ndtri((1 + confidence) / 2))
    spread = z * math.sqrt(1 / (later + 0.5) + 1 / (prior + came[:since].sum()))
    ratio = after / before
    return Change(
        evidence=float(logsumexp(table)),
        limit=math.log(nights_per_alarm),
        since=since,
        ratio=float(ratio),
        low=float(ratio * math.exp(-spread)),
        high=float(ratio * math.exp(spread)),
        before=float(before),
        after=float(after),
    )
