"""Every feature family against the brute-force oracle, on histories full of corner cases."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings

from cells import Cells, Pair, as_number, build_cells
from convpredict.config.features import Feature
from every_family import ACROSS_LEADS, OWN_ROWS, VOCABULARIES, every_family_set
from factories import day
from oracle import Rows, oracle
from strategies import Choose, choices, from_seed, make_cutoff, make_event, make_leads, make_rows

FEATURES = every_family_set()
EXACT = {"count", "distinct", "last", "topic", "calendar", "load"}


def disagreements(rows: Rows, cells: Cells) -> list[str]:
    """Cells that differ from the oracle's, beyond float32 (and not at all for counts and categories)."""
    found = []
    columns = {column.name: column for column in FEATURES.columns}
    for (lead_id, cutoff, name), cell in cells.items():
        column = columns[name]
        expected = oracle(rows, lead_id, cutoff, column, VOCABULARIES)
        got: Any = cell if column.type == "category" else as_number(cell)
        if not agrees(got, expected, exact=column.declaration.family in EXACT):
            found.append(f"{name} of {lead_id} at {cutoff}: expected {expected}, got {got}")
    return found


def agrees(got: Any, expected: Any, *, exact: bool) -> bool:
    if expected is None or isinstance(expected, str):
        return got == expected or (expected is None and isinstance(got, float) and math.isnan(got))
    if exact:
        return got == expected
    return bool(np.isclose(got, expected, rtol=3e-7, atol=1e-9))


def test_the_declarations_cover_every_family() -> None:
    union = get_args(get_args(Feature)[0])
    assert {type(declaration) for declaration in (*OWN_ROWS, *ACROSS_LEADS)} == set(union)
    assert len({column.name for column in FEATURES.columns}) == len(FEATURES.columns) > 90


@given(choices())
@settings(max_examples=100)
def test_every_family_agrees_with_the_oracle(choose: Choose) -> None:
    rows = make_rows(choose)
    pairs = [(lead[0], make_cutoff(choose, rows)) for lead in rows.leads for _ in range(choose(4))]
    assert disagreements(rows, build_cells(rows, pairs, FEATURES)) == []


@pytest.mark.parametrize("seed", range(3))
def test_every_family_agrees_with_the_oracle_on_more_leads(seed: int) -> None:
    choose = from_seed(seed)
    rows = make_rows(choose, most_leads=40, most_events=25)
    pairs: list[Pair] = [
        (lead[0], make_cutoff(choose, rows)) for lead in rows.leads for _ in range(choose(8))
    ]
    cells = build_cells(rows, pairs, FEATURES)
    assert len(cells) > 3000
    assert disagreements(rows, cells) == []


def test_a_lead_with_hundreds_of_events_agrees_and_stays_the_same_when_asked_alone() -> None:
    choose = from_seed(5)
    lead = make_leads(choose, 1)[0]
    events = [make_event(choose, lead[0]) for _ in range(300)]
    rows = make_rows(choose).with_(leads=[lead], interactions=events, conversions=(), attribute_changes=())
    pairs: list[Pair] = [(lead[0], make_cutoff(choose, rows)) for _ in range(24)]
    cells = build_cells(rows, pairs, FEATURES)
    assert disagreements(rows, cells) == []
    for pair in pairs[::4]:
        alone = build_cells(rows, [pair], FEATURES)
        assert alone == {key: cell for key, cell in cells.items() if key[:2] == pair}


def test_a_wrong_cell_would_be_noticed() -> None:
    rows = make_rows(from_seed(1), most_leads=10)
    pairs = [(lead[0], day(30)) for lead in rows.leads]
    cells = build_cells(rows, pairs, FEATURES)
    for key, cell in list(cells.items())[::7]:
        wrong: Any = "wrong" if not isinstance(cell, bytes) else np.float32(as_number(cell) + 1).tobytes()
        if isinstance(cell, bytes) and math.isnan(as_number(cell)):
            wrong = np.float32(0).tobytes()
        assert len(disagreements(rows, {**cells, key: wrong})) == 1, key


