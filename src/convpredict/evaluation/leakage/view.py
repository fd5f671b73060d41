"""The leads that are examined: their outcome, their cohort, and how far their outcomes have come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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
_LEAST_HELD = 20
_LEAST_SPREAD_TO_COME = 0.3
_SPREAD = 2.0
_CONFIRMED = 0.25
_LEAST_UNCHANGED = 0.1
_LEAST_STEADY = 0.3
_STEPS_APART = 12
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
        return cls.of_times(created, converted, happened, known_until, rows)

    @classmethod
    def of_times(
        cls,
        created: NDArray[np.int64],
        converted: NDArray[np.int64],
        happened: NDArray[np.bool_],
        known_until: int,
        lead_row: NDArray[np.int64] | None = None,
    ) -> LeadView:
        """Leads by their times in µs (``converted`` NEVER: not, or undated) and whether the outcome happened."""
        stratum = _cohorts(created, _COHORTS)
        share = np.bincount(stratum, weights=happened) / np.maximum(np.bincount(stratum), 1)
        return cls(
            happened,
            stratum,
            share[stratum],
            np.arange(len(created)) if lead_row is None else lead_row,
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
    """How much of a score's gap between converted and other leads was written with the outcome: 0 none, 1 all.

    ``unchanged`` is the chance that open leads of all ages differ as they do if nothing but chance (and a linear
    trend, where there is one) makes them differ. It is tiny where a campaign began or a question was dropped:
    then young leads differ for that reason, and the share confirms nothing.
    """

    value: float
    low: float
    high: float
    unchanged: float = 1.0

    @property
    def confirms(self) -> bool:
        """Young open leads have the same values as old ones, though some of them will convert."""
        return self.lacking and not self.changed

    @property
    def lacking(self) -> bool:
        """Young open leads score no higher than old ones, whatever the reason."""
        return self.low > _CONFIRMED and self.value > 0.5

    @property
    def changed(self) -> bool:
        """Whether the values of open leads change with their age by more than chance (and a trend) explains."""
        return self.unchanged <= _LEAST_UNCHANGED

    @property
    def times_more_leads(self) -> float:
        """How many times as many leads would confirm a share of 1 in half of all cases; below 1: these would."""
        return ((self.high - self.value) / (1.0 - _CONFIRMED)) ** 2

    @property
    def contradicts(self) -> bool:
        """Young open leads score as much higher as those among them that will convert account for, not far more."""
        return self.low <= 0.0 <= self.high < 0.6 or -1.0 < self.low <= self.high < 0.0


def hindsight_share(
    score: Floats, view: LeadView, *, bins: NDArray[np.intp] | None = None, least_age_days: float = 0.0
) -> HindsightShare | None:
    """Tell a score that was there from the start from one that was written as outcomes came.

    Only leads that have not converted are looked at. Some of the young ones will: if the score was there from
    the start, young open leads score higher than old ones, by the gap between converted and other leads times
    the share that is still to convert, r = q (1 - m) / (1 - q m) with m the lead's maturity and q the share
    that converts in the end. If it is written with the outcome, they do not. The mean score of each cohort is
    regressed on r; the result is one minus the slope over the gap. None where cohorts hardly differ in r. Leads
    younger than ``least_age_days`` are left out.

    What is written with the outcome leaves the open leads alike at every age. Whether they are is asked of the
    shares of ``bins`` (small codes of the same column; the values of the score if None), each regressed on r and
    on a linear trend over the years. The regression of the score has the trend too (it takes half of the certainty
    away), unless no share depends on either and the result beside the trend tells the same.
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
    settled = is_open & (view.maturity >= np.median(view.maturity[is_open]))
    gap = float(score[view.outcome].mean() - score[settled].mean())
    if np.ptp(remaining) < _LEAST_SPREAD_TO_COME * ever or gap == 0:
        return None
    cohorts = _Cohorts(np.linspace(-1, 1, len(full)), remaining, size[full].astype(np.float64))
    codes = np.unique(score, return_inverse=True)[1] if bins is None else bins
    table = _table(codes[is_open], view.fine_stratum[is_open])[full]
    unchanged, steady = cohorts.chance_of_no_slope(table)
    variance = float(score[is_open].var())
    slope, error = cohorts.slope(mean, variance, drifts=True)
    drifts = steady <= _LEAST_STEADY or 1.0 - slope / gap < _CONFIRMED
    if not drifts:
        slope, error = cohorts.slope(mean, variance, drifts=False)
    value, spread = 1.0 - slope / gap, _SPREAD * error / abs(gap)
    return HindsightShare(value, value - spread, value + spread, unchanged if drifts else steady)


