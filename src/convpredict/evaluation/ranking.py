"""Ranking statistics of one score, computed from a single sort and then for any number of row weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .inputs import check_labels, check_scores

Floats = NDArray[np.float64]


class Ranking:
    """Rows sorted once by falling score; each statistic then takes row weights, in the order of the input.

    Equal scores form one group that is never divided by row order: every statistic is its expectation over
    the orders that a call list could give to equal scores.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    score : array of shape (rows,), finite; higher means more likely to convert

    >>> ranking = Ranking([0, 1, 1, 0], [.1, .9, .4, .4])
    >>> ranking.auc()
    0.875
    >>> ranking.auc(weight=np.array([1, 2, 0, 1]))
    1.0
    """

    def __init__(self, label: ArrayLike, score: ArrayLike) -> None:
        y = check_labels(label)
        s = check_scores(score, len(y))
        self._order = np.argsort(-s, kind="stable")
        ranked = s[self._order]
        changes = ranked[1:] != ranked[:-1]
        self._starts = np.concatenate([[0], 1 + np.flatnonzero(changes)])
        group = np.concatenate([[0], np.cumsum(changes)])
        places = np.flatnonzero(y[self._order])
        self._positive = self._order[places]
        self._groups, self._positive_starts = np.unique(group[places], return_index=True)

    def __len__(self) -> int:
        return len(self._order)

    def statistics(self, shares: Sequence[float], weight: Floats | None = None) -> Floats:
        """AUC, average precision and the captured shares, from one pass: shape (2 + len(shares),)."""
        cumulated = self._cumulate(weight)
        return np.concatenate([[cumulated.auc(), cumulated.average_precision()], cumulated.captured(shares)])

    def auc(self, weight: Floats | None = None) -> float:
        """Area under the ROC curve; see :func:`convpredict.evaluation.metrics.auc`."""
        return self._cumulate(weight).auc()

    def average_precision(self, weight: Floats | None = None) -> float:
        """Average precision; see :func:`convpredict.evaluation.metrics.average_precision`."""
        return self._cumulate(weight).average_precision()

    def captured(self, shares: Sequence[float], weight: Floats | None = None) -> Floats:
        """Share of the positives within each top share of rows; see :func:`.metrics.captured_in_top`."""
        return self._cumulate(weight).captured(shares)

    def _cumulate(self, weight: Floats | None) -> _Cumulated:
        every = np.ones(len(self)) if weight is None else np.asarray(weight, np.float64)
        rows = every[self._order]
        if len(self._starts) < len(rows):
            rows = np.add.reduceat(rows, self._starts)
        hits = every[self._positive]
        if len(self._groups) < len(hits):
            hits = np.add.reduceat(hits, self._positive_starts)
        return _Cumulated(np.concatenate([[0.0], np.cumsum(rows)]), self._groups, hits)


@dataclass(frozen=True)
class _Cumulated:
    """Cumulated weight before each group of equal scores and in all, and the groups' positive weight.

    Conversions are rare, so everything beyond one running sum is done on the groups that hold one.
    """

    rows: Floats
    groups: NDArray[np.intp]
    hits: Floats

    def auc(self) -> float:
        """Share of pairs of a hit and a miss in which the hit ranks higher, ties half; NaN for one class."""
        positives = self.hits.sum()
        negatives = self.rows[-1] - positives
        if positives <= 0 or negatives <= 0:
            return float("nan")
        before, after = self.rows[self.groups], self.rows[self.groups + 1]
        hits_before = np.cumsum(self.hits) - self.hits
        misses_above = (before + after - self.hits) / 2 - hits_before
        return float(1 - (self.hits * misses_above).sum() / (positives * negatives))

    def average_precision(self) -> float:
        """Mean precision over the hits, tied scores taken together; NaN without a hit."""
        found = np.flatnonzero(self.hits)
        if not len(found):
            return float("nan")
        hits = np.cumsum(self.hits)
        precision = hits[found] / self.rows[self.groups[found] + 1]
        return float((self.hits[found] * precision).sum() / hits[-1])

    def captured(self, shares: Sequence[float]) -> Floats:
        """Share of the hits in each top share of the rows, ties by expectation; NaN without a hit."""
        total = self.hits.sum()
        if total <= 0:
            return np.full(len(shares), np.nan)
        limit = np.asarray(shares, np.float64) * self.rows[-1]
        group = np.searchsorted(self.rows[1:], limit, side="left")
        part = (limit - self.rows[group]) / (self.rows[group + 1] - self.rows[group])
        cumulated = np.concatenate([[0.0], np.cumsum(self.hits)])
        before = cumulated[np.searchsorted(self.groups, group, side="left")]
        through = cumulated[np.searchsorted(self.groups, group, side="right")]
        captured: Floats = (before + part * (through - before)) / total
        return captured
