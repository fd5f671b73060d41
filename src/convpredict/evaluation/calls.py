"""What a sales team would have found with its calls: the model's weekly lists beside those of the points.

Every week the team calls the leads at the top of a list of those that are open. A conversion is *found* if its
lead was on a list within the horizon before it; a lead that is on several lists counts once, at the first that finds
it. This replays what lists would have held, not what calling would have changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .inputs import check_labels, check_scores, to_instants, to_series
from .resampling import interval, resample_leads
from .sentences import FEW_CONVERTERS

Floats = NDArray[np.float64]
_WEEK_US = 7 * 86_400_000_000
QUARTER_DAYS = 365.25 / 4
DEFAULT_SHARE = 0.05
"""Share of the leads of a list that is called in a week where the configuration names no number."""
_FEW_FOUND = 9.95


@dataclass(frozen=True)
class WeeklyLists:
    """Rows of observations, one a lead and list, ready to be ranked by any score.

    ``rows`` are positions in the observations that were given: the last one of each lead in each period, which is
    the newest known of it before the list's week ends. ``period`` numbers the periods from 0, with or without
    observations; ``period_days`` is their length (7, or longer where cutoffs are rarer), and ``calls`` how many
    leads one list holds. What the first ``burn_in`` lists find is not counted: earlier lists, which are not
    replayed, would have found part of it.
    """

    rows: NDArray[np.intp]
    period: NDArray[np.intp]
    period_days: float
    calls: float
    burn_in: int = 0

    @property
    def lists(self) -> int:
        """Number of lists, those of the burn-in among them."""
        return len(np.unique(self.period))

    @property
    def counted_lists(self) -> int:
        """Number of lists after the burn-in."""
        return len(np.unique(self.period[self.period >= self.burn_in]))

    @property
    def calls_per_week(self) -> float:
        """Calls in seven days."""
        return self.calls * 7 / self.period_days

    @property
    def per_quarter(self) -> float:
        """What a sum over the counted lists is multiplied with, to speak of a quarter of a year."""
        periods = int(self.period.max()) + 1 - self.burn_in
        return QUARTER_DAYS / (self.period_days * periods)


def weekly_lists(
    cutoff: Any, lead_ids: Any, calls_per_week: float | None = None, *, horizon_days: float = 30.0
) -> WeeklyLists:
    """Divide observations into weekly lists; without ``calls_per_week`` a twentieth of a list is called.

    Who is on a list are the leads *observed* in its week: on a grid of cutoffs the open leads, with cutoffs at ages
    those who reached such an age in that week, which are fewer than are open.
    Cutoffs that are rarer than weekly give rarer lists with more calls each. The burn-in is one horizon, and a
    third of the span at most: what a first list finds is the harvest of a whole horizon, not of one week.

    >>> lists = weekly_lists(["2024-01-01", "2024-01-03", "2024-01-08"], ["a", "a", "a"], 10)
    >>> lists.rows.tolist(), lists.period.tolist(), lists.calls
    ([1, 2], [0, 1], 10.0)
    """
    instants = to_instants(cutoff).dt.as_unit("us").astype(np.int64).to_numpy()
    distinct = np.unique(instants)
    gaps = np.diff(distinct)
    period_us = max(_WEEK_US, int(gaps.min())) if len(gaps) else _WEEK_US
    number = (instants - distinct[0]) // period_us
    frame = pd.DataFrame({"lead": to_series(lead_ids), "period": number, "at": instants})
    last = frame.sort_values("at", kind="stable").drop_duplicates(["lead", "period"], keep="last").index
    rows = np.sort(last.to_numpy())
    period = number[rows].astype(np.intp)
    weeks = period_us / _WEEK_US
    if calls_per_week is None:
        calls = max(1.0, float(np.round(DEFAULT_SHARE * np.median(np.unique(period, return_counts=True)[1]))))
    else:
        calls = calls_per_week * weeks
    burn_in = min(int(np.ceil(horizon_days / (7.0 * weeks))), (int(period.max()) + 1) // 3)
    return WeeklyLists(rows, period, 7.0 * weeks, float(calls), burn_in)


class _ListRanking:
    """One score's order within each list; equal scores share their places on it."""

    def __init__(self, lists: WeeklyLists, score: Floats, label: Floats, lead: NDArray[np.intp]) -> None:
        s = score[lists.rows]
        self._calls = lists.calls
        self._order = np.lexsort((-s, lists.period))
        period, ranked = lists.period[self._order], s[self._order]
        new_period = np.r_[True, period[1:] != period[:-1]]
        starts = np.flatnonzero(new_period | np.r_[True, ranked[1:] != ranked[:-1]])
        self._starts, self._first_of_period = starts, np.flatnonzero(new_period[starts])
        group = np.cumsum(np.isin(np.arange(len(s)), starts)) - 1
        hit = np.flatnonzero(label[lists.rows][self._order] > 0)
        hit = hit[np.argsort(lead[lists.rows][self._order][hit], kind="stable")]
        self._hit_group = group[hit]
        self._hit_row = lists.rows[self._order][hit]
        self._in_burn_in = period[hit] < lists.burn_in
        leads = lead[self._hit_row]
        self._lead_starts = np.flatnonzero(np.r_[True, leads[1:] != leads[:-1]]) if len(hit) else hit
        self._rows = lists.rows[self._order]
        self._periods_of_groups = np.diff(np.r_[self._first_of_period, len(starts)])

    def found(self, weight: Floats | None, amount: Floats | None) -> tuple[float, float]:
        """Converting leads found after the burn-in for the first time, and the amount that they brought."""
        if not len(self._hit_row):
            return 0.0, 0.0
        every = np.ones(len(self._rows)) if weight is None else weight[self._rows]
        size = np.add.reduceat(every, self._starts)
        before = np.cumsum(size) - size
        before -= np.repeat(before[self._first_of_period], self._periods_of_groups)
        with np.errstate(divide="ignore", invalid="ignore"):
            on_list = np.clip((self._calls - before) / size, 0.0, 1.0)
        missed = np.where(size > 0, 1.0 - on_list, 1.0)[self._hit_group]
        missed_early = np.where(self._in_burn_in, missed, 1.0)
        found = np.multiply.reduceat(missed_early, self._lead_starts)
        found -= np.multiply.reduceat(missed, self._lead_starts)
        first = self._hit_row[self._lead_starts]
        if weight is not None:
            found = found * weight[first]
        return float(found.sum()), float((found * amount[first]).sum()) if amount is not None else 0.0


