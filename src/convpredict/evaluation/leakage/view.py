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
_LEAST_COHORTS = 8
_LEAST_AT_RISK = 50
_LEAST_OPEN = 200
_LEAST_CONVERTED = 30
_LEAST_SPREAD_TO_COME = 0.3
_SPREAD = 2.0
_KNUTH = 2_654_435_761


@dataclass(frozen=True)
class LeadView:
    """Leads with what became of them, each array of shape (leads,).

    ``outcome`` tells who converted (dated or not), ``stratum`` the cohort by creation inside which leads are
    compared, ``expected`` the share of converted leads in it, ``maturity`` the share of all conversions that
    come up to the lead's age, ``ever_converted`` the share of leads that converts in the end. Times in µs;
    without times (a table) ``created_us`` is None.
    """

    outcome: NDArray[np.bool_]
    stratum: NDArray[np.intp]
    expected: Floats
    lead_row: NDArray[np.int64]
    created_us: NDArray[np.int64] | None = None
    converted_us: NDArray[np.int64] | None = None
    fine_stratum: NDArray[np.intp] | None = None
    maturity: Floats | None = None
    ever_converted: float = 0.0
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
            *_maturity(created, converted, known_until),
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


def _maturity(
    created: NDArray[np.int64], converted: NDArray[np.int64], known_until: int
) -> tuple[Floats, float]:
    """Kaplan and Meier's share of conversions up to each lead's age, relative to the share that ever converts."""
    dated = converted != NEVER
    span = np.where(dated, converted - created, known_until - created)
    order = np.argsort(span, kind="stable")
    at_risk = len(span) - np.arange(len(span))
    reached = 1.0 - np.cumprod(1.0 - dated[order] / at_risk)
    trusted = reached[: max(1, len(span) - _LEAST_AT_RISK)]
    ever = float(trusted[-1]) if len(reached) else 0.0
    if ever <= 0:
        return np.ones(len(span)), 0.0
    place = np.searchsorted(span[order], known_until - created, side="right") - 1
    at_age = np.where(place >= 0, reached[np.maximum(place, 0)], 0.0)
    return np.minimum(at_age / ever, 1.0), ever


@dataclass(frozen=True)
class HindsightShare:
    """How much of a score's gap between converted and other leads was written with the outcome: 0 none, 1 all."""

    value: float
    low: float
    high: float

    @property
    def confirms(self) -> bool:
        """Young open leads score no higher than old ones, though some of them will convert."""
        return self.low > 0.25 and self.value > 0.5

    @property
    def contradicts(self) -> bool:
        """Young open leads score as much higher as those among them that will convert account for, not far more."""
        return self.low <= 0.0 <= self.high < 0.6 or -1.0 < self.low <= self.high < 0.0


def hindsight_share(score: Floats, view: LeadView, *, least_age_days: float = 0.0) -> HindsightShare | None:
    """Tell a score that was there from the start from one that was written as outcomes came.

    Only leads that have not converted are looked at. Some of the young ones will: if the score was there from
    the start, young open leads score higher than old ones, by the gap between converted and other leads times
    the share that is still to convert, r = q (1 - m) / (1 - q m) with m the lead's maturity and q the share
    that converts in the end. If it is written with the outcome, they do not. The mean score of each cohort is
    regressed on r, with a linear trend; the result is one minus the slope over the gap. None where cohorts
    hardly differ in r. Leads younger than ``least_age_days`` are left out.
    """
    if view.maturity is None or view.fine_stratum is None or view.created_us is None:
        return None
    old_enough = view.known_until_us - view.created_us >= least_age_days * DAY_US
    is_open = ~view.outcome & old_enough
    if is_open.sum() < _LEAST_OPEN or view.outcome.sum() < _LEAST_CONVERTED:
        return None
    ever = view.ever_converted
    to_come = ever * (1 - view.maturity) / (1 - ever * view.maturity)
    size = np.bincount(view.fine_stratum[is_open])
    full = np.flatnonzero(size >= _LEAST_LEADS_A_COHORT / 5)
    if len(full) < _LEAST_COHORTS:
        return None
    mean = np.bincount(view.fine_stratum[is_open], weights=score[is_open])[full] / size[full]
    remaining = np.bincount(view.fine_stratum[is_open], weights=to_come[is_open])[full] / size[full]
    weight = size[full].astype(np.float64)
    settled = is_open & (view.maturity >= np.median(view.maturity[is_open]))
    gap = float(score[view.outcome].mean() - score[settled].mean())
    if np.ptp(remaining) < _LEAST_SPREAD_TO_COME * ever or gap == 0:
        return None
    design = np.column_stack([np.ones(len(full)), np.linspace(-1, 1, len(full)), remaining])
    inverse = np.linalg.inv(design.T @ (design * weight[:, None]))
    coefficients = inverse @ (design.T @ (weight * mean))
    residual = mean - design @ coefficients
    noise = max(float((weight * residual**2).sum() / (len(full) - 3)), float(score[is_open].var()))
    error = float(np.sqrt(noise * inverse[2, 2])) / abs(gap)
    value = 1.0 - float(coefficients[2]) / gap
    return HindsightShare(value, value - _SPREAD * error, value + _SPREAD * error)
