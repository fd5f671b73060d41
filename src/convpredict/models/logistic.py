"""A regularised logistic regression on robustly prepared columns, held as plain coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from convpredict.errors import BundleError

from .calibration import Floats
from .encoding import Encoder, Matrix
from .logistic_kernels import add_terms

_CHUNK_ROWS = 2_048
_TAIL = 0.005
_LEFT_OUT = 1e12
_LOGIT_DEVIATION = 0.68


class _OneBlasThread:
    """BLAS held to one thread while any fit runs: the limit is the process's, and fits run side by side.

    Limits that overlap without this count would be lifted by the first fit that ends, and stay after the last.
    """

    def __init__(self) -> None:
        self._lock, self._running = Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._running == 0:
                self._limit = threadpool_limits(1, user_api="blas")
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0:
                self._limit.restore_original_limits()


_ONE_BLAS_THREAD = _OneBlasThread()


@dataclass(frozen=True)
class NumberTerm:
    """``coefficient * (clip(sign(x) ln(1 + |x|), low, high) - mean) / scale``; ``missing`` where x is NaN."""

    low: float
    high: float
    mean: float
    scale: float
    coefficient: float
    missing: float


@dataclass(frozen=True)
class CategoryTerm:
    """One coefficient per category code; ``missing`` for the code after the last, and for NaN."""

    coefficients: tuple[float, ...]
    missing: float


@dataclass(frozen=True)
class Logistic:
    """Intercept and one term per column; the logit is their sum, so that contributions add up.

    ``centres`` holds each term's mean over the rows of the fit, by weight: what a reason starts from. Empty
    stands for zeros.
    """

    intercept: float
    terms: tuple[NumberTerm | CategoryTerm, ...]
    centres: tuple[float, ...] = ()

    def contributions(self, matrix: Matrix) -> Floats:
        """What each column adds to the logit of each row; shape of ``matrix``."""
        result = np.empty(matrix.shape)
        for i, term in enumerate(self.terms):
            x = np.asarray(matrix[:, i], dtype=np.float64)
            if isinstance(term, NumberTerm):
                value = (
                    (np.clip(_compress(x), term.low, term.high) - term.mean) / term.scale * term.coefficient
                )
                result[:, i] = np.where(np.isnan(x), term.missing, value)
            else:
                table = np.array([*term.coefficients, term.missing])
                code = np.where(is_missing(x, len(term.coefficients)), -1, x).astype(np.intp)
                result[:, i] = table[code]
        return result

    def logit(self, matrix: Matrix) -> Floats:
        """Logit of each row. A row's value does not depend on the rows around it, to the bit."""
        total = np.full(len(matrix), self.intercept)
        for start in range(0, len(matrix), _CHUNK_ROWS):
            part = np.array(matrix[start : start + _CHUNK_ROWS], order="F")
            add_terms(part, *self._flat, total[start : start + _CHUNK_ROWS])
        return total

    @cached_property
    def _flat(self) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
        """The terms as arrays: see :func:`.logistic_kernels.add_terms`."""
        tables = [(*t.coefficients, t.missing) if isinstance(t, CategoryTerm) else () for t in self.terms]
        rows = [
            (t.low, t.high, t.mean, t.scale, t.coefficient, t.missing)
            if isinstance(t, NumberTerm)
            else (0.0, 0.0, 0.0, 1.0, 0.0, t.missing)
            for t in self.terms
        ]
        starts = np.cumsum([0, *map(len, tables)], dtype=np.int64)
        flat = np.array([c for table in tables for c in table], np.float64)
        return np.array(rows, np.float64).reshape(-1, 6), starts, flat

    def check(self, encoder: Encoder) -> None:
        """Raise BundleError unless the terms are one per column, of the column's type and categories."""
        shapes = [len(t.coefficients) if isinstance(t, CategoryTerm) else None for t in self.terms]
        wanted = [len(c.categories) if c.type == "category" else None for c in encoder.columns]
        if shapes != wanted:
            raise BundleError("the logistic part has other columns than the schema; export the bundle anew")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers: one entry per column, in the order of the columns."""
        return {
            "intercept": self.intercept,
            "centres": list(self.centres),
            "terms": [_term_to_dict(term) for term in self.terms],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Logistic:
        """Restore what :meth:`to_dict` gave, to the bit. Raises BundleError for anything else."""
        try:
            terms = tuple(_term_from_dict(entry) for entry in stored["terms"])
            centres = tuple(_finite(centre) for centre in stored["centres"])
            if len(centres) not in (0, len(terms)):
                raise ValueError(f"{len(centres)} centres for {len(terms)} terms")
            return cls(_finite(stored["intercept"]), terms, centres)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"the logistic part cannot be read ({error!r}): load the bundle with the version of "
                "convpredict that wrote it, or export it anew"
            ) from None


def prior_deviation_of(n_columns: int) -> float:
    """Prior deviation of a coefficient, so that the logit has the same one whatever the number of columns: .68.

    Columns of deviation 1 that are independent add their variances: ``n * deviation ** 2 = .68 ** 2``. The .68 was
    chosen on 130 columns, .06 for each.

    >>> [round(prior_deviation_of(n), 2) for n in (3, 25, 130)]
    [0.39, 0.14, 0.06]
    """
    return float(_LOGIT_DEVIATION / max(n_columns, 1) ** 0.5)


def fit_logistic(
    matrix: Matrix,
    y: npt.ArrayLike,
    weight: Floats,
    *,
    n_categories: Sequence[int | None],
    directions: Sequence[int] | None = None,
    prior_deviation: float | None = None,
) -> Logistic:
    """Fit by penalised likelihood: each coefficient has the prior N(0, ``prior_deviation`` squared).

    None: :func:`prior_deviation_of` the number of columns.
    ``matrix`` as :meth:`Encoder.encode` gives it, ``n_categories`` the number of categories of each column
    (None: a number). Numbers are compressed (``sign(x) ln(1 + |x|)``), clipped to their 0.5 % and 99.5 %
    quantiles and standardised; missing values have a coefficient of their own. The prior is absolute: it
    matters less the more data there is. ``directions`` (-1, 0, 1 per column) holds numbers to a direction.
    Coefficients are rounded to 7 significant digits, so that the order in which a processor adds does not
    show.
    """
    label = np.asarray(y, dtype=np.float64)
    deviation = prior_deviation if prior_deviation is not None else prior_deviation_of(len(n_categories))
    plan = [_prepare(matrix[:, i], weight, count) for i, count in enumerate(n_categories)]
    design = _design(matrix, plan)
    with _ONE_BLAS_THREAD:  # threads cost more than they give on blocks this small
        coefficient = _fit_directed(design, label, weight, plan, directions, 1.0 / deviation**2)
    terms: list[NumberTerm | CategoryTerm] = []
    position = 0
    for low, high, mean, scale, has_missing, count in plan:
        if count is None:
            main = coefficient[position] if scale > 0 else 0.0
            position += scale > 0
            missing = coefficient[position] if has_missing else 0.0
            terms.append(NumberTerm(low, high, mean, scale or 1.0, float(main), float(missing)))
        else:
            block = coefficient[position : position + count]
            position += count
            missing = coefficient[position] if has_missing else 0.0
            terms.append(CategoryTerm(tuple(float(c) for c in block), float(missing)))
        position += has_missing
    fitted = Logistic(float(coefficient[-1]), tuple(terms))
    return replace(fitted, centres=_centres(fitted, matrix, weight))


def _centres(logistic: Logistic, matrix: Matrix, weight: Floats) -> tuple[float, ...]:
    total = np.zeros(matrix.shape[1])
    for start in range(0, len(matrix), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        total += (logistic.contributions(matrix[rows]) * weight[rows, None]).sum(axis=0)
    return tuple(float(f"{mean:.7g}") for mean in total / weight.sum())


def is_missing(column: npt.NDArray[Any], n_categories: int | None) -> npt.NDArray[np.bool_]:
    """Which values of a column of :meth:`Encoder.encode` are missing; ``n_categories`` None: a column of numbers.

    >>> is_missing(np.array([0.0, 1.0, 2.0, np.nan]), 2).tolist()
    [False, False, True, True]
    """
    nan: npt.NDArray[np.bool_] = np.isnan(column)
    return nan if n_categories is None else np.asarray(nan | (column >= n_categories))


_Plan = tuple[float, float, float, float, bool, int | None]


def _prepare(column: npt.NDArray[Any], weight: Floats, count: int | None) -> _Plan:
    known = ~is_missing(column, count)
    has_missing = bool(not known.all())
    if count is not None:
        return 0.0, 0.0, 0.0, 0.0, has_missing, count
    if not known.any():
        return 0.0, 0.0, 0.0, 0.0, has_missing, None
    x, w = _compress(column[known].astype(np.float64)), weight[known]
    low, high = weighted_quantiles(x, w, (_TAIL, 1 - _TAIL))
    x = np.clip(x, low, high)
    mean = float(np.average(x, weights=w))
    scale = float(np.sqrt(np.average((x - mean) ** 2, weights=w)))
    return low, high, mean, scale if scale > 1e-9 * (1 + abs(mean)) else 0.0, has_missing, None


def weighted_quantiles(x: Floats, weight: Floats, shares: Sequence[float]) -> list[float]:
    """Smallest values of ``x`` whose cumulated weight reaches the shares.

    >>> weighted_quantiles(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), [0.5, 1.0])
    [2.0, 3.0]
    """
    order = np.argsort(x, kind="stable")
    cumulated = np.cumsum(weight[order])
    positions = np.searchsorted(cumulated, np.asarray(shares) * cumulated[-1] * (1 - 1e-12))
    return [float(value) for value in x[order][np.minimum(positions, len(x) - 1)]]


def _compress(x: Floats) -> Floats:
    return np.sign(x) * np.log1p(np.abs(x))


def _design(matrix: Matrix, plan: Sequence[_Plan]) -> npt.NDArray[np.float32]:
    width = (
        sum((count or 0) + (count is None and scale > 0) + missing for *_, scale, missing, count in plan) + 1
    )
    design = np.zeros((len(matrix), width), dtype=np.float32, order="F")
    position = 0
    for i, (low, high, mean, scale, has_missing, count) in enumerate(plan):
        x = matrix[:, i].astype(np.float64)
        absent = is_missing(x, count)
        if count is not None:
            rows = np.flatnonzero(~absent)
            design[rows, position + x[rows].astype(np.intp)] = 1.0
            position += count
        elif scale > 0:
            design[:, position] = np.where(absent, 0.0, (np.clip(_compress(x), low, high) - mean) / scale)
            position += 1
        if has_missing:
            design[:, position] = absent
            position += 1
    design[:, -1] = 1.0
    return np.ascontiguousarray(design)


def _fit_directed(
    design: npt.NDArray[np.float32],
    y: Floats,
    w: Floats,
    plan: Sequence[_Plan],
    directions: Sequence[int] | None,
    precision: float,
) -> Floats:
    """Fit, and leave out columns whose coefficients run against their direction, until none does."""
    wanted = np.zeros(design.shape[1])
    position = 0
    for direction, (_, _, _, scale, has_missing, count) in zip(
        directions or [0] * len(plan), plan, strict=True
    ):
        if count is None and scale > 0:
            wanted[position] = direction
        position += (count if count is not None else int(scale > 0)) + has_missing
    penalty = np.full(design.shape[1], precision)
    penalty[-1] = 1e-6
    while True:
        coefficient = _fit_ridge(design, y, w, penalty)
        against = (coefficient * wanted < 0) & (penalty < _LEFT_OUT)
        if not against.any():
            coefficient[penalty == _LEFT_OUT] = 0.0
            return coefficient
        penalty[against] = _LEFT_OUT


def _fit_ridge(design: npt.NDArray[np.float32], y: Floats, w: Floats, penalty: Floats) -> Floats:
    """Newton's method.

    The curvature in single precision, the gradient (which decides where it ends) in double.
    """
    share = np.average(y, weights=w)
    centre = np.zeros(design.shape[1])
    centre[-1] = np.log(share / (1 - share))
    coefficient = centre.copy()

    def loss(proposed: Floats) -> float:
        eta = _product(design, proposed)
        likelihood = float(np.sum(w * (np.logaddexp(0.0, eta) - y * eta)))
        return likelihood + 0.5 * float(penalty @ (proposed - centre) ** 2)

    current = loss(coefficient)
    for _ in range(100):
        gradient, hessian = _slope_and_curvature(design, y, w, coefficient)
        gradient += penalty * (coefficient - centre)
        step = np.linalg.solve(hessian + np.diag(penalty), gradient)
        length = 1.0
        while (lower := loss(coefficient - length * step)) > current and length > 1e-4:
            length /= 2
        if lower > current:
            break
        coefficient -= length * step
        current = lower
        if float(np.max(np.abs(step))) < 1e-8:
            break
    return np.array([float(f"{value:.7g}") for value in coefficient])


def _product(design: npt.NDArray[np.float32], coefficient: Floats) -> Floats:
    result = np.empty(len(design))
    for start in range(0, len(design), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        result[rows] = design[rows].astype(np.float64) @ coefficient
    return result


def _slope_and_curvature(
    design: npt.NDArray[np.float32], y: Floats, w: Floats, coefficient: Floats
) -> tuple[Floats, Floats]:
    gradient = np.zeros(design.shape[1])
    hessian = np.zeros((design.shape[1], design.shape[1]))
    for start in range(0, len(design), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        wide = design[rows].astype(np.float64)
        p = expit(wide @ coefficient)
        gradient += wide.T @ (w[rows] * (p - y[rows]))
        scaled = design[rows] * np.sqrt(w[rows] * p * (1 - p)).astype(np.float32)[:, None]
        hessian += scaled.T @ scaled
    return gradient, hessian


def _term_to_dict(term: NumberTerm | CategoryTerm) -> dict[str, Any]:
    if isinstance(term, NumberTerm):
        return {"type": "number", **{key: getattr(term, key) for key in NumberTerm.__dataclass_fields__}}
    return {"type": "category", "coefficients": list(term.coefficients), "missing": term.missing}


def _term_from_dict(stored: Mapping[str, Any]) -> NumberTerm | CategoryTerm:
    if stored["type"] == "number":
        return NumberTerm(**{key: _finite(stored[key]) for key in NumberTerm.__dataclass_fields__})
    if stored["type"] != "category":
        raise ValueError(f"unknown term type {stored['type']!r}")
    return CategoryTerm(tuple(_finite(c) for c in stored["coefficients"]), _finite(stored["missing"]))


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