def events(*when: tuple[float, str, float | None]) -> Rows:
    """One lead, created on day 0, with interactions at (day, kind, day of the record)."""
    rows = [
        ("a", day(at), kind, None if late is None else day(late), {"minutes": float(number)})
        for number, (at, kind, late) in enumerate(when)
    ]
    return Rows(
        (("a", day(0), None, {"source": "ads", "owner": "ann"}),),
        tuple(rows),
        lead_attributes={"source": "category", "owner": "category", "budget": "number", "renewal": "time"},
    )


def values(rows: Rows, cutoff: float, *names: str) -> list[Any]:
    """What the oracle says of lead a at a cutoff."""
    columns = {column.name: column for column in FEATURES.columns}
    return [oracle(rows, "a", day(cutoff), columns[name], VOCABULARIES) for name in names]


def test_the_oracle_itself_on_values_worked_out_by_hand() -> None:
    rows = events((1, "call", None), (3, "mail", None), (3, "form", None), (9, "call", None), (2, "call", 10))
    # At day 10 the late call of day 2 is not yet visible: recorded exactly at the cutoff.
    assert values(rows, 10, "count_all", "count_7d", "recency", "first_age", "age") == [4, 3, 1, 9, 10]
    assert values(rows, 10, "count_7d__kind_call", "count_7d__kind_mail", "count_7d__kind_other") == [1, 1, 1]
    assert values(rows, 10, "last_kind_1", "last_kind_2", "last_kind_3") == ["call", "(other)", "mail"]
    # Gaps of 2, 0 and 6 days: mean 8/3, variance (4 + 64 + 100) / 27.
    assert values(rows, 10, "gap_mean", "gap_silence") == pytest.approx([8 / 3, 3 / 8])
    assert values(rows, 10, "gap_deviation") == pytest.approx([math.sqrt(168 / 27)])
    # Windows include their first instant: the event of day 3 is seven days before day 10.
    assert values(rows, 10, "sum_minutes_7d", "max_minutes_7d", "last_minutes_7d") == [6, 3, 3]
    assert values(rows, 10, "decayed_7d") == pytest.approx([2 ** (-9 / 7) + 2 * 2**-1 + 2 ** (-1 / 7)])
    assert values(rows, 10, "distinct_active_days_all", "distinct_kind_all") == [3, 3]
    assert values(rows, 10, "trend_7d_30d") == pytest.approx([math.log(4 / (4 * 7 / 30 + 1))])
    # Of call, mail, form, call: call twice. 1 January 2024 was a Monday, day 1 a Tuesday, day 3 a Thursday.
    assert values(rows, 10, "topic_kind_all", "share_weekday_1", "share_weekday_3") == ["call", 0.25, 0.5]
    # One microsecond later the late call has arrived, in its place by time of occurrence.
    assert values(rows, 10 + 1 / 86_400_000_000, "count_all", "distinct_active_days_all") == [5, 4]


def test_the_oracle_itself_on_rates_worked_out_by_hand() -> None:
    leads = [(name, day(0), None, {"source": "ads", "owner": "ann"}) for name in "abcdef"]
    leads += [("late", day(9), None, {"source": "ads", "owner": "ann"})]
    leads += [("other", day(0), None, {"source": "web", "owner": "bob"})]
    rows = Rows(
        tuple(leads),
        conversions=(
            ("b", day(3), None),  # counts
            ("c", day(7), None),  # too late: not within 7 days of creation
            ("d", day(3), day(10)),  # not yet known at day 10
            ("e", None, None),  # no date: no cutoff sees it
        ),
        lead_attributes={"source": "category", "owner": "category"},
    )
    # Settled at day 10 but for a itself: b, c, d, e, f with ads, and other. Converted: b.
    base = 1.5 / 7
    assert values(rows, 10, "volume_source", "rate_source") == pytest.approx([5, (1 + 20 * base) / 25])
    assert values(rows, 6.99, "volume_source", "rate_source") == pytest.approx([0, 0.5])
    assert values(rows, 10, "load_owner_7d", "load_owner_all") == [1, 6]
