"""Conformal intervals of one converted lead's revenue: asymmetric, by the size of the prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convpredict.errors import BundleError

from .bundle_files import finite_number
from .calibration import Floats

LEADS_PER_BIN = 200
MOST_BINS = 5


@dataclass(frozen=True)
class ConformalInterval:
    """The interval ``[low * prediction, high * prediction]``, with factors by the size of the prediction.

    ``edges`` (ascending) divide the predictions into one more bins than there are edges. The factors are
    quantiles of revenue / prediction of leads that the prediction had not seen; no revenue is the ratio 0. Each
    tail is left out on its own, so that the interval is as skewed as the revenue is; where zeros are so frequent
    that the lower end is 0, nothing lies below, and the upper tail is all that is left out. A converted lead that
    is exchangeable with those lies within with the probability ``coverage``.

    Source: Vovk, Gammerman & Shafer (2005), Algorithmic learning in a random world, 4.5 (by category of the
    prediction); Romano, Patterson & Candès (2019) on tails of their own.
    """

    coverage: float
    edges: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    leads: int

    def at(self, prediction: Floats) -> tuple[Floats, Floats]:
        """Lower and upper ends for predictions of shape (rows,).

        A prediction below zero (refunds outweigh) turns the ends round, so that the lower one stays below.
        """
        bins = np.searchsorted(np.asarray(self.edges), prediction, side="right")
        one = np.asarray(self.low, np.float64)[bins] * prediction
        other = np.asarray(self.high, np.float64)[bins] * prediction
        return np.minimum(one, other), np.maximum(one, other)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "coverage": self.coverage,
            "edges": list(self.edges),
            "low": list(self.low),
            "high": list(self.high),
            "leads": self.leads,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ConformalInterval:
        """Restore what :meth:`to_dict` gave. Raises BundleError for anything else."""
        try:
            edges, low, high = (tuple(map(finite_number, stored[name])) for name in ("edges", "low", "high"))
            fit = cls(finite_number(stored["coverage"]), edges, low, high, int(stored["leads"]))
        except (KeyError, TypeError, ValueError):
            raise BundleError("the interval of the value cannot be read; export the bundle anew") from None
        if not len(fit.edges) + 1 == len(fit.low) == len(fit.high) or list(edges) != sorted(edges):
            raise BundleError("the interval of the value is incomplete; export the bundle anew")
        return fit


def fit_interval(
    prediction: Floats, revenue: Floats, weight: Floats, *, coverage: float = 0.8
) -> ConformalInterval:
    """Factors from predictions of leads that the models had not seen and what these leads brought.

    Rows of one lead share its weight of one. With fewer than ``2 * LEADS_PER_BIN`` leads all share one bin. A tail
    that holds fewer leads than its quantile asks for ends at the most extreme ratio that was seen.

    >>> prediction, revenue = np.full(99, 10.0), np.arange(1.0, 100.0)
    >>> fit_interval(prediction, revenue, np.ones(99)).at(np.array([20.0]))
    (array([20.]), array([180.]))
    """
    used = (weight > 0) & (prediction > 0)
    prediction, revenue, weight = prediction[used], revenue[used], weight[used]
    leads = float(weight.sum())
    if len(prediction) == 0:
        return ConformalInterval(coverage, (), (0.0,), (0.0,), 0)
    n_bins = int(np.clip(leads // LEADS_PER_BIN, 1, MOST_BINS))
    cuts = _quantile_positions(prediction, weight, np.arange(1, n_bins) / n_bins)
    edges = np.unique(cuts)
    bins = np.searchsorted(edges, prediction, side="right")
    ratio = np.maximum(revenue, 0.0) / prediction
    low, high = [], []
    for number in range(len(edges) + 1):
        rows = bins == number
        if not rows.any():
            rows = np.ones(len(bins), np.bool_)
        ends = _tails(ratio[rows], weight[rows], coverage)
        low.append(ends[0])
        high.append(ends[1])
    return ConformalInterval(coverage, tuple(map(float, edges)), tuple(low), tuple(high), round(leads))


def _tails(ratio: Floats, weight: Floats, coverage: float) -> tuple[float, float]:
    """The ranks floor((n + 1) a) and ceil((n + 1) (1 - a)) of n leads, a = (1 - coverage) / 2 (or all on top)."""
    order = np.argsort(ratio, kind="stable")
    cumulated = np.cumsum(weight[order])
    leads, tail = float(cumulated[-1]), (1.0 - coverage) / 2.0
    lower = np.floor((leads + 1.0) * tail + 1e-9)
    upper = np.ceil((leads + 1.0) * (1.0 - tail) - 1e-9)
    first = int(np.searchsorted(cumulated, lower - 1e-9)) if lower > 0 else 0
    if ratio[order[first]] <= 0:
        upper = np.ceil((leads + 1.0) * coverage - 1e-9)
    last = min(int(np.searchsorted(cumulated, upper - 1e-9)), len(order) - 1)
    return float(ratio[order[first]]), float(ratio[order[last]])


def _quantile_positions(values: Floats, weight: Floats, shares: npt.NDArray[Any]) -> Floats:
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weight[order])
    position = np.searchsorted(cumulated, shares * cumulated[-1])
    return np.asarray(values[order][np.minimum(position, len(values) - 1)], np.float64)
