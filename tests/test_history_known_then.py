"""What was known at an instant: a history cut there is the history that the source rows known by then give."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from convpredict.config.history import ValidationConfig
from convpredict.features.rates import outcome_instants
from convpredict.history.frames import history_from_frames
from convpredict.history.history import TIMESTAMP, History
from convpredict.scoring.nights import open_on_nights
from convpredict.training.as_of import history_as_of, without_leads
from convpredict.training.lead_times import LeadTimes, to_microseconds
from convpredict.training.observations import open_observations
from convpredict.training.outcomes import events_known_by, next_events
from factories import day
from strategies import Choose, from_seed, one_of, shuffled

Row = dict[str, Any]
Tables = dict[str, list[Row]]
ANY_SHARE = ValidationConfig(max_bad_share=1)
COLUMNS = {
    "leads": ("lead_id", "created_at", "lost_at", "source"),
    "conversions": ("lead_id", "converted_at", "recorded_at"),
    "revenue": ("lead_id", "occurred_at", "amount", "recorded_at"),
}
COLUMNS_SEEN = ("lead_row", "converted_at")
SPAN_US = 6 * 86_400_000_000
DAYS = 40


def moment(choose: Choose, first: float = 1.25) -> datetime:
    return day(first + choose(DAYS) / 2)


def make_tables(choose: Choose, leads: int = 80) -> Tables:
    """Leads of the first day with up to four conversions each: recorded late or not, without a date, unreadable."""
    tables: Tables = {"leads": [], "conversions": [], "revenue": []}
    for number in range(leads):
        name = f"lead-{number}"
        lost = moment(choose) if not choose(3) else None
        tables["leads"].append({"lead_id": name, "created_at": day(1), "lost_at": lost, "source": "web"})
        for _ in range(choose(5)):
            dated = day(1.25 + choose(DAYS) / 4) if choose(6) else one_of(choose, (None, "soon"))
            recorded = one_of(choose, (None, moment(choose), moment(choose)))
            tables["conversions"].append({"lead_id": name, "converted_at": dated, "recorded_at": recorded})
        for amount in range(choose(3)):
            occurred, recorded = moment(choose), one_of(choose, (None, moment(choose)))
            tables["revenue"].append(
                {"lead_id": name, "occurred_at": occurred, "amount": float(amount), "recorded_at": recorded}
            )
    return {name: shuffled(choose, rows) for name, rows in tables.items()}


def read(tables: Tables) -> History:
    frames: dict[str, Any] = {
        name: pa.table(
            {
                column: pa.array(
                    [
                        value.isoformat() if isinstance(value := row[column], datetime) else value
                        for row in rows
                    ],
                    pa.float64() if column == "amount" else pa.string(),
                )
                for column in COLUMNS[name]
            }
        )
        for name, rows in tables.items()
    }
    return history_from_frames(**frames, known_until=day(60), validation=ANY_SHARE)


def known_rows(tables: Tables, instant: datetime) -> Tables:
    """The source rows that were there before an instant."""

    def known(row: Row) -> bool:
        times = [row.get("converted_at"), row.get("occurred_at"), row["recorded_at"]]
        return all(time < instant for time in times if isinstance(time, datetime))

    def of_then(lead: Row) -> Row:
        return lead | {"lost_at": lead["lost_at"] if lead["lost_at"] and lead["lost_at"] < instant else None}

    return {
        "leads": [of_then(lead) for lead in tables["leads"]],
        "conversions": [row for row in tables["conversions"] if known(row)],
        "revenue": [row for row in tables["revenue"] if known(row)],
    }


def rows_of(history: History) -> dict[str, list[Row]]:
    return {name: getattr(history, name).to_pylist() for name in COLUMNS}


def some_instant(choose: Choose) -> datetime:
    return moment(choose, 1.0) if choose(3) else day(1.25 + choose(DAYS) / 2, microseconds=1)


@pytest.mark.parametrize("seed", range(4))
def test_a_history_cut_at_an_instant_is_the_one_that_was_read_then(seed: int) -> None:
    choose = from_seed(seed)
    tables, instants = make_tables(choose), sorted(some_instant(choose) for _ in range(3))
    history = later = read(tables)
    dates = dict(zip(*(history.conversions[name].to_pylist() for name in COLUMNS_SEEN), strict=True))
    displaced = undated = 0
    for instant in reversed(instants):
        then, later = read(known_rows(tables, instant)), history_as_of(later, instant)
        assert rows_of(history_as_of(history, instant)) == rows_of(later) == rows_of(then)
        tells_the_same(history, then, instant)
        for row in then.conversions.to_pylist():
            displaced += row["converted_at"] not in (None, dates[row["lead_row"]])
            undated += row["converted_at"] is None and dates[row["lead_row"]] is not None
    assert min(displaced, undated) > 2


def tells_the_same(history: History, then: History, instant: datetime) -> None:
    """What looks at the whole history knows of an instant what the history of that instant knows."""
    at = to_microseconds(instant)
    for mine, theirs in zip(outcome_instants(history, SPAN_US), outcome_instants(then, SPAN_US), strict=True):
        assert (mine <= at).tolist() == (theirs <= at).tolist()
    everyone = np.arange(history.n_leads, dtype=np.int32)
    now = np.full(history.n_leads, at)
    told = next_events(history, "conversion", everyone, now, now)[0]
    assert told.tolist() == LeadTimes.of(then).converted_at.tolist()
    assert open_on_nights(history, np.array([at]), None)[0].tolist() == (
        open_observations(then, instant).table["lead_row"].to_pylist()
    )


def twice_converted() -> History:
    """Converted on day 20, recorded at once; on day 40 somebody enters an earlier one of day 10. Another lead: open."""
    leads = [{"lead_id": name, "created_at": day(1), "lost_at": None, "source": "web"} for name in ("a", "b")]
    conversions = [
        {"lead_id": "a", "converted_at": day(20), "recorded_at": day(20)},
        {"lead_id": "a", "converted_at": day(10), "recorded_at": day(40)},
        {"lead_id": "a", "converted_at": day(30), "recorded_at": day(50)},
    ]
    return read({"leads": leads, "conversions": conversions, "revenue": []})


def test_the_first_dated_conversion_wins_but_not_before_it_is_recorded() -> None:
    history = twice_converted()
    assert history.conversions["converted_at"].to_pylist() == [day(10)]
    assert history.further_conversions["converted_at"].to_pylist() == [day(20)]
    for night, expected in ((20, []), (21, [day(20)]), (40, [day(20)]), (41, [day(10)])):
        known = history_as_of(history, day(night))
        assert known.conversions["converted_at"].to_pylist() == expected
        assert known.conversions.schema == history.conversions.schema
    assert history.conversions["converted_at"].type == TIMESTAMP
    assert "further" not in repr(history)


def test_a_forgotten_lead_leaves_no_further_conversion() -> None:
    history = without_leads(twice_converted(), np.array([True, False]))
    assert history.all_conversions.num_rows == 0
    assert history_as_of(history, day(30)).conversions.num_rows == 0


@pytest.mark.parametrize(
    ("known_by", "horizon", "expected"),
    [(19, 30, (-1, -1)), (30, 30, (15, 15)), (42, 10, (5, 35)), (30, 10, (5, 25)), (42, 50, (5, 35))],
)
def test_event_times_are_those_known_at_the_end_of_what_may_be_known(
    known_by: int, horizon: int, expected: tuple[int, int]
) -> None:
    one, day_us = np.zeros(1, np.int32), 86_400_000_000
    cutoff, bound = (np.array([to_microseconds(day(number))]) for number in (5, known_by))
    found = events_known_by(twice_converted(), "conversion", one, cutoff, bound, (horizon * day_us,))
    days = [int(found[name][0]) for name in ("event_after_us", "event_known_after_us")]
    assert tuple(value // day_us if value >= 0 else value for value in days) == expected
