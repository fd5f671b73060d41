"""What weekly call lists would have found at every capacity: the model's beside the scorecard's.

The rule is that of :func:`.calls.replay_calls`, which speaks of one capacity; the figures are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .calls import WeeklyLists, weekly_lists
from .inputs import check_labels, check_probabilities, check_scores, to_instants
from .resampling import code_leads, interval, resample_leads

Floats = NDArray[np.float64]
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class CapacityCurve:
    """Weekly call lists at growing capacities.

    ``table``
        one row per capacity: ``per_week`` (calls), ``share`` (of the leads of a list), ``calls`` (per
        quarter), then per quarter for ``model_`` and, with points, ``scorecard_``: ``conversions``,
        ``conversions_low``, ``conversions_high`` (found), ``expected`` (by the model's p), ``precision``
        (conversions per call) and, where given, ``revenue`` (found) and ``expected_revenue``; with points
        ``gain``, ``gain_low``, ``gain_high`` (the model's conversions minus the scorecard's).
    ``lists``, ``period_days``
        how many lists were made, and how far apart.
    ``open_leads``
        mean number of leads that a list is made from.
    """

    table: pd.DataFrame
    lists: int
    period_days: float
    open_leads: float

    def nearest(self, per_week: float) -> int:
        """Row of the capacity that is nearest to so many calls a week."""
        return int(np.abs(self.table["per_week"].to_numpy() - per_week).argmin())


def capacity_curve(
    label: ArrayLike,
    p: ArrayLike,
    points: ArrayLike | None,
    value: ArrayLike | None,
    cutoff: Any,
    lead_ids: Any,
    *,
    revenue: ArrayLike | None = None,
    horizon_days: float = 30.0,
    capacities: int = 80,
    also_per_week: ArrayLike = (),
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> CapacityCurve:
    """Conversions per quarter that weekly lists of growing length would have held, with intervals over leads.

    A conversion is found if its lead was on a list within the horizon before it, and counts once. What is
    expected counts once too: of a lead that is listed again before its horizon has ended, only the part of the
    new horizon that lies beyond the old one (at a constant hazard over it).

    Parameters
    ----------
    label : array of shape (rows,), 1 where the lead converted within the horizon, else 0
    p : array of shape (rows,), probabilities of the model: they rank its list
    points : array of shape (rows,), points of the scorecard: they rank its list. None: no scorecard
    value : array of shape (rows,), expected revenue of each row (p times value). None: none is predicted
    cutoff : instants of shape (rows,)
    lead_ids : ids of shape (rows,), text or integers
    revenue : array of shape (rows,), what the lead brought if it converted; missing counts as nothing
    horizon_days : length of the label
    capacities : how many, closer together at small ones, from one call a list to 60 % of its leads
    also_per_week : capacities that must be among them, in calls a week
    resamples, confidence, seed : of the intervals, as for :func:`.calls.replay_calls`

    Raises ``ValueError`` as :func:`.comparison.evaluate` does.

    Examples
    --------
    >>> curve = capacity_curve([1, 0, 0, 1], [.9, .2, .1, .8], [0, 5, 0, 9], None, [0] * 4, list("abcd"))
    >>> weeks = 7 / (365.25 / 4)
    >>> (curve.table[["per_week", "model_conversions", "scorecard_conversions"]] * [1, weeks, weeks]).values.tolist()
    [[1.0, 1.0, 1.0], [2.0, 2.0, 1.0]]
    """
    y = check_labels(label)
    q = check_probabilities(p, len(y))
    lists = weekly_lists(cutoff, lead_ids, 1.0, horizon_days=horizon_days)
    lead, _ = code_leads(lead_ids)
    open_leads = len(lists.rows) / lists.lists
    sizes = _capacities(lists, open_leads, capacities, np.asarray(also_per_week, np.float64))
    brought = None
    if revenue is not None:
        brought = check_scores(np.nan_to_num(np.asarray(revenue, np.float64)), len(y), name="revenue")
    expectations = {"expected": q}
    if value is not None:
        expectations["expected_revenue"] = check_scores(value, len(y), name="value")
    scores = {"model": q}
    if points is not None:
        scores["scorecard"] = check_scores(points, len(y), name="points")
    ranked = {name: _Ranked.of(lists, score, y, lead) for name, score in scores.items()}
    drawn = resample_leads(
        lambda weight: (
            np.concatenate([each.found(sizes, weight) for each in ranked.values()]) * lists.per_quarter
        ),
        lead_ids,
        resamples=resamples,
        seed=seed,
    )
    instant = np.asarray(to_instants(cutoff).dt.as_unit("us").astype(np.int64), np.int64)
    columns: dict[str, Floats] = {
        "per_week": sizes * 7 / lists.period_days,
        "share": np.minimum(sizes / open_leads, 1.0),
        "calls": sizes * lists.counted_lists * lists.per_quarter,
    }
    found: dict[str, tuple[Floats, Floats]] = {}
    for k, (name, each) in enumerate(ranked.items()):
        here = slice(k * len(sizes), (k + 1) * len(sizes))
        found[name] = drawn.value[here], drawn.draws[:, here]
        columns |= _with_interval(f"{name}_conversions", *found[name], confidence)
        columns[f"{name}_precision"] = found[name][0] / columns["calls"]
        if brought is not None:
            columns[f"{name}_revenue"] = each.found(sizes, None, brought) * lists.per_quarter
        expected = each.expected(
            sizes, instant, round(horizon_days * DAY_US), np.stack(list(expectations.values()), axis=1)
        )
        for j, what in enumerate(expectations):
            columns[f"{name}_{what}"] = expected[:, j] * lists.per_quarter
    if points is not None:
        pair = [found[name] for name in ("model", "scorecard")]
        columns |= _with_interval("gain", pair[0][0] - pair[1][0], pair[0][1] - pair[1][1], confidence)
    return CapacityCurve(pd.DataFrame(columns), lists.lists, lists.period_days, open_leads)


@dataclass(frozen=True)
class _Ranked:
    """The rows of all lists, list by list and best first, in groups of equal scores."""

    row: NDArray[np.intp]
    group: NDArray[np.intp]
    starts: NDArray[np.intp]
    list_of_group: NDArray[np.intp]
    lead: NDArray[np.intp]
    hit: NDArray[np.intp]
    hit_in_burn_in: NDArray[np.bool_]
    burn_in: int
    lead_starts: NDArray[np.intp]

    @classmethod
    def of(cls, lists: WeeklyLists, score: Floats, label: Floats, lead: NDArray[np.intp]) -> _Ranked:
        order = np.lexsort((-score[lists.rows], lists.period))
        row, period = lists.rows[order], lists.period[order]
        new = np.ones(len(row), bool)
        new[1:] = (np.diff(period) != 0) | (np.diff(score[row]) != 0)
        starts = np.flatnonzero(new)
        hit = np.flatnonzero(label[row] > 0)
        hit = hit[np.argsort(lead[row][hit], kind="stable")]
        of_hit = lead[row][hit]
        lead_starts = np.flatnonzero(np.diff(of_hit, prepend=-1))
        early = period[hit] < lists.burn_in
        group = np.cumsum(new) - 1
        return cls(row, group, starts, period[starts], lead[row], hit, early, lists.burn_in, lead_starts)

    def on_list(self, sizes: Floats, groups: NDArray[np.intp], weight: Floats | None = None) -> Floats:
        """Share of each of the ``groups`` that has a place on its list: shape (capacities, groups)."""
        every = np.ones(len(self.row)) if weight is None else weight[self.row]
        size = np.add.reduceat(every, self.starts)
        before = np.cumsum(size) - size
        first = np.flatnonzero(np.diff(self.list_of_group, prepend=-1))
        before -= before[first][self.list_of_group]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip((sizes[:, None] - before[groups]) / size[groups], 0.0, 1.0)
        return np.where(size[groups] > 0, share, 0.0)

    def found(self, sizes: Floats, weight: Floats | None, amount: Floats | None = None) -> Floats:
        """Converting leads first found after the burn-in (or what they brought): shape (capacities,)."""
        if not len(self.hit):
            return np.zeros(len(sizes))
        missed = 1.0 - self.on_list(sizes, self.group[self.hit], weight)
        missed_early = np.where(self.hit_in_burn_in, missed, 1.0)
        found: Floats = np.multiply.reduceat(missed_early, self.lead_starts, axis=1)
        found = found - np.multiply.reduceat(missed, self.lead_starts, axis=1)
        first = self.row[self.hit[self.lead_starts]]
        if weight is not None:
            found = found * weight[first]
        return np.asarray(found.sum(axis=1) if amount is None else found @ amount[first])

    def expected(self, sizes: Floats, instant: NDArray[np.int64], horizon_us: int, amounts: Floats) -> Floats:
        """Sums of the amounts, shape (rows, k) with p first, over the rows listed after the burn-in: (capacities, k).

        Each row counts by its place on the list, times the part of its horizon that is new: all of it, but for
        what an earlier list covers with the chance that the lead was on it.
        """
        sums = np.zeros((len(sizes), amounts.shape[1]))
        edges = np.append(np.flatnonzero(np.diff(self.list_of_group[self.group], prepend=-1)), len(self.row))
        every_group = np.arange(len(self.starts))
        for k, size in enumerate(sizes):
            place = self.on_list(np.array([size]), every_group)[0][self.group]
            covered_to = np.full(self.lead.max() + 1, np.iinfo(np.int64).min)
            listed = np.zeros(len(covered_to))
            for start, end in pairwise(edges.tolist()):
                here = start + np.flatnonzero(place[start:end])
                at, lead, chance = instant[self.row[here]], self.lead[here], place[here]
                old = np.clip((np.maximum(covered_to[lead], at) - at) / horizon_us, 0.0, 1.0)
                if self.list_of_group[self.group[start]] >= self.burn_in:
                    p = np.maximum(amounts[self.row[here], 0], 1e-12)
                    seen = listed[lead] * -np.expm1(old * np.log1p(-np.minimum(p, 1 - 1e-12))) / p
                    sums[k] += (chance * (1.0 - seen)) @ amounts[self.row[here]]
                listed[lead] = 1.0 - (1.0 - chance) * np.where(old > 0, 1.0 - listed[lead], 1.0)
                covered_to[lead] = at + horizon_us
        return sums


def _capacities(lists: WeeklyLists, open_leads: float, count: int, also_per_week: Floats) -> Floats:
    largest = max(1.0, np.floor(0.6 * open_leads))
    spread = np.round(np.geomspace(1.0, largest, max(count - len(also_per_week), 2)))
    also = also_per_week * lists.period_days / 7
    return np.asarray(
        np.unique(np.concatenate([spread, np.clip(also, min(1.0, largest), open_leads)])), np.float64
    )


def _with_interval(name: str, value: Floats, draws: Floats, confidence: float) -> dict[str, Floats]:
    ends = np.array([interval(float(value[k]), draws[:, k], confidence) for k in range(len(value))])
    return {name: value, f"{name}_low": ends[:, 0], f"{name}_high": ends[:, 1]}
