"""The development of revenue beyond what anybody was followed for."""

from __future__ import annotations

import numpy as np
import pytest

from convpredict.errors import NotEnoughDataError
from convpredict.models.value_development import DevelopmentCurve
from convpredict.models.value_tail import extrapolate_development


def followed(course: np.ndarray, until: int, rows: int = 20) -> np.ndarray:
    """The same course for several customers, of whom nothing is known after ``until`` ages."""
    return np.tile(np.where(np.arange(len(course)) < until, course, np.nan), (rows, 1))


def test_complete_windows_need_no_tail() -> None:
    courses = np.cumsum(np.random.default_rng(0).exponential(size=(40, 12)), axis=1)
    assert extrapolate_development(courses) == DevelopmentCurve.of_courses(courses)


def test_an_inverse_power_curve_is_continued_exactly() -> None:
    growth = 1.0 + 0.7 * np.arange(1.0, 20.0) ** -1.4
    course = np.concatenate([[1.0], np.cumprod(growth)])
    curve = extrapolate_development(followed(course, 9))
    assert curve.shares == pytest.approx(tuple(course / course[-1]))


def test_revenue_per_day_never_rises_in_the_tail() -> None:
    accelerating = np.arange(1.0, 21.0) ** 2
    curve = extrapolate_development(followed(accelerating, 10))
    per_age = np.diff(curve.shares)[9:]
    assert (np.diff(per_age) <= 1e-12).all()


def test_what_has_stopped_stays_stopped() -> None:
    course = np.concatenate([[3.0], np.full(19, 5.0)])
    assert extrapolate_development(followed(course, 8)).shares[7:] == pytest.approx((1.0,) * 13)
    assert extrapolate_development(followed(np.full(20, 5.0), 8)).shares == pytest.approx((1.0,) * 20)


def test_rows_weigh_what_they_are_given() -> None:
    even, early = np.arange(1.0, 21.0), 2.0 - 1.0 / np.arange(1.0, 21.0)
    courses = np.concatenate([followed(even, 10), followed(early, 10)])
    only_even = extrapolate_development(courses, np.repeat([1.0, 0.0], 20))
    assert only_even.shares == pytest.approx(tuple(even / 20))


def test_too_short_a_past_is_refused() -> None:
    with pytest.raises(NotEnoughDataError, match="followed for 3 of 20 parts of the value horizon"):
        extrapolate_development(followed(np.arange(1.0, 21.0), 3))
    with pytest.raises(NotEnoughDataError):
        extrapolate_development(followed(np.arange(1.0, 21.0), 15, rows=9))
