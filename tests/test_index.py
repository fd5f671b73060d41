"""Cutting the interactions into buckets, and the index of a bucket."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from convpredict.engines.buckets import Dictionary, Events, EventStore, read_events
from convpredict.engines.local import map_buckets, worker_count
from convpredict.features.index import index_events
from convpredict.features.kernels.ordering import sort_stable
from factories import day, make_history, random_history, to_us

FAR = 2**62


def store_of(history, cutoff=FAR, **options) -> EventStore:
    rows = np.arange(history.n_leads, dtype=np.int32)
    cutoffs = np.full(len(rows), cutoff, np.int64)
    return read_events(history, rows, cutoffs, categories=["kind"], **options)


def events_of(lead, occurred_at, tie=None, visible_at=None) -> Events:
    n = len(lead)
    return Events(
        10,
        14,
        np.array(lead, np.int32),
        np.array(occurred_at, np.int64),
        None if visible_at is None else np.array(visible_at, np.int64),
        np.array(range(n) if tie is None else tie, np.int64),
        {"kind": np.arange(n, dtype=np.int32)},
        {"amount": np.arange(n) / 2},
    )


def test_events_are_grouped_by_lead_and_ordered_by_time_then_tie():
    # source order        0   1   2   3   4   5
    bucket = index_events(events_of([3, 0, 3, 0, 3, 0], [50, 20, 40, 10, 40, 20], tie=[0, 9, 7, 3, 6, 8]))
    assert bucket.lead_offsets.tolist() == [0, 3, 3, 3, 6]
    # lead 0: 10, then the two at 20 by tie 8 (row 5), 9 (row 1); lead 3: the two at 40 by tie 6 (row 4), 7 (row 2)
    assert bucket.codes["kind"].tolist() == [3, 5, 1, 4, 2, 0]
    assert bucket.occurred_at.tolist() == [10, 20, 20, 40, 40, 50]
    assert bucket.numbers["amount"].tolist() == [1.5, 2.5, 0.5, 2.0, 1.0, 0.0]
    assert not bucket.late
    assert bucket.visible_at is bucket.occurred_at


def test_equal_time_and_tie_keep_the_order_of_the_source():
    bucket = index_events(events_of([1, 1, 1, 1], [7, 5, 5, 5], tie=[0, 0, 0, 0]))
    assert bucket.codes["kind"].tolist() == [1, 2, 3, 0]


def test_a_late_record_makes_a_late_bucket_and_none_does_not():
    assert index_events(events_of([0, 1], [5, 6], visible_at=[5, 9])).late
    assert not index_events(events_of([0, 1], [5, 6], visible_at=[5, 6])).late
    assert index_events(events_of([0, 1], [5, 6], visible_at=[5, 6]), late=True).late


def test_an_empty_bucket_has_an_index():
    bucket = index_events(events_of([], []))
    assert bucket.lead_offsets.tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 17, 100])
def test_the_sort_agrees_with_numpy(n):
    rng = np.random.default_rng(n)
    first, second = rng.integers(0, 5, n), rng.integers(0, 3, n)
    order = np.arange(n)
    sort_stable(order, np.empty(n, np.int64), 0, n, first, second)
    assert order.tolist() == np.lexsort((second, first)).tolist()


def test_the_dictionary_grows_and_keeps_its_codes():
    dictionary = Dictionary()
    assert dictionary.encode(pa.array(["b", "a", "b"])).tolist() == [0, 1, 0]
    assert dictionary.encode(pa.array(["c", None, "a"])).tolist() == [2, -1, 1]
    assert dictionary.encode(pa.array([None, None], pa.string())).tolist() == [-1, -1]
    assert dictionary.encode(pa.array(["a", "d"]).dictionary_encode()).tolist() == [1, 3]
    assert dictionary.values.to_pylist() == ["b", "a", "c", "d"]


def test_a_dictionary_array_may_hold_a_null_among_its_values():
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array(["x", None]))
    assert Dictionary().encode(column).tolist() == [0, -1, -1]


@pytest.mark.parametrize("bucket_events", [1, 7, 40, 1_000_000])
def test_buckets_partition_the_leads_and_lose_no_event(bucket_events, tmp_path):
    history = random_history(np.random.default_rng(3), leads=37, interactions_per_lead=9)
    with store_of(history, bucket_events=bucket_events, spill_dir=tmp_path) as store:
        whole = history.query("SELECT * FROM interactions ORDER BY lead_row, occurred_at, tie")
        bounds = [(bucket.lead_begin, bucket.lead_end) for bucket in store.buckets]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == 37
        assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))
        kinds, times, rows = [], [], []
        for bucket_range in store.buckets:
            bucket = index_events(store.load(bucket_range))
            assert len(bucket.occurred_at) == bucket_range.n_events
            kinds += [store.values("kind")[code] for code in bucket.codes["kind"]]
            times += bucket.occurred_at.tolist()
            counts = np.diff(bucket.lead_offsets)
            rows += np.repeat(np.arange(bucket.lead_begin, bucket.lead_end), counts).tolist()
        assert kinds == whole["kind"].to_pylist()
        assert times == whole["occurred_at"].to_pylist()
        assert rows == whole["lead_row"].to_pylist()
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_holds_no_more_than_it_may_unless_it_is_one_cell(tmp_path):
    history = random_history(np.random.default_rng(4), leads=64, interactions_per_lead=8)
    with store_of(history, bucket_events=60, spill_dir=tmp_path) as store:
        assert len(store.buckets) > 3
        assert all(
            bucket.n_events <= 60 or bucket.cell_end == bucket.cell_begin + 1 for bucket in store.buckets
        )


def test_rows_that_no_observation_of_the_lead_sees_are_dropped():
    history = make_history(
        [("a", day(0)), ("b", day(0)), ("c", day(0))],
        [
            ("a", day(1), "x"),
            ("a", day(3), "y"),
            ("b", day(1), "x"),
            ("c", day(1), "z", day(9)),
            ("c", day(2), "w"),
        ],
    )
    # a is observed at day 3 (its second event is exactly then), b never, c at day 5 (one record comes later)
    rows, cutoffs = np.array([0, 2], np.int32), np.array([to_us(day(3)), to_us(day(5))])
    with read_events(history, rows, cutoffs, categories=["kind"]) as store:
        assert store.n_events == 2
        bucket = index_events(store.load(store.buckets[0]))
        assert [store.values("kind")[code] for code in bucket.codes["kind"]] == ["x", "w"]


def test_infinite_numbers_are_missing_and_negative_zero_is_zero():
    history = make_history(
        [("a", day(0))],
        [
            ("a", day(number), "x", None, {"v": value})
            for number, value in enumerate([np.inf, -0.0, None, 2.0])
        ],
        interaction_attributes={"v": "number"},
    )
    rows, cutoffs = np.array([0], np.int32), np.array([FAR])
    with read_events(history, rows, cutoffs, numbers=["v"]) as store:
        values = store.load(store.buckets[0]).numbers["v"]
    assert np.isnan(values).tolist() == [True, False, True, False]
    assert not np.signbit(values[1])


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_results_come_in_the_order_of_the_buckets(n_jobs):
    assert list(map_buckets(lambda number: -number, range(20), n_jobs)) == [-number for number in range(20)]


def test_only_a_few_buckets_are_taken_ahead():
    taken = []
    results = map_buckets(lambda number: number, (taken.append(number) or number for number in range(50)), 2)
    assert next(results) == 0
    assert len(taken) <= 4
    results.close()


def test_an_error_in_a_bucket_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(map_buckets(lambda number: 1 // number, [1, 0, 2], 2))


def test_worker_count():
    assert worker_count(3) == 3
    assert worker_count(-1) == worker_count(None) >= 1
