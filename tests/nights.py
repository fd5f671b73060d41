"""Facts of nights for the tests of the gates: small histories with a steady stream of events, profiles, manifests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from convpredict.history.history import TIMESTAMP, History
from convpredict.models.profile import ColumnProfile, Profile, ProfileCounts
from convpredict.scoring.nightly.facts import ModelIdentity, NightFacts

START = datetime(2025, 1, 6, tzinfo=UTC)
"""A Monday."""

DAYS = 90
CUTOFF = START + timedelta(days=DAYS)
_DAY = 86_400_000_000
WEEK = np.array([1.2, 1.2, 1.2, 1.1, 1.0, 0.3, 0.2])


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def stream(per_day: float, seed: int, *, days: int = DAYS, week: np.ndarray = WEEK) -> np.ndarray:
    """Times (µs) of a Poisson stream of events with a weekly pattern, in working hours."""
    random = np.random.default_rng(seed)
    counts = random.poisson(per_day * week[np.arange(days) % 7])
    day = np.repeat(np.arange(days), counts)
    return np.sort(
        microseconds(START) + day * _DAY + random.integers(7 * _DAY // 24, 19 * _DAY // 24, len(day))
    )


def without(times: np.ndarray, first_day: float, days: float) -> np.ndarray:
    """The times but for those of some days."""
    begin = microseconds(START) + int(first_day * _DAY)
    return times[(times < begin) | (times >= begin + int(days * _DAY))]


def history_of(
    kinds: Mapping[str, np.ndarray],
    *,
    late: Mapping[str, int] | None = None,
    leads: np.ndarray | None = None,
    conversions: np.ndarray | None = None,
    revenue: np.ndarray | None = None,
    recorded: int | None = None,
) -> History:
    """A history of the events of each kind, recorded ``late`` microseconds after they occurred, and of ``leads``,
    ``conversions`` and ``revenue`` at the times given (one lead without); the latter two ``recorded`` µs later."""
    occurred = np.concatenate([*kinds.values(), np.zeros(0, np.int64)]).astype(np.int64)
    names = np.repeat(list(kinds), [len(times) for times in kinds.values()]) if kinds else np.zeros(0, str)
    delay = np.array([(late or {}).get(name, 0) for name in names], np.int64)
    interactions = pa.table(
        {
            "lead_row": pa.array(np.zeros(len(occurred)), pa.int32()),
            "occurred_at": pa.array(occurred),
            "visible_at": pa.array(occurred + delay),
            "tie": pa.array(np.arange(len(occurred)), pa.int64()),
            "kind": pa.array(names.tolist(), pa.string()),
        }
    )
    created = leads if leads is not None else np.array([microseconds(START)])
    lead_table = pa.table(
        {
            "lead_id": pa.array(np.arange(len(created)) + 1),
            "created_at": _instants(created),
            "lost_at": pa.nulls(len(created), TIMESTAMP),
        }
    )
    return History.trusted(
        lead_table,
        interactions,
        conversions=_records("converted_at", conversions, recorded),
        revenue=_records("occurred_at", revenue, recorded),
        known_until=CUTOFF,
    )


def _instants(times: np.ndarray) -> pa.Array:
    return pa.array(times, pa.int64()).cast(TIMESTAMP)


def _records(column: str, times: np.ndarray | None, recorded: int | None) -> pa.Table | None:
    if times is None:
        return None
    known = pa.nulls(len(times), TIMESTAMP) if recorded is None else _instants(times + recorded)
    rows = pa.array(np.arange(len(times)), pa.int32())
    return pa.table({"lead_row": rows, column: _instants(times), "recorded_at": known})


def usual_kinds(seed: int = 1) -> dict[str, np.ndarray]:
    """Calls, mails and visits as they come every week, and the odd webinar."""
    return {
        "call": stream(16, seed),
        "mail": stream(40, seed + 1, week=np.ones(7)),
        "visit": stream(90, seed + 2),
        "webinar": stream(0.15, seed + 3),
    }


def usual_tables(seed: int = 11) -> dict[str, np.ndarray]:
    """Leads, conversions and revenue as they come every week."""
    return {"leads": stream(6, seed), "conversions": stream(1.5, seed + 1), "revenue": stream(3, seed + 2)}


COLUMNS = (
    ColumnProfile("calls_30d", "number", edges=(1.0, 4.0)),
    ColumnProfile("days_since_visit", "number", edges=(2.0,)),
    ColumnProfile("channel", "category", categories=("ads", "fair", "(other)")),
)
REFERENCE = ProfileCounts(
    10_000,
    {
        "calls_30d": np.array([5_000, 3_000, 2_000, 0]),
        "days_since_visit": np.array([4_000, 4_000, 2_000]),
        "channel": np.array([6_000, 3_500, 400, 100]),
    },
    np.full(10, 1_000),
)
PROFILE = Profile(
    COLUMNS,
    tuple(np.arange(1, 10) / 100),
    REFERENCE,
    quantiles=tuple(np.arange(101) / 1000),
    natural={"score": 0.02},
)


def counts(rows: int = 1_000, **replaced: list[int]) -> ProfileCounts:
    """Counts of ``rows`` rows with the reference's shares, but for what is ``replaced`` (a column, or ``scores``)."""
    columns = {name: reference * rows // 10_000 for name, reference in REFERENCE.columns.items()}
    scores = np.array(replaced.pop("scores", REFERENCE.scores * rows // 10_000))
    return ProfileCounts(
        rows, {**columns, **{name: np.array(bins) for name, bins in replaced.items()}}, scores
    )


def validation(**accepted: int) -> dict[str, Any]:
    """The report of a validation that accepted so many rows of each table."""
    return {"tables": {name: {"accepted": rows, "quarantined": {}} for name, rows in accepted.items()}}


def manifest(*, leads: int = 1_000, days_ago: float = 1.0, **more: Any) -> dict[str, Any]:
    """The manifest of the last published night."""
    return {
        "run_id": "demo-1",
        "cutoff": (CUTOFF - timedelta(days=days_ago)).isoformat(),
        "leads": leads,
        "model": {"name": "demo", "version": "3", "digest": "d" * 64},
        "counts": counts(leads).to_dict(),
        "expected_conversions": leads * 0.05,
        "data": {"counts": {"leads": 1_500}, "quarantine": {}},
        **more,
    }


def night(
    *,
    history: History | None = None,
    leads: int = 1_000,
    cutoff: datetime = CUTOFF,
    mean: float = 0.05,
    **more: Any,
) -> NightFacts:
    """The facts of a night on which nothing is wrong, but for what is given."""
    facts: dict[str, Any] = {
        "run_id": "demo-2",
        "cutoff": cutoff,
        "model": ModelIdentity("demo", "3", "d" * 64, registered_at=cutoff - timedelta(days=20)),
        "history": history if history is not None else history_of({}),
        "scores": pa.table(
            {
                "lead_id": np.arange(leads),
                "p_convert_7d": np.full(leads, mean / 3),
                "p_convert_30d": np.full(leads, mean),
            }
        ),
        "probability_column": "p_convert_30d",
        "counts": counts(leads),
        "profile": PROFILE,
        "validation": validation(interactions=10_000, leads=1_510),
        "excluded": {"converted": 12, "too_old": 0},
        "last": manifest(),
        "known_kinds": ("call", "mail", "visit", "webinar"),
    }
    return NightFacts(**{**facts, **more})
