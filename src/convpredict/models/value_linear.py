"""A ridge regression for amounts: least squares, or a log link with a gamma or Tweedie variance."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from .calibration import Floats
from .encoding import Matrix
from .logistic import _ONE_BLAS_THREAD, CategoryTerm, Logistic, NumberTerm, is_missing, weighted_quantiles

_TAIL = 0.005
_ITERATIONS = 50
_LARGEST_STEP = 1.0


class _Column:
    """How one column becomes columns of the design, and its coefficients a term again."""

    def __init__(
        self, values: npt.NDArray[np.float64], weight: Floats, n_categories: int | None, *, used: bool
    ) -> None:
        known = ~is_missing(values, n_categories)
        self.n_categories, self.used = n_categories, used
        self.has_missing = used and bool(not known.all())
        self.low = self.high = self.mean = self.scale = 0.0
        if used and n_categories is None and known.any():
            x, w = _compress(values[known]), weight[known]
            self.low, self.high = weighted_quantiles(x, w, (_TAIL, 1 - _TAIL))
            x = np.clip(x, self.low, self.high)
            self.mean = float(np.average(x, weights=w))
            scale = float(np.sqrt(np.average((x - self.mean) ** 2, weights=w)))
            self.scale = scale if scale > 1e-9 * (1 + abs(self.mean)) else 0.0

    @property
    def width(self) -> int:
        """Number of columns in the design."""
        if not self.used:
            return 0
        return (
            self.n_categories if self.n_categories is not None else int(self.scale > 0)
        ) + self.has_missing

    def fill(self, design: Floats, values: npt.NDArray[np.float64]) -> None:
        """Write this column's part of the design, shape (rows, width)."""
        if not self.used:
            return
        absent = is_missing(values, self.n_categories)
        if self.n_categories is not None:
            rows = np.flatnonzero(~absent)
            design[rows, values[rows].astype(np.intp)] = 1.0
        elif self.scale > 0:
            x = (np.clip(_compress(values), self.low, self.high) - self.mean) / self.scale
            design[:, 0] = np.where(absent, 0.0, x)
        if self.has_missing:
            design[:, -1] = absent

    def term(self, coefficient: Floats) -> NumberTerm | CategoryTerm:
        """The term of a plain linear predictor."""
        missing = float(coefficient[-1]) if self.has_missing else 0.0
        if self.n_categories is not None:
            known = coefficient[: self.n_categories] if self.used else np.zeros(self.n_categories)
            return CategoryTerm(tuple(float(c) for c in known), missing)
        main = float(coefficient[0]) if self.scale > 0 else 0.0
        return NumberTerm(self.low, self.high, self.mean, self.scale or 1.0, main, missing)


def fit_amounts(
    matrix: Matrix,
    y: npt.ArrayLike,
    weight: Floats,
    *,
    n_categories: Sequence[int | None],
    prior_deviation: float,
    power: float | None,
    columns: Collection[int] | None = None,
) -> Logistic:
    """Intercept and terms of a linear predictor, each coefficient with the prior N(0, prior_deviation squared).

    ``power`` is that of the variance in the mean: 2 (gamma), 1 < power < 2 (Tweedie; zeros are possible), for a
    predictor of the log mean; None: least squares for ``y`` itself. ``columns`` are the positions of those
    that are used (None: all); the terms of the others are zero. Columns are prepared as in
    :func:`.logistic.fit_logistic`: numbers compressed, clipped and standardised, missing values with a
    coefficient of their own. Coefficients are rounded to 7 significant digits.

    Source of the iteration: McCullagh & Nelder (1989), Generalized linear models, 2.5, with step halving.
    """
    target = np.asarray(y, np.float64)
    plan = [
        _Column(matrix[:, i].astype(np.float64), weight, count, used=columns is None or i in columns)
        for i, count in enumerate(n_categories)
    ]
    design = _design(matrix, plan)
    with _ONE_BLAS_THREAD:
        if power is None:
            coefficient = _least_squares(design, target, weight, prior_deviation)
        else:
            coefficient = _log_link(design, target, weight, prior_deviation, power)
    coefficient = np.array([float(f"{value:.7g}") for value in coefficient])
    terms, position = [], 0
    for column in plan:
        terms.append(column.term(coefficient[position : position + column.width]))
        position += column.width
    return Logistic(float(coefficient[-1]), tuple(terms))


def _compress(x: Floats) -> Floats:
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)), np.float64)


