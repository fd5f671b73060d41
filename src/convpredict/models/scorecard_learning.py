"""Points learnt from data, for teams that must keep points in their CRM.

A card of few rules is chosen forward in time, its coefficients are rounded to whole points while the log loss is
watched, and the threshold is set by the capacity of the sales team. Source of rounding by coordinate descent on
several scales: Liu et al., "FasterRisk: fast and accurate interpretable risk scores", 2022 (in outline).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from convpredict.config.base import Duration
from convpredict.config.features import (
    AgeFeature,
    AttributeFeature,
    CountFeature,
    DecayedFeature,
    Feature,
    RecencyFeature,
)
from convpredict.config.training import ScorecardConfig
from convpredict.errors import NotEnoughDataError
from convpredict.features.feature_set import FeatureSet
from convpredict.history.history import History
from convpredict.training.training_set import TrainingSet

from .calibrator_choice import row_log_loss
from .capacity import Fold, forward_folds, thin_negatives
from .scorecard import Scorecard
from .scorecard_candidates import HALF_LIVES, Candidate, candidates_of, unit_points
from .scorecard_points import best_line, fit_logit, rounded_points, select_rules, whole_points

Floats = npt.NDArray[np.float64]
RULES = (4, 6, 8, 10, 12)
"""Numbers of rules that are tried; the fewest within one standard error of the best are kept."""

DEFAULT_RULES = 6
DEFAULT_HALF_LIFE: Duration | None = Duration("14d")
"""Used where there is too little data to validate forward in time."""

_ROWS = 20_000
_VALIDATION_ROWS = 15_000
_VALIDATION_POINTS = 20


@dataclass(frozen=True)
class LearntScorecard:
    """A card of whole points and how it was chosen.

    ``validation`` holds the mean log loss forward in time of each half-life (``all time``: no decay) and number of
    rules; ``call_share`` the share of the newest observations that reach the grade ``call``; ``reason`` how half-life
    and number of rules were chosen.
    """

    scorecard: Scorecard
    half_life: Duration | None
    validation: dict[str, dict[int, float]] = field(repr=False)
    call_share: float
    reason: str


def candidate_features(history: History) -> tuple[Feature, ...]:
    """The features that a learnt card may read; pass them to ``build_training_set(extra_features=...)``."""
    decayed = DecayedFeature(half_lives=tuple(h for h in HALF_LIVES if h is not None), by="kind")
    attributes = [
        AttributeFeature(attribute=name) for name, type_ in history.lead_attributes.items() if type_ != "time"
    ]
    return (
        decayed,
        CountFeature(windows=("all",), by="kind"),
        RecencyFeature(),
        AgeFeature(),
        *attributes,
    )


def learn_scorecard(
    training_set: TrainingSet,
    *,
    most_rules: int = 12,
    largest_points: int = 20,
    call_share: float = 0.05,
    name: str = "points learnt from data",
    seed: int = 0,
) -> LearntScorecard:
    """Choose half-life and rules forward in time inside the train part, then learn from all rows before the test.

    Parameters
    ----------
    training_set
        Built with ``extra_features=candidate_features(history)``.
    most_rules
        Most rules on the card.
    largest_points
        Size of the largest points of a rule, about.
    call_share
        Share of the observations that should reach the grade ``call``.

    Raises
    ------
    NotEnoughDataError
        There is no rule that says anything.
    """
    parts = {name: training_set.part(name).reset_index(drop=True) for name in ("train", "development")}
    label = {name: training_set.y(name).to_numpy(np.float64) for name in parts}
    sizes = [size for size in RULES if size <= most_rules] or [most_rules]
    tried: dict[Duration | None, Floats] = {}
    half_life, size = DEFAULT_HALF_LIFE, min(DEFAULT_RULES, most_rules)
    try:
        folds = forward_folds(
            label["train"],
            training_set.cutoffs("train").to_numpy(),
            training_set.lead_ids("train").to_numpy(),
            training_set.horizons[0].microseconds,
            seed,
        )
    except NotEnoughDataError as error:
        reason = f"default: too little data to validate forward in time ({error})"
    else:
        reason = "validated forward in time"
        tried = {
            half_life: _validate(
                parts["train"], label["train"], training_set.feature_set, half_life, folds, sizes, seed
            )
            for half_life in HALF_LIVES
        }
        half_life, size = _choose(tried, sizes)
    rules, points = _fit(
        parts["development"],
        label["development"],
        training_set.feature_set,
        half_life,
        size,
        seed,
        largest_points,
    )
    card = _card(name, half_life, rules, points).bind(training_set.feature_set)
    newest = training_set.part("calibrate")
    reached = np.sort(card.points(newest))[::-1]
    threshold = float(np.ceil(reached[min(len(reached) - 1, int(call_share * len(reached)))]))
    graded = _card(name, half_life, rules, points, {"call": threshold}).bind(training_set.feature_set)
    fitted = graded.fit(parts["development"], label["development"])
    return LearntScorecard(
        fitted,
        half_life,
        {
            str(h or "all time"): dict(zip(sizes, means.mean(axis=1), strict=True))
            for h, means in tried.items()
        },
        float(np.mean(reached >= threshold)),
        reason,
    )


def _validate(
    frame: pd.DataFrame,
    label: Floats,
    feature_set: FeatureSet,
    half_life: Duration | None,
    folds: Sequence[Fold],
    sizes: Sequence[int],
    seed: int,
) -> Floats:
    """Log loss of whole-point cards per number of rules and fold; shape (sizes, folds)."""
    candidates = candidates_of(feature_set, half_life)
    losses = np.empty((len(sizes), len(folds)))
    for number, (train, held_out) in enumerate(folds):
        rows, weight = thin_negatives(label[train], _VALIDATION_ROWS, seed)
        units = unit_points(candidates, frame.iloc[train[rows]])
        later = unit_points(candidates, frame.iloc[held_out])
        path = select_rules(units, label[train][rows], weight, candidates, max(sizes))
        for place, size in enumerate(sizes):
            chosen = path[:size]
            coefficients, _ = fit_logit(units[:, chosen], label[train][rows], weight)
            points = rounded_points(coefficients, _VALIDATION_POINTS)
            slope, level = best_line(units[:, chosen] @ points, label[train][rows], weight)
            loss = row_log_loss(slope * (later[:, chosen] @ points) + level, label[held_out])
            losses[place, number] = loss.mean()
    return losses


def _choose(tried: dict[Duration | None, Floats], sizes: Sequence[int]) -> tuple[Duration | None, int]:
    """The best half-life, and for it the fewest rules within one standard error over the folds."""
    half_life = min(tried, key=lambda h: float(tried[h].mean(axis=1).min()))
    losses = tried[half_life]
    best = int(losses.mean(axis=1).argmin())
    for place, size in enumerate(sizes):
        gap = losses[place] - losses[best]
        if gap.mean() <= gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else place == best:
            return half_life, size
    return half_life, sizes[best]


def _fit(
    frame: pd.DataFrame,
    label: Floats,
    feature_set: FeatureSet,
    half_life: Duration | None,
    size: int,
    seed: int,
    largest_points: int,
) -> tuple[list[Candidate], Floats]:
    candidates = candidates_of(feature_set, half_life)
    rows, weight = thin_negatives(label, _ROWS, seed)
    units = unit_points(candidates, frame.iloc[rows])
    chosen = select_rules(units, label[rows], weight, candidates, size)
    points = whole_points(units[:, chosen], label[rows], weight, largest=largest_points)
    kept = [(candidates[place], value) for place, value in zip(chosen, points, strict=True) if value]
    if not kept:
        raise NotEnoughDataError(
            f"no rule tells converters from others among the {int(label.sum()):,} positive of {len(label):,} "
            "observations, so no card can be learnt; give more data, or attributes and kinds that tell more"
        )
    kept.sort(key=lambda pair: -abs(pair[1]))
    return [rule for rule, _ in kept], np.array([value for _, value in kept])


def _card(
    name: str,
    half_life: Duration | None,
    rules: Sequence[Candidate],
    points: Floats,
    thresholds: dict[str, float] | None = None,
) -> Scorecard:
    settings: dict[str, Any] = {
        "name": name,
        "thresholds": thresholds or {},
        "rules": [
            rule.with_points(int(value)).model_dump(mode="json", exclude_none=True)
            for rule, value in zip(rules, points, strict=True)
        ],
    }
    if half_life is not None:
        settings["half_life"] = str(half_life)
    return Scorecard(ScorecardConfig.model_validate(settings))
