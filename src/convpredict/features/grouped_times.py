"""Instants by group, sorted once: how many lie before a cutoff, for many observations at a time."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.integer[Any]]
Instants = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Moments:
    """The distinct cutoffs (µs) of observations, ascending, and which one each observation has."""

    distinct: Instants
    position: npt.NDArray[np.intp]

    @classmethod
    def of(cls, cutoffs: Instants) -> Moments:
        """Sort and number the cutoffs.

        >>> moments = Moments.of(np.array([30, 10, 30]))
        >>> moments.distinct.tolist(), moments.position.tolist()
        ([10, 30], [1, 0, 1])
        """
        distinct, position = np.unique(cutoffs, return_inverse=True)
        return cls(distinct, position)


class GroupedTimes:
    """Instants (µs) of groups numbered from 0, in a form that answers counts by binary search.

    The sort costs O(n log n) once, a count O(log n) for an observation.

    >>> times = GroupedTimes(np.array([0, 0, 1]), np.array([10, 20, 20]), n_groups=2)
    >>> moments = Moments.of(np.array([20, 20, 21]))
    >>> times.count(np.array([0, 1, 0]), moments).tolist(), times.total(moments).tolist()
    ([1, 0, 2], [1, 1, 3])
    >>> times.count(np.array([0, 1, 0]), moments, inclusive=True).tolist()
    [2, 1, 2]
    """

    def __init__(self, group: Ints, time_us: Instants, *, n_groups: int) -> None:
        self.order = np.argsort(time_us)
        self.times = time_us[self.order]
        self._group_by(group, n_groups)

    def regroup(self, group: Ints, *, n_groups: int) -> GroupedTimes:
        """The same instants in other groups, without sorting them again."""
        other = copy(self)
        other._group_by(group, n_groups)
        return other

    def _group_by(self, group: Ints, n_groups: int) -> None:
        self.n_groups = n_groups
        self.stride = np.int64(len(self.order) + 1)
        self.keys = group[self.order].astype(np.int64) * self.stride + np.arange(len(self.order))
        self.keys.sort()
        self.starts = np.searchsorted(self.keys, np.arange(n_groups + 1) * self.stride)

    def total(self, moments: Moments, *, shift_us: int = 0, inclusive: bool = False) -> npt.NDArray[np.int64]:
        """Per observation, the instants of all groups before (``inclusive``: or at) ``cutoff - shift_us``."""
        return self._ranks(moments, shift_us, inclusive)[moments.position]

    def count(
        self, group: Ints, moments: Moments, *, shift_us: int = 0, inclusive: bool = False
    ) -> npt.NDArray[np.int64]:
        """Per observation, the instants of its group before (``inclusive``: or at) ``cutoff - shift_us``."""
        ranks = self._ranks(moments, shift_us, inclusive)
        if len(ranks) * self.n_groups <= len(group):
            offsets = np.arange(self.n_groups)[:, None] * self.stride
            table = np.searchsorted(self.keys, offsets + ranks[None, :]) - self.starts[:-1, None]
            return table[group, moments.position].astype(np.int64, copy=False)
        wanted = group * self.stride + ranks[moments.position]
        order = np.argsort(
            wanted
        )  # a search in ascending order stays in the cache: 2.5 x faster with the sort
        found = np.empty(len(wanted), np.int64)
        found[order] = np.searchsorted(self.keys, wanted[order])
        return found - self.starts[group]

    def _ranks(self, moments: Moments, shift_us: int, inclusive: bool) -> npt.NDArray[np.int64]:
        ranks = np.searchsorted(
            self.times, moments.distinct - shift_us, side="right" if inclusive else "left"
        )
        return ranks.astype(np.int64, copy=False)


def instants_of(column: pa.ChunkedArray | pa.Array) -> Instants:
    """A timestamp column without missing values as int64 microseconds."""
    return np.asarray(column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy())
