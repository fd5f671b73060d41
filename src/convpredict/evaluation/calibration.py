"""Statistics of probabilities, prepared once and then computed for any number of row weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from .inputs import check_labels, check_probabilities

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LOSS_CLIP = float(np.finfo(np.float64).eps)
LOGIT_CLIP = 1e-9
LINE_CELLS = 2048
CELLS_PER_BANDWIDTH = 8
LARGEST_GRID = 1 << 17
TOLERANCE = 1e-3


class Calibration:
    """Labels and probabilities, prepared once; each statistic takes row weights in the order of the input.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1]
    bins : number of equal-mass bins of the binned calibration error

    >>> Calibration([0, 1], [.25, .75]).ratio()
    1.0
    """

    def __init__(self, label: ArrayLike, p: ArrayLike, *, bins: int = 15) -> None:
        self.label = check_labels(label)
        self.p = check_probabilities(p, len(self.label))
        self._residual = self.label - self.p
        self._square = self._residual**2
        clipped = np.clip(self.p, LOSS_CLIP, 1 - LOSS_CLIP)
        self._loss = -np.where(self.label > 0, np.log(clipped), np.log1p(-clipped))
        self._positive = np.flatnonzero(self.label)
        self._bins = bins
        self._bin = equal_mass_bins(self.p, bins)
        self._line: tuple[Ints, Floats] | None = None
        self._grid: _ResidualGrid | None = None

    def log_loss(self, weight: Floats | None = None) -> float:
        """Mean log loss; see :func:`convpredict.evaluation.metrics.log_loss`."""
        return _mean(self._loss, weight)

    def brier(self, weight: Floats | None = None) -> float:
        """Mean squared error; see :func:`convpredict.evaluation.metrics.brier`."""
        return _mean(self._square, weight)

    def ratio(self, weight: Floats | None = None) -> float:
        """Predicted over observed; see :func:`convpredict.evaluation.metrics.calibration_ratio`."""
        predicted, observed = (
            (self.p.sum(), self.label.sum())
            if weight is None
            else ((weight * self.p).sum(), weight[self._positive].sum())
        )
        if observed > 0:
            return float(predicted / observed)
        return float("inf") if predicted > 0 else float("nan")

    def binned_error(self, weight: Floats | None = None) -> float:
        """Binned calibration error; see :func:`convpredict.evaluation.metrics.binned_calibration_error`."""
        residual = self._residual if weight is None else weight * self._residual
        total = len(residual) if weight is None else weight.sum()
        return float(np.abs(np.bincount(self._bin, weights=residual, minlength=self._bins)).sum() / total)

    def smooth_error(self, weight: Floats | None = None) -> float:
        """Smooth calibration error; see :func:`convpredict.evaluation.metrics.smooth_calibration_error`."""
        if self._grid is None:
            self._grid = _ResidualGrid.fitted(self.p, self._residual)
        return self._grid.fixed_point(self._residual if weight is None else weight * self._residual, weight)

    def line(self, weight: Floats | None = None) -> tuple[float, float]:
        """Calibration intercept and slope; see :func:`convpredict.evaluation.metrics.calibration_line`.

        Rows are first pooled into at most 2,048 even cells of the logit, each at its mean logit; with no more
        distinct probabilities than that, the result is exact.
        """
        if self._line is None:
            self._line = pool_logits(self.p)
        cell, logit = self._line
        rows = np.bincount(cell, weights=weight, minlength=len(logit)).astype(np.float64)
        hit_weight = None if weight is None else weight[self._positive]
        hits = np.bincount(cell[self._positive], weights=hit_weight, minlength=len(logit)).astype(np.float64)
        return fit_line(logit, rows, hits)

    def statistics(self, weight: Floats | None = None) -> Floats:
        """Log loss, Brier, smooth and binned error, slope, intercept, ratio: shape (7,)."""
        intercept, slope = self.line(weight)
        return np.array(
            [
                self.log_loss(weight),
                self.brier(weight),
                self.smooth_error(weight),
                self.binned_error(weight),
                slope,
                intercept,
                self.ratio(weight),
            ]
        )


def _mean(values: Floats, weight: Floats | None) -> float:
    """Weighted mean by NumPy's own sums: unlike BLAS's, their last bits do not depend on the threads."""
    return float(values.mean() if weight is None else (weight * values).sum() / weight.sum())


def equal_mass_bins(p: Floats, bins: int, weight: Floats | None = None) -> Ints:
    """Bin of each row, rows ordered by ``p`` and cut evenly: floor(bins * middle rank / total weight).

    Equal probabilities share their middle rank and so their bin, whatever the row order. Shape (rows,),
    values in [0, bins).

    >>> equal_mass_bins(np.array([.1, .1, .2, .9]), 2).tolist()
    [0, 0, 1, 1]
    """
    _, value = np.unique(p, return_inverse=True)
    mass = np.bincount(value, weights=weight)
    middle = np.cumsum(mass) - mass / 2
    return np.asarray(np.minimum(bins * middle / mass.sum(), bins - 1), np.intp)[value]


def pool_logits(p: Floats, cells: int = LINE_CELLS) -> tuple[Ints, Floats]:
    """Cell of each row, shape (rows,), and mean logit of each cell, shape (cells,)."""
    clipped = np.clip(p, LOGIT_CLIP, 1 - LOGIT_CLIP)
    logit = np.log(clipped) - np.log1p(-clipped)
    values, cell = np.unique(logit, return_inverse=True)
    if len(values) <= cells:
        return cell, values
    span = values[-1] - values[0]
    _, cell = np.unique(np.floor((logit - values[0]) * ((cells - 1) / span)), return_inverse=True)
    mean: Floats = np.bincount(cell, weights=logit) / np.bincount(cell)
    return cell, mean


def fit_line(logit: Floats, rows: Floats, hits: Floats) -> tuple[float, float]:
    """Intercept and slope of a logistic regression of the outcome on the logit, by damped Newton steps.

    ``rows`` and ``hits`` are the weight and the positive weight at each logit, shape (cells,). NaN for both
    when the likelihood has no finite maximum: one class only, one distinct logit, or perfectly separated
    classes.
    """
    used = rows > 0
    x, rows, hits = logit[used], rows[used], hits[used]
    misses = rows - hits
    if (
        not len(x)
        or x[0] == x[-1]
        or not (hits > 0).any()
        or not (misses > 0).any()
        or _separated(x, hits, misses)
    ):
        return float("nan"), float("nan")
    center = float(rows @ x / rows.sum())
    scale = float(np.sqrt(rows @ (x - center) ** 2 / rows.sum()))
    z = (x - center) / scale
    level, slope = float(np.log(hits.sum() / misses.sum())), 0.0
    loss = _line_loss(level + slope * z, rows, hits)
    for _ in range(100):
        p = 1 / (1 + np.exp(-(level + slope * z)))
        gap, curve = hits - rows * p, rows * p * (1 - p)
        gradient = np.array([gap.sum(), gap @ z])
        hessian = np.array([[curve.sum(), curve @ z], [curve @ z, curve @ z**2]])
        step = np.linalg.solve(hessian + 1e-12 * np.trace(hessian) * np.eye(2), gradient)
        for _ in range(40):
            trial = _line_loss(level + step[0] + (slope + step[1]) * z, rows, hits)
            if trial <= loss + 1e-12 * abs(loss):
                break
            step = step / 2
        level, slope, loss = level + float(step[0]), slope + float(step[1]), trial
        if np.abs(step).max() < 1e-9:
            break
    return level - slope * center / scale, slope / scale


def _separated(x: Floats, hits: Floats, misses: Floats) -> bool:
    """Whether a threshold on ``x`` (ascending) has all positives on one side, all negatives on the other."""
    positive, negative = x[hits > 0], x[misses > 0]
    return bool(positive[0] >= negative[-1] or negative[0] >= positive[-1])


def _line_loss(line: Floats, rows: Floats, hits: Floats) -> float:
    return float(rows @ np.logaddexp(0, line) - hits @ line)


class _ResidualGrid:
    """Residuals gathered on an even grid over [0, 1], fine enough for the bandwidth of the fixed point.

    Only the part of the grid that residuals can reach is kept: probabilities of rare conversions fill a
    small part.
    """

    def __init__(self, p: Floats, cells: int, *, start: float, reach: float = 1.0) -> None:
        place = p * cells - 0.5
        low = np.floor(place).astype(np.intp)
        self._share = place - low
        self._low, self._high = np.maximum(low, 0), np.minimum(low + 1, cells - 1)
        first = max(0, int((p.min() - reach) * cells) - 1)
        self._kept = slice(first, min(cells, int((p.max() + reach) * cells) + 2))
        self._cells, self._start = cells, start

    @classmethod
    def fitted(cls, p: Floats, residual: Floats) -> _ResidualGrid:
        """The grid for these predictions, refined until its cells are a small part of the bandwidth."""
        cells, width = 1 << 10, 0.1
        while True:
            width = max(cls(p, cells, start=width).fixed_point(residual, None), 0.5 / cells)
            if cells >= LARGEST_GRID or width * cells >= CELLS_PER_BANDWIDTH:
                return cls(p, cells, start=width, reach=12 * width)
            cells = min(LARGEST_GRID, 2 * cells)

    def fixed_point(self, residual: Floats, weight: Floats | None) -> float:
        """The smoothed absolute residual at the bandwidth that equals it.

        It falls with the bandwidth, nearly as a power: secant steps on the logarithms, kept between brackets.
        """
        mass = np.asarray(
            np.bincount(self._low, weights=residual * (1 - self._share), minlength=self._cells), float
        )
        mass += np.bincount(self._high, weights=residual * self._share, minlength=self._cells)
        mass = mass[self._kept] / (float(len(residual)) if weight is None else weight.sum())
        narrowest = 0.25 / self._cells
        low, high = narrowest, 1.0
        width, fall, last = self._start, 0.5, None
        for _ in range(60):
            error = self._smoothed(mass, width)
            if abs(error - width) <= TOLERANCE * width or high - low <= TOLERANCE * low or error <= narrowest:
                break
            low, high = (width, high) if error > width else (low, width)
            if last is not None and last[0] != width:
                fall = float(np.clip(np.log(error / last[1]) / np.log(last[0] / width), 0.0, 2.0))
            last = (width, error)
            width *= float((error / width) ** (1 / (1 + fall)))
            if not low < width < high:
                width = float(np.sqrt(low * high))
        return error

    def _smoothed(self, mass: Floats, width: float) -> float:
        return float(np.abs(gaussian_filter1d(mass, width * self._cells, mode="reflect", truncate=4.0)).sum())
