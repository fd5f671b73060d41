"""How many misses were to be expected, and which concepts misled more often than they speak anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Expected:
    """Leads of one kind, counted on the first judged night of each: how many were to be expected, and how many came.

    ``low`` and ``high`` hold 95 % of what chance gives if the probabilities are right and leads independent.
    """

    leads: int
    expected: float
    low: int
    high: int
    observed: int

    @property
    def verdict(self) -> str:
        """Whether it is more than, fewer than or as many as expected."""
        if self.observed > self.high:
            return "more than expected"
        return "fewer than expected" if self.observed < self.low else "as many as expected"


def expected_of(p: npt.NDArray[np.float64], observed: int) -> Expected:
    """What probabilities lead to expect, beside how many came."""
    low, high = chance_range(p)
    return Expected(len(p), float(p.sum()), low, high, observed)


def chance_range(p: npt.NDArray[np.float64], confidence: float = 0.95) -> tuple[int, int]:
    """Bounds that hold the number of successes of independent trials with probability ``confidence`` at least.

    Exact for up to 2,000 trials, else by the normal approximation.

    >>> chance_range(np.full(10, 0.5)), chance_range(np.zeros(3))
    ((2, 8), (0, 0))
    """
    from scipy.stats import norm

    tail = (1 - confidence) / 2
    if len(p) > 2_000:
        mean, spread = float(p.sum()), float(np.sqrt((p * (1 - p)).sum()))
        reach = float(norm.ppf(1 - tail)) * spread + 0.5
        return max(0, int(np.floor(mean - reach))), min(len(p), int(np.ceil(mean + reach)))
    chances = np.ones(1)
    for each in p:
        chances = np.convolve(chances, [1 - each, each])
    below = np.cumsum(chances)
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return min(low, len(p)), min(high, len(p))


def concept_table(
    names: Sequence[str],
    misses: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    *,
    spoke_for: bool,
    strongest: int = 3,
    smallest: float = 0.05,
) -> list[dict[str, Any]]:
    """Which concepts misled: among the ``strongest`` for (or against) most of the misses, most often first.

    ``misses`` and ``right`` are contributions, (leads, concepts). Each row tells the concept, in how many misses it
    spoke, its mean contribution there, and the share of the leads judged rightly in which it spoke as well: a concept
    that always speaks has misled nobody in particular.
    """
    sign = 1.0 if spoke_for else -1.0

    def speaks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        place = np.argsort(np.argsort(-sign * values, axis=1, kind="stable"), axis=1, kind="stable")
        return (place < strongest) & (sign * values >= smallest)

    in_misses, in_right = speaks(misses), speaks(right)
    rows = []
    for i, name in enumerate(names):
        count = int(in_misses[:, i].sum())
        if count:
            usual = float(in_right[:, i].mean()) if len(right) else None
            rows.append(
                {
                    "concept": name,
                    "misses": count,
                    "share": count / len(misses),
                    "usual_share": usual,
                    "mean_contribution": float(misses[in_misses[:, i], i].mean()),
                }
            )
    return sorted(
        rows, key=lambda row: (-row["misses"], -(row["share"] - (row["usual_share"] or 0.0)), row["concept"])
    )
