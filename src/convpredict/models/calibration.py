"""Calibrators: increasing maps from a score to a probability, fitted on a later slice than the trees saw.

All of them work on the logit ``z = ln(p / (1 - p))``. ``none`` is the identity, ``sigmoid`` is ``a z + b``
(Platt, 1999), ``beta`` is ``a ln p - b ln(1 - p) + c`` (Kull, Silva Filho and Flach, 2017), ``isotonic``
joins the centres of the blocks of an isotonic regression by straight lines (Oron and Flournoy, 2017), so that
no two scores collapse into one. Slopes are never negative, hence a ranking is never turned round.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit

from convpredict.errors import BundleError

Floats = npt.NDArray[np.float64]
CalibratorName = Literal["none", "sigmoid", "beta", "isotonic"]
CALIBRATOR_NAMES: tuple[CalibratorName, ...] = ("none", "sigmoid", "beta", "isotonic")
"""From the simplest to the most flexible: the order of preference among equals."""

LOGIT_LIMIT = 30.0
"""Logits are held within +-30, so that every probability lies strictly between 0 and 1."""


def to_logit(p: npt.ArrayLike) -> Floats:
    """Logit of probabilities, held within +-:data:`LOGIT_LIMIT`.

    >>> to_logit([0.0, 0.5, 1.0]).tolist()
    [-30.0, 0.0, 30.0]
    """
    with np.errstate(divide="ignore"):
        return clip_logit(logit(np.asarray(p, dtype=np.float64)))


def clip_logit(z: npt.ArrayLike) -> Floats:
    """Logits held within +-:data:`LOGIT_LIMIT`."""
    return np.clip(np.asarray(z, dtype=np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)


class Calibrator(Protocol):
    """What every calibrator offers; ``p`` and the result are probabilities, ``z`` is a logit."""

    name: ClassVar[CalibratorName]

    def fit(
        self, p: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Calibrator:
        """Learn from scores ``p`` in [0, 1] and labels ``y`` in {0, 1}, one per row."""

    def transform(self, p: npt.ArrayLike) -> Floats:
        """Calibrated probabilities, strictly between 0 and 1."""

    def transform_logit(self, z: npt.ArrayLike) -> Floats:
        """Calibrated logits of raw logits."""

    def shifted(self, logit: float) -> Calibrator:
        """The same map with a constant added to every logit that it gives."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text; :func:`calibrator_from_dict` restores the calibrator to the bit."""


