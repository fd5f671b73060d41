"""How far a distribution has moved, by counts in bins, and how far chance alone moves it.

Both counts have the shape (bins,): the first what is compared with, the second what is seen now. Bins that are
empty in both tell nothing and are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

Floats = NDArray[np.float64]


def psi(expected_counts: ArrayLike, actual_counts: ArrayLike) -> float:
    r"""Population stability index of two samples. 0: the same shares in every bin; smaller is stabler.

    Half a row is added to every bin, so that a bin that one sample lacks gives no infinity. NaN where a sample has
    no rows. Raises ValueError for counts of unlike shapes, or below zero.

    Notes
    -----
    .. math:: \sum_b (q_b - p_b) \ln (q_b / p_b)

    Source: Lewis (1994), An Introduction to Credit Scoring; it is Jeffreys' divergence of the shares.

    Examples
    --------
    >>> round(psi([500, 500], [500, 500]), 6), round(psi([500, 500], [800, 200]), 2)
    (0.0, 0.41)
    """
    p, q = _shares(expected_counts, actual_counts)
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(expected_counts: ArrayLike, actual_counts: ArrayLike) -> float:
    r"""Jensen-Shannon divergence of two samples in bits: 0 the same shares, towards 1 no bin in common.

    Half a row is added to every bin, as for :func:`psi`. NaN where a sample has no rows. Raises ValueError for counts
    of unlike shapes, or below zero.

    Notes
    -----
    .. math:: \frac{1}{2} \sum_b \left( p_b \log_2 \frac{2 p_b}{p_b + q_b} + q_b \log_2 \frac{2 q_b}{p_b + q_b} \right)

    Source: Lin (1991), Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37.

    Examples
    --------
    >>> jensen_shannon([10, 10, 0], [5, 5, 0]), round(jensen_shannon([1000, 0], [0, 1000]), 2)
    (0.0, 0.99)
    """
    p, q = _shares(expected_counts, actual_counts)
    middle = (p + q) / 2
    return float(np.maximum(0.0, (p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2))


def n_used_bins(expected_counts: ArrayLike, actual_counts: ArrayLike) -> int:
    """The number of bins that are not empty in both samples.

    >>> n_used_bins([3, 0, 0], [1, 2, 0])
    2
    """
    return len(_filled(expected_counts, actual_counts)[0])


def chance_psi(n: int, m: int, bins: int, alpha: float = 0.001) -> float:
    r"""The PSI that two samples of ``n`` and ``m`` independent rows with the same shares exceed with chance ``alpha``.

    ``bins`` counts the bins in use (:func:`n_used_bins`). With one bin, nothing can move: 0. Infinite where a
    sample is empty. Sparse bins make it cautious: fewer alarms than ``alpha``.

    Notes
    -----
    For samples of the same distribution, PSI is near :math:`(1/n + 1/m) \chi^2_{bins - 1}`: each of its terms is
    :math:`(q_b - p_b)^2 / p_b` to second order. Source: Yurdakul & Naranjo (2020), Statistical properties of the
    population stability index, Journal of Risk Model Validation 14.

    Examples
    --------
    >>> round(chance_psi(10_000, 500, 10), 3), chance_psi(10_000, 500, 1)
    (0.059, 0.0)
    """
    return _chance(n, m, bins, alpha)


def chance_jensen_shannon(n: int, m: int, bins: int, alpha: float = 0.001) -> float:
    """The Jensen-Shannon divergence (bits) that chance exceeds with ``alpha``; for near shares, PSI is 8 ln 2 times it.

    >>> round(chance_psi(10_000, 500, 10) / chance_jensen_shannon(10_000, 500, 10), 3)
    5.545
    """
    return _chance(n, m, bins, alpha) / (8 * float(np.log(2)))


def _chance(n: int, m: int, bins: int, alpha: float) -> float:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    if bins <= 1:
        return 0.0
    if n <= 0 or m <= 0:
        return float("inf")
    return float((1 / n + 1 / m) * chi2.isf(alpha, bins - 1))


def _shares(expected_counts: ArrayLike, actual_counts: ArrayLike) -> tuple[Floats, Floats]:
    """The shares of the bins in use, with half a row more in each; NaN where a sample has no rows."""
    filled = _filled(expected_counts, actual_counts)
    if not all(counts.sum() for counts in filled):
        nothing = np.full(1, np.nan)
        return nothing, nothing
    expected, actual = ((counts + 0.5) / (counts + 0.5).sum() for counts in filled)
    return expected, actual


def _filled(expected_counts: ArrayLike, actual_counts: ArrayLike) -> tuple[Floats, Floats]:
    """Both counts without the bins that are empty in both."""
    expected, actual = np.asarray(expected_counts, np.float64), np.asarray(actual_counts, np.float64)
    if expected.shape != actual.shape or expected.ndim != 1:
        raise ValueError(
            f"both counts must have the shape (bins,), got {expected.shape} and {actual.shape}: "
            "count them with the same bins"
        )
    if (
        not (np.isfinite(expected).all() and np.isfinite(actual).all())
        or (expected < 0).any()
        or (actual < 0).any()
    ):
        raise ValueError("counts must be finite and not negative")
    filled = (expected > 0) | (actual > 0)
    return expected[filled], actual[filled]
