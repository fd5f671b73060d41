"""The rules that a learnt scorecard may hold, and what each would give with one point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from convpredict.config.base import Duration
from convpredict.config.features import AttributeFeature, CountFeature, DecayedFeature
from convpredict.config.training import ActivityRule, AttributeRule, ScorecardConfig, TimingRule
from convpredict.features.declarations import OTHER, FeatureColumn
from convpredict.features.feature_set import FeatureSet

from .scorecard_terms import Rule, Term, bind_rule

Floats = npt.NDArray[np.float64]
HALF_LIVES: tuple[Duration | None, ...] = (
    None,
    Duration("7d"),
    Duration("14d"),
    Duration("30d"),
    Duration("60d"),
)
"""Candidates for the decay of activities; None counts over all time."""

_CAPS = (1.0, 2.0, 4.0, 8.0)
_DAYS = (3.0, 7.0, 14.0, 30.0, 60.0)
_MOST_VALUES = 12


@dataclass(frozen=True)
class Candidate:
    """A rule with one point, the column that it reads, and what else it competes with.

    Of one ``group`` a card holds one rule only, so that each activity and attribute value is on one line.
    ``sign`` is the only direction that makes sense (0: either): being heard of lately never costs points.
    ``limit`` is how often an activity counts at most.
    """

    term: Term
    group: str
    sign: Literal[-1, 0, 1] = 0
    limit: float | None = None

    def with_points(self, points: int) -> Rule:
        """The rule with so many points, and at most ``limit`` times as many in all."""
        update: dict[str, float] = {"points": float(points)}
        if self.limit is not None:
            update["at_most"] = abs(points) * self.limit
        return self.term.rule.model_copy(update=update)


def candidates_of(feature_set: FeatureSet, half_life: Duration | None) -> list[Candidate]:
    """All rules that the columns of a feature set can answer, activities decayed by ``half_life``."""
    card = ScorecardConfig.model_validate(
        {
            "rules": [{"points": 1}],
            **({"half_life": str(half_life)} if half_life is not None else {}),
        }
    )
    found = []
    for rule, group, sign, limit in _rules(feature_set.columns, half_life):
        term = bind_rule(rule, card, feature_set)
        found.append(Candidate(term, group, sign, limit))
    return found


def unit_points(candidates: Sequence[Candidate], frame: pd.DataFrame) -> Floats:
    """What each rule gives each row with one point; shape (rows, candidates)."""
    units = np.empty((len(frame), len(candidates)))
    for place, candidate in enumerate(candidates):
        units[:, place] = candidate.term.points(frame[candidate.term.column])
    return units


_Ruled = tuple[Rule, str, Literal[-1, 0, 1], float | None]


def _rules(columns: Sequence[FeatureColumn], half_life: Duration | None) -> Iterator[_Ruled]:
    for column in columns:
        if _is_activity(column, half_life):
            for cap in _CAPS:
                yield (
                    ActivityRule(kind=column.value, points=1, at_most=cap),
                    f"kind {column.value}",
                    0,
                    cap,
                )
        elif isinstance(column.declaration, AttributeFeature) and column.type == "category":
            attribute = column.declaration.attribute
            for value in [entry for entry in column.categories if entry != OTHER][:_MOST_VALUES]:
                yield (
                    AttributeRule(attribute=attribute, points=1, values=(value,)),
                    f"attribute {attribute} {value}",
                    0,
                    None,
                )
    for days in _DAYS:
        yield TimingRule(days_since="last_interaction", points=1, below=days), "lately", 1, None
        yield TimingRule(days_since="last_interaction", points=1, at_least=days), "silent", -1, None
        yield TimingRule(days_since="creation", points=1, below=days), "young", 0, None
        yield TimingRule(days_since="creation", points=1, at_least=days), "old", 0, None


def _is_activity(column: FeatureColumn, half_life: Duration | None) -> bool:
    declaration = column.declaration
    if column.value is None or column.value == OTHER or getattr(declaration, "by", None) != "kind":
        return False
    if half_life is None:
        return isinstance(declaration, CountFeature) and column.window_us is None
    return isinstance(declaration, DecayedFeature) and column.half_life_us == half_life.microseconds
