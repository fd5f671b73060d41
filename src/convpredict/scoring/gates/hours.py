"""At which hours of the day interactions come: a mistaken time zone shifts all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.distribution_shift import chance_psi, n_used_bins, psi
from ..nightly.facts import GateResult
from .activity import Activity
from .evidence import Evidence, held, is_off, not_judged, off
from .silence import Ints

GATE = "hours"
_ALPHA = 0.001
_FEWEST = 100
_FEWEST_WEEKS = 3
_LOOK_AT = "look at the time zone of the export and at history.timezone: are the times those of the source?"


def judge_hours(evidence: Evidence) -> GateResult:
    """How far the hours of the day (UTC) of the last 7 days' interactions lie from those of the weeks before, and from
    those that the last published night saw in its own last 7 days: the larger PSI.

    Left out is what chance explains, by how much the second oddest week before differs from the others, and one hour
    earlier or later, which is daylight saving.
    """
    facts, limits = evidence.facts, evidence.config.hours
    if is_off(limits):
        return off(GATE)
    weeks = hours_by_week(evidence.activity)
    now, before = weeks[-1], weeks[:-1][weeks[:-1].sum(axis=1) >= _FEWEST]
    details: dict[str, Any] = {"by_hour": now.tolist()}
    if now.sum() < _FEWEST or len(before) < _FEWEST_WEEKS:
        why = f"not {_FEWEST} interactions in the last 7 days and in each of {_FEWEST_WEEKS} weeks before are known"
        return not_judged(GATE, why, **details)
    natural = sorted(psi(before.sum(axis=0) - week, week) for week in before)[-2]
    references = {"those of the weeks before": before.sum(axis=0)}
    if (former := _former(facts.last)) is not None:
        references[f"those that the last published night saw, {evidence.since_last}"] = former
    beyond = {whose: _beyond(hours, now, natural) for whose, hours in references.items()}
    whose, value = max(beyond.items(), key=lambda item: item[1])
    found = "the interactions of the last 7 days came at the usual hours of the day"
    if value:
        shift = likely_shift(references[whose], now)
        details |= {"shift_hours": shift, "psi": {name: round(index, 4) for name, index in beyond.items()}}
        found = (
            f"the hours of the day of the last 7 days' interactions differ from {whose}: PSI {value:.2f} beyond what "
            f"chance and weeks explain; they are most alike if moved by {-shift:+d} hours"
        )
    return held(GATE, value, limits, found=found, look_at=_LOOK_AT, unit="PSI", details=details)


def hours_by_week(activity: Activity) -> Ints:
    """Interactions (weeks, 24) by hour of the day (UTC) of whole weeks that end at the cutoff, oldest first."""
    hours = activity.by_hour.sum(axis=0)
    weeks = len(hours) // 168
    by_week = hours[len(hours) - weeks * 168 :].reshape(weeks, 7, 24).sum(axis=1)
    return np.roll(by_week, activity.cutoff.hour, axis=1)


def likely_shift(before: Ints, now: Ints) -> int:
    """By how many hours (-11 to 12) ``now`` lies later than ``before``.

    >>> day = np.array([0] * 8 + [30, 60, 80, 60, 50, 40, 30, 20] + [0] * 8)
    >>> likely_shift(day, np.roll(day, 8)), likely_shift(day, np.roll(day, -5)), likely_shift(day, day)
    (8, -5, 0)
    """
    shifts = sorted(range(-11, 13), key=abs)
    return min(shifts, key=lambda shift: psi(before, np.roll(now, -shift)))


def _beyond(before: Ints, now: Ints, natural: float) -> float:
    index = min(psi(before, np.roll(now, shift)) for shift in (-1, 0, 1))
    chance = chance_psi(int(before.sum()), int(now.sum()), n_used_bins(before, now), _ALPHA)
    return max(0.0, float(index) - max(chance, natural))


def _former(last: Mapping[str, Any] | None) -> NDArray[np.int64] | None:
    """The same counts of the last published night, by the details of this gate in its manifest."""
    for result in (last or {}).get("gates") or []:
        counts = (result.get("details") or {}).get("by_hour")
        if result.get("gate") == GATE and counts and sum(counts) >= _FEWEST:
            return np.array(counts, np.int64)
    return None
