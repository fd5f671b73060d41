"""How revenue comes in over the value window, learnt from earlier customers: what completes windows still open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convpredict.errors import BundleError, NotEnoughDataError

from .bundle_files import finite_number
from .calibration import Floats

LEAST_DEVELOPMENT = 0.25
"""A window in which a smaller share of the revenue is expected by now is left out: it says little but noise."""

_FEWEST_LEADS = 10
_TOTALS_STEPS = 10


@dataclass(frozen=True)
class DevelopmentCurve:
    """The share D(e) of the value horizon's revenue that has come by the share e of the horizon.

    ``shares[k]`` is D at ``ages[k]``, both rising to 1; D(0) = 0, and linear in between. A window followed for e
    has the expected revenue D(e) times that of the whole window, so ``revenue / D(e)`` is unbiased for it, if
    customers won lately buy in the same rhythm as those before, whatever they spend: how much may drift, how
    it spreads over the window may not, and not depend on the features either.

    >>> DevelopmentCurve((0.5, 1.0), (0.8, 1.0)).at([0.0, 0.25, 0.5, 1.0, np.nan]).tolist()
    [0.0, 0.4, 0.8, 1.0, nan]
    """

    ages: tuple[float, ...]
    shares: tuple[float, ...]

    def at(self, followed_share: npt.ArrayLike) -> Floats:
        """D at the shares of the window that were followed (0 to 1)."""
        followed = np.clip(np.asarray(followed_share, np.float64), 0.0, 1.0)
        return np.asarray(np.interp(followed, (0.0, *self.ages), (0.0, *self.shares)), np.float64)

    @classmethod
    def complete(cls) -> DevelopmentCurve:
        """What is used where nothing is known about the rhythm: revenue comes evenly over the window."""
        return cls((1.0,), (1.0,))

    @classmethod
    def of_courses(cls, courses: Floats, weight: npt.ArrayLike | None = None) -> DevelopmentCurve:
        """The chain ladder, pooled over all customers.

        ``courses`` has the cumulated revenue per customer (rows) at equal ages (columns), NaN from where it was
        not followed, as :func:`~convpredict.training.revenue_outcomes.revenue_by_age` gives it. The growth from
        one age to the next is the revenue of all who were followed to the later one, divided by the same
        customers' revenue at the earlier one; D is the product of those that are still to come, inverted. Where
        refunds exceed purchases, revenue shrinks from one age to the next, and D is held at the later one.

        Raises NotEnoughDataError where fewer than 10 customers were followed to the end of the window.

        Source: Mack (1993), Distribution-free calculation of the standard error of chain ladder reserves.

        >>> courses = np.array([[1.0, 2.0], [3.0, 4.0], [9.0, np.nan]] * 10)
        >>> DevelopmentCurve.of_courses(courses).shares  # 4 of 6 had come by half of the window
        (0.6666666666666666, 1.0)
        """
        rows = np.asarray(courses, np.float64)
        w = np.ones(len(rows)) if weight is None else np.asarray(weight, np.float64)
        steps = rows.shape[1]
        if int(np.isfinite(rows[:, -1]).sum()) < _FEWEST_LEADS:
            raise NotEnoughDataError(
                f"only {int(np.isfinite(rows[:, -1]).sum())} converted leads were followed over the whole value "
                f"horizon, so it cannot be told how revenue develops ({_FEWEST_LEADS} are needed); take a shorter "
                "labels.value_horizon or more history"
            )
        shares = np.ones(steps)
        for k in range(steps - 2, -1, -1):
            seen = np.isfinite(rows[:, k + 1])
            before, after = w[seen] @ rows[seen, k], w[seen] @ rows[seen, k + 1]
            growth = before / after if after > 0 else 1.0
            shares[k] = shares[k + 1] * min(max(growth, 0.0), 1.0)
        ages = tuple(float(k) / steps for k in range(1, steps + 1))
        return cls(ages, tuple(float(share) for share in shares))

    @classmethod
    def of_totals(
        cls, revenue: Floats, followed_share: Floats, weight: npt.ArrayLike | None = None
    ) -> DevelopmentCurve:
        """From one total per customer and how much of the window it covers.

        Without the course of each customer's revenue, D(e) is the mean revenue of those followed for about e,
        relative to those followed to the end, smoothed to be non-decreasing (pooled adjacent violators). That needs
        one assumption more than :meth:`of_courses`: that the level did not drift. Raises NotEnoughDataError where
        fewer than 10 customers were followed to the end.
        """
        from sklearn.isotonic import IsotonicRegression

        followed = np.asarray(followed_share, np.float64)
        w = np.ones(len(followed)) if weight is None else np.asarray(weight, np.float64)
        done = followed >= 1.0
        if int((done & (w > 0)).sum()) < _FEWEST_LEADS:
            raise NotEnoughDataError(
                f"only {int(done.sum())} converted leads were followed over the whole value horizon, so it cannot "
                f"be told how revenue develops ({_FEWEST_LEADS} are needed); take a shorter labels.value_horizon "
                "or more history"
            )
        step = np.minimum((followed * _TOTALS_STEPS).astype(np.intp), _TOTALS_STEPS)
        mass = np.bincount(step, w, minlength=_TOTALS_STEPS + 1)
        total = np.bincount(step, w * revenue, minlength=_TOTALS_STEPS + 1)
        reached = np.bincount(step, w * followed, minlength=_TOTALS_STEPS + 1)
        used = mass > 0
        mean, age = total[used] / mass[used], np.asarray(reached[used] / mass[used], np.float64)
        if mean[-1] <= 0:
            return cls.complete()
        fitted = IsotonicRegression(y_min=0.0).fit_transform(age, mean, sample_weight=mass[used])
        if fitted[-1] <= 0 or age[0] <= 0:
            keep = age > 0
            age, fitted = age[keep], fitted[keep]
        return cls(tuple(map(float, age)), tuple(map(float, fitted / fitted[-1])))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"ages": list(self.ages), "shares": list(self.shares)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> DevelopmentCurve:
        """Restore what :meth:`to_dict` gave. Raises BundleError for anything else."""
        try:
            ages, shares = (tuple(map(finite_number, stored[name])) for name in ("ages", "shares"))
        except (KeyError, TypeError, ValueError):
            ages, shares = (), ()
        if not ages or len(ages) != len(shares) or list(ages) != sorted(ages):
            raise BundleError("the development of revenue cannot be read; export the bundle anew")
        return cls(ages, shares)
