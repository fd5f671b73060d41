"""Choosing the rules of a card and whole points for them, by log loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from .scorecard_candidates import Candidate

Floats = npt.NDArray[np.float64]
_LEAST_GAIN = 4.0
_RIDGE = 1e-3


def select_rules(
    units: Floats, label: Floats, weight: Floats, candidates: Sequence[Candidate], most: int
) -> list[int]:
    """Positions of the rules that lower the log loss most, one after another, each against those before it.

    A rule enters by Rao's score test (largest squared score over its variance given the rules that are in), one
    of a group, in the direction that it may have; entering ends where a rule would gain less than a test value of 4.
    """
    chosen: list[int] = []
    open_rules = np.ones(len(candidates), np.bool_)
    sign = np.array([candidate.sign for candidate in candidates])
    coefficients, level = np.zeros(0), _logit(np.average(label, weights=weight))
    while len(chosen) < most:
        p = expit(units[:, chosen] @ coefficients + level)
        score = units.T @ (weight * (label - p))
        gain = score**2 / np.maximum(_variance(units, chosen, weight * p * (1 - p)), 1e-9)
        allowed = open_rules & ((sign == 0) | (np.sign(score) == sign))
        gain[~allowed] = 0.0
        best = int(np.argmax(gain))
        if gain[best] < _LEAST_GAIN:
            break
        chosen.append(best)
        group = candidates[best].group
        open_rules &= np.array([candidate.group != group for candidate in candidates])
        coefficients, level = fit_logit(units[:, chosen], label, weight, (coefficients, level))
    return chosen


def _variance(units: Floats, chosen: Sequence[int], curvature: Floats) -> Floats:
    """Variance of each rule's score, given an intercept and the rules that are in."""
    known = np.column_stack([np.ones(len(units)), units[:, chosen]])
    information = known.T @ (curvature[:, None] * known) + _RIDGE * np.eye(known.shape[1])
    cross = known.T @ (curvature[:, None] * units)
    own = (curvature[:, None] * units**2).sum(axis=0)
    return np.asarray(own - (cross * np.linalg.solve(information, cross)).sum(axis=0))


def fit_logit(
    units: Floats, label: Floats, weight: Floats, start: tuple[Floats, float] | None = None
) -> tuple[Floats, float]:
    """Coefficients and level of a logistic curve by Newton steps, with a ridge that keeps them finite."""
    n = units.shape[1]
    design = np.column_stack([units, np.ones(len(units))])
    beta = np.zeros(n + 1)
    if start is not None:
        beta[: len(start[0])], beta[n] = start[0], start[1]
    ridge = np.r_[np.full(n, _RIDGE), 1e-9]
    for _ in range(50):
        p = expit(design @ beta)
        gradient = design.T @ (weight * (label - p)) - ridge * beta
        hessian = design.T @ ((weight * p * (1 - p))[:, None] * design) + np.diag(ridge + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 5.0 / max(1e-12, float(np.abs(step).max())))
        beta = beta + step
        if np.abs(step).max() < 1e-6:
            break
    return beta[:n], float(beta[n])


def best_line(points: Floats, label: Floats, weight: Floats) -> tuple[float, float]:
    """Slope and level that turn points into logits best."""
    spread = float(points.std()) or 1.0
    start = (np.zeros(1), _logit(np.average(label, weights=weight)))
    coefficients, level = fit_logit((points / spread)[:, None], label, weight, start)
    return float(coefficients[0]) / spread, level


def rounded_points(coefficients: Floats, size: int) -> Floats:
    """Coefficients as whole points of which the largest has that size.

    >>> rounded_points(np.array([0.5, -0.26, 0.01]), 10).tolist()
    [10.0, -5.0, 0.0]
    """
    limit = float(np.abs(coefficients).max(initial=0.0))
    return np.round(coefficients / limit * size) + 0.0 if limit else np.zeros(len(coefficients))


def whole_points(units: Floats, label: Floats, weight: Floats, *, largest: int = 20) -> Floats:
    """Whole points for chosen rules: coefficients scaled and rounded, then moved one by one while that helps.

    Several scales are tried, from a quarter of ``largest`` up to it; the smallest points within .0002 of the best
    relative log loss are kept, because small numbers are easier to remember.
    """
    coefficients, _ = fit_logit(units, label, weight)
    tried: list[tuple[float, Floats]] = []
    for size in sorted({max(3, largest // 4), max(3, largest // 2), largest}):
        start = rounded_points(coefficients, size)
        tried.append(_descend(units, start, np.sign(coefficients), label, weight))
    best = min(loss for loss, _ in tried)
    return next(points for loss, points in tried if loss <= best * 1.0002)


def _descend(
    units: Floats, points: Floats, sign: Floats, label: Floats, weight: Floats
) -> tuple[float, Floats]:
    """Move single points by one, as long as the log loss falls; no rule changes its direction."""
    total = units @ points
    loss = _loss(total, label, weight)
    for _ in range(3):
        moved = False
        for place in range(len(points)):
            for change in (-1.0, 1.0):
                value = points[place] + change
                if value * sign[place] < 0:
                    continue
                other = _loss(total + change * units[:, place], label, weight)
                if other < loss * (1 - 1e-6):
                    points, total, loss, moved = points.copy(), total + change * units[:, place], other, True
                    points[place] = value
                    break
        if not moved:
            break
    return loss, points


def _loss(points: Floats, label: Floats, weight: Floats) -> float:
    slope, level = best_line(points, label, weight)
    logit = slope * points + level
    return float(np.average(np.logaddexp(0.0, logit) - label * logit, weights=weight))


def _logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))
