"""How customers' revenue falls with their age: the share of a value window that is expected by now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convpredict.errors import NotEnoughDataError

from .calibration import Floats

_SCALES_DAYS = np.geomspace(1.0, 1000.0, 31)
_POWERS = np.linspace(0.0, 3.0, 61)
FEWEST_STEPS = 4


@dataclass(frozen=True)
class AgeLaw:
    """Repeat revenue per customer-day at age a (days): proportional to ``(1 + a / scale_days) ** -power``.

    That is how the purchases of a cohort fall where customers leave at gamma-distributed rates, as in the
    Pareto/NBD model (Schmittlein, Morrison and Colombo, 1987, the survival of a cohort). Unlike a development curve
    that starts at the cutoff, it knows that windows of young customers come in faster than those of old ones.

    >>> even = AgeLaw(10.0, 0.0)
    >>> even.share(np.array([0.0, 500.0]), np.array([50.0, 50.0]), 200.0).round(2).tolist()
    [0.25, 0.25]
    >>> AgeLaw(10.0, 1.0).share(np.array([0.0, 500.0]), np.array([50.0, 50.0]), 200.0).round(2).tolist()
    [0.59, 0.28]
    """

    scale_days: float
    power: float

    @classmethod
    def fit(cls, revenue: npt.ArrayLike, exposure_days: npt.ArrayLike, step_days: float) -> AgeLaw:
        """The law that explains revenue per step of age best, by the quasi-likelihood of a Poisson rate.

        ``revenue`` and ``exposure_days`` per step as :func:`~convpredict.training.repeat_revenue.repeat_revenue`
        gives them; steps without a positive exposure say nothing, negative revenue (refunds) counts as none. The best
        of a fixed grid of laws, so that the result is the same everywhere.

        Raises NotEnoughDataError where fewer than 4 steps were followed, or nothing came.
        """
        amount, exposure = (
            np.maximum(np.asarray(revenue, np.float64), 0.0),
            np.asarray(exposure_days, np.float64),
        )
        used = exposure > 0
        if int(used.sum()) < FEWEST_STEPS or not amount[used].sum() > 0:
            raise NotEnoughDataError(
                f"customers were followed for {int(used.sum())} steps of {step_days:g} days and spent "
                f"{amount[used].sum():g} in them, so nobody can say how their revenue goes on; take a shorter "
                "labels.value_horizon or more history"
            )
        middle = (np.flatnonzero(used) + 0.5) * step_days
        log_rate = -_POWERS[None, :, None] * np.log1p(middle / _SCALES_DAYS[:, None, None])
        expected = np.exp(log_rate) @ exposure[used]
        loss = amount[used].sum() * np.log(expected) - log_rate @ amount[used]
        scale, power = np.unravel_index(int(np.argmin(loss)), loss.shape)
        return cls(float(_SCALES_DAYS[scale]), float(_POWERS[power]))

    def share(self, age_days: npt.ArrayLike, followed_days: npt.ArrayLike, horizon_days: float) -> Floats:
        """Share of the revenue of a window of ``horizon_days`` that comes in its first ``followed_days``.

        ``age_days``: the customer's age where the window begins. 1 where the whole window was followed.
        """
        age = np.maximum(np.asarray(age_days, np.float64), 0.0)
        followed = np.clip(np.asarray(followed_days, np.float64), 0.0, horizon_days)
        begin = self._until(age)
        return np.asarray((self._until(age + followed) - begin) / (self._until(age + horizon_days) - begin))

    def _until(self, age: Floats) -> Floats:
        """Integral of the rate up to an age, up to a factor."""
        logs = np.log1p(age / self.scale_days)
        rest = 1.0 - self.power
        return logs if abs(rest) < 1e-9 else np.expm1(rest * logs) / rest
