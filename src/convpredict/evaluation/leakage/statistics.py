"""Effects with intervals, among leads of the same cohort: odds ratios and areas under the curve.

Every statistic compares converted with other leads inside strata (cohorts by creation), because older leads
have had more time both to convert and to be filled in. Intervals treat the lead as the unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.intp]

FAMILY_ERROR = 0.01
_SMALL_CELL = 5


def critical_value(tests: int) -> float:
    """The two-sided normal quantile at which ``tests`` intervals together err with 1 % (Bonferroni).

    >>> round(critical_value(1), 2), round(critical_value(100), 2)
    (2.58, 3.89)
    """
    return float(stats.norm.isf(FAMILY_ERROR / (2 * max(tests, 1))))


@dataclass(frozen=True)
class Association:
    """How much more often something holds for converted leads than for others of the same cohort.

    ``converted`` and ``others`` are shares of leads; ``others`` is weighted to the cohorts of the converted
    ones. ``odds_ratio`` is Mantel and Haenszel's, with the ends of its interval.
    """

    converted: float
    others: float
    odds_ratio: float
    low: float
    high: float


def associate(holds: Bools, outcome: Bools, stratum: Codes, z: float) -> Association:
    """Mantel-Haenszel odds ratio of ``holds`` for ``outcome`` over strata, interval of Robins, Breslow & Greenland.

    Half a lead is added to each cell of the table, divided over the strata by size, so that empty cells give
    wide but finite intervals; where a cell holds fewer than five leads, Clopper and Pearson's bounds of the two
    shares narrow them. Arrays have the shape (leads,); ``z`` is the normal quantile of the interval.

    Source: Robins, Breslow & Greenland (1986), Biometrics 42, 311-323.

    >>> holds, outcome = np.array([True] * 9 + [False] * 10), np.array([True] * 9 + [False] * 10)
    >>> found = associate(holds, outcome, np.zeros(19, np.intp), 1.96)
    >>> found.converted, found.others, round(found.odds_ratio)
    (1.0, 0.0, 399)
    """
    strata = int(stratum.max()) + 1 if len(stratum) else 1
    a = np.bincount(stratum, weights=holds & outcome, minlength=strata)
    b = np.bincount(stratum, weights=~holds & outcome, minlength=strata)
    c = np.bincount(stratum, weights=holds & ~outcome, minlength=strata)
    d = np.bincount(stratum, weights=~holds & ~outcome, minlength=strata)
    size = a + b + c + d
    with np.errstate(divide="ignore", invalid="ignore"):
        other = np.where(c + d > 0, c / (c + d), np.nan)
    weight = np.where(np.isnan(other), 0.0, a + b)
    others = float(np.nansum(other * weight) / weight.sum()) if weight.sum() else float("nan")
    converted = float(a.sum() / (a + b).sum()) if (a + b).sum() else float("nan")
    bounds = _bounds_from_shares(a.sum(), b.sum(), c.sum(), d.sum(), z)
    extra = 0.5 * size / max(size.sum(), 1)
    a, b, c, d, n = a + extra, b + extra, c + extra, d + extra, size + 4 * extra
    used = n > 0
    a, b, c, d, n = a[used], b[used], c[used], d[used], n[used]
    r, s, p, q = a * d / n, b * c / n, (a + d) / n, (b + c) / n
    ratio = r.sum() / s.sum()
    variance = (
        (p * r).sum() / (2 * r.sum() ** 2)
        + (p * s + q * r).sum() / (2 * r.sum() * s.sum())
        + (q * s).sum() / (2 * s.sum() ** 2)
    )
    spread = float(np.exp(z * np.sqrt(variance)))
    low, high = max(float(ratio / spread), bounds[0]), min(float(ratio * spread), bounds[1])
    return Association(converted, others, float(ratio), low, high)


def _bounds_from_shares(a: float, b: float, c: float, d: float, z: float) -> tuple[float, float]:
    """Bounds of the odds ratio of a table with a small cell, from the exact bounds of its two shares."""
    if min(a, b, c, d) >= _SMALL_CELL:
        return 0.0, float("inf")
    converted = share_bounds(int(a), int(a + b), z) if a + b else (0.0, 1.0)
    others = share_bounds(int(c), int(c + d), z) if c + d else (0.0, 1.0)
    return _odds(converted[0]) / max(_odds(others[1]), 1e-12), _odds(converted[1]) / max(
        _odds(others[0]), 1e-12
    )


def _odds(share: float) -> float:
    return share / max(1.0 - share, 1e-12)


def share_bounds(count: int, of: int, z: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share.

    >>> low, high = share_bounds(20, 20, 1.96)
    >>> round(low, 3), high
    (0.832, 1.0)
    """
    tail = float(stats.norm.sf(z))
    low = float(stats.beta.ppf(tail, count, of - count + 1)) if count else 0.0
    high = float(stats.beta.isf(tail, count + 1, of - count)) if count < of else 1.0
    return low, high


@dataclass(frozen=True)
class Strength:
    """Area under the curve of one score against the outcome, inside cohorts, and the ends of its interval."""

    auc: float
    low: float
    high: float


def stratified_auc(
    score: Floats, outcome: Bools, stratum: Codes, z: float, cluster: Codes | None = None
) -> Strength:
    """AUC over pairs of the same stratum, with the interval of DeLong, DeLong & Clarke-Pearson.

    Rows of one ``cluster`` (lead) count as one unit in the variance (Obuchowski 1997). 0.5 with the interval
    [0, 1] where no stratum holds both outcomes.

    >>> y = np.array([False, False, True, True])
    >>> stratified_auc(np.array([1.0, 2.0, 2.0, 3.0]), y, np.zeros(4, np.intp), 1.96).auc
    0.875
    """
    auc, influence = auc_influence(score, outcome, stratum, cluster)
    if influence is None:
        return Strength(0.5, 0.0, 1.0)
    spread = z * float(np.sqrt((influence**2).sum()))
    return Strength(auc, max(0.0, auc - spread), min(1.0, auc + spread))


def auc_influence(
    score: Floats, outcome: Bools, stratum: Codes, cluster: Codes | None = None
) -> tuple[float, Floats | None]:
    """The AUC over pairs of the same stratum, and what each lead adds to its error (squares add up to the variance).

    None where no stratum holds both outcomes. Differences of influences give the error of a difference.
    """
    part = np.zeros(len(score))
    total_pairs, wins = 0.0, 0.0
    for code in np.unique(stratum):
        rows = np.flatnonzero(stratum == code)
        positive = rows[outcome[rows]]
        negative = rows[~outcome[rows]]
        if not len(positive) or not len(negative):
            continue
        above = _placements(score[positive], score[negative])
        part[positive] = above
        part[negative] = len(positive) - _placements(score[negative], score[positive])
        total_pairs += len(positive) * len(negative)
        wins += float(above.sum())
    if total_pairs == 0:
        return 0.5, None
    auc = wins / total_pairs
    sizes = np.bincount(stratum)
    positives = np.bincount(stratum, weights=outcome, minlength=len(sizes))
    opposite = np.where(outcome, sizes[stratum] - positives[stratum], positives[stratum])
    influence = (part - auc * opposite) / total_pairs
    if cluster is not None:
        influence = np.asarray(np.bincount(cluster, weights=influence), np.float64)
    return auc, influence


def _placements(values: Floats, among: Floats) -> Floats:
    """For each value, how many of ``among`` lie below it, ties counted half."""
    ordered = np.sort(among)
    low = np.searchsorted(ordered, values, side="left")
    high = np.searchsorted(ordered, values, side="right")
    return (low + high) / 2.0