def replay_calls(
    label: ArrayLike,
    p_model: ArrayLike,
    scorecard_points: ArrayLike | None,
    lead_ids: Any,
    cutoff: Any,
    *,
    horizon_days: float = 30.0,
    calls_per_week: float | None = None,
    amount: ArrayLike | None = None,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Conversions per quarter that weekly call lists of the model and of the points would have held.

    Parameters
    ----------
    label : array of shape (rows,), 1 where the lead converts within the horizon
    p_model, scorecard_points : arrays of shape (rows,) that rank (points: None without a scorecard)
    lead_ids, cutoff : of each row
    horizon_days : length of the label
    calls_per_week : how many leads are called in a week (None: a twentieth of a list)
    amount : array of shape (rows,), what the lead brought if it converted, for the revenue found; missing counts as
        nothing
    resamples, confidence, seed : of the interval, by resampling leads

    Returns
    -------
    JSON-able: calls_per_week, lists, burn_in_lists, period_days, and under ``conversions`` (and ``amount``, where
    given) entries ``{"value", "low", "high"}`` per quarter for model, scorecard, difference and ``random``: the
    conversions that as many leads drawn by chance would hold.

    Examples
    --------
    >>> result = replay_calls([1, 0, 0, 1], [.9, .1, .2, .8], [0, 9, 0, 9], list("abcd"),
    ...                       ["2024-01-01"] * 2 + ["2024-01-08"] * 2, calls_per_week=1, resamples=50)
    >>> result["conversions"]["difference"]["value"] * 14 / QUARTER_DAYS
    1.0
    """
    y = check_labels(label)
    lists = weekly_lists(cutoff, lead_ids, calls_per_week, horizon_days=horizon_days)
    lead = pd.factorize(to_series(lead_ids), sort=True)[0]
    brought = None
    if amount is not None:
        paid = np.asarray(amount, np.float64)
        brought = check_scores(np.where(np.isnan(paid), 0.0, paid), len(y), name="amount")
    scores = {"model": check_scores(p_model, len(y)), "random": np.zeros(len(y))}
    if scorecard_points is not None:
        scores["scorecard"] = check_scores(scorecard_points, len(y))
    rankings = {name: _ListRanking(lists, score, y, lead) for name, score in scores.items()}

    def statistic(weight: Floats | None) -> Floats:
        found = [rankings[name].found(weight, brought) for name in rankings]
        return np.array([part for pair in found for part in pair]) * lists.per_quarter

    drawn = resample_leads(statistic, lead_ids, resamples=resamples, seed=seed)
    result: dict[str, Any] = {
        "calls_per_week": lists.calls_per_week,
        "lists": lists.lists,
        "burn_in_lists": lists.burn_in,
        "period_days": lists.period_days,
        "per": "quarter",
    }
    for offset, what in enumerate(("conversions", "amount") if brought is not None else ("conversions",)):
        columns = {name: (drawn.value[k], drawn.draws[:, k]) for name, k in _places(rankings, offset)}
        if "scorecard" in columns:
            columns["difference"] = (
                columns["model"][0] - columns["scorecard"][0],
                columns["model"][1] - columns["scorecard"][1],
            )
        result[what] = {name: _entry(*column, confidence) for name, column in columns.items()}
    return result


def _places(rankings: dict[str, _ListRanking], offset: int) -> list[tuple[str, int]]:
    return [(name, 2 * number + offset) for number, name in enumerate(rankings)]


def _entry(value: float, draws: Floats, confidence: float) -> dict[str, float]:
    low, high = interval(float(value), draws, confidence)
    return {"value": float(value), "low": low, "high": high}


def state_calls(
    calls: dict[str, Any], *, confidence: float = 0.95, converting_leads: int | None = None
) -> str:
    """One sentence: what the model's lists would have changed.

    An interval without width among few ``converting_leads`` (of all observations) is not shown: it would claim a
    certainty that resampling so few leads cannot give.

    >>> entry = lambda value, low=0.0, high=0.0: {"value": value, "low": low, "high": high}
    >>> found = {"model": entry(131.0), "scorecard": entry(100.0), "difference": entry(31.0, 12.0, 49.0)}
    >>> print(state_calls({"calls_per_week": 200.0, "conversions": found}))
    At 200 calls a week the model's lists hold 31 more conversions per quarter than the points' \
[95 % interval 12 to 49]: 131 against 100.
    """
    per_week = f"{calls['calls_per_week']:,.0f}"
    found = calls["conversions"]
    start = f"At {per_week} {'call' if per_week == '1' else 'calls'} a week the model's lists hold"
    digits = digits_of(found)
    if "difference" not in found:
        own = found["model"]
        ends = _shown_interval(own, confidence, converting_leads, digits, of_difference=False)
        return (
            f"{start} {_short(own['value'], digits)} conversions per quarter [{ends}]; by chance it would be "
            f"{_short(found['random']['value'], digits)}."
        )
    own, points = (round(found[name]["value"], digits) for name in ("model", "scorecard"))
    ends = _shown_interval(found["difference"], confidence, converting_leads, digits, of_difference=True)
    told = f"{_short(own, digits)} against {_short(points, digits)}."
    if own == points:
        return f"{start} as many conversions per quarter as the points' [{ends}]: {told}"
    size = f"{_short(abs(own - points), digits)} {'more' if own > points else 'fewer'} conversions"
    return f"{start} {size} per quarter than the points' [{ends}]: {told}"


def state_called_revenue(
    calls: dict[str, Any],
    *,
    expected: float | None = None,
    so_far: bool = False,
    currency: str = "",
    confidence: float = 0.95,
    converting_leads: int | None = None,
) -> str:
    """One sentence: what the leads on the lists brought, beside what was ``expected`` of the model's.

    ``calls`` must hold ``amount``; ``so_far``: not all value windows have ended.

    >>> entry = lambda value, low=0.0, high=0.0: {"value": value, "low": low, "high": high}
    >>> amount = {"model": entry(4055.0), "scorecard": entry(5052.0), "difference": entry(-997.0, -4000.0, 2100.0)}
    >>> print(state_called_revenue({"amount": amount}, expected=23139.0, currency="BRL"))
    The leads on the model's lists were expected to bring 23,139 BRL per quarter and brought 4,055 BRL, those on the \
points' lists 5,052 BRL: 997 BRL less [95 % interval -4,000 to 2,100, which includes no difference].
    """
    amount = calls["amount"]

    def money(value: float) -> str:
        return f"{_short(value, 0)} {currency}".rstrip()

    own = amount["model"]["value"]
    text = "The leads on the model's lists "
    if expected is not None:
        text += f"were expected to bring {money(expected)} per quarter and "
    text += f"brought {money(own)}{' so far' if so_far else ''}{' per quarter' if expected is None else ''}"
    if "difference" not in amount:
        ends = _shown_interval(amount["model"], confidence, converting_leads, 0, of_difference=False)
        return f"{text} [{ends}]."
    points = amount["scorecard"]["value"]
    gap = round(own) - round(points)
    size = "as much" if gap == 0 else f"{money(abs(gap))} {'more' if gap > 0 else 'less'}"
    ends = _shown_interval(amount["difference"], confidence, converting_leads, 0, of_difference=True)
    return f"{text}, those on the points' lists {money(points)}: {size} [{ends}]."


def digits_of(found: dict[str, Any]) -> int:
    """Decimals that conversions per quarter are told with: one where all that is found is below ten.

    >>> digits_of({"model": {"value": 3.3}, "scorecard": {"value": 2.0}}), digits_of({"model": {"value": 28.4}})
    (1, 0)
    """
    most = max(found[name]["value"] for name in ("model", "scorecard") if name in found)
    return 1 if most < _FEW_FOUND else 0


def _shown_interval(
    entry: dict[str, float | None],
    confidence: float,
    converting_leads: int | None,
    digits: int,
    *,
    of_difference: bool,
) -> str:
    """The interval, with a decimal more where an end beside zero would be rounded to zero."""
    low, high = entry["low"], entry["high"]
    few = converting_leads is not None and converting_leads < FEW_CONVERTERS
    if low is None or high is None or (few and round(low) == round(high)):
        return "too few converters for an interval"
    verdict = ""
    if of_difference and low <= 0 <= high:
        verdict = ", which includes no difference"
    elif of_difference:
        nearest = low if low > 0 else high
        digits = next((more for more in (digits, digits + 1) if round(nearest, more)), digits)
        verdict = "" if round(nearest, digits) else ", which all but includes no difference"
    ends = f"{_short(low, digits)} to {_short(high, digits)}"
    return f"{100 * confidence:.4g} % interval {ends}{verdict}"


def _short(number: float, digits: int) -> str:
    """A number without a sign before zero, and without decimals that are zero.

    >>> _short(-0.3, 0), _short(3.04, 1), _short(1234.56, 1)
    ('0', '3', '1,234.6')
    """
    text = f"{round(number, digits) + 0.0:,.{digits}f}"
    return text.removesuffix(".0")
