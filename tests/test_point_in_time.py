"""The point-in-time proof: what becomes known at the cutoff or later changes no cell, to the bit.

Each property is also run against builds with a planted leak, and has to find every one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings

import oracle
from cells import Build, Cells, Pair, build_cells, cells_of, observations_of
from convpredict.config.base import Duration
from convpredict.config.features import FeaturesConfig
from convpredict.features.build import build_features, write_features
from convpredict.features.feature_set import FeatureSet
from convpredict.training.as_of import history_as_of
from every_family import VOCABULARIES, every_family_set, own_rows_set
from factories import day
from oracle import Rows, known_from, microseconds
from strategies import (
    STEP,
    Choose,
    another_future,
    choices,
    from_seed,
    history_of,
    instant,
    known,
    make_cutoff,
    make_rows,
    one_of,
)
from test_loaded_history import acceptable, from_frames
from test_oracle import disagreements

EVERY_FAMILY = every_family_set()
OWN_ROWS = own_rows_set()


def differing(one: Cells, other: Cells) -> list[tuple[object, datetime, str]]:
    """Keys of the cells that are not the same to the bit."""
    return [key for key in {**one, **other} if one.get(key) != other.get(key)]


def observed_until(choose: Choose, rows: Rows, cutoff: datetime) -> list[Pair]:
    """Every lead that exists before the cutoff, observed there and at some earlier cutoffs."""
    pairs: list[Pair] = []
    for lead in rows.leads:
        if known(lead[1], None, cutoff):
            earlier = [make_cutoff(choose, rows) for _ in range(choose(3))]
            pairs += [(lead[0], at) for at in (cutoff, *earlier) if at <= cutoff]
    return pairs


def the_future_changes_nothing(choose: Choose, build: Build) -> None:
    rows = make_rows(choose)
    cutoff = make_cutoff(choose, rows)
    pairs = observed_until(choose, rows, cutoff)
    changed = another_future(choose, rows, cutoff)
    assert differing(build(rows, pairs, EVERY_FAMILY), build(changed, pairs, EVERY_FAMILY)) == []


@given(choices())
@settings(max_examples=150)
def test_what_is_visible_only_later_changes_no_cell(choose: Choose) -> None:
    the_future_changes_nothing(choose, build_cells)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_visible_only_later_changes_no_cell_of_many_leads(seed: int) -> None:
    choose = from_seed(seed)
    rows = make_rows(choose, most_leads=60, most_events=20)
    cutoff = make_cutoff(choose, rows)
    pairs = observed_until(choose, rows, cutoff)
    expected = build_cells(rows, pairs, EVERY_FAMILY)
    for _ in range(3):
        changed = another_future(choose, rows, cutoff)
        assert changed != rows
        assert differing(expected, build_cells(changed, pairs, EVERY_FAMILY)) == []


def without_records(rows: Rows) -> Rows:
    """The rows of somebody who takes every fact as known from the moment it happened."""
    return rows.with_(
        interactions=[(*row[:3], None, row[4]) for row in rows.interactions],
        conversions=[(*row[:2], None) for row in rows.conversions],
        attribute_changes=[(*row[:4], None) for row in rows.attribute_changes],
    )


def ignoring_records(rows: Rows, pairs: list[Pair], feature_set: FeatureSet) -> Cells:
    return build_cells(without_records(rows), pairs, feature_set)


def ignoring_records_of_conversions(rows: Rows, pairs: list[Pair], feature_set: FeatureSet) -> Cells:
    leaky = rows.with_(conversions=[(*row[:2], None) for row in rows.conversions])
    return build_cells(leaky, pairs, feature_set)


def including_the_cutoff(rows: Rows, pairs: list[Pair], feature_set: FeatureSet) -> Cells:
    """Everything up to and with the cutoff itself; what only measures the time to the cutoff is left out."""
    tick = timedelta(microseconds=1)
    cells = build_cells(rows, [(lead_id, cutoff + tick) for lead_id, cutoff in pairs], feature_set)
    return {(lead_id, at - tick, name): cell for (lead_id, at, name), cell in cells.items()}


def with_attributes_of_today(rows: Rows, pairs: list[Pair], feature_set: FeatureSet) -> Cells:
    """Lead attributes as the CRM shows them now, which is the usual leak."""
    today = {lead[0]: dict(lead[3]) for lead in rows.leads}
    for lead_id, name, value, _, _ in sorted(rows.attribute_changes, key=lambda row: row[3]):
        if lead_id in today:
            read: Any = {"budget": float, "renewal": datetime.fromisoformat}.get(name, str)
            today[lead_id][name] = None if value is None else read(value)
    leads = [(*lead[:3], today[lead[0]]) for lead in rows.leads]
    return build_cells(rows.with_(leads=leads), pairs, feature_set)


def by_oracle(rows: Rows, pairs: list[Pair], feature_set: FeatureSet) -> Cells:
    return {
        (lead_id, cutoff, column.name): repr(oracle.oracle(rows, lead_id, cutoff, column, VOCABULARIES))
        for lead_id, cutoff in pairs
        for column in feature_set.columns
    }


LEAKS = [
    ignoring_records,
    ignoring_records_of_conversions,
    including_the_cutoff,
    with_attributes_of_today,
]


def finds_a_leak(property_of: Callable[[Choose, Build], None], build: Build) -> None:
    """Run the property against a leaky build until it fails; fail if it never does."""

    @given(choices())
    @settings(max_examples=300, phases=[Phase.generate])
    def attempt(choose: Choose) -> None:
        property_of(choose, build)

    with pytest.raises(AssertionError, match="== \\[\\]"):
        attempt()


@pytest.mark.parametrize("leak", LEAKS)
def test_the_property_finds_a_planted_leak(leak: Build) -> None:
    finds_a_leak(the_future_changes_nothing, leak)


def test_the_oracle_keeps_the_time_rule_too() -> None:
    @given(choices())
    @settings(max_examples=10)
    def attempt(choose: Choose) -> None:
        the_future_changes_nothing(choose, by_oracle)

    attempt()


def test_the_property_finds_a_relaxed_time_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "known_from", lambda occurred_at, recorded_at: microseconds(occurred_at))
    finds_a_leak(the_future_changes_nothing, by_oracle)


@given(choices())
@settings(max_examples=30)
def test_one_lead_depends_on_its_own_rows_only(choose: Choose) -> None:
    rows, strangers = make_rows(choose), make_rows(choose)
    lead = one_of(choose, rows.leads)
    cutoffs = [make_cutoff(choose, rows) for _ in range(1 + choose(3))]
    pairs: list[Pair] = [(lead[0], cutoff) for cutoff in cutoffs]
    alone = only(rows, lead[0])
    others = without(strangers, lead[0])
    mixed = rows.with_(
        leads=(*others.leads, *alone.leads),
        interactions=(*others.interactions, *alone.interactions),
        conversions=(*alone.conversions, *others.conversions),
        attribute_changes=(*others.attribute_changes, *alone.attribute_changes),
    )
    expected = build_cells(rows, pairs, OWN_ROWS)
    assert differing(expected, build_cells(alone, pairs, OWN_ROWS)) == []
    assert differing(expected, build_cells(mixed, pairs, OWN_ROWS)) == []


def only(rows: Rows, lead_id: object) -> Rows:
    """The rows of one lead."""
    return rows.with_(
        leads=[row for row in rows.leads if row[0] == lead_id],
        interactions=[row for row in rows.interactions if row[0] == lead_id],
        conversions=[row for row in rows.conversions if row[0] == lead_id],
        attribute_changes=[row for row in rows.attribute_changes if row[0] == lead_id],
    )


def without(rows: Rows, lead_id: object) -> Rows:
    """The rows of all other leads."""
    return rows.with_(
        leads=[row for row in rows.leads if row[0] != lead_id],
        interactions=[row for row in rows.interactions if row[0] != lead_id],
        conversions=[row for row in rows.conversions if row[0] != lead_id],
        attribute_changes=[row for row in rows.attribute_changes if row[0] != lead_id],
    )


def test_the_rate_does_depend_on_other_leads() -> None:
    rows = make_rows(from_seed(7), most_leads=40)
    lead = rows.leads[0]
    pairs: list[Pair] = [(lead[0], day(39))]
    changed = differing(
        build_cells(rows, pairs, EVERY_FAMILY), build_cells(only(rows, lead[0]), pairs, EVERY_FAMILY)
    )
    assert changed
    assert {name.split("_")[0] for _, _, name in changed} <= {"rate", "volume", "load"}


@given(choices())
@settings(max_examples=20)
def test_a_cell_is_the_same_alone_with_others_in_any_bucket_and_thread(choose: Choose) -> None:
    rows = make_rows(choose)
    history = history_of(rows)
    pairs: list[Pair] = [
        (lead[0], make_cutoff(choose, rows)) for lead in rows.leads for _ in range(1 + choose(4))
    ]
    observations = observations_of(rows, pairs)
    together = cells_of(build_features(history, observations, EVERY_FAMILY))
    for bucket_events, n_jobs in ((1, 1), (1 + choose(6), 2)):
        table = build_features(
            history, observations, EVERY_FAMILY, bucket_events=bucket_events, n_jobs=n_jobs
        )
        assert differing(together, cells_of(table)) == []
    pair = one_of(choose, tuple(pairs))
    alone = cells_of(build_features(history, observations_of(rows, [pair]), EVERY_FAMILY))
    assert differing(alone, {key: cell for key, cell in together.items() if key[:2] == pair}) == []


def test_the_written_file_holds_the_same_cells(tmp_path: Path) -> None:
    rows = make_rows(from_seed(3), most_leads=30)
    observations = observations_of(
        rows, [(lead[0], day(number)) for lead in rows.leads for number in (10, 20, 40)]
    )
    history = history_of(rows)
    write_features(history, observations, EVERY_FAMILY, tmp_path / "features.parquet", bucket_events=50)
    written = cells_of(pq.read_table(tmp_path / "features.parquet"))
    assert differing(written, cells_of(build_features(history, observations, EVERY_FAMILY))) == []
    assert len(written) == observations.num_rows * len(EVERY_FAMILY.columns)


def with_some_past(rows: Rows, at: datetime) -> Rows:
    """Besides, one interaction and one conversion at an instant: the default set asks whether a table is empty."""
    lead_id = rows.leads[0][0]
    others = [row for row in rows.conversions if row[0] != lead_id]
    return rows.with_(
        interactions=[*rows.interactions, (lead_id, at, "call", None, {})],
        conversions=[*others, (lead_id, at, None)],
    )


@given(choices())
@settings(max_examples=30)
def test_what_is_visible_only_later_teaches_no_vocabulary(choose: Choose) -> None:
    rows = make_rows(choose)
    until = make_cutoff(choose, rows)
    rows = with_some_past(rows, until - timedelta(microseconds=1))
    config = FeaturesConfig(min_count=1, max_values=3)
    sets = [
        FeatureSet.fit(history_of(past_or_future), config, until=until, horizon=Duration("7d"))
        for past_or_future in (rows, another_future(choose, rows, until))
    ]
    assert sets[0] == sets[1]


def with_further_conversions(choose: Choose, rows: Rows) -> Rows:
    """Every lead with up to three more conversions soon after its creation, most of them recorded at any time."""
    more = [
        (lead[0], lead[1] + (1 + choose(30)) * STEP, one_of(choose, (None, instant(choose), instant(choose))))
        for lead in rows.leads
        for _ in range(choose(4))
    ]
    return acceptable(rows.with_(conversions=[*rows.conversions, *more]))


@pytest.mark.parametrize("seed", range(3))
def test_a_conversion_that_is_recorded_later_displaces_none_that_was_known(seed: int) -> None:
    choose = from_seed(seed)
    rows = with_further_conversions(choose, acceptable(make_rows(choose, most_leads=80)))
    history = from_frames(rows, Path())
    for cutoff in (day(20), day(30)):
        pairs = [(lead[0], cutoff) for lead in rows.leads if known(lead[1], None, cutoff)]
        observations = observations_of(rows, pairs)
        cells = cells_of(build_features(history, observations, EVERY_FAMILY))
        then = history_as_of(history, cutoff)
        assert then.conversions != history.conversions
        assert differing(cells, cells_of(build_features(then, observations, EVERY_FAMILY))) == []
    assert disagreements(rows, cells) == []


def test_another_future_keeps_the_past_and_changes_the_future() -> None:
    dropped = altered = added = 0
    for seed in range(40):
        choose = from_seed(seed)
        rows = make_rows(choose)
        cutoff = make_cutoff(choose, rows)
        changed = another_future(choose, rows, cutoff)
        for one, other in ((rows, changed), (changed, rows)):
            past = [row for row in one.interactions if known_from(row[1], row[3]) < microseconds(cutoff)]
            assert past == [
                row for row in other.interactions if known_from(row[1], row[3]) < microseconds(cutoff)
            ]
        before, after = set(map(repr, rows.interactions)), set(map(repr, changed.interactions))
        dropped += len(before - after)
        added += len(after - before)
        altered += rows.conversions != changed.conversions
    assert min(dropped, altered, added) > 10
