"""The leads that are examined: their outcome, their cohort, and how far their outcomes have come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convpredict.features.time_rule import NEVER
from convpredict.history.history import History
from convpredict.training.lead_times import LeadTimes, to_microseconds

from .statistics import Floats

DAY_US = 86_400_000_000
MOST_LEADS = 50_000
_COHORTS = 20
_FINE_COHORTS = 40
_LEAST_LEADS_A_COHORT = 50
_LEAST_SPREAD_OF_MATURITY = 0.3
_SPREAD = 2.5
_KNUTH = 2_654_435_761


@dataclass(frozen=True)
class LeadView:
    """Leads with what became of them, each array of shape (leads,).

    ``outcome`` tells who converted (dated or not), ``stratum`` the cohort by creation inside which leads are
    compared, ``expected`` the share of converted leads in it, ``maturity`` the share of all conversions that
    come up to the lead's age. Times in µs; without times (a table) ``created_us`` is None.
    """

    outcome: NDArray[np.bool_]
    stratum: NDArray[np.intp]
    expected: Floats
    lead_row: NDArray[np.int64]
    created_us: NDArray[np.int64] | None = None
    converted_us: NDArray[np.int64] | None = None
    fine_stratum: NDArray[np.intp] | None = None
    maturity: Floats | None = None
    known_until_us: int = 0

    def __len__(self) -> int:
        return len(self.outcome)

    @classmethod
    def of_table(cls, outcome: NDArray[np.bool_]) -> LeadView:
        """Rows of a table without dates: one cohort."""
        stratum = np.zeros(len(outcome), np.intp)
        expected = np.full(len(outcome), outcome.mean() if len(outcome) else 0.0)
        return cls(outcome, stratum, expected, np.arange(len(outcome)))

    @classmethod
    def of_history(
        cls, history: History, *, most_leads: int = MOST_LEADS, outcome: NDArray[np.bool_] | None = None
    ) -> LeadView:
        """The leads of a history, or a fixed sample of them; ``outcome`` (by lead_row) replaces the conversions."""
        times = LeadTimes.of(history)
        rows = sampled_rows(history.n_leads, most_leads)
        known_until = to_microseconds(history.known_until)
        rows = rows[times.created_at[rows] < known_until]
        created, converted = times.created_at[rows], times.converted_at[rows]
        happened = (converted != NEVER) | times.undated[rows] if outcome is None else outcome[rows]
        stratum = _cohorts(created, _COHORTS)
        share = np.bincount(stratum, weights=happened) / np.maximum(np.bincount(stratum), 1)
        return cls(
            happened,
            stratum,
            share[stratum],
            rows,
            created,
            converted,
            _cohorts(created, _FINE_COHORTS),
            _maturity(created, converted, known_until),
            known_until,
        )


def sampled_rows(n_leads: int, most_leads: int) -> NDArray[np.int64]:
    """All lead rows, or about ``most_leads`` of them spread by a fixed hash: the same at every run.

    >>> sampled_rows(3, 10).tolist(), 4_500 < len(sampled_rows(100_000, 5_000)) < 5_500
    ([0, 1, 2], True)
    """
    rows = np.arange(n_leads, dtype=np.int64)
    if n_leads <= most_leads:
        return rows
    return rows[(rows * _KNUTH) % 2**32 < int(2**32 * most_leads / n_leads)]


def _cohorts(created: NDArray[np.int64], most: int) -> NDArray[np.intp]:
    """Cohorts of about equal size by creation; leads created at one instant stay together."""
    groups = int(np.clip(len(created) // _LEAST_LEADS_A_COHORT, 1, most))
    if not len(created):
        return np.zeros(0, np.intp)
    edges = np.unique(np.quantile(created, np.linspace(0, 1, groups + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, created, side="right"), return_inverse=True)[1]


def _maturity(created: NDArray[np.int64], converted: NDArray[np.int64], known_until: int) -> Floats:
    """Kaplan and Meier's share of conversions up to each lead's age, relative to that at the highest age."""
    dated = converted != NEVER
    span = np.where(dated, converted - created, known_until - created)
    order = np.argsort(span, kind="stable")
    at_risk = len(span) - np.arange(len(span))
    survival = np.cumprod(1.0 - dated[order] / at_risk)
    reached = 1.0 - survival
    if not len(reached) or reached[-1] <= 0:
        return np.ones(len(span))
    age = known_until - created
    place = np.searchsorted(span[order], age, side="right") - 1
    at_age: Floats = np.where(place >= 0, reached[np.maximum(place, 0)], 0.0) / reached.max()
    return at_age


@dataclass(frozen=True)
class HindsightShare:
    """How much of a score's gap between converted and other leads only comes as leads age: 0 none, 1 all."""

    value: float
    low: float
    high: float

    @property
    def confirms(self) -> bool:
        """The score was written as outcomes came: young leads do not have it yet."""
        return self.low > 0.25 and self.value > 0.5

    @property
    def contradicts(self) -> bool:
        """Young leads have it as often as old ones, and that is known well enough."""
        return self.high < 0.6


def hindsight_share(score: Floats, view: LeadView) -> HindsightShare | None:
    """Whether a score of the leads grows with their age as their outcomes do.

    What is known at creation is spread alike over young and old cohorts. What is written at (or towards) the
    conversion is rarer among young leads, by the gap between converted and other leads times the conversions
    that are still to come. The mean score of each cohort is regressed on its maturity, with a linear trend;
    the result is divided by what full hindsight would give. None where all leads are about equally mature.
    """
    if view.maturity is None or view.fine_stratum is None:
        return None
    size = np.bincount(view.fine_stratum)
    mean = np.bincount(view.fine_stratum, weights=score) / size
    maturity = np.bincount(view.fine_stratum, weights=view.maturity) / size
    grown = view.maturity >= 0.8
    if len(size) < 8 or np.ptp(maturity) < _LEAST_SPREAD_OF_MATURITY or grown.sum() < 100:
        return None
    converted = view.outcome[grown]
    if not converted.any() or converted.all():
        return None
    gap = score[grown][converted].mean() - score[grown][~converted].mean()
    full = gap * converted.mean() / view.maturity[grown].mean()
    if full == 0:
        return None
    design = np.column_stack([np.ones(len(size)), np.linspace(-1, 1, len(size)), maturity])
    weighted = design * size[:, None]
    inverse = np.linalg.inv(design.T @ weighted)
    coefficients = inverse @ (weighted.T @ mean)
    residual = mean - design @ coefficients
    noise = max(float((size * residual**2).sum() / (len(size) - 3)), float(score.var()))
    error = float(np.sqrt(noise * inverse[2, 2])) / abs(full)
    value = float(coefficients[2] / full)
    return HindsightShare(value, value - _SPREAD * error, value + _SPREAD * error)
