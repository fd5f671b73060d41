"""Revenue by age: the law, and the share of an open window that it expects by now."""

from __future__ import annotations

import numpy as np
import pytest

from convpredict.errors import NotEnoughDataError
from convpredict.models.value_ages import AgeLaw
from convpredict.training.repeat_revenue import repeat_revenue
from factories import day, make_history


def test_the_law_that_made_the_revenue_is_found() -> None:
    ages = (np.arange(40) + 0.5) * 7
    exposure = np.linspace(5000.0, 500.0, 40)
    for scale, power in ((10.0, 0.5), (100.0, 1.0), (10.0, 0.0)):
        revenue = 3.0 * exposure * (1 + ages / scale) ** -power
        found = AgeLaw.fit(revenue, exposure, 7)
        rates = [(1 + ages / law.scale_days) ** -law.power for law in (found, AgeLaw(scale, power))]
        assert rates[0] / rates[0].sum() == pytest.approx(rates[1] / rates[1].sum(), rel=1e-6)


def test_shares_are_integrals_of_the_rate() -> None:
    law = AgeLaw(30.0, 1.5)
    rate = (1 + (np.arange(100_000) + 0.5) / 100 / 30.0) ** -1.5  # per hundredth of a day
    begin, split, end = 20 * 100, 45 * 100, 120 * 100
    expected = rate[begin:split].sum() / rate[begin:end].sum()
    assert law.share([20.0], [25.0], 100.0) == pytest.approx([expected], rel=1e-6)
    assert law.share([20.0, 20.0], [100.0, 0.0], 100.0).tolist() == [1.0, 0.0]


def test_old_customers_windows_come_in_more_evenly() -> None:
    shares = AgeLaw(20.0, 0.8).share([0.0, 50.0, 500.0], [30.0] * 3, 100.0)
    assert shares[0] > shares[1] > shares[2] > 0.3


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(NotEnoughDataError, match="followed for 3 steps of 7 days"):
        AgeLaw.fit([1.0, 1.0, 1.0, 0.0], [9.0, 9.0, 9.0, 0.0], 7)
    with pytest.raises(NotEnoughDataError):
        AgeLaw.fit(np.zeros(9), np.ones(9), 7)


def test_revenue_and_customer_days_by_age() -> None:
    history = make_history(
        [("a", day(0)), ("b", day(10)), ("late", day(30))],
        revenue=[
            ("a", day(0), 99.0),  # made the customer
            ("a", day(3), 5.0),
            ("a", day(7), 2.0),  # the second week begins
            ("b", day(12), 1.0),
            ("b", day(21), 8.0),  # not known yet on day 21
        ],
    )
    revenue, exposure = repeat_revenue(history, day(21))
    assert revenue.tolist() == [6.0, 2.0, 0.0]
    assert exposure.tolist() == [14.0, 11.0, 7.0]
