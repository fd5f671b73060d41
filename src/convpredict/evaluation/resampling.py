"""Intervals by resampling leads: all observations of a lead are drawn together or not at all.

Observations of one lead resemble each other (the same lead converts or not at every cutoff), so that
resampling rows would give intervals that are far too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .inputs import to_series

Floats = NDArray[np.float64]
Statistic = Callable[[Floats | None], Floats]
"""Row weights (None: one each) in, statistics of shape (k,) out."""

LARGEST_UNDEFINED_SHARE = 0.1


@dataclass(frozen=True)
class Resampled:
    """Statistics of the sample, shape (k,), and of each resample, shape (resamples, k)."""

    value: Floats
    draws: Floats


def code_leads(lead_ids: Any) -> tuple[NDArray[np.intp], int]:
    """Number of each row's lead, in the order of the sorted ids, and the number of leads.

    Raises ``ValueError`` for missing ids.

    >>> code_leads(["b", "a", "b"])
    (array([1, 0, 1]), 2)
    """
    codes, leads = pd.factorize(to_series(lead_ids), sort=True)
    if (codes < 0).any():
        raise ValueError(
            f"'lead_ids' must name a lead in every row; row {int(np.argmin(codes))} holds none. "
            "Without it, the observations of one lead cannot be resampled together"
        )
    return np.asarray(codes, np.intp), len(leads)


def resample_leads(
    statistic: Statistic,
    lead_ids: Any,
    *,
    resamples: int = 500,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Resampled:
    """Compute statistics on the sample and on resamples of its leads, with replacement.

    Parameters
    ----------
    statistic : takes row weights (shape (rows,), whole numbers as floats; None for one each), returns shape
    (k,).
        Statistics to be compared belong in one call: they then see the same resamples.
    lead_ids : ids of shape (rows,), text or integers
    resamples : number of resamples; resample i depends on ``seed`` and i alone
    progress : called with the share done

    Source: Davison & Hinkley (1997), Bootstrap methods and their application, 3.8 (cluster sampling).

    Examples
    --------
    >>> label = np.array([0.0, 0.0, 1.0, 1.0])
    >>> mean = lambda weight: np.array([np.average(label, weights=weight)])
    >>> result = resample_leads(mean, ["a", "a", "b", "b"], resamples=200)
    >>> result.value.tolist(), sorted(set(result.draws[:, 0].tolist()))
    ([0.5], [0.0, 0.5, 1.0])
    """
    codes, leads = code_leads(lead_ids)
    value = np.asarray(statistic(None), np.float64)
    draws = np.empty((resamples, len(value)))
    for i in range(resamples):
        drawn = np.random.default_rng([seed, i]).integers(0, leads, leads)
        times = np.bincount(drawn, minlength=leads).astype(np.float64)
        weight = times[codes]
        draws[i] = statistic(weight) if weight.any() else np.nan
        if progress is not None:
            progress((i + 1) / resamples)
    return Resampled(value, draws)


def interval(
    value: float,
    draws: Floats,
    confidence: float = 0.95,
    *,
    method: Literal["percentile", "basic"] = "percentile",
) -> tuple[float, float]:
    """Lower and upper end of the interval of one statistic, from its resampled values, shape (resamples,).

    ``percentile`` takes the quantiles of the draws (the outer neighbours, without interpolation, so that
    infinite draws may stand). ``basic`` mirrors them at the value: right for statistics that chance
    inflates, like a calibration error, where resampling adds as much chance again; it is widened where
    needed to hold the value. Undefined draws (NaN: a resample without converters, say) are left out; NaN for
    both ends if the value is undefined or more than a tenth of the draws are.

    Source: Davison & Hinkley (1997), Bootstrap methods and their application, 5.2 and 5.3.

    >>> interval(2.0, np.array([0.0, 1.0, 2.0, 3.0, 9.0]), .8)
    (0.0, 9.0)
    >>> interval(2.0, np.array([2.0, 2.5, 3.0]), .8, method="basic")
    (1.0, 2.0)
    """
    defined = draws[~np.isnan(draws)]
    if np.isnan(value) or len(defined) < (1 - LARGEST_UNDEFINED_SHARE) * len(draws):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low = float(np.quantile(defined, tail, method="lower"))
    high = float(np.quantile(defined, 1 - tail, method="higher"))
    if method == "percentile":
        return low, high
    return min(2 * value - high, value), max(2 * value - low, value)
