"""How revenue goes on beyond the longest window that anybody was followed for: a tail for the development curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from convpredict.errors import NotEnoughDataError

from .calibration import Floats
from .value_development import DevelopmentCurve

FEWEST_STEPS = 4
_FEWEST_ROWS = 10


def extrapolate_development(courses: Floats, weight: npt.ArrayLike | None = None) -> DevelopmentCurve:
    """The chain ladder as far as customers were followed, and an inverse power curve from there to the horizon.

    ``courses`` as for :meth:`DevelopmentCurve.of_courses`: cumulated revenue per row at equal ages, NaN from where
    it was not followed. The growth g(k) from age k to k + 1 is taken from all rows followed to k + 1; beyond, it
    is ``g(k) = 1 + a k ** -b``, with b fitted to the logarithms of the growths that were seen, each weighing the
    revenue that it rests on, and a to what came in the later half of these ages. Revenue that comes evenly grows
    by 1 / k, so b is at least 1, and what comes per age never rises in the tail. Where 10 rows were followed over
    the whole horizon this is the chain ladder itself.

    Raises NotEnoughDataError where fewer than 4 ages were followed: nothing can be said about the others then.

    Source: Sherman (1984), Extrapolating, smoothing, and interpolating development factors.

    >>> evenly = np.where(np.arange(20) < 10, np.arange(1.0, 21.0), np.nan)
    >>> curve = extrapolate_development(np.tile(evenly, (30, 1)))
    >>> curve.at([0.25, 0.5, 1.0]).round(3).tolist()
    [0.25, 0.5, 1.0]
    """
    rows = np.asarray(courses, np.float64)
    w = np.ones(len(rows)) if weight is None else np.asarray(weight, np.float64)
    steps = rows.shape[1]
    followed = int((np.isfinite(rows).sum(axis=0) >= _FEWEST_ROWS).sum())
    if followed == steps:
        return DevelopmentCurve.of_courses(rows, w)
    if followed < FEWEST_STEPS:
        raise NotEnoughDataError(
            f"customers were followed for {followed} of {steps} parts of the value horizon, so nobody can say how "
            f"their revenue goes on ({FEWEST_STEPS} are needed); take a shorter labels.value_horizon or more history"
        )
    growth, base = _growths(rows[:, :followed], w)
    reached = _continued(np.concatenate([[1.0], np.cumprod(growth)]), *_power_law(growth, base), steps)
    return DevelopmentCurve(
        tuple(float(k) / steps for k in range(1, steps + 1)), tuple(map(float, reached / reached[-1]))
    )


def _growths(rows: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Growth from each age to the next, never below 1, and the revenue that it rests on."""
    before, after = np.zeros(rows.shape[1] - 1), np.zeros(rows.shape[1] - 1)
    for k in range(len(before)):
        seen = np.isfinite(rows[:, k + 1])
        before[k], after[k] = w[seen] @ rows[seen, k], w[seen] @ rows[seen, k + 1]
    growth = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    return np.maximum(growth, 1.0), np.maximum(before, 0.0)


def _power_law(growth: Floats, base: Floats) -> tuple[float, float]:
    """(a, b) of a k ** -b: b from all growths, a from what came in the later half of the ages."""
    ages = np.arange(1.0, len(growth) + 1)
    used = (growth > 1.0) & (base > 0)
    if not used.any():
        return 0.0, 1.0
    x, y, mass = np.log(ages[used]), np.log(growth[used] - 1.0), base[used] / base[used].sum()
    centred = x - mass @ x
    spread = float(mass @ centred**2)
    power = max(-float(mass @ (centred * y)) / spread, 1.0) if spread > 0 else 1.0
    late = ages > len(growth) / 2
    return float(base[late] @ (growth[late] - 1.0)) / float(base[late] @ ages[late] ** -power), power


def _continued(reached: Floats, scale: float, power: float, steps: int) -> Floats:
    """Cumulated revenue at all ages; what comes per age is held to what came in the last half that was seen."""
    seen = len(reached)
    most = float(reached[-1] - reached[seen // 2 - 1]) / (seen - seen // 2)
    total = list(reached)
    for age in range(seen, steps):
        most = min(most, total[-1] * scale * age**-power)
        total.append(total[-1] + most)
    return np.array(total)