@dataclass(frozen=True)
class _Cohorts:
    """Cohorts of open leads: their place from -1 to 1 by creation, the share still to come, and their size."""

    place: Floats
    to_come: Floats
    size: Floats

    def slope(self, mean: Floats, variance: float, *, drifts: bool) -> tuple[float, float]:
        """Slope of cohort means on the share still to come, with its error; beside a linear trend if it drifts."""
        design = self._design(drifts=drifts)
        inverse, solve = self._solved(design)
        coefficients = solve @ mean
        squares = float((self.size * (mean - design @ coefficients) ** 2).sum())
        noise = max(squares / (len(mean) - design.shape[1]), variance)
        return float(coefficients[1]), float(np.sqrt(noise * inverse[1, 1]))

    def chance_of_no_slope(self, table: Floats) -> tuple[float, float]:
        """Chances of the shares of bins, shape (cohorts, bins), if they do not depend on the share still to come
        but on a linear trend, and if they depend on neither: Wald's chi-squares of multinomial draws.
        """
        design = self._design(drifts=True)
        inverse, solve = self._solved(design)
        overall = table.sum(0) / table.sum()
        share = table / table.sum(1, keepdims=True)
        slopes = (solve @ share)[1:]
        free = len(overall) - 1
        alone = float((slopes[0] ** 2 / overall).sum() / inverse[1, 1])
        both = float((slopes * np.linalg.solve(inverse[1:, 1:], slopes) / overall).sum())
        return (
            min(float(stats.chi2.sf(alone, free)), self._chance_of_no_step(share, overall, design)),
            min(float(stats.chi2.sf(both, 2 * free)), self._chance_of_no_step(share, overall, design[:, :1])),
        )

    def _chance_of_no_step(self, share: Floats, overall: Floats, design: Floats) -> float:
        """The chance of the largest step between two cohorts beside what the design explains."""
        steps = np.tri(len(self.place), k=-1)[:, 1:-2]
        steps = steps - design @ (self._solved(design)[1] @ steps)
        information = (self.size[:, None] * steps**2).sum(0)
        slopes = (self.size[:, None] * steps).T @ share / information[:, None]
        largest = float(((slopes**2 / overall).sum(1) * information).max())
        return min(1.0, _STEPS_APART * float(stats.chi2.sf(largest, len(overall) - 1)))

    def _design(self, *, drifts: bool) -> Floats:
        columns = [np.ones(len(self.place)), self.to_come, self.place]
        return np.column_stack(columns[: 3 if drifts else 2])

    def _solved(self, design: Floats) -> tuple[Floats, Floats]:
        inverse = np.asarray(np.linalg.inv(design.T @ (design * self.size[:, None])), np.float64)
        return inverse, inverse @ (design * self.size[:, None]).T


def _table(codes: NDArray[np.intp], cohort: NDArray[np.intp]) -> Floats:
    """Leads by cohort and code, rare codes together."""
    table = np.zeros((int(cohort.max()) + 1, int(codes.max()) + 1))
    np.add.at(table, (cohort, codes), 1)
    often = table.sum(0) >= _LEAST_HELD
    table = np.column_stack([table[:, often], table[:, ~often].sum(1)])
    return table[:, table.sum(0) > 0]
