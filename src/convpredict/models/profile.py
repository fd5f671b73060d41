"""What a model's inputs and scores looked like when it was made, and the same counted on later leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ColumnProfile:
    """One model column: ``edges`` (ascending, a number's bin i is ``edges[i-1] <= x < edges[i]``; empty for a category)
    or ``categories``; the last bin is what is missing."""

    name: str
    type: str
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def n_bins(self) -> int:
        """Bins in all, that of the missing among them."""
        return (len(self.categories) if self.type == "category" else len(self.edges) + 1) + 1


@dataclass(frozen=True)
class ProfileCounts:
    """How many rows fell into each bin of a profile. Counts of disjoint rows add up."""

    rows: int
    columns: Mapping[str, Ints]
    scores: Ints

    def __add__(self, other: ProfileCounts) -> ProfileCounts:
        return ProfileCounts(
            self.rows + other.rows,
            {name: counts + other.columns[name] for name, counts in self.columns.items()},
            self.scores + other.scores,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {
            "rows": self.rows,
            "columns": {name: counts.tolist() for name, counts in self.columns.items()},
            "scores": self.scores.tolist(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ProfileCounts:
        """Restore what :meth:`to_dict` gave."""
        return cls(
            int(stored["rows"]),
            {name: np.array(counts, np.int64) for name, counts in stored["columns"].items()},
            np.array(stored["scores"], np.int64),
        )


@dataclass(frozen=True)
class Profile:
    """The bins of every model column and of the score, and what fell into them in the ``reference`` rows."""

    columns: tuple[ColumnProfile, ...]
    score_edges: tuple[float, ...]
    reference: ProfileCounts
