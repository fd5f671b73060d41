"""How large a model the data can carry.

Chosen by validation forward in time and by lead; on random rows only where rows have no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from convpredict.config.base import Duration
from convpredict.errors import NotEnoughDataError
from convpredict.training.time_split import TimeSplit

from .calibration import Floats
from .calibrator_choice import clustered_standard_error, deal_folds, group_codes, row_log_loss

Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
StagedTrees = Callable[[int], Sequence[Sequence[Floats]]]
"""Number of leaves -> per fold, the validation rows' tree logits after each of the candidate numbers of trees."""
LogisticLogits = Callable[[], Sequence[Floats]]
"""Per fold, the validation rows' logits of the logistic part."""

LEAVES = (7, 15, 31, 63)
ROUNDS = (50, 100, 150, 200, 300, 400)
ROUNDS_OF_MORE = (100, 150, 200, 300, 400, 600, 800)
LOGISTIC_WEIGHTS = (0.0, 0.15, 0.3, 0.5)
SOME_POSITIVES = 1_000
"""From here on, two folds decide, and more trees are tried."""

MANY_POSITIVES = 10_000
"""From here on, one fold decides."""

VALIDATION_ROWS = 60_000
_FEWEST_POSITIVES = 20
_FEWEST_WITHOUT_TIMES = 100
_FOLDS_WITHOUT_TIMES = 3


@dataclass(frozen=True, order=True)
class Capacity:
    """Leaves per tree, number of trees, weight of the logistic part on the logit (trees have the rest)."""

    num_leaves: int
    n_estimators: int
    logistic_weight: float


DEFAULT = Capacity(7, 150, 0.3)
"""Used with too little data to validate, and where nothing else is clearly better."""


@dataclass(frozen=True)
class CapacityChoice:
    """The choice and its grounds.

    Mean log loss per candidate (smaller is better), rows and positives validated on.
    """

    capacity: Capacity
    reason: str
    log_loss: Mapping[Capacity, float] = field(default_factory=dict)
    n_rows: int = 0
    n_positives: int = 0


def ladder(
    n_estimators: int | Literal["auto"],
    num_leaves: int | Literal["auto"],
    logistic_weight: float | Literal["auto"],
    *,
    many: bool = False,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """Candidates per knob; a knob that was set by hand has one.

    >>> ladder(200, "auto", 0.0)
    ((7, 15, 31, 63), (200,), (0.0,))
    """
    leaves = LEAVES if num_leaves == "auto" else (num_leaves,)
    rounds = (ROUNDS_OF_MORE if many else ROUNDS) if n_estimators == "auto" else (n_estimators,)
    return leaves, rounds, LOGISTIC_WEIGHTS if logistic_weight == "auto" else (logistic_weight,)


def default_of(leaves: Sequence[int], rounds: Sequence[int], weights: Sequence[float]) -> Capacity:
    """The default capacity, with the knobs that were set by hand."""
    return Capacity(
        DEFAULT.num_leaves if DEFAULT.num_leaves in leaves else leaves[0],
        DEFAULT.n_estimators if DEFAULT.n_estimators in rounds else rounds[0],
        DEFAULT.logistic_weight if DEFAULT.logistic_weight in weights else weights[0],
    )


def forward_folds(
    y: Floats, times: npt.ArrayLike, groups: npt.ArrayLike | None, horizon_us: int, seed: int
) -> list[Fold]:
    """Folds that train on the past of some leads and validate on the later rows of others.

    ``times`` are cutoffs: instants, or integers in µs. Labels of training rows are known when validation begins
    (``cutoff + horizon_us <= begin``). Leads are kept apart by dividing them at random, not by dropping the
    leads that are still open when validation begins: those are mostly negatives, and without them every base
    rate is wrong. Little data is validated on the last two quarters of the time and three groups of leads,
    much data on the last quarter and one group. Raises NotEnoughDataError.
    """
    instants = np.asarray(times)
    cutoffs = pd.to_datetime(instants, unit="us", utc=True) if instants.dtype.kind in "iu" else times
    leads = np.arange(len(y)) if groups is None else np.asarray(groups)
    n_groups, first, last = (3, 3, 9) if y.sum() < SOME_POSITIVES else (2, 4, 6)
    last = last if y.sum() < MANY_POSITIVES else first + 1
    splitter = TimeSplit(
        3, gap=Duration(int(horizon_us)), cutoffs=cutoffs, leads=leads, lead_groups=n_groups, seed=seed
    )
    folds = list(islice(splitter.split(np.empty((len(y), 0))), first, last))
    least = min(min(y[train].sum(), y[validate].sum() * n_groups) for train, validate in folds)
    if least < _FEWEST_POSITIVES:
        raise NotEnoughDataError(f"a fold has fewer than {_FEWEST_POSITIVES} positive rows")
    return folds


def folds_without_times(y: Floats, groups: npt.ArrayLike | None, seed: int) -> list[Fold]:
    """Folds of a static table: leads are dealt at random into thirds, positives evenly, and kept whole.

    Each fold learns from two thirds. Little data is validated on all of them, much data on one. With cutoffs use
    :func:`forward_folds`: on rows that have a time, random folds flatter large models. Raises NotEnoughDataError
    where the rarer class has fewer than 100 rows.

    >>> folds = folds_without_times(np.arange(600) % 2.0, None, seed=0)
    >>> [(len(train), len(validate)) for train, validate in folds]
    [(400, 200), (400, 200), (400, 200)]
    """
    rarer = int(min(y.sum(), len(y) - y.sum()))
    if rarer < _FEWEST_WITHOUT_TIMES:
        raise NotEnoughDataError(f"the rarer class has {rarer} rows, fewer than {_FEWEST_WITHOUT_TIMES}")
    fold = deal_folds(y, group_codes(groups, len(y)), _FOLDS_WITHOUT_TIMES, seed)
    validated = 3 if rarer < SOME_POSITIVES else 2 if rarer < MANY_POSITIVES else 1
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(validated)]


