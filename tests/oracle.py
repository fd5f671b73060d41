"""A slow, obvious oracle: every feature family straight from docs/reference/features.md, in plain Python.

It shares no code with what it checks. Rows are plain tuples in the order of ``factories.make_history``;
times are turned into whole microseconds, and every value is found by looking at all rows again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

OTHER = "(other)"
DAY = 24 * 60 * 60 * 1_000_000
HOUR = 60 * 60 * 1_000_000
THURSDAY = 3  # the weekday of 1 January 1970
Value = float | str | None
Vocabularies = Mapping[tuple[str, str], tuple[str, ...]]


@dataclass(frozen=True)
class Rows:
    """The rows of one history.

    leads: (lead_id, created_at, lost_at, {attribute: value}). interactions: (lead_id, occurred_at, kind,
    recorded_at, {attribute: value}); their order breaks ties. conversions: (lead_id, converted_at,
    recorded_at). attribute_changes: (lead_id, attribute, value, valid_from, recorded_at).
    """

    leads: tuple[tuple[Any, ...], ...]
    interactions: tuple[tuple[Any, ...], ...] = ()
    conversions: tuple[tuple[Any, ...], ...] = ()
    attribute_changes: tuple[tuple[Any, ...], ...] = ()
    lead_attributes: Mapping[str, str] = field(default_factory=dict)
    interaction_attributes: Mapping[str, str] = field(default_factory=dict)

    def with_(self, **tables: Iterable[tuple[Any, ...]]) -> Rows:
        """The same history with some tables replaced."""
        return replace(self, **{name: tuple(rows) for name, rows in tables.items()})


@dataclass(frozen=True)
class Event:
    """One interaction of one lead."""

    at: int
    kind: str
    attributes: Mapping[str, Any]

    def value_of(self, column: str) -> Any:
        return self.kind if column == "kind" else self.attributes.get(column)


@lru_cache(maxsize=100_000)
def microseconds(instant: datetime) -> int:
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def known_from(occurred_at: datetime, recorded_at: datetime | None) -> int:
    """When a fact became known: the later of happening and being recorded."""
    return max(microseconds(occurred_at), microseconds(recorded_at or occurred_at))


def visible_events(rows: Rows, lead_id: Any, cutoff: int) -> list[Event]:
    """V(c): what is visible of a lead at the cutoff, in the order of time, ties as in the source."""
    found = [
        (microseconds(occurred_at), order, kind, attributes)
        for order, (owner, occurred_at, kind, recorded_at, attributes) in enumerate(rows.interactions)
        if owner == lead_id and known_from(occurred_at, recorded_at) < cutoff
    ]
    found.sort(key=lambda event: event[:2])
    return [Event(at, kind, attributes) for at, _, kind, attributes in found]


def in_window(events: list[Event], cutoff: int, window_us: int | None) -> list[Event]:
    """W(c, w); no window is ``all``."""
    return [event for event in events if window_us is None or event.at >= cutoff - window_us]


def mapped(value: str | None, vocabulary: tuple[str, ...]) -> str | None:
    """A raw value as the vocabulary knows it."""
    if value is None:
        return None
    return value if value in vocabulary else OTHER


def selected(
    events: list[Event], by: str | None, wanted: str | None, vocabularies: Vocabularies
) -> list[Event]:
    """The events that a column of a family split ``by`` a column looks at."""
    if wanted is None or by is None:
        return events
    vocabulary = vocabularies["interactions", by]
    return [event for event in events if mapped(event.value_of(by), vocabulary) == wanted]


def oracle(rows: Rows, lead_id: Any, cutoff_at: datetime, column: Any, vocabularies: Vocabularies) -> Value:
    """The value of one column for one lead at one cutoff; ``None`` is missing."""
    cutoff = microseconds(cutoff_at)
    declaration = column.declaration
    family = declaration.family
    if family in _OF_EVENTS:
        events = visible_events(rows, lead_id, cutoff)
        chosen = selected(events, getattr(declaration, "by", None), column.value, vocabularies)
        return _OF_EVENTS[family](chosen, cutoff, column, vocabularies)
    if family == "age":
        if declaration.of == "creation":
            return (cutoff - microseconds(lead_of(rows, lead_id)[1])) / DAY
        events = visible_events(rows, lead_id, cutoff)
        chosen = selected(events, declaration.by, column.value, vocabularies)
        return (cutoff - chosen[0].at) / DAY if chosen else None
    if family == "attribute":
        return attribute(rows, lead_id, cutoff, declaration.attribute, vocabularies)
    if family == "calendar":
        return calendar(cutoff_at, column.function)
    if family == "rate":
        return rate(rows, lead_id, cutoff, column)
    if family == "load":
        return load(rows, lead_id, cutoff, column)
    raise AssertionError(f"the oracle knows no family {family!r}")


def lead_of(rows: Rows, lead_id: Any) -> tuple[Any, ...]:
    (found,) = [lead for lead in rows.leads if lead[0] == lead_id]
    return found


def count(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    return float(len(in_window(events, cutoff, column.window_us)))


def aggregate(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    values = [
        event.value_of(column.declaration.attribute) for event in in_window(events, cutoff, column.window_us)
    ]
    present = [float(value) for value in values if value is not None]
    if column.function == "sum":
        return math.fsum(present)
    if not present:
        return None
    return {"mean": math.fsum(present) / len(present), "max": max(present), "last": present[-1]}[
        column.function
    ]


def recency(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    return (cutoff - events[-1].at) / DAY if events else None


def decayed(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    return math.fsum(2.0 ** (-(cutoff - event.at) / column.half_life_us) for event in events)


def distinct(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    inside = in_window(events, cutoff, column.window_us)
    if column.declaration.of == "active_days":
        return float(len({event.at // DAY for event in inside}))
    values = {event.value_of(column.declaration.of) for event in inside}
    return float(len(values - {None}))


def gap(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    if len(events) < 2:
        return None
    gaps = [(later.at - earlier.at) / DAY for earlier, later in pairwise(events)]
    mean = math.fsum(gaps) / len(gaps)
    if column.function == "mean":
        return mean
    if column.function == "deviation":
        return math.sqrt(math.fsum((one - mean) ** 2 for one in gaps) / len(gaps))
    if events[-1].at == events[0].at:
        return None
    return (cutoff - events[-1].at) / DAY / mean


def repeat(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    if not events:
        return None
    r, a = column.declaration.prior_repeats, column.declaration.prior_days
    k = len({event.at // DAY for event in events}) - 1
    age, last_age = (cutoff - events[0].at) / DAY, (events[-1].at - events[0].at) / DAY
    rate = (k + r) / (age + a)
    silence = (k + r) * math.log1p((age - last_age) / (last_age + a))
    return {
        "count": float(k),
        "rate": rate,
        "span": last_age / age,
        "silence": silence,
        "expected": rate / (1 + math.exp(min(silence, 700.0)) / (k + 1)),
    }[column.function]


def last(events: list[Event], cutoff: int, column: Any, vocabularies: Vocabularies) -> Value:
    if len(events) < column.index:
        return None
    of = column.declaration.of
    return mapped(events[-column.index].value_of(of), vocabularies["interactions", of])


def trend(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    short, long = column.declaration.short.microseconds, column.declaration.long.microseconds
    n_short, n_long = len(in_window(events, cutoff, short)), len(in_window(events, cutoff, long))
    return math.log((n_short + 1) / (n_long * short / long + 1))


def share(events: list[Event], cutoff: int, column: Any, _: Vocabularies) -> Value:
    if not events:
        return None
    if column.declaration.of == "hour":
        bins = [event.at % DAY // (6 * HOUR) for event in events]
    else:
        bins = [(event.at // DAY + THURSDAY) % 7 for event in events]
    return bins.count(column.index) / len(bins)


def topic(events: list[Event], cutoff: int, column: Any, vocabularies: Vocabularies) -> Value:
    of = column.declaration.of
    inside = in_window(events, cutoff, column.window_us)
    values = [mapped(event.value_of(of), vocabularies["interactions", of]) for event in inside]
    present = [value for value in values if value is not None]
    if not present:
        return None
    most = max(present.count(value) for value in present)
    return next(value for value in reversed(present) if present.count(value) == most)


def attribute(rows: Rows, lead_id: Any, cutoff: int, name: str, vocabularies: Vocabularies) -> Value:
    value = lead_of(rows, lead_id)[3].get(name)
    known = [
        (microseconds(valid_from), microseconds(recorded_at or valid_from), order, changed)
        for order, (owner, changed_name, changed, valid_from, recorded_at) in enumerate(
            rows.attribute_changes
        )
        if owner == lead_id and changed_name == name and known_from(valid_from, recorded_at) < cutoff
    ]
    kind = rows.lead_attributes[name]
    if known:
        value = max(known, key=lambda change: change[:3])[3]
        if value is not None and kind == "number":
            value = float(value)
        if value is not None and kind == "time":
            value = datetime.fromisoformat(value)
    if value is None:
        return None
    if kind == "category":
        return mapped(value, vocabularies["leads", name])
    if kind == "time":
        return (cutoff - microseconds(value)) / DAY if microseconds(value) < cutoff else None
    return float(value)


def calendar(cutoff_at: datetime, part: str) -> Value:
    utc = cutoff_at.astimezone(UTC)
    return float({"month": utc.month, "weekday": utc.weekday(), "hour": utc.hour}[part])


def rate(rows: Rows, lead_id: Any, cutoff: int, column: Any) -> Value:
    declaration = column.declaration
    within = declaration.within.microseconds
    group = [lead_of(rows, lead_id)[3].get(key) for key in declaration.keys]
    n = k = everyone = everyone_converted = 0
    for other_id, created_at, _, attributes in rows.leads:
        settled_from = microseconds(created_at) + within
        if other_id == lead_id or settled_from > cutoff:
            continue
        converted = any(
            microseconds(converted_at) < settled_from and known_from(converted_at, recorded_at) < cutoff
            for owner, converted_at, recorded_at in rows.conversions
            if owner == other_id and converted_at is not None
        )
        everyone += 1
        everyone_converted += converted
        if [attributes.get(key) for key in declaration.keys] == group:
            n += 1
            k += converted
    if column.function == "volume":
        return float(n)
    base = (everyone_converted + 0.5) / (everyone + 1)
    return (k + declaration.prior_leads * base) / (n + declaration.prior_leads)


def load(rows: Rows, lead_id: Any, cutoff: int, column: Any) -> Value:
    key = column.declaration.key
    mine = lead_of(rows, lead_id)[3].get(key)
    if mine is None:
        return None
    created = [
        microseconds(created_at)
        for other_id, created_at, _, attributes in rows.leads
        if other_id != lead_id and attributes.get(key) == mine
    ]
    start = -math.inf if column.window_us is None else cutoff - column.window_us
    return float(sum(start <= instant < cutoff for instant in created))


_OF_EVENTS = {
    "count": count,
    "aggregate": aggregate,
    "recency": recency,
    "decayed": decayed,
    "distinct": distinct,
    "gap": gap,
    "repeat": repeat,
    "last": last,
    "trend": trend,
    "share": share,
    "topic": topic,
}
