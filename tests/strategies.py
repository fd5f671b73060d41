"""Random histories full of corner cases, drawn by hypothesis or from a seed by the same code.

``Choose`` is all that a generator needs: a function that picks a whole number below ``n``, where 0 is the
plainest choice, so that hypothesis shrinks towards plain histories.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from convpredict.history.history import History
from every_family import INTERACTION_ATTRIBUTES, LEAD_ATTRIBUTES
from factories import day, make_history
from oracle import Rows, known_from, microseconds

Choose = Callable[[int], int]
STEP = timedelta(hours=6)
STEPS = 160
KINDS = ("call", "mail", "visit", "form", None)
OUTCOMES = (None, "good", "bad", "odd", "strange", "(other)")
SOURCES = ("ads", None, "web", "fair", "partner")
OWNERS = ("ann", "bob", "eve", None)
CHANGED: dict[str, tuple[str | None, ...]] = {
    "source": SOURCES,
    "budget": ("4", None, "0.25", "-1e3"),
    "renewal": ("2024-02-01T06:00:00+00:00", None, "2024-01-10", "2024-01-10T12:00:00+02:00"),
}
"""Attributes that change, with their values as the text that a log of changes holds."""


def from_seed(seed: int) -> Choose:
    """Choices from a NumPy generator."""
    generator = np.random.default_rng(seed)
    return lambda n: int(generator.integers(n))


@lru_cache
def below(n: int) -> st.SearchStrategy[int]:
    return st.integers(0, n - 1)


@st.composite
def choices(draw: st.DrawFn) -> Choose:
    """Choices made by hypothesis."""
    return lambda n: draw(below(n))


def one_of(choose: Choose, values: tuple[Any, ...]) -> Any:
    return values[choose(len(values))]


def instant(choose: Choose, first_step: int = 0, last_step: int = STEPS) -> datetime:
    """An instant on a coarse grid, so that ties are common; sometimes a microsecond beside it."""
    step = first_step + choose(last_step - first_step + 1)
    at = day(0) + STEP * (step if choose(3) else step // 40 * 40)
    return at + timedelta(microseconds=one_of(choose, (0, 0, 0, 0, 1, -1)))


def make_rows(choose: Choose, *, most_leads: int = 5, most_events: int = 8) -> Rows:
    """Rows of a history, unsorted: ties, late records, empty leads, missing values, undated conversions."""
    leads = make_leads(choose, 1 + choose(most_leads))
    interactions = [
        make_event(choose, lead[0]) for lead in leads if choose(5) for _ in range(choose(most_events + 1))
    ]
    changes = [make_change(choose, lead[0]) for lead in leads for _ in range(choose(4))]
    return Rows(
        tuple(leads),
        tuple(shuffled(choose, interactions)),
        tuple(make_conversion(choose, lead[0]) for lead in leads if choose(2)),
        tuple(shuffled(choose, changes)),
        LEAD_ATTRIBUTES,
        INTERACTION_ATTRIBUTES,
    )


def make_leads(choose: Choose, number: int, *, suffix: str = "") -> list[tuple[Any, ...]]:
    return [
        (
            f"lead-{index:03d}{suffix}",
            instant(choose, 0, STEPS // 2),
            instant(choose, STEPS // 2) if not choose(4) else None,
            {
                "source": one_of(choose, SOURCES),
                "owner": one_of(choose, OWNERS),
                "budget": one_of(choose, (1.5, None, -2.0, 1e6, 0.1)),
                "renewal": one_of(choose, (None, instant(choose))),
            },
        )
        for index in range(number)
    ]


def make_event(choose: Choose, lead_id: Any) -> tuple[Any, ...]:
    occurred_at = instant(choose)
    recorded_at = one_of(choose, (None, None, instant(choose)))
    attributes = {
        "outcome": one_of(choose, OUTCOMES),
        "minutes": one_of(choose, (None, 0.0, 12.5, -3.25, 1e5, 0.1)),
    }
    return (lead_id, occurred_at, one_of(choose, KINDS), recorded_at, attributes)


def make_conversion(choose: Choose, lead_id: Any) -> tuple[Any, ...]:
    converted_at = instant(choose) if choose(4) else None
    recorded_at = instant(choose) if converted_at is not None and not choose(3) else None
    return (lead_id, converted_at, recorded_at)


def make_change(choose: Choose, lead_id: Any) -> tuple[Any, ...]:
    name = one_of(choose, tuple(CHANGED))
    value = one_of(choose, CHANGED[name])
    return (lead_id, name, value, instant(choose), one_of(choose, (None, instant(choose))))


def shuffled(choose: Choose, rows: list[Any]) -> list[Any]:
    """The rows in another order: nobody promised a sorted source."""
    left, taken = list(rows), []
    while left:
        taken.append(left.pop(choose(len(left))))
    return taken


def make_cutoff(choose: Choose, rows: Rows) -> datetime:
    """A cutoff: at a time in the history or a window's length after it, a microsecond beside that, or anywhere."""
    times = [time for row in (*rows.interactions, *rows.attribute_changes) for time in instants_of(row)]
    times += [time for row in (*rows.leads, *rows.conversions) for time in instants_of(row)]
    at = one_of(choose, tuple(times)) if times and choose(4) else instant(choose, 0, STEPS + 8)
    window = one_of(choose, (timedelta(0), timedelta(0), STEP, timedelta(days=7), timedelta(days=30)))
    return at + window + timedelta(microseconds=one_of(choose, (0, 0, 1, -1)))


