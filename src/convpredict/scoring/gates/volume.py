"""The number of interactions of the last 7 days against the weeks before: events that come thinly, not silence."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from scipy.stats import nbinom

from ...history.history import History
from ...training.lead_times import to_microseconds
from ..nightly.facts import GateResult
from .activity import NO_KIND, Activity
from .evidence import Evidence, held, instant_text, is_off, not_judged, off, percent
from .silence import Ints

GATE = "volume"
_ALPHA = 1e-5
_WEEK = 7 * 86_400_000_000
_WEEKS = 8
_FEWEST_WEEKS = 4
_RECENT_WEEKS = 5
_FEWEST_EVENTS = 20
_RECOVERED = 0.6
_PRUDENCE = 1.5
_LEAST_VARIATION = 0.05
_SHOWN = 3
_LOOK_AT = (
    "look at the export or the connection that brings them (filtered, cut off in part, a page missing?)"
)


def judge_volume(evidence: Evidence) -> GateResult:
    """By which share the interactions of the last 7 days fall short of what the 8 weeks before let expect.

    Expected is the median of these weeks, or of the last five where that is less. A fall that chance explains
    (1e-5), where weeks vary as these did, does not count. If the last day was as usual again, the gate only warns.
    """
    facts, limits = evidence.facts, evidence.config.volume
    if is_off(limits):
        return off(GATE)
    counts = read_weeks(facts.history, facts.cutoff, _WEEKS + 1)
    weeks, now = counts[int(np.argmax(counts > 0)) : -1], int(counts[-1])
    expected = min(float(np.median(weeks)), float(np.median(weeks[-_RECENT_WEEKS:]))) if len(weeks) else 0.0
    details = {"last_week": now, "expected": expected, "weeks": weeks.tolist()}
    if len(weeks) < _FEWEST_WEEKS or expected < _FEWEST_EVENTS:
        why = f"fewer than {_FEWEST_WEEKS} weeks before, or fewer than {_FEWEST_EVENTS} interactions a week, are known"
        return not_judged(GATE, why, **details)
    fall = max(0.0, 1 - now / expected)
    by_chance = chance_of_so_few(now, expected, weekly_variation(weeks)) >= _ALPHA
    since = instant_text(facts.cutoff - timedelta(days=7))
    found = f"{now:,} interactions since {since}, where about {expected:,.0f} in 7 days were to be expected"
    if fall and by_chance:
        found += " (no more than weeks like these vary)"
        return held(GATE, 0.0, limits, found=found, look_at=_LOOK_AT, details=details)
    found += f" ({percent(fall)} fewer{_most_missed(evidence.activity)})" if fall else ""
    result = held(GATE, fall, limits, found=found, look_at=_LOOK_AT, details=details)
    if result.verdict == "stop" and _came_again(evidence.activity):
        message = (
            f"{found}; the last day was as usual again, so nothing stops: have what is missing delivered"
        )
        return GateResult(GATE, "warn", message, fall, limits.warn, limits.stop, "share", details)
    return result


def read_weeks(history: History, cutoff: datetime, weeks: int) -> Ints:
    """Interactions of the last ``weeks`` weeks of 7 days, oldest first, each as it was seen at its own end: so that
    what is always recorded late lacks in every week alike."""
    now = to_microseconds(cutoff)
    rows = history.query(
        f"SELECT ({now} - 1 - occurred_at) // {_WEEK} AS ago, count(*) AS n FROM interactions "
        f"WHERE occurred_at < {now} AND occurred_at >= {now - weeks * _WEEK} "
        f"AND visible_at < {now} - (({now} - 1 - occurred_at) // {_WEEK}) * {_WEEK} GROUP BY 1"
    )
    counts = np.zeros(weeks, np.int64)
    counts[weeks - 1 - rows["ago"].to_numpy().astype(np.int64)] = rows["n"].to_numpy()
    return counts


def weekly_variation(weeks: Ints) -> float:
    """By how much weeks vary from one to the next, as a standard deviation of their logarithm.

    A single odd week, or a steady trend, has little to say in it. It is half more than what the weeks show, and a
    twentieth: eight weeks may happen to be alike.

    >>> round(weekly_variation(np.array([100, 100, 30, 100, 100, 100])), 2)
    0.05
    >>> round(weekly_variation(np.array([100, 80, 100, 80, 100, 80])), 2)
    0.4
    """
    steps = np.abs(np.diff(np.log(np.maximum(weeks, 0.5))))
    return _PRUDENCE * float(1.4826 * np.median(steps) / np.sqrt(2)) + _LEAST_VARIATION


def chance_of_so_few(count: int, expected: float, variation: float) -> float:
    """The chance of ``count`` events at most: negative binomial, with a level that varies by ``variation`` (relative,
    above 0).

    >>> f"{chance_of_so_few(60, 100, 0.05):.0e}, {chance_of_so_few(60, 100, 0.3):.0e}"
    '6e-05, 9e-02'
    """
    shape = 1 / variation**2
    return float(nbinom.cdf(count, shape, shape / (shape + expected)))


def _came_again(activity: Activity) -> bool:
    """Whether the last day had most of what the same weekdays before it had."""
    by_day = activity.by_day.sum(axis=0)
    usual = float(np.median(by_day[-8::-7][:_WEEKS])) if len(by_day) > 7 else 0.0
    return usual >= _FEWEST_EVENTS and by_day[-1] >= _RECOVERED * usual


def _most_missed(activity: Activity) -> str:
    """The kinds that fall short most, as a part of a sentence."""
    by_day = activity.by_day
    days = min(7 * _WEEKS, activity.days - 7)
    if days < 1 or not len(activity.kinds):
        return ""
    missing = by_day[:, -7 - days : -7].sum(axis=1) * 7 / days - by_day[:, -7:].sum(axis=1)
    names = [activity.kinds[row] for row in np.argsort(-missing, kind="stable")[:_SHOWN] if missing[row] >= 1]
    shown = ", ".join("those without a kind" if name == NO_KIND else f"'{name}'" for name in names)
    return f", most of all {shown}" if shown else ""
