"""How far the level of heavy-tailed revenue follows its mean, and how far the tail of a lognormal."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .calibration import Floats

FEWEST_PAYERS = 30
AGREES, CONTRADICTS = 1.0, 4.0
"""Squared standard errors of the difference between both means: up to one it is chance, from two on it is not."""


def tail_factor(ratio: Floats, weight: Floats, lead: npt.NDArray[Any]) -> float:
    """By how much the mean of ``ratio`` (revenue over prediction, weighted) is moved towards a lognormal's mean.

    The mean of heavy-tailed amounts rests on the few largest of them; a lognormal's mean rests on all of them, but
    is wrong where the amounts are not lognormal. Let A be the mean of the leads that brought anything, B the
    lognormal's, n their (effective) number and s2 the variance of the logarithms. If the amounts are lognormal, A
    has the relative variance VA = (exp(s2) - 1) / n and B VB = (s2 + s2 ** 2 / 2) / n; B is efficient, so that the
    two differ by chance with the variance VA - VB, held to what the amounts themselves show for A. H is the squared
    relative difference over that. The result is A + t (1 - VB / VA) (B - A): the weight that is best if B errs by its
    standard error besides, with t = 1 for H <= 1 (chance alone), 0 for H >= 4, and linear in between. Two standard
    errors apart the amounts contradict the lognormal, and nothing is changed; as VA - VB falls with n, amounts that
    are not lognormal keep their mean once there are enough of them. Where tails are light, VB is nearly VA, and nothing
    is changed either.

    Leads without revenue and refunds count as they are; rows of one lead are one lead. Below 30 leads with revenue,
    and where refunds take away more than half of it, the factor is 1.

    Source: Hausman (1978), Specification tests in econometrics (the variance of the difference); Judge and
    Mittelhammer (2004), A semiparametric basis for combining estimation problems under quadratic loss; Aitchison
    (1955), On the distribution of a positive random variable having a discrete probability mass at the origin;
    Finney (1941) for the correction of the lognormal's mean.

    >>> amount = np.random.default_rng(2).lognormal(0.0, 2.0, 200)  # of mean exp(2) = 7.39
    >>> factor = tail_factor(amount, np.ones(200), np.arange(200))
    >>> print(f"{amount.mean():.2f} {factor * amount.mean():.2f}")
    5.49 5.99
    >>> whales = np.array([500.0] * 95 + [200_000.0] * 5)
    >>> tail_factor(whales, np.ones(100), np.arange(100))
    1.0
    """
    _, code = np.unique(lead, return_inverse=True)
    mass, total = np.bincount(code, weight), np.bincount(code, weight * ratio)
    paid = (mass > 0) & (total > 0)
    if int(paid.sum()) < FEWEST_PAYERS:
        return 1.0
    amount, w = total[paid] / mass[paid], mass[paid] / mass[paid].sum()
    n = 1.0 / float(w @ w)
    others = float(total[~paid].sum())
    if n <= 2.0 or -others > total[paid].sum() / 2.0:
        return 1.0
    logs = np.log(amount)
    centre, mean = float(w @ logs), float(w @ amount)
    spread = float(w @ (logs - centre) ** 2) * n / (n - 1.0)
    lognormal = np.exp(centre + spread / 2.0 - spread * (0.5 + spread / 4.0) / n)
    of_mean, of_lognormal = np.expm1(spread) / n, (spread + spread**2 / 2.0) / n
    variance = min(of_mean - of_lognormal, float(w @ (amount / mean - 1.0) ** 2) / (n - 1.0))
    if variance <= 0:
        return 1.0
    larger, smaller = max(mean, lognormal), min(mean, lognormal)
    contrast = (larger / smaller - 1.0) ** 2 / variance
    agreement = np.clip((CONTRADICTS - contrast) / (CONTRADICTS - AGREES), 0.0, 1.0)
    trust = float(agreement * (1.0 - of_lognormal / of_mean))
    before, after = total[paid].sum(), total[paid].sum() * (1.0 + trust * (lognormal / mean - 1.0))
    return float((after + others) / (before + others)) if after + others > 0 else 1.0