def instants_of(row: tuple[Any, ...]) -> list[datetime]:
    return [value for value in row if isinstance(value, datetime)]


def history_of(rows: Rows, *, known_until: datetime | None = None) -> History:
    """The history that convpredict sees, its interactions stored in disorder.

    Every other lead's are in the order of time, but for those of one instant; the rest are in no order at all.
    """
    history = make_history(
        rows.leads,
        rows.interactions,
        rows.conversions,
        attribute_changes=rows.attribute_changes,
        known_until=known_until or day(STEPS),
        lead_attributes=LEAD_ATTRIBUTES,
        interaction_attributes=INTERACTION_ATTRIBUTES,
    )
    history.connection.execute(
        "CREATE OR REPLACE TABLE interactions AS SELECT * FROM interactions "
        "ORDER BY lead_row % 2 * occurred_at, hash(tie)"
    )
    return history


def another_future(choose: Choose, rows: Rows, cutoff: datetime) -> Rows:
    """The same past, another future: what becomes known at the cutoff or later is dropped, altered, added to.

    Whatever was known before the cutoff stays, row by row and in the same order among itself. A conversion
    without a date may have become known at any time, so it comes and goes like the later ones.
    """
    kept = met_before(rows, cutoff)
    leads = [lead for lead in rows.leads if lead[0] in kept or choose(2)]
    leads = [lead if known(lead[1], None, cutoff) else later_lead(choose, lead, cutoff) for lead in leads]
    newcomers = [later_lead(choose, lead, cutoff) for lead in make_leads(choose, choose(3), suffix="-new")]
    ids = {lead[0] for lead in (*leads, *newcomers)}
    everyone = tuple(sorted(ids))
    events = [
        row if known(row[1], row[3], cutoff) else later_event(choose, row[0], cutoff)
        for row in rows.interactions
        if row[0] in ids and (known(row[1], row[3], cutoff) or choose(2))
    ]
    for _ in range(choose(4)):
        events.insert(choose(len(events) + 1), later_event(choose, one_of(choose, everyone), cutoff))
    changes = [
        row
        for row in rows.attribute_changes
        if row[0] in ids and (known(row[3], row[4], cutoff) or choose(2))
    ]
    for _ in range(choose(3)):
        changes.insert(choose(len(changes) + 1), later_change(choose, one_of(choose, everyone), cutoff))
    return rows.with_(
        leads=(*leads, *newcomers),
        interactions=events,
        conversions=later_outcomes(choose, rows, everyone, cutoff),
        attribute_changes=changes,
    )


def met_before(rows: Rows, cutoff: datetime) -> set[Any]:
    """The leads of which anything is known before the cutoff, and the first one, so that there is one."""
    return {
        rows.leads[0][0],
        *(row[0] for row in rows.leads if known(row[1], None, cutoff)),
        *(row[0] for row in rows.interactions if known(row[1], row[3], cutoff)),
        *(row[0] for row in rows.conversions if row[1] is None or known(row[1], row[2], cutoff)),
        *(row[0] for row in rows.attribute_changes if known(row[3], row[4], cutoff)),
    }


def known(occurred_at: datetime, recorded_at: datetime | None, cutoff: datetime) -> bool:
    return known_from(occurred_at, recorded_at) < microseconds(cutoff)


def after(choose: Choose, cutoff: datetime) -> datetime:
    """The cutoff itself, or later."""
    return cutoff + one_of(choose, (timedelta(0), timedelta(microseconds=1), timedelta(days=3)))


def later_times(choose: Choose, cutoff: datetime) -> tuple[datetime, datetime | None]:
    """An occurrence and a record of which one lies at the cutoff or after it."""
    if choose(2):
        return after(choose, cutoff), None
    return instant(choose), after(choose, cutoff)


def later_lead(choose: Choose, lead: tuple[Any, ...], cutoff: datetime) -> tuple[Any, ...]:
    attributes = {**lead[3], "source": one_of(choose, SOURCES), "owner": one_of(choose, OWNERS)}
    return (lead[0], after(choose, cutoff), None, attributes)


def later_event(choose: Choose, lead_id: Any, cutoff: datetime) -> tuple[Any, ...]:
    event = make_event(choose, lead_id)
    occurred_at, recorded_at = later_times(choose, cutoff)
    return (lead_id, occurred_at, event[2], recorded_at, event[4])


def later_change(choose: Choose, lead_id: Any, cutoff: datetime) -> tuple[Any, ...]:
    change = make_change(choose, lead_id)
    return (*change[:3], *later_times(choose, cutoff))


def later_outcomes(
    choose: Choose, rows: Rows, everyone: tuple[Any, ...], cutoff: datetime
) -> list[tuple[Any, ...]]:
    outcomes = {row[0]: row for row in rows.conversions if row[0] in everyone}
    fixed = {
        owner
        for owner, converted_at, recorded_at in outcomes.values()
        if converted_at is not None and known(converted_at, recorded_at, cutoff)
    }
    for owner in everyone:
        if owner not in fixed and (fate := choose(4)):
            outcomes.pop(owner, None)
            if fate == 2:
                outcomes[owner] = (owner, *later_times(choose, cutoff))
            elif fate == 3:
                outcomes[owner] = (owner, None, None)
    return list(outcomes.values())
