"""Which calibrator: by log loss in cross-validation inside the calibration slice, leads kept whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convpredict.errors import NotEnoughDataError

from .calibration import (
    CALIBRATOR_NAMES,
    Calibrator,
    CalibratorName,
    Floats,
    make_calibrator,
    to_logit,
)

LEAST_OF_A_CLASS: Mapping[str, int] = {"none": 0, "sigmoid": 10, "beta": 30, "isotonic": 300}
"""Rows of the rarer class below which a calibrator is not considered."""


@dataclass(frozen=True)
class CalibratorChoice:
    """The fitted calibrator and why it was chosen.

    Log loss in cross-validation per candidate (smaller is better).
    """

    calibrator: Calibrator
    log_loss: Mapping[CalibratorName, float]


def row_log_loss(z: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
    """Log loss of each row, ``ln(1 + exp(z)) - y z`` for a logit ``z`` and a label ``y`` in {0, 1}.

    >>> row_log_loss([0.0], [1]).round(4).tolist()
    [0.6931]
    """
    logits = np.asarray(z, dtype=np.float64)
    return np.logaddexp(0.0, logits) - np.asarray(y, dtype=np.float64) * logits


def clustered_standard_error(difference: Floats, weight: Floats, group: npt.NDArray[np.intp]) -> float:
    """Standard error of a weighted mean whose rows are dependent within a group (here: a lead's).

    ``sqrt(sum over groups of (sum of w (d - mean d)) ** 2) / sum of w`` (Liang and Zeger, 1986).

    >>> clustered_standard_error(np.array([1.0, -1.0]), np.ones(2), np.array([0, 0]))
    0.0
    """
    total = weight.sum()
    centred = weight * (difference - (weight @ difference) / total)
    return float(np.sqrt(np.sum(np.bincount(group, centred) ** 2)) / total)


def group_codes(groups: npt.ArrayLike | None, n_rows: int) -> npt.NDArray[np.intp]:
    """Codes 0..k-1 of the groups; every row is a group of its own where none are given."""
    if groups is None:
        return np.arange(n_rows)
    values = np.asarray(groups)
    if values.shape != (n_rows,):
        raise ValueError(f"groups must hold one lead id per row ({n_rows}); got shape {values.shape}")
    return np.unique(values, return_inverse=True)[1].astype(np.intp)


def deal_folds(y: Floats, group: npt.NDArray[np.intp], n_folds: int, seed: int) -> npt.NDArray[np.intp]:
    """Fold of each row: groups stay whole, and those with a positive row are dealt evenly."""
    n_groups = int(group.max()) + 1
    positive = np.bincount(group, y, minlength=n_groups) > 0
    shuffled = np.random.default_rng(seed).permutation(n_groups)
    ordered = shuffled[np.argsort(~positive[shuffled], kind="stable")]
    fold = np.empty(n_groups, dtype=np.intp)
    fold[ordered] = np.arange(n_groups) % n_folds
    return fold[group]


def candidates(y: npt.ArrayLike, names: Sequence[CalibratorName]) -> tuple[CalibratorName, ...]:
    """Those of ``names`` for which the rarer class has rows enough, from the simplest to the most flexible.

    >>> candidates([0] * 500 + [1] * 20, ("none", "sigmoid", "beta", "isotonic"))
    ('none', 'sigmoid')
    """
    unknown = sorted(set(names) - set(CALIBRATOR_NAMES))
    if unknown or not names:
        raise ValueError(
            f"calibrators must be some of {', '.join(CALIBRATOR_NAMES)}; got "
            f"{', '.join(map(str, names)) or 'none of them'}"
        )
    label = np.asarray(y)
    rarer = int(min(np.sum(label == 1), np.sum(label == 0)))
    kept = tuple(name for name in CALIBRATOR_NAMES if name in names and rarer >= LEAST_OF_A_CLASS[name])
    if not kept:
        least = min(LEAST_OF_A_CLASS[name] for name in names)
        raise NotEnoughDataError(
            f"the calibration slice has {rarer} rows of the rarer class, while {', '.join(names)} need at "
            f"least {least}; allow 'none' in model.calibrators, or begin the slice earlier "
            "(split.calibrate_from)"
        )
    return kept


def choose_calibrator(
    p: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    names: Sequence[CalibratorName] = CALIBRATOR_NAMES,
    n_folds: int = 5,
    seed: int = 0,
) -> CalibratorChoice:
    """Choose by cross-validated log loss and fit the choice on the whole slice.

    ``p`` are scores in [0, 1], ``y`` labels in {0, 1}, ``groups`` lead ids: a lead is never on both sides of
    a fold. The simplest candidate within one standard error (clustered by lead) of the best wins; the order
    is none, sigmoid, beta, isotonic. Raises NotEnoughDataError if the slice is too small for every name
    given.

    >>> p = np.linspace(0.05, 0.95, 400)
    >>> choose_calibrator(p, np.arange(400) % 10 == 0).calibrator.name
    'sigmoid'
    """
    label = np.asarray(y, dtype=np.float64)
    score = np.asarray(p, dtype=np.float64)
    weight = np.ones(len(label)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    group = group_codes(groups, len(label))
    kept = candidates(label, names)
    if len(kept) == 1:
        return CalibratorChoice(make_calibrator(kept[0]).fit(score, label, weight), {})
    fold = deal_folds(label, group, n_folds, seed)
    losses: dict[CalibratorName, Floats] = {name: np.empty(len(label)) for name in kept}
    for held_out in range(n_folds):
        inside, outside = fold != held_out, fold == held_out
        for name in kept:
            calibrator = make_calibrator(name).fit(score[inside], label[inside], weight[inside])
            z = calibrator.transform_logit(to_logit(score[outside]))
            losses[name][outside] = row_log_loss(z, label[outside])
    mean = {name: float(np.average(loss, weights=weight)) for name, loss in losses.items()}
    best = min(kept, key=lambda name: mean[name])
    chosen = next(
        name
        for name in kept
        if mean[name] - mean[best] <= clustered_standard_error(losses[name] - losses[best], weight, group)
    )
    return CalibratorChoice(make_calibrator(chosen).fit(score, label, weight), mean)
