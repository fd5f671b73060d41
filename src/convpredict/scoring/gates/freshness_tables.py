"""Whether leads, conversions and revenue still arrive, each by its own past."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...history.history import History
from ...training.lead_times import microseconds_of, to_instant, to_microseconds
from ..nightly.facts import GateResult
from .activity import Activity
from .evidence import Evidence, held, instant_text, is_off, not_judged, number_of, off, verdict_of
from .silence import (
    MIN_REFERENCE_DAYS,
    Ints,
    expected_counts,
    overdispersion,
    probability_of_none,
    quietness,
    reference_start,
    second_longest_quiet,
    weekly_overdispersion,
)

GATE = "freshness_tables"
_ALPHA = 1e-5
_DAY = 86_400_000_000
_REFERENCE = 70
_RECENT = 28
_LOOK_BACK = 365
_NEVER = np.iinfo(np.int64).min
_LOOK_AT = "look at the export of that table"
_TIMES = {"leads": "created_at", "conversions": "converted_at", "revenue": "occurred_at"}


@dataclass(frozen=True)
class Silence:
    """The whole days since the newest row of a table, with ``missing`` rows that were to be expected in them.

    ``probability`` of none at all; ``usual`` is the number that the second longest quiet stretch of the past lacks.
    ``in_reference``: how many rows ten weeks like the last four would have.
    """

    newest: datetime
    days: int
    missing: float
    probability: float
    usual: float
    in_reference: float

    @property
    def is_surprising(self) -> bool:
        """Whether neither chance nor habit explains it."""
        return self.probability < _ALPHA and self.missing > self.usual


def judge_freshness_of_tables(evidence: Evidence) -> GateResult:
    """The rows that are missing since the newest lead, conversion or revenue, by the ten weeks before it.

    A row counts from when it was known. A table that so few rows come to that ten weeks of silence would make no
    case is not judged, nor is one without 28 days of past.
    """
    facts, limits = evidence.facts, evidence.config.freshness.missing_events
    if is_off(limits):
        return off(GATE, "freshness.missing_events")
    least = limits.warn if limits.warn is not None else limits.stop
    judged: dict[str, Silence] = {}
    rare: list[str] = []
    for table, times in _known_rows(facts.history, to_microseconds(facts.cutoff)).items():
        silence = silence_of(times, facts.cutoff, evidence.activity)
        if silence is not None and silence.in_reference >= (least or 0):
            judged[table] = silence
        else:
            rare.append(table)
    details: dict[str, Any] = {
        "tables": {name: _details(one) for name, one in judged.items()},
        "not_judged": rare,
    }
    left_out = f"not judged, too rare or too new: {', '.join(rare)}"
    if not judged:
        return not_judged(GATE, f"no table is frequent and old enough ({left_out})", **details)
    silent = {name: one for name, one in judged.items() if one.is_surprising}
    told = [
        f"no new row of {name} since {instant_text(one.newest)}, {number_of(one.days, 'whole day')} (about "
        f"{one.missing:,.0f} were to be expected)"
        for name, one in sorted(silent.items(), key=lambda item: (-item[1].missing, item[0]))
        if verdict_of(one.missing, limits) != "pass"
    ]
    found = "; ".join(told) or f"rows kept coming to {', '.join(judged)}"
    if rare:
        found += f" ({left_out})"
    missing = max((one.missing for one in silent.values()), default=0.0)
    return held(GATE, missing, limits, found=found, look_at=_LOOK_AT, unit="rows", details=details)


def silence_of(times: NDArray[np.int64], cutoff: datetime, activity: Activity) -> Silence | None:
    """The silence at the end of a table whose rows were known from ``times`` (µs, before the cutoff) on; None where
    28 days of past are not known. ``activity`` tells how quiet the interactions were in the same days."""
    days = _REFERENCE + _LOOK_BACK
    ago = (to_microseconds(cutoff) - 1 - times) // _DAY
    by_day = np.bincount(days - 1 - ago[ago < days], minlength=days)
    seen = np.flatnonzero(by_day)
    end = int(seen[-1]) + 1 if len(seen) else 0
    start = reference_start(by_day, end, _REFERENCE)
    if end - start < MIN_REFERENCE_DAYS:
        return None
    past, length = by_day[start:end], days - end
    expected = expected_counts(past, length, _RECENT) * _quietness(activity, length)
    chance = probability_of_none(
        expected, overdispersion(past), weekly_overdispersion(past), float(past[-_RECENT:].sum())
    )
    return Silence(
        to_instant(int(times.max())),
        length,
        float(expected.sum()),
        chance if length else 1.0,
        second_longest_quiet(past),
        float(expected_counts(past, _REFERENCE, _RECENT).sum()),
    )


def _quietness(activity: Activity, length: int) -> NDArray[np.float64]:
    """How active the interactions were in the last days, of what was usual; 1 where their own past is too short."""
    first = activity.days - length
    if not length or first < MIN_REFERENCE_DAYS or not len(activity.kinds):
        return np.ones(length)
    return quietness(activity.by_day, first, activity.days - 1, max(0, first - 56))


def _known_rows(history: History, now: int) -> dict[str, Ints]:
    """When each row of each table was known (µs): when it happened or, if that was later, was recorded."""
    found = {}
    for name, column in _TIMES.items():
        table: pa.Table = getattr(history, name)
        times = microseconds_of(table[column], missing=_NEVER)
        known = times
        if "recorded_at" in table.column_names:
            known = np.maximum(times, microseconds_of(table["recorded_at"], missing=_NEVER))
        known = known[(times > _NEVER) & (known < now)]
        if len(known):
            found[name] = known
    return found


def _details(silence: Silence) -> dict[str, Any]:
    return {
        "newest": silence.newest.isoformat(),
        "days": silence.days,
        "missing": round(silence.missing, 1),
        "probability": float(f"{silence.probability:.2e}"),
    }