def validation_folds(
    y: Floats, times: npt.ArrayLike | None, groups: npt.ArrayLike | None, horizon_us: int, seed: int
) -> list[Fold]:
    """:func:`forward_folds` where the cutoffs are known, else :func:`folds_without_times`."""
    if times is None:
        return folds_without_times(y, groups, seed)
    return forward_folds(y, times, groups, horizon_us, seed)


def thin_negatives(y: Floats, at_most: int, seed: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Rows to learn from and their weights: all of them, or every positive and a random part of the negatives.

    A negative that is kept stands for those that are not, so that probabilities stay what they are.

    >>> rows, weight = thin_negatives(np.r_[1.0, np.zeros(99)], 50, seed=0)
    >>> len(rows), round(float(weight.sum()), 6)
    (50, 100.0)
    """
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    wanted = max(at_most - len(positive), at_most // 2)
    if len(y) <= at_most or len(negative) <= wanted:
        return np.arange(len(y)), np.ones(len(y))
    kept = np.random.default_rng(seed).choice(negative, wanted, replace=False)
    rows = np.sort(np.concatenate([positive, kept]))
    return rows, np.where(y[rows] == 1, 1.0, len(negative) / wanted)


def choose_capacity(
    folds: Sequence[Fold],
    y: Floats,
    weight: Floats,
    groups: npt.ArrayLike | None,
    *,
    leaves: Sequence[int],
    rounds: Sequence[int],
    weights: Sequence[float],
    fit_trees: StagedTrees,
    fit_logistic: LogisticLogits,
) -> CapacityChoice:
    """Choose by pooled validation log loss; the default stays unless another is better by a standard error.

    Leaves grow as long as the next size is better by a standard error. Of the candidates within one standard
    error (paired, clustered by lead) of the best, those with the fewest leaves are kept, and the nearest to
    the default wins: in the logistic part first, then in the number of trees.
    """
    rows = np.concatenate([validate for _, validate in folds])
    label, row_weight = y[rows], weight[rows]
    group = group_codes(None if groups is None else np.asarray(groups)[rows], len(rows))
    default = default_of(leaves, rounds, weights)
    logistic = np.concatenate(fit_logistic()) if any(weights) else np.zeros(len(rows))

    def excess(loss: Floats, other: Floats) -> tuple[float, float]:
        difference = loss - other
        return float(np.average(difference, weights=row_weight)), clustered_standard_error(
            difference, row_weight, group
        )

    losses: dict[Capacity, Floats] = {}
    best: Capacity | None = None
    for size in leaves:
        staged = fit_trees(size)
        rung: dict[Capacity, Floats] = {}
        for i, n_trees in enumerate(rounds):
            trees = np.concatenate([stages[i] for stages in staged])
            for share in weights:
                rung[Capacity(size, n_trees, share)] = row_log_loss(
                    (1 - share) * trees + share * logistic, label
                )
        losses |= rung
        top = min(rung, key=lambda c: float(np.average(rung[c], weights=row_weight)))
        better, error = (-1.0, 0.0) if best is None else excess(rung[top], losses[best])
        if best is None or better < 0:
            best = top
        if better >= -error:
            break
    eligible = [
        c for c, loss in losses.items() if best is None or _within_one_error(excess(loss, losses[best]))
    ]
    chosen = min(eligible, key=lambda c: _distance(c, default))
    reason = (
        "validated"
        if chosen != default
        else "validated: the default is within one standard error of the best"
    )
    means = {c: float(np.average(loss, weights=row_weight)) for c, loss in losses.items()}
    return CapacityChoice(chosen, reason, means, len(rows), int(label.sum()))


def _distance(candidate: Capacity, default: Capacity) -> tuple[int, float, float]:
    rounds = abs(np.log(candidate.n_estimators / default.n_estimators))
    return candidate.num_leaves, abs(candidate.logistic_weight - default.logistic_weight), float(rounds)


def _within_one_error(excess: tuple[float, float]) -> bool:
    return excess[0] <= excess[1]


def describe(choice: CapacityChoice) -> dict[str, Any]:
    """A JSON-able account: the choice, why, and the best validated log loss per number of leaves."""
    best: dict[str, Any] = {}
    for candidate, loss in sorted(choice.log_loss.items(), key=lambda item: item[1]):
        best.setdefault(
            str(candidate.num_leaves),
            {
                "n_estimators": candidate.n_estimators,
                "logistic_weight": candidate.logistic_weight,
                "log_loss": loss,
            },
        )
    return {
        "num_leaves": choice.capacity.num_leaves,
        "n_estimators": choice.capacity.n_estimators,
        "logistic_weight": choice.capacity.logistic_weight,
        "reason": choice.reason,
        "validation_rows": choice.n_rows,
        "validation_positives": choice.n_positives,
        "best_by_leaves": best,
    }
