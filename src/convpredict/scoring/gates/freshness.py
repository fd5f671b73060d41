"""Whether events still arrive: any at all, and each kind of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil, inf
from typing import Any

import pyarrow.compute as pc

from ...config.gates import Limits
from ...training.lead_times import to_microseconds
from ..nightly.facts import GateResult, NightFacts
from .activity import NO_KIND, Activity, newest_interaction
from .evidence import LOOK_BACK_DAYS, Evidence, held, instant_text, is_off, not_judged, number_of, off
from .silence import MIN_REFERENCE_DAYS, Hole, expected_counts, find_holes, longest_silences, reference_start

DATA, KINDS = "freshness_data", "freshness_kinds"
_ALPHA = 1e-5
_HABIT = 3
_SHOWN = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SOURCE = "look at the export or the connection that brings them"


def judge_data(evidence: Evidence) -> GateResult:
    """The age of the newest interaction at the cutoff (without interactions: of the newest lead).

    A silence that is no longer than the third longest of the reference is a habit, like a weekend, and passes. One
    that reaches the limit for a stop never is: nor do such silences of the past count.
    """
    facts, ages = evidence.facts, evidence.config.freshness.data
    if is_off(ages):
        return off(DATA, "freshness.data")
    newest, what = _newest(evidence)
    if newest is None:
        return not_judged(DATA, "no interaction and no lead is known before the cutoff")
    age = (facts.cutoff - newest).total_seconds() / 3600
    limits = Limits(
        warn=ages.warn.days * 24 if ages.warn is not None else None,
        stop=ages.stop.days * 24 if ages.stop is not None else None,
    )
    ceiling = limits.stop if limits.stop is not None else inf
    by_hour = evidence.activity.by_hour.sum(axis=0)
    habits = longest_silences(by_hour, _HABIT, ceiling) if what == "interaction" else []
    habit = min(habits[-1] + 1, ceiling) if len(habits) == _HABIT else 0
    found = (
        f"the newest {what} is of {instant_text(newest)}, {number_of(round(age), 'hour')} before the cutoff"
    )
    details: dict[str, Any] = {"newest": newest.isoformat(), "hours": round(age, 2), "habit_hours": habit}
    if age <= habit and age < ceiling:
        found += f" (silences of {number_of(habit, 'hour')} are usual here)"
        return held(DATA, 0.0, limits, found=found, look_at=_SOURCE, unit="hours", details=details)
    if _reaches(age, limits):
        found = f"no events since {instant_text(newest)}, {number_of(round(age), 'hour')} before the cutoff"
    return held(DATA, age, limits, found=found, look_at=_SOURCE, unit="hours", details=details)


def judge_kinds(evidence: Evidence) -> GateResult:
    """The events that are missing where a kind of interaction sent none for whole days, by its own past.

    Looked at are the days since the last published night (14 at most, and on a first night). A hole that lasts until
    the cutoff warns or stops; one after which events came again only warns.
    """
    settings = evidence.config.freshness
    limits = settings.missing_events
    if is_off(limits):
        return off(KINDS, "freshness.missing_events")
    activity = evidence.activity
    if not activity.kinds:
        return not_judged(KINDS, f"no interaction of the {activity.days} days before the cutoff is known")
    reference = max(MIN_REFERENCE_DAYS, round(settings.reference.days))
    judged, rare = _judged_kinds(evidence, reference)
    if not judged:
        return not_judged(
            KINDS, f"no kind of interaction is frequent and old enough ({_listed(rare)})", not_judged=rare
        )
    since = evidence.days_since_last
    look_back = LOOK_BACK_DAYS if since is None else min(LOOK_BACK_DAYS, max(1, ceil(since)))
    holes = [
        hole
        for hole in find_holes(activity.by_day, look_back, reference)
        if hole.is_surprising(_ALPHA) and activity.kinds[hole.kind] not in settings.ignore_kinds
    ]
    holes.sort(key=lambda hole: (not hole.ongoing, -hole.missing, hole.kind))
    ongoing = max((hole.missing for hole in holes if hole.ongoing), default=0.0)
    mended = max((hole.missing for hole in holes if not hole.ongoing), default=0.0)
    details = {
        "holes": [_hole_details(activity, hole) for hole in holes],
        "judged": judged,
        "not_judged": rare,
    }
    worth = [hole for hole in holes if _reaches(hole.missing, limits)]
    found = "; ".join(_told(activity, hole) for hole in worth[:_SHOWN]) + (
        f"; and {len(worth) - _SHOWN} more" if len(worth) > _SHOWN else ""
    )
    if not worth:
        found = f"each of the {len(judged)} kinds of interactions that can be judged kept coming"
    if rare:
        found += f" (not judged, too rare or too new: {_listed(rare)})"
    result = held(KINDS, ongoing, limits, found=found, look_at=_SOURCE, unit="events", details=details)
    if result.verdict == "pass" and limits.warn is not None and mended >= limits.warn:
        message = f"{found}; they came again, so nothing stops: have the missing days delivered if they exist"
        return GateResult(KINDS, "warn", message, mended, limits.warn, limits.stop, "events", details)
    return result


def _newest(evidence: Evidence) -> tuple[datetime | None, str]:
    facts = evidence.facts
    newest = evidence.activity.newest_of_all
    if newest is None:
        newest = newest_interaction(facts.history, facts.cutoff)
    if newest is not None:
        return _EPOCH + timedelta(microseconds=newest), "interaction"
    return _newest_lead(facts), "lead"


def _newest_lead(facts: NightFacts) -> datetime | None:
    created = facts.history.leads["created_at"]
    known = created.filter(pc.less(created.cast("int64"), to_microseconds(facts.cutoff)))
    found: datetime | None = pc.max(known).as_py()
    return found


def _judged_kinds(evidence: Evidence, reference: int) -> tuple[list[str], list[str]]:
    """The kinds that two silent weeks would make a case of, and those too rare or too new for that."""
    activity, limits = evidence.activity, evidence.config.freshness.missing_events
    least = limits.warn if limits.warn is not None else limits.stop
    judged, rare = [], []
    for kind, counts in zip(activity.kinds, activity.by_day, strict=True):
        end = int(max(counts.nonzero()[0], default=-1)) + 1
        start = reference_start(counts, end, reference)
        enough = end - start >= MIN_REFERENCE_DAYS
        if enough and expected_counts(counts[start:end], LOOK_BACK_DAYS).sum() >= (least or 0):
            judged.append(kind)
        else:
            rare.append(kind)
    return judged, rare


def _reaches(value: float, limits: Limits) -> bool:
    return any(limit is not None and value >= limit for limit in (limits.warn, limits.stop))


def _told(activity: Activity, hole: Hole) -> str:
    kind = activity.kinds[hole.kind]
    what = "interactions without a kind" if kind == NO_KIND else f"interactions of the kind '{kind}'"
    expected = f"(about {hole.missing:,.0f} were to be expected)"
    if hole.ongoing:
        newest = _EPOCH + timedelta(microseconds=int(activity.newest[hole.kind]))
        return f"no {what} since {instant_text(newest)} {expected}"
    first, end = (instant_text(activity.day_start(day)) for day in (hole.first, hole.last + 1))
    return f"no {what} from {first} until {end} {expected}"


def _hole_details(activity: Activity, hole: Hole) -> dict[str, Any]:
    return {
        "kind": activity.kinds[hole.kind],
        "from": activity.day_start(hole.first).isoformat(),
        "until": None if hole.ongoing else activity.day_start(hole.last + 1).isoformat(),
        "missing": round(hole.missing, 1),
        "probability": float(f"{hole.probability:.2e}"),
    }


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
