"""Learn a model's profile: bins that few people share no edge of, what is in them, and how much moves by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal

import numpy as np
import numpy.typing as npt

from .calibration import Floats
from .encoding import Column
from .profile import SCORE, ColumnProfile, Profile, ProfileCounts, stability_of

MOST_BINS = 12
"""Bins of a continuous column; a value that fills a bin alone gets one more."""

OWN_BINS = 20
"""A column with at most so many different values is discrete: each frequent one gets its own bin."""

SCORE_BINS = 20
FEWEST_PER_BIN, LEAST_SHARE_PER_BIN = 5, 0.005
FEWEST_PER_CUTOFF, MOST_CUTOFFS = 200, 60
_MOST_DIGITS = 20


def learn_profile(
    columns: Sequence[Column],
    matrix: npt.NDArray[np.float32],
    p: npt.ArrayLike,
    *,
    cutoffs: npt.ArrayLike | None = None,
    parts: Sequence[str] = (),
) -> Profile:
    """The profile of a model from reference rows: best later than those that it was trained on.

    Parameters
    ----------
    columns : of the model, in its order (``encoder.columns``)
    matrix : (rows, columns) as :meth:`.Encoder.encode` gives it; at least one row
    p : probability of each row within the first horizon
    cutoffs : of each row (datetime64, UTC): what the rows of one cutoff differ by from all is natural. None: unknown
    parts : what the rows are, for :attr:`Profile.parts`

    A number's bins are cut where the reference's quantiles lie, each at the shortest decimal number between two
    neighbouring values; ties stay together, and no bin holds fewer than 5 rows or .5 % of them unless all do. So no
    edge is one person's value, unless nothing lies between that and its neighbour.
    """
    score = np.asarray(p, np.float64)
    if matrix.shape != (len(score), len(columns)) or not len(score):
        raise ValueError(
            f"a profile needs rows of {len(columns)} columns with a probability each; got {matrix.shape} and "
            f"{len(score)} probabilities"
        )
    narrow = np.asarray(matrix, np.float32)
    bins = Profile(
        tuple(_describe(column, narrow[:, place]) for place, column in enumerate(columns)),
        quantile_edges(score, SCORE_BINS),
        ProfileCounts(0, {}, np.zeros(0, np.int64)),
        percentiles(score),
        parts=tuple(parts),
    )
    known = replace(bins, reference=bins.count(narrow, score))
    if cutoffs is None:
        return replace(known, natural=_natural(known, narrow, score, None))
    instants = np.asarray(cutoffs).astype("datetime64[us]")
    return replace(
        known,
        natural=_natural(known, narrow, score, instants),
        first_cutoff=_iso(instants.min()),
        last_cutoff=_iso(instants.max()),
    )


def quantile_edges(values: npt.ArrayLike, most_bins: int = MOST_BINS) -> tuple[float, ...]:
    """Edges of about equally filled bins of numbers without NaN: see :func:`learn_profile`.

    >>> quantile_edges([0.0] * 80 + [1.0] * 15 + [7.5] * 5)
    (1.0, 7.0)
    """
    distinct, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    rows = int(counts.sum())
    least = max(FEWEST_PER_BIN, int(np.ceil(LEAST_SHARE_PER_BIN * rows)))
    full = least if len(distinct) <= OWN_BINS else max(least, rows / most_bins)
    cuts = _cuts(counts, least, full)
    return tuple(shortest_between(float(distinct[cut - 1]), float(distinct[cut])) for cut in cuts)


def percentiles(p: npt.ArrayLike) -> tuple[float, ...]:
    """101 limits: the k-th lies at or above the ``k n / 100`` lowest of n probabilities, and below the next one.

    So as many of those after the first lie below a reference row's p as whole percent of the rows do. They are as
    short as decimals can be there, so that they are nobody's own probability where that can be avoided.

    >>> percentiles([0.25, 0.5])[48:52]
    (0.3, 0.3, 0.3, 0.5)
    """
    ranked = np.sort(np.asarray(p, np.float64))
    n = len(ranked)
    limits = [max(0.0, shortest_between(ranked[0] / 2, float(ranked[0])))]
    for percent in range(1, 101):
        position = -(-percent * n // 100) - 1
        low = float(ranked[position])
        high = float(ranked[position + 1]) if position + 1 < n else (low + 1) / 2
        limits.append(-shortest_between(-high, -low) if low < high else low)
    return tuple(limits)


def shortest_between(low: float, high: float) -> float:
    """The highest of the shortest decimal numbers above ``low`` and at or below ``high`` (low < high).

    >>> shortest_between(2.0, 3.0), shortest_between(0.123, 0.1299), shortest_between(-4.7, 2.2)
    (3.0, 0.129, 0.0)
    """
    exact = Decimal(high)
    largest = max(abs(Decimal(low)), abs(exact))
    first = largest.adjusted() + 1
    for exponent in range(first, first - _MOST_DIGITS, -1):
        step = Decimal(1).scaleb(exponent)
        short = float((exact / step).to_integral_value(ROUND_FLOOR) * step)
        if low < short <= high:
            return short + 0.0
    return high


def _cuts(counts: npt.NDArray[np.intp], least: int, full: float) -> list[int]:
    """Positions among ascending values at which a bin begins: bins end once full, a full value stands alone."""
    total = np.cumsum(counts)
    cuts: list[int] = []
    start, before = 0, 0
    while (end := int(np.searchsorted(total, before + full))) < len(counts):
        stands_alone = counts[end] >= full and end > start and total[end - 1] - before >= least
        cut = end if stands_alone else end + 1
        if cut == len(counts):
            break
        cuts.append(cut)
        start, before = cut, int(total[cut - 1])
    if cuts and total[-1] - before < least:
        cuts.pop()
    return cuts


def _describe(column: Column, values: npt.NDArray[np.float32]) -> ColumnProfile:
    if column.type == "category":
        return ColumnProfile(column.name, column.type, categories=column.categories)
    known = values[~np.isnan(values)]
    return ColumnProfile(column.name, column.type, quantile_edges(known) if len(known) else ())


def _natural(
    profile: Profile,
    matrix: npt.NDArray[np.float32],
    p: Floats,
    cutoffs: npt.NDArray[np.datetime64] | None,
) -> dict[str, float]:
    largest = dict.fromkeys([*(column.name for column in profile.columns), SCORE], 0.0)
    if cutoffs is None:
        return largest
    _, code, rows = np.unique(cutoffs, return_inverse=True, return_counts=True)
    for number in np.flatnonzero(rows >= FEWEST_PER_CUTOFF)[-MOST_CUTOFFS:]:
        own = code == number
        for name, index in stability_of(profile, profile.count(matrix[own], p[own])).items():
            largest[name] = max(largest[name], index)
    return largest


def _iso(instant: np.datetime64) -> str:
    return f"{np.datetime_as_string(instant, unit='s')}Z"
