"""The feature table as a whole: the same bits however it is cut, asked for, threaded or written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convpredict.engines.buckets import read_events
from convpredict.errors import DataError
from convpredict.features import batches
from convpredict.features.build import build_features, write_features
from convpredict.features.event_columns import walk_events
from convpredict.features.event_plan import code_values, plan_events
from convpredict.features.feature_set import FeatureSet
from convpredict.features.index import index_events
from convpredict.features.vocabulary import Vocabularies, column_types
from convpredict.history.history import TIMESTAMP, History
from every_family import OWN_ROWS
from factories import day, make_history, random_history

VOCABULARY = {
    ("interactions", "kind"): ("call", "mail"),
    ("interactions", "outcome"): ("good", "none"),
    ("leads", "source"): ("ads", "web"),
}


def declare(history: History, vocabulary: dict[tuple[str, str], tuple[str, ...]] = VOCABULARY) -> FeatureSet:
    """Every family that this history has the columns for."""
    vocabularies = Vocabularies(vocabulary, column_types(history))
    usable = [
        declaration
        for declaration in OWN_ROWS
        if getattr(declaration, "attribute", "minutes") in (*history.lead_attributes, "minutes")
    ]
    return FeatureSet.declare(usable, vocabularies)


def observe(history: History, days: list[float], leads: list[int] | None = None) -> pa.Table:
    rows = list(range(history.n_leads)) if leads is None else leads
    return pa.table(
        {
            "lead_row": pa.array([row for row in rows for _ in days], pa.int32()),
            "lead_id": pa.array([history.leads["lead_id"][row].as_py() for row in rows for _ in days]),
            "cutoff": pa.array([day(at) for _ in rows for at in days], TIMESTAMP),
        }
    )


def bits(table: pa.Table) -> dict[str, list]:
    """Columns as bits: floats by their four bytes, so that NaN equals NaN and 0 differs from -0."""
    return {
        name: table[name].to_numpy().view(np.uint32).tolist()
        if pa.types.is_float32(table[name].type)
        else table[name].to_pylist()
        for name in table.column_names
    }


DAYS = [0.0, 3.0, 10.0, 10.0, 10.25, 31.3, 45.0, 59.0, 90.0]


@pytest.fixture(scope="module")
def history() -> History:
    return random_history(np.random.default_rng(11), leads=40, interactions_per_lead=12)


@pytest.fixture(scope="module")
def whole(history) -> pa.Table:
    return build_features(history, observe(history, DAYS), declare(history), n_jobs=1)


def test_the_table_has_the_promised_schema(history, whole):
    feature_set = declare(history)
    assert whole.column_names == ["lead_id", "cutoff", *feature_set.names]
    assert whole.schema.field("cutoff").type == TIMESTAMP
    for column in feature_set.columns:
        field = whole.schema.field(column.name)
        assert field.type == (
            pa.float32() if column.type == "number" else pa.dictionary(pa.int32(), pa.string())
        )
    assert whole["lead_id"].to_pylist() == observe(history, DAYS)["lead_id"].to_pylist()
    assert whole["cutoff"].to_pylist() == observe(history, DAYS)["cutoff"].to_pylist()
    assert all(
        whole[name].null_count == 0 for name in whole.column_names if pa.types.is_float32(whole[name].type)
    )


@pytest.mark.parametrize(("bucket_events", "n_jobs"), [(1, 1), (9, 2), (50, 3), (10_000, 2)])
def test_buckets_and_threads_change_no_bit(history, whole, bucket_events, n_jobs):
    found = build_features(
        history, observe(history, DAYS), declare(history), bucket_events=bucket_events, n_jobs=n_jobs
    )
    assert bits(found) == bits(whole)


def test_small_batches_that_cut_through_a_lead_change_no_bit(history, whole, monkeypatch):
    monkeypatch.setattr(batches, "_CELLS_PER_BATCH", 1)
    monkeypatch.setattr(batches, "_LEAST_ROWS", 4)
    found = build_features(history, observe(history, DAYS), declare(history), n_jobs=1)
    assert found["count_all"].num_chunks > 40
    assert bits(found) == bits(whole)


def test_a_cell_is_the_same_whether_asked_for_alone_or_with_others(history, whole):
    expected = bits(whole)
    for number, at in enumerate(DAYS):
        alone = bits(build_features(history, observe(history, [at]), declare(history)))
        for name, cells in alone.items():
            assert cells == expected[name][number :: len(DAYS)], (name, at)


def test_a_cell_is_the_same_whatever_other_leads_are_observed(history, whole):
    some = [3, 4, 17, 39]
    found = bits(build_features(history, observe(history, DAYS, some), declare(history)))
    chosen = bits(whole.take(pa.array([row * len(DAYS) + k for row in some for k in range(len(DAYS))])))
    assert found == chosen


@pytest.mark.parametrize("bucket_events", [9, 10_000])
def test_requests_that_share_a_pass_get_the_bits_of_their_own_builds(history, bucket_events):
    fewer = {**VOCABULARY, ("leads", "source"): ("web",), ("interactions", "kind"): ("mail",)}
    renamed = {**VOCABULARY, ("leads", "source"): ("fair", "ads")}
    requests = [
        (observe(history, [45.0, 90.0]), declare(history)),
        (observe(history, [3.0, 10.0, 31.3], [0, 5, 17, 39]), declare(history, fewer)),
        (observe(history, [0.0, 59.0], list(range(30))), declare(history, renamed)),
        (observe(history, []), declare(history)),
        (observe(history, [10.25]), declare(history)),
    ]
    found = {number: [] for number in range(len(requests))}
    shared = batches.map_features(
        history,
        requests,
        lambda _, batch: bits(pa.Table.from_batches([batch])),
        bucket_events=bucket_events,
        n_jobs=2,
    )
    for number, first, cells in shared:
        assert first == sum(len(earlier["cutoff"]) for earlier in found[number])
        found[number].append(cells)
    for number, (observations, feature_set) in enumerate(requests):
        expected = bits(build_features(history, observations, feature_set, n_jobs=1))
        together = {name: [cell for piece in found[number] for cell in piece[name]] for name in expected}
        assert together == expected


@pytest.mark.parametrize("events", [5, 500])
def test_the_path_for_late_records_gives_the_same_bits_where_none_is_late(events):
    history = random_history(np.random.default_rng(2), leads=8, interactions_per_lead=events, late_share=0)
    feature_set, table = declare(history), observe(history, DAYS)
    plan = plan_events(feature_set.columns, feature_set.vocabularies)
    rows, cutoffs = table["lead_row"].to_numpy(), table["cutoff"].cast(pa.int64()).to_numpy()
    with read_events(
        history, rows, cutoffs, categories=plan.read_categories, numbers=plan.read_numbers
    ) as store:
        coding = code_values(plan, {name: store.values(name) for name in plan.read_categories})
        found = []
        for late in (False, True):
            bucket = index_events(store.load(store.buckets[0]), late=late)
            assert bucket.late == late
            found.append(walk_events(bucket, rows, cutoffs, plan, coding))
    n = len(cutoffs)
    fast, slow = found
    np.testing.assert_array_equal(fast.numbers[:, :n].view(np.uint32), slow.numbers[:, :n].view(np.uint32))
    np.testing.assert_array_equal(fast.categories[:, :n], slow.categories[:, :n])


@pytest.mark.parametrize("late_share", [0.0, 0.4])
def test_large_leads_give_the_same_bits_alone_or_with_others(late_share):
    history = random_history(
        np.random.default_rng(9), leads=3, interactions_per_lead=700, late_share=late_share
    )
    days = [2.0, 11.0, 25.5, 40.0, 58.0, 61.0]
    expected = bits(build_features(history, observe(history, days), declare(history)))
    for number, at in enumerate(days):
        for name, cells in bits(build_features(history, observe(history, [at]), declare(history))).items():
            assert cells == expected[name][number :: len(days)], (name, at)


def test_later_rows_change_no_cell_of_a_large_lead():
    """Values that appear only after the cutoff must not change how earlier sums are rounded."""
    base = [("a", day(number / 20), "call", None, {"minutes": 0.1 * number}) for number in range(600)]
    later = [("a", day(40), "call", None, {"minutes": value}) for value in (1e300, 1e-300, -7.0)]
    late = [("a", day(1), "mail", day(41), {"minutes": 1e200})]
    found = []
    for events in (base, [*base, *later, *late]):
        history = make_history(
            [("a", day(0))],
            events,
            known_until=day(50),
            interaction_attributes={"minutes": "number", "outcome": "category"},
        )
        found.append(bits(build_features(history, observe(history, [8.0, 29.0, 35.0]), declare(history))))
    assert found[0] == found[1]


def test_a_history_without_interactions_has_features():
    history = make_history(
        [("a", day(0)), ("b", day(1))],
        interaction_attributes={"minutes": "number", "outcome": "category"},
        known_until=day(50),
    )
    table = build_features(history, observe(history, [5.0]), declare(history))
    assert table["count_all"].to_pylist() == [0.0, 0.0]
    assert np.isnan(table["recency"].to_numpy()).all()
    assert table["last_kind_1"].to_pylist() == [None, None]


def test_no_observations_give_an_empty_table(history, whole):
    table = build_features(
        history, observe(history, [5.0], []).cast(observe(history, [5.0]).schema), declare(history)
    )
    assert table.num_rows == 0
    assert table.schema == whole.schema


def test_unsorted_observations_are_refused(history):
    table = observe(history, [5.0, 9.0])
    with pytest.raises(DataError, match="not sorted by"):
        build_features(history, table.take(pa.array([1, 0])), declare(history))
    with pytest.raises(DataError, match="not sorted by"):
        build_features(history, table.take(pa.array([2, 0])), declare(history))


def test_observations_of_another_history_are_refused(history):
    table = observe(history, [5.0]).slice(0, 1).set_column(0, "lead_row", pa.array([40], pa.int32()))
    with pytest.raises(DataError, match="40 leads"):
        build_features(history, table, declare(history))


def test_progress_rises_to_one(history):
    shares: list[float] = []
    build_features(
        history, observe(history, DAYS), declare(history), bucket_events=50, progress=shares.append
    )
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_file_holds_the_same_bits(history, whole, tmp_path):
    path = tmp_path / "features.parquet"
    statistics = write_features(
        history, observe(history, DAYS), declare(history), path, bucket_events=60, n_jobs=2
    )
    table = pq.read_table(path)
    assert bits(table) == bits(whole)
    assert table.schema.equals(whole.schema)
    assert statistics.rows == whole.num_rows
    assert statistics.columns == whole.num_columns - 2
    assert statistics.bytes == path.stat().st_size
    assert statistics.buckets > 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["features.parquet"]


def test_two_files_of_the_same_input_are_the_same_bytes(history, tmp_path):
    for name, n_jobs, size in (("one", 1, 4_000_000), ("two", 2, 4_000_000)):
        write_features(
            history,
            observe(history, DAYS),
            declare(history),
            tmp_path / name,
            n_jobs=n_jobs,
            bucket_events=size,
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(history, tmp_path):
    path = tmp_path / "features.parquet"
    path.write_bytes(b"what was there before")

    def fail(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(
            history, observe(history, DAYS), declare(history), path, bucket_events=60, progress=fail
        )
    assert path.read_bytes() == b"what was there before"
    assert [entry.name for entry in Path(tmp_path).iterdir()] == ["features.parquet"]
