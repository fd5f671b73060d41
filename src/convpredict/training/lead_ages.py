"""The ages of leads that a model learnt from, and which other ages its rows still speak for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpredict.config.training import GridCutoffs, ObservationsConfig
from convpredict.features.time_rule import MICROSECONDS_PER_DAY

REACH = 2
"""Rows speak for leads up to so many times as old as the oldest of them, and as many times younger as the youngest."""

TOO_YOUNG, TOO_OLD = "too_young_for_model", "too_old_for_model"
AGE_EXCLUSIONS: Mapping[str, str] = {
    TOO_YOUNG: "the lead is less than half as old as the youngest row that the model learnt from",
    TOO_OLD: "the lead is more than twice as old as the oldest row that the model learnt from",
}
"""Why an open lead is not scored though the time rule allows it (docs/decisions/0022)."""


@dataclass(frozen=True)
class LearntAges:
    """Ages (µs since the lead's creation) of the youngest and the oldest row that a model learnt from.

    Between them a model interpolates. It :meth:`covers` leads a little beyond: from half the youngest age to twice
    the oldest.

    >>> ages = LearntAges(MICROSECONDS_PER_DAY, 30 * MICROSECONDS_PER_DAY)
    >>> str(ages)
    '1 to 30 days'
    >>> ages.covers(np.array([0.4, 0.5, 7, 60, 61]) * MICROSECONDS_PER_DAY).tolist()
    [False, True, True, True, False]
    """

    youngest_us: int
    oldest_us: int

    @classmethod
    def of_rows(cls, age_us: NDArray[np.int64], config: ObservationsConfig) -> LearntAges | None:
        """Those of training rows (None: there are none).

        A calendar grid meets leads at any time between two of its cutoffs, so its youngest age is taken to be one
        step younger than that of the youngest row.
        """
        if not len(age_us):
            return None
        grid = config.cutoffs.every.microseconds if isinstance(config.cutoffs, GridCutoffs) else 0
        return cls(max(0, int(age_us.min()) - grid), int(age_us.max()))

    @property
    def first_us(self) -> int:
        """The youngest age (µs) that is covered."""
        return -(-self.youngest_us // REACH)

    @property
    def last_us(self) -> int:
        """The oldest age (µs) that is covered."""
        return self.oldest_us * REACH

    def covers(self, age_us: Any) -> Any:
        """Whether leads of these ages (µs) may be scored."""
        return (age_us >= self.first_us) & (age_us <= self.last_us)

    def beyond(self, age_us: NDArray[np.int64]) -> dict[str, int]:
        """How many leads of these ages (µs) are not covered, by reason (see ``AGE_EXCLUSIONS``)."""
        return {
            TOO_YOUNG: int((age_us < self.first_us).sum()),
            TOO_OLD: int((age_us > self.last_us).sum()),
        }

    def doubt(self, counts: Mapping[str, int], *, scored: bool) -> str | None:
        """What to warn of, given how many open leads are not covered, by reason; None: of nothing.

        Leads that are too young and not scored are no reason to warn: they soon will be.
        """
        old = f"older than {_shown(self.last_us)} days"
        if not scored:
            if not counts.get(TOO_OLD):
                return None
            return (
                f"{counts[TOO_OLD]:,} open leads are {old}, and the model learnt from leads of {self}: they are "
                "not scored. To score them, train with cutoffs that meet leads of these ages, or on newer data, or set "
                "observations.untrained_ages: score; if they should not be, say so with observations.max_age."
            )
        guessed = counts.get(TOO_OLD, 0) + counts.get(TOO_YOUNG, 0)
        if not guessed:
            return None
        return (
            f"{guessed:,} scored leads are {old} or younger than {_shown(self.first_us)}, and the model learnt from "
            f"leads of {self}: their scores are a guess. Train with cutoffs that meet leads of all ages "
            "that are scored, or on newer data."
        )

    def to_dict(self) -> dict[str, int]:
        """For a manifest or a bundle."""
        return {"youngest_us": self.youngest_us, "oldest_us": self.oldest_us}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LearntAges:
        """Read what :meth:`to_dict` gave; raises ValueError for ages that are none."""
        ages = cls(int(content["youngest_us"]), int(content["oldest_us"]))
        if not 0 <= ages.youngest_us <= ages.oldest_us:
            raise ValueError(f"the learnt ages {dict(content)} are no span of time")
        return ages

    def __str__(self) -> str:
        low, high = _shown(self.youngest_us), _shown(self.oldest_us)
        return f"{low} to {high} days" if low != high else f"{low} days" if low != "1" else "1 day"


def leaves_out(untrained_ages: str, outcome: str) -> bool:
    """Whether leads of other ages get no score. Customers always get one: they stay, and outgrow all training rows.

    >>> leaves_out("leave_out", "conversion"), leaves_out("leave_out", "purchase"), leaves_out("score", "conversion")
    (True, False, False)
    """
    return untrained_ages == "leave_out" and outcome != "purchase"


def _shown(age_us: int) -> str:
    return f"{age_us / MICROSECONDS_PER_DAY:.3g}"