class _OnLogit(ABC):
    """Shared surface: subclasses give ``_fit(z, y, w)`` and ``_map(z)``."""

    name: ClassVar[CalibratorName]

    def fit(self, p: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Any:
        z = to_logit(p)
        label = np.asarray(y, dtype=np.float64)
        weight = np.ones_like(z) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if z.ndim != 1 or z.shape != label.shape or z.shape != weight.shape:
            raise ValueError(
                f"p, y and sample_weight must be one-dimensional and of one length; got shapes {z.shape}, "
                f"{label.shape} and {weight.shape}"
            )
        if np.isnan(z).any():
            raise ValueError(
                "p holds NaN; a calibrator needs a score for every row: drop or score these rows first"
            )
        if not np.isin(label, (0.0, 1.0)).all():
            raise ValueError("y must hold 0 and 1 only; map the classes to 0 and 1 first")
        used = weight > 0
        self._fit(z[used], label[used], weight[used])
        return self

    @abstractmethod
    def _fit(self, z: Floats, y: Floats, w: Floats) -> None: ...

    @abstractmethod
    def _map(self, z: Floats) -> Floats: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def transform_logit(self, z: npt.ArrayLike) -> Floats:
        return clip_logit(self._map(clip_logit(z)))

    def transform(self, p: npt.ArrayLike) -> Floats:
        return expit(self.transform_logit(to_logit(p)))


class NoCalibrator(_OnLogit):
    """The identity: what a well calibrated model needs.

    >>> NoCalibrator().transform([0.25]).round(6).tolist()
    [0.25]
    """

    name: ClassVar[CalibratorName] = "none"

    def _fit(self, z: Floats, y: Floats, w: Floats) -> None:
        return None

    def _map(self, z: Floats) -> Floats:
        return z

    def shifted(self, logit: float) -> SigmoidCalibrator:
        """The same map with a constant added to every logit that it gives."""
        return SigmoidCalibrator(1.0, logit)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Calibrator`."""
        return {"name": self.name}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> NoCalibrator:
        """See :func:`calibrator_from_dict`."""
        return cls()


class SigmoidCalibrator(_OnLogit):
    """``slope * z + intercept``; a weak prior holds the slope near 1 where there is little data.

    >>> rare = SigmoidCalibrator().fit([0.5] * 1000, [1] * 100 + [0] * 900)
    >>> rare.transform([0.5]).round(3).tolist()
    [0.1]
    """

    name: ClassVar[CalibratorName] = "sigmoid"

    def __init__(self, slope: float = 1.0, intercept: float = 0.0) -> None:
        self.slope, self.intercept = slope, intercept

    def _fit(self, z: Floats, y: Floats, w: Floats) -> None:
        slope, intercept = _nonnegative_logistic(np.column_stack([z]), y, w)
        self.slope, self.intercept = float(slope), float(intercept)

    def _map(self, z: Floats) -> Floats:
        return self.slope * z + self.intercept

    def shifted(self, logit: float) -> SigmoidCalibrator:
        """The same map with a constant added to every logit that it gives."""
        return SigmoidCalibrator(self.slope, self.intercept + logit)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Calibrator`."""
        return {"name": self.name, "slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> SigmoidCalibrator:
        """See :func:`calibrator_from_dict`."""
        slope, intercept = (_number(stored, key) for key in ("slope", "intercept"))
        if slope < 0:
            raise BundleError(
                f"the sigmoid calibrator's slope is {slope}, which would reverse the ranking; export anew"
            )
        return cls(slope, intercept)


class BetaCalibrator(_OnLogit):
    """``a ln p - b ln(1 - p) + c`` with a, b >= 0; the identity is a = b = 1, c = 0.

    >>> BetaCalibrator().transform([0.2]).round(6).tolist()
    [0.2]
    """

    name: ClassVar[CalibratorName] = "beta"

    def __init__(self, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> None:
        self.a, self.b, self.c = a, b, c

    def _fit(self, z: Floats, y: Floats, w: Floats) -> None:
        a, b, c = _nonnegative_logistic(np.column_stack([_log_expit(z), -_log_expit(-z)]), y, w)
        self.a, self.b, self.c = float(a), float(b), float(c)

    def _map(self, z: Floats) -> Floats:
        return self.a * _log_expit(z) - self.b * _log_expit(-z) + self.c

    def shifted(self, logit: float) -> BetaCalibrator:
        """The same map with a constant added to every logit that it gives."""
        return BetaCalibrator(self.a, self.b, self.c + logit)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Calibrator`."""
        return {"name": self.name, "a": self.a, "b": self.b, "c": self.c}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> BetaCalibrator:
        """See :func:`calibrator_from_dict`."""
        a, b, c = (_number(stored, key) for key in ("a", "b", "c"))
        if a < 0 or b < 0:
            raise BundleError(
                f"the beta calibrator has a = {a}, b = {b}, which would reverse the ranking; export anew"
            )
        return cls(a, b, c)


class IsotonicCalibrator(_OnLogit):
    """Straight lines on the logit between the centres of isotonic blocks; beyond the ends the slope is 1.

    >>> step = IsotonicCalibrator([-1.0, 1.0], [-2.0, 2.0])
    >>> step.transform_logit([-2.0, 0.0, 1.5]).tolist()
    [-3.0, 0.0, 2.5]
    """

    name: ClassVar[CalibratorName] = "isotonic"

    def __init__(self, inputs: Sequence[float] = (0.0,), outputs: Sequence[float] = (0.0,)) -> None:
        self.inputs, self.outputs = [float(x) for x in inputs], [float(x) for x in outputs]

    def _fit(self, z: Floats, y: Floats, w: Floats) -> None:
        from sklearn.isotonic import IsotonicRegression

        order = np.argsort(z, kind="stable")
        z, y, w = z[order], y[order], w[order]
        fitted = IsotonicRegression().fit_transform(z, y, sample_weight=w)
        starts = np.flatnonzero(np.r_[True, np.diff(fitted) > 0])
        weight = np.add.reduceat(w, starts)
        centre = np.add.reduceat(w * z, starts) / weight
        converted = np.add.reduceat(w * y, starts)
        level = to_logit(_inside(converted / weight, weight))
        rising = np.r_[True, np.diff(centre) > 1e-9]
        self.inputs = [float(x) for x in centre[rising]]
        self.outputs = [float(x) for x in level[rising]]

    def _map(self, z: Floats) -> Floats:
        inside = np.interp(z, self.inputs, self.outputs)
        return inside + np.minimum(z - self.inputs[0], 0.0) + np.maximum(z - self.inputs[-1], 0.0)

    def shifted(self, logit: float) -> IsotonicCalibrator:
        """The same map with a constant added to every logit that it gives."""
        return IsotonicCalibrator(self.inputs, [output + logit for output in self.outputs])

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Calibrator`."""
        return {"name": self.name, "inputs": self.inputs, "outputs": self.outputs}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> IsotonicCalibrator:
        """See :func:`calibrator_from_dict`."""
        inputs, outputs = _numbers(stored, "inputs"), _numbers(stored, "outputs")
        if not inputs or len(inputs) != len(outputs):
            raise BundleError(
                f"the isotonic calibrator has {len(inputs)} inputs and {len(outputs)} outputs; both must be "
                "as many and at least one: export the bundle anew"
            )
        if np.any(np.diff(inputs) <= 0) or np.any(np.diff(outputs) < 0):
            raise BundleError(
                "the isotonic calibrator is not increasing, so it was altered: export the bundle anew"
            )
        return cls(inputs, outputs)


_CLASSES: dict[str, Any] = {
    "none": NoCalibrator,
    "sigmoid": SigmoidCalibrator,
    "beta": BetaCalibrator,
    "isotonic": IsotonicCalibrator,
}


def level_shift(logit: npt.ArrayLike, hits: float) -> float:
    """The constant that, added to the logits, makes the probabilities add up to ``hits`` (0 < hits < rows).

    >>> round(level_shift(np.zeros(4), 1.0), 6)  # a quarter: ln(1/3)
    -1.098612
    """
    z = clip_logit(logit)
    return float(
        brentq(lambda shift: float(expit(z + shift).sum()) - hits, -2 * LOGIT_LIMIT, 2 * LOGIT_LIMIT)
    )


def make_calibrator(name: CalibratorName) -> Calibrator:
    """An unfitted calibrator by name.

    >>> make_calibrator("beta").to_dict()
    {'name': 'beta', 'a': 1.0, 'b': 1.0, 'c': 0.0}
    """
    if name not in _CLASSES:
        raise ValueError(f"a calibrator must be one of {', '.join(_CLASSES)}; got {name!r}")
    return cast(Calibrator, _CLASSES[name]())


def calibrator_from_dict(stored: Mapping[str, Any]) -> Calibrator:
    """Restore what ``to_dict`` gave, to the bit. Raises BundleError for anything else.

    >>> stored = {"name": "sigmoid", "slope": 0.5, "intercept": -1.0}
    >>> calibrator_from_dict(stored).transform_logit([2.0]).tolist()
    [0.0]
    """
    name = stored.get("name") if isinstance(stored, Mapping) else None
    if name not in _CLASSES:
        raise BundleError(
            f"the calibrator is called {name!r}, this version knows {', '.join(_CLASSES)}: load the bundle "
            "with the version of convpredict that wrote it, or export it anew"
        )
    return cast(Calibrator, _CLASSES[name].from_dict(stored))


def _number(stored: Mapping[str, Any], key: str) -> float:
    value = stored.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise BundleError(
            f"the calibrator's {key!r} must be a finite number; got {value!r}: export the bundle anew"
        )
    return float(value)


def _numbers(stored: Mapping[str, Any], key: str) -> list[float]:
    values = stored.get(key)
    if not isinstance(values, list):
        raise BundleError(f"the calibrator's {key!r} must be a list of numbers: export the bundle anew")
    return [_number({key: value}, key) for value in values]


def _log_expit(z: Floats) -> Floats:
    return np.minimum(z, 0.0) - np.log1p(np.exp(-np.abs(z)))


def _inside(share: Floats, weight: Floats) -> Floats:
    """Increasing shares with a first 0 and a last 1 moved inside, by half an observation at most."""
    result = share.copy()
    if len(share) == 1:
        return np.clip(result, 0.5 / (weight + 1), 1 - 0.5 / (weight + 1))
    if result[0] <= 0:
        result[0] = min(0.5 / (weight[0] + 1), result[1] / 2)
    if result[-1] >= 1:
        result[-1] = 1 - min(0.5 / (weight[-1] + 1), (1 - result[-2]) / 2)
    return result


def _nonnegative_logistic(columns: Floats, y: Floats, w: Floats) -> Floats:
    """Slopes (>= 0) and intercept of a logistic regression with weak priors.

    Slopes 1 +- 1, intercept 0 +- 10.
    """
    n_slopes = columns.shape[1]
    design = np.column_stack([columns, np.ones(len(y))])
    prior = np.r_[np.ones(n_slopes), 0.0]
    precision = np.r_[np.ones(n_slopes), 0.01]
    free = np.ones(n_slopes + 1, dtype=bool)
    while True:
        coefficient = np.zeros(n_slopes + 1)
        coefficient[free] = _newton(design[:, free], y, w, prior[free], precision[free])
        negative = np.flatnonzero(coefficient[:n_slopes] < 0)
        if not len(negative):
            return coefficient
        free[negative[np.argmin(coefficient[negative])]] = False


def _newton(design: Floats, y: Floats, w: Floats, prior: Floats, precision: Floats) -> Floats:
    def loss(coefficient: Floats) -> float:
        eta = design @ coefficient
        nll = float(np.sum(w * (np.logaddexp(0.0, eta) - y * eta)))
        return nll + 0.5 * float(precision @ (coefficient - prior) ** 2)

    coefficient = prior.copy()
    current = loss(coefficient)
    for _ in range(100):
        p = expit(design @ coefficient)
        gradient = design.T @ (w * (p - y)) + precision * (coefficient - prior)
        hessian = design.T @ (design * (w * p * (1 - p))[:, None]) + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (proposed := loss(coefficient - scale * step)) > current and scale > 1e-6:
            scale /= 2
        coefficient = coefficient - scale * step
        if abs(current - proposed) <= 1e-10 * (abs(current) + 1e-10):
            break
        current = proposed
    return coefficient
