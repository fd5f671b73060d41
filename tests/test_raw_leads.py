"""Leads in memory have the features that a loaded history gives them, to the bit; rates and loads from a snapshot."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import observations_of
from convpredict.errors import BundleError
from convpredict.features.build import build_features
from convpredict.features.cross_lead import CrossLead, snapshot_cross_lead
from convpredict.features.raw_leads import RawChanges, RawEvents, RawFeatures, RawLeads
from every_family import LEAD_ATTRIBUTES, every_family_set, own_rows_set
from factories import day, to_us
from oracle import Rows
from strategies import Choose, choices, from_seed, history_of, make_cutoff, make_rows


def raw_leads(rows: Rows, cutoffs: dict[Any, datetime]) -> RawLeads:
    """The rows of some leads as a web service would hold them: what came later than the cutoff is there as well."""
    ids = list(cutoffs)
    lead_of = {row[0]: row for row in rows.leads}
    events = RawEvents(categories={"kind": [], "outcome": []}, numbers={"minutes": []})
    for number, lead_id in enumerate(ids):
        for tie, (_, occurred_at, kind, recorded_at, given_attributes) in enumerate(
            row for row in rows.interactions if row[0] == lead_id
        ):
            events.lead.append(number)
            events.occurred_at.append(to_us(occurred_at))
            events.recorded_at.append(to_us(recorded_at or occurred_at))
            events.tie.append(tie)
            events.categories["kind"].append(kind)
            events.categories["outcome"].append(given_attributes["outcome"])
            minutes = given_attributes["minutes"]
            events.numbers["minutes"].append(float("nan") if minutes is None else minutes)
    changes = RawChanges()
    for lead_id, attribute, value, valid_from, recorded_at in rows.attribute_changes:
        if lead_id in cutoffs:
            changes.lead.append(ids.index(lead_id))
            changes.attribute.append(attribute)
            changes.value.append(value)
            changes.valid_from.append(to_us(valid_from))
            changes.recorded_at.append(None if recorded_at is None else to_us(recorded_at))
    dated = {row[0]: (row[1], row[2] or row[1]) for row in rows.conversions if row[1] is not None}
    return RawLeads(
        [to_us(lead_of[lead_id][1]) for lead_id in ids],
        [to_us(cutoffs[lead_id]) for lead_id in ids],
        {
            name: [as_raw(lead_of[lead_id][3][name], kind) for lead_id in ids]
            for name, kind in LEAD_ATTRIBUTES.items()
        },
        events,
        changes,
        [to_us(dated[lead_id][0]) if lead_id in dated else None for lead_id in ids],
        [max(map(to_us, dated[lead_id])) if lead_id in dated else None for lead_id in ids],
    )


def as_raw(value: Any, kind: str) -> Any:
    return to_us(value) if kind == "time" and value is not None else value


def assert_same_bits(raw: Any, built: Any, names: tuple[str, ...]) -> None:
    for name in names:
        one, other = raw.column(raw.schema.get_field_index(name)), built[name].combine_chunks()
        if hasattr(one, "indices"):
            assert one.to_pylist() == other.to_pylist(), name
        else:
            assert one.to_numpy().tobytes() == other.to_numpy().tobytes(), name


def check(choose: Choose, *, most_leads: int = 5) -> None:
    rows = make_rows(choose, most_leads=most_leads)
    history, wanted = history_of(rows), every_family_set()
    cutoff = make_cutoff(choose, rows)
    ids = sorted({row[0] for row in rows.leads})
    built = build_features(history, observations_of(rows, [(lead_id, cutoff) for lead_id in ids]), wanted)
    snapshot = json.loads(json.dumps(snapshot_cross_lead(history, wanted, cutoff)))
    features, cross_lead = RawFeatures(wanted), CrossLead.from_dict(snapshot)
    together = features.build(raw_leads(rows, dict.fromkeys(ids, cutoff)), cross_lead)
    assert_same_bits(together, built, wanted.names)
    place = choose(len(ids))
    alone = features.build(raw_leads(rows, {ids[place]: cutoff}), cross_lead)
    assert_same_bits(alone, built.slice(place, 1), wanted.names)


@settings(max_examples=30, deadline=None)
@given(choices())
def test_leads_in_memory_have_the_features_of_the_loaded_history(choose: Choose) -> None:
    check(choose)


@pytest.mark.parametrize("seed", range(12))
def test_so_have_larger_histories(seed: int) -> None:
    check(from_seed(seed), most_leads=30)


@settings(max_examples=12, deadline=None)
@given(choices(), st.integers(1, 40))
def test_each_lead_may_have_its_own_cutoff(choose: Choose, steps: int) -> None:
    rows = make_rows(choose)
    history = history_of(rows)
    wanted = own_rows_set()
    first = make_cutoff(choose, rows)
    ids = sorted({row[0] for row in rows.leads})
    cutoffs = {lead_id: first + timedelta(hours=6 * steps * place) for place, lead_id in enumerate(ids)}
    built = build_features(history, observations_of(rows, cutoffs.items()), wanted)
    assert_same_bits(RawFeatures(wanted).build(raw_leads(rows, cutoffs)), built, wanted.names)


def test_a_snapshot_tells_no_lead_and_is_the_same_for_the_same_history() -> None:
    rows = make_rows(from_seed(3), most_leads=40)
    one = json.dumps(snapshot_cross_lead(history_of(rows), every_family_set(), day(20)), sort_keys=True)
    other = json.dumps(snapshot_cross_lead(history_of(rows), every_family_set(), day(20)), sort_keys=True)
    assert one == other
    assert "lead-" not in one
    assert json.loads(one)["as_of"] == "2024-01-21T00:00:00+00:00"


def test_averages_are_the_rate_of_all_leads() -> None:
    from convpredict.scoring.lead_reasons import conversion_rates

    history = history_of(make_rows(from_seed(3), most_leads=40))
    snapshot = CrossLead.from_dict(snapshot_cross_lead(history, every_family_set(), day(20)))
    assert snapshot.averages == conversion_rates(history, every_family_set(), day(20))
    assert snapshot.averages


def test_features_across_leads_are_refused_without_a_fitting_snapshot() -> None:
    rows = make_rows(from_seed(3))
    lead = rows.leads[0]
    raw = raw_leads(rows, {lead[0]: day(50)})
    with pytest.raises(BundleError, match="give a snapshot"):
        RawFeatures(every_family_set()).build(raw)
    own = own_rows_set()
    assert not RawFeatures(own).needs_snapshot
    empty = CrossLead.from_dict(snapshot_cross_lead(history_of(rows), own, day(50)))
    with pytest.raises(BundleError, match="belongs to another model"):
        empty.check(every_family_set())
    CrossLead.from_dict(snapshot_cross_lead(history_of(rows), every_family_set(), day(50))).check(
        every_family_set()
    )


@pytest.mark.parametrize(
    "change", [{"format": 9}, {"kind": "x"}, {"rates": [{}]}, {"as_of": "soon"}, {"loads": 1}]
)
def test_a_snapshot_that_is_none_is_refused(change: dict[str, Any]) -> None:
    rows = make_rows(from_seed(3))
    stored = snapshot_cross_lead(history_of(rows), every_family_set(), day(20))
    CrossLead.from_dict(stored)
    with pytest.raises(BundleError, match="cannot be understood"):
        CrossLead.from_dict({**stored, **change})