def _design(matrix: Matrix, columns: Sequence[_Column]) -> Floats:
    design = np.zeros((len(matrix), sum(column.width for column in columns) + 1))
    position = 0
    for i, column in enumerate(columns):
        column.fill(design[:, position : position + column.width], matrix[:, i].astype(np.float64))
        position += column.width
    design[:, -1] = 1.0
    return design


def _least_squares(design: Floats, y: Floats, weight: Floats, prior_deviation: float) -> Floats:
    mean = float(np.average(y, weights=weight))
    dispersion = float(np.average((y - mean) ** 2, weights=weight))
    penalty = _penalty(design.shape[1], dispersion, prior_deviation)
    weighted = design * weight[:, None]
    centred = np.linalg.solve(design.T @ weighted + np.diag(penalty), weighted.T @ (y - mean))
    centred[-1] += mean
    return np.asarray(centred, np.float64)


def _log_link(design: Floats, y: Floats, weight: Floats, prior_deviation: float, power: float) -> Floats:
    mean = float(np.average(y, weights=weight))
    dispersion = float(np.average((y - mean) ** 2, weights=weight)) / mean**power
    penalty = _penalty(design.shape[1], dispersion, prior_deviation)
    start = np.zeros(design.shape[1])
    start[-1] = np.log(mean)
    coefficient = start.copy()

    def loss(proposed: Floats) -> float:
        eta = np.clip(design @ proposed, -30.0, 30.0 + start[-1])
        deviance = (
            y * np.exp((1 - power) * eta) / (power - 1) - np.exp((2 - power) * eta) / (power - 2)
            if power < 2
            else y * np.exp(-eta) + eta
        )
        return float(weight @ deviance) + 0.5 * float(penalty @ (proposed - start) ** 2)

    current = loss(coefficient)
    for _ in range(_ITERATIONS):
        eta = design @ coefficient
        mu = np.exp(np.clip(eta, start[-1] - 30.0, start[-1] + 30.0))
        curvature = weight * mu ** (2 - power)
        gradient = design.T @ (weight * (mu - y) * mu ** (1 - power)) + penalty * (coefficient - start)
        step = np.linalg.solve(design.T @ (design * curvature[:, None]) + np.diag(penalty), gradient)
        largest = float(np.max(np.abs(design @ step)))
        length = min(1.0, _LARGEST_STEP / largest) if largest > 0 else 1.0
        while (lower := loss(coefficient - length * step)) > current and length > 1e-6:
            length /= 2
        if lower >= current:
            break
        coefficient, current = coefficient - length * step, lower
        if float(np.max(np.abs(step))) < 1e-8:
            break
    return coefficient


def _penalty(width: int, dispersion: float, prior_deviation: float) -> Floats:
    penalty = np.full(width, max(dispersion, 1e-12) / prior_deviation**2)
    penalty[-1] = 1e-9
    return penalty


def strongest_columns(
    matrix: Matrix, target: Floats, weight: Floats, n_categories: Sequence[int | None], n_columns: int
) -> tuple[int, ...]:
    """Positions of the columns that explain most of the target by themselves, ascending; at most ``n_columns``.

    By the share of the variance explained, adjusted for the number of coefficients that it takes; columns that
    explain no more than chance would are left out.
    """
    total = float(weight.sum())
    centred = target - np.average(target, weights=weight)
    variance = float(weight @ centred**2)
    strength = np.full(len(n_categories), -np.inf)
    for i, count in enumerate(n_categories):
        column = _Column(matrix[:, i].astype(np.float64), weight, count, used=True)
        if column.width == 0 or variance <= 0:
            continue
        part = np.zeros((len(target), column.width))
        column.fill(part, matrix[:, i].astype(np.float64))
        part -= np.average(part, axis=0, weights=weight)
        moments = part.T @ (part * weight[:, None])
        scale = float(np.trace(moments)) / column.width
        if scale <= 0:
            continue
        slope = part.T @ (weight * centred)
        solved = np.linalg.solve(moments + 1e-6 * scale * np.eye(column.width), slope)
        explained = float(slope @ solved) / variance
        freedom = max(total - 1.0 - column.width, 1.0)
        strength[i] = 1.0 - (1.0 - explained) * (total - 1.0) / freedom
    order = np.argsort(-strength, kind="stable")[:n_columns]
    return tuple(sorted(int(i) for i in order if strength[i] > 0))
