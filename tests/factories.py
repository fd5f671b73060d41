"""Small histories for tests, built from plain Python tuples or drawn at random."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from convpredict.history.history import TIMESTAMP, AttributeType, History

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
KINDS = ("call", "mail", "visit", "form")
_ARROW = {"category": pa.string(), "number": pa.float64(), "time": TIMESTAMP}


def day(number: float, *, microseconds: int = 0) -> datetime:
    """The instant ``number`` days and ``microseconds`` after midnight UTC, 1 January 2024."""
    return EPOCH + timedelta(days=number, microseconds=microseconds)


def to_us(instant: datetime) -> int:
    """Microseconds since 1970-01-01 of an instant; without a time zone it is read as UTC."""
    aware = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def make_history(
    leads: Sequence[Sequence[Any]],
    interactions: Sequence[Sequence[Any]] = (),
    conversions: Sequence[Sequence[Any]] = (),
    *,
    revenue: Sequence[Sequence[Any]] = (),
    spend: Sequence[Sequence[Any]] = (),
    attribute_changes: Sequence[Sequence[Any]] = (),
    known_until: datetime | None = None,
    lead_attributes: Mapping[str, AttributeType] | None = None,
    interaction_attributes: Mapping[str, AttributeType] | None = None,
) -> History:
    """A history from tuples; trailing entries may be left out, times without a zone are UTC.

    leads: (lead_id, created_at, lost_at, {attribute: value}). interactions: (lead_id, occurred_at, kind,
    recorded_at, {attribute: value}), whose order is the tie-break among equal times. conversions: (lead_id,
    converted_at or None, recorded_at). revenue: (lead_id, occurred_at, amount, recorded_at).
    spend: (occurred_at, amount, recorded_at, {attribute: value}).
    attribute_changes: (lead_id, attribute, value, valid_from, recorded_at).
    Types of attributes are inferred; ``known_until`` is the day after the last time given unless stated.
    """
    ordered = sorted((_padded(row, 4) for row in leads), key=lambda row: row[0])
    row_of = {row[0]: index for index, row in enumerate(ordered)}
    if len(row_of) != len(ordered):
        raise ValueError("lead ids must be unique")
    lead_types = _types(lead_attributes, [row[3] or {} for row in ordered])
    events = [_padded(row, 5) for row in interactions]
    event_types = _types(interaction_attributes, [row[4] or {} for row in events])
    bought = [_padded(row, 4) for row in revenue]
    spent = [_padded(row, 4) for row in spend]
    outcomes = sorted((_padded(row, 3) for row in conversions), key=lambda row: row_of[row[0]])
    changes = [_padded(row, 5) for row in attribute_changes]
    content = repr((ordered, events, outcomes, bought, spent, changes, known_until))
    return History.trusted(
        _leads_table(ordered, lead_types),
        _interactions_table(events, row_of, event_types),
        conversions=pa.table(
            {
                "lead_row": _rows(outcomes, row_of),
                "converted_at": _times(row[1] for row in outcomes),
                "recorded_at": _times(row[2] for row in outcomes),
            }
        ),
        revenue=pa.table(
            {
                "lead_row": _rows(bought, row_of),
                "occurred_at": _times(row[1] for row in bought),
                "amount": pa.array([row[2] for row in bought], pa.float64()),
                "recorded_at": _times(row[3] for row in bought),
            }
        ),
        spend=_spend_table(spent),
        attribute_changes=pa.table(
            {
                "lead_row": _rows(changes, row_of),
                "attribute": pa.array([row[1] for row in changes], pa.string()),
                "value": pa.array([row[2] for row in changes], pa.string()),
                "valid_from": _times(row[3] for row in changes),
                "recorded_at": _times(row[4] for row in changes),
            }
        ),
        lead_attributes=lead_types,
        interaction_attributes=event_types,
        known_until=known_until.replace(tzinfo=known_until.tzinfo or UTC)
        if known_until
        else _latest(ordered, events, outcomes, bought, spent, changes) + timedelta(days=1),
        fingerprint=hashlib.sha256(content.encode()).hexdigest(),
    )


def random_history(
    rng: np.random.Generator,
    *,
    leads: int = 12,
    days: float = 60.0,
    interactions_per_lead: float = 6.0,
    integer_ids: bool = False,
    late_share: float = 0.3,
    conversion_share: float = 0.4,
    undated_share: float = 0.1,
    lost_share: float = 0.2,
    with_attributes: bool = True,
    grain: timedelta = timedelta(hours=6),
) -> History:
    """A history full of corner cases, the same for the same state of the generator.

    Ties (times lie on a coarse ``grain``), late records, leads without interactions, interactions before
    creation, lost leads (some of which convert later), conversions without a date, missing values.
    Attributes of leads: ``source`` (category), ``budget`` (number), ``renewal`` (time); of interactions:
    ``outcome`` (category), ``minutes`` (number).
    """
    drawn = _Draw(rng, days, grain, with_attributes)
    lead_rows, events, outcomes, bought, changes = [], [], [], [], []
    for index in range(leads):
        lead_id: Any = 1000 + index * 7 if integer_ids else f"lead-{index:03d}"
        created = drawn.instant(0, days * 0.8)
        lost = drawn.instant_after(created) if rng.random() < lost_share else None
        lead_rows.append((lead_id, created, lost, drawn.lead_values()))
        count = 0 if rng.random() < 0.2 else int(rng.poisson(interactions_per_lead))
        for _ in range(count):
            start = created - timedelta(days=2) if rng.random() < 0.1 else created
            occurred = min(drawn.instant_after(start), day(days))
            late = drawn.instant_after(occurred) if rng.random() < late_share else None
            kind = KINDS[min(int(rng.geometric(0.5)) - 1, len(KINDS) - 1)]
            events.append((lead_id, occurred, kind, late, drawn.event_values()))
        if rng.random() < conversion_share:
            converted = None if rng.random() < undated_share else drawn.instant_after(created)
            recorded = drawn.instant_after(converted) if converted and rng.random() < late_share else None
            outcomes.append((lead_id, converted, recorded))
            if converted is not None:
                bought.append((lead_id, drawn.instant_after(converted), float(rng.integers(1, 500))))
        if with_attributes and rng.random() < 0.3:
            changes.append((lead_id, "source", drawn.source(), drawn.instant_after(created), None))
    order = rng.permutation(len(events))
    return make_history(
        lead_rows,
        [events[i] for i in order],
        outcomes,
        revenue=bought,
        attribute_changes=changes,
        known_until=day(days),
        lead_attributes={"source": "category", "budget": "number", "renewal": "time"}
        if with_attributes
        else None,
        interaction_attributes={"outcome": "category", "minutes": "number"} if with_attributes else None,
    )


class _Draw:
    """Random instants on a coarse grain, and attribute values of which some are missing."""

    def __init__(
        self, rng: np.random.Generator, days: float, grain: timedelta, with_attributes: bool
    ) -> None:
        self.rng, self.days, self.grain, self.with_attributes = rng, days, grain, with_attributes

    def instant(self, first_day: float, last_day: float) -> datetime:
        steps = int(timedelta(days=last_day - first_day) / self.grain)
        return day(first_day) + int(self.rng.integers(0, steps + 1)) * self.grain

    def instant_after(self, start: datetime) -> datetime:
        return (
            start
            + int(self.rng.geometric(min(1.0, self.grain / timedelta(days=self.days / 6))) - 1) * self.grain
        )

    def source(self) -> str | None:
        return [None, "ads", "fair", "web", "partner", "rare"][
            int(self.rng.choice(6, p=[0.1, 0.3, 0.2, 0.3, 0.08, 0.02]))
        ]

    def lead_values(self) -> dict[str, Any]:
        if not self.with_attributes:
            return {}
        budget = None if self.rng.random() < 0.2 else float(self.rng.integers(-3, 100)) / 4
        renewal = None if self.rng.random() < 0.3 else self.instant(0, self.days * 1.5)
        return {"source": self.source(), "budget": budget, "renewal": renewal}

    def event_values(self) -> dict[str, Any]:
        if not self.with_attributes:
            return {}
        outcome = [None, "good", "bad", "none", "odd"][int(self.rng.choice(5, p=[0.2, 0.3, 0.3, 0.15, 0.05]))]
        minutes = None if self.rng.random() < 0.3 else float(self.rng.integers(-5, 60)) / 2
        return {"outcome": outcome, "minutes": minutes}


def _padded(row: Sequence[Any], length: int) -> tuple[Any, ...]:
    return (*row, *([None] * (length - len(row))))


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _times(values: Any) -> pa.Array:
    return pa.array([_aware(value) for value in values], TIMESTAMP)


def _rows(rows: Sequence[Sequence[Any]], row_of: Mapping[Any, int]) -> pa.Array:
    return pa.array([row_of[row[0]] for row in rows], pa.int32())


def _types(
    declared: Mapping[str, AttributeType] | None, values: Sequence[Mapping[str, Any]]
) -> dict[str, AttributeType]:
    types = dict(declared or {})
    for row in values:
        for name, value in row.items():
            if name not in types and value is not None:
                types[name] = (
                    "category"
                    if isinstance(value, str)
                    else "time"
                    if isinstance(value, datetime)
                    else "number"
                )
    return types


def _leads_table(rows: Sequence[Sequence[Any]], types: Mapping[str, AttributeType]) -> pa.Table:
    identifiers = [row[0] for row in rows]
    columns = {
        "lead_id": pa.array(
            identifiers, pa.int64() if identifiers and isinstance(identifiers[0], int) else pa.string()
        ),
        "created_at": _times(row[1] for row in rows),
        "lost_at": _times(row[2] for row in rows),
    }
    for name, kind in types.items():
        columns[name] = pa.array([_aware((row[3] or {}).get(name)) for row in rows], _ARROW[kind])
    return pa.table(columns)


def _interactions_table(
    rows: Sequence[Sequence[Any]], row_of: Mapping[Any, int], types: Mapping[str, AttributeType]
) -> pa.Table:
    keyed = [(row_of[row[0]], to_us(row[1]), tie, row) for tie, row in enumerate(rows)]
    keyed.sort(key=lambda entry: entry[:3])
    columns = {
        "lead_row": pa.array([entry[0] for entry in keyed], pa.int32()),
        "occurred_at": pa.array([entry[1] for entry in keyed], pa.int64()),
        "visible_at": pa.array(
            [max(entry[1], to_us(entry[3][3] or entry[3][1])) for entry in keyed], pa.int64()
        ),
        "tie": pa.array([entry[2] for entry in keyed], pa.int64()),
        "kind": pa.array([entry[3][2] for entry in keyed], pa.string()),
    }
    for name, kind in types.items():
        columns[name] = pa.array([(entry[3][4] or {}).get(name) for entry in keyed], _ARROW[kind])
    return pa.table(columns)


def _spend_table(rows: Sequence[Sequence[Any]]) -> pa.Table:
    columns = {
        "occurred_at": _times(row[0] for row in rows),
        "amount": pa.array([row[1] for row in rows], pa.float64()),
        "recorded_at": _times(row[2] for row in rows),
    }
    for name, kind in _types(None, [row[3] or {} for row in rows]).items():
        columns[name] = pa.array([(row[3] or {}).get(name) for row in rows], _ARROW[kind])
    return pa.table(columns)


def _latest(*tables: Sequence[Sequence[Any]]) -> datetime:
    """The last occurrence or record time in any table (attribute values do not count)."""
    times = [_aware(value) for rows in tables for row in rows for value in row if isinstance(value, datetime)]
    return max(times, default=EPOCH)
