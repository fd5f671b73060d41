"""How far a night's model inputs and scores have moved from those that the model was made with."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..config.features import LoadFeature, RateFeature
from ..config.monitoring import DriftConfig
from ..evaluation.distribution_shift import chance_psi, jensen_shannon, n_used_bins, psi
from ..features.feature_set import FeatureSet
from ..models.profile import SCORE, Profile, ProfileCounts

DAYS_PER_MONTH = 365.25 / 12

NATURAL_FACTOR = 2.0
"""How many times its largest movement in the reference a column must move: the largest of a few is soon beaten."""

UNSTEADY = 0.5
"""A column that has such a PSI by itself is not judged."""


@dataclass(frozen=True)
class ColumnDrift:
    """One column's movement: ``psi`` and ``jensen_shannon`` (bits) against the model's reference rows.

    ``chance``: the PSI that samples of these sizes exceed so rarely that all columns together keep to the configured
    number of false alarms. ``natural``: the largest PSI of a single reference cutoff. ``drifted``: above chance, at
    least the configured size and twice what is natural, and of a column that is ``judged``.
    """

    column: str
    psi: float
    jensen_shannon: float
    chance: float
    natural: float
    drifted: bool
    judged: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, rounded to what can be told apart."""
        return {
            name: round(value, 6) if isinstance(value, float) and math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def shared_columns(feature_set: FeatureSet) -> frozenset[str]:
    """The columns that all leads of a group share (rates of a source, loads of an owner).

    They jump as a block, so that PSI, which takes leads for independent, says nothing of them.
    """
    return frozenset(
        column.name
        for column in feature_set.columns
        if isinstance(column.declaration, RateFeature | LoadFeature)
    )


def judge_drift(
    profile: Profile,
    counts: ProfileCounts,
    config: DriftConfig,
    *,
    shared: Collection[str] = (),
    nights_per_month: float = DAYS_PER_MONTH,
) -> list[ColumnDrift]:
    """The movement of the score (first) and of every model column, those in the order of the model.

    The chance of an alarm of one column on one night is the configured number of false alarms a month, divided by the
    nights of a month and the number of columns. The reference has several rows of one lead, which tell less than
    rows of as many leads: it counts as no larger than the night itself. ``shared`` columns (:func:`shared_columns`) and
    those that are never steady (``UNSTEADY``) are told and not judged.

    Empty where the counts do not have the bins of the profile (those of another model) or hold no row.
    """
    if not counts.rows or not profile.reference.rows or not profile.fits(counts):
        return []
    pairs: Mapping[str, Any] = {
        SCORE: (profile.reference.scores, counts.scores),
        **{
            column.name: (profile.reference.columns[column.name], counts.columns[column.name])
            for column in profile.columns
        },
    }
    alpha = min(0.5, config.false_alarms_per_month / (max(nights_per_month, 1.0) * len(pairs)))
    reference_rows = min(profile.reference.rows, counts.rows)
    found = []
    for name, (reference, seen) in pairs.items():
        index = psi(reference, seen)
        chance = chance_psi(reference_rows, counts.rows, n_used_bins(reference, seen), alpha)
        natural = float(profile.natural.get(name, 0.0))
        judged = natural < UNSTEADY and name not in shared
        beyond = index >= config.psi and index > chance and index > NATURAL_FACTOR * natural
        found.append(
            ColumnDrift(
                name, index, jensen_shannon(reference, seen), chance, natural, beyond and judged, judged
            )
        )
    return found
