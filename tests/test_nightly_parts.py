"""The parts of a night by themselves: names and plans, the folder's past, buckets, the checks that always stop."""

from __future__ import annotations

import itertools
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convpredict.config.base import Duration
from convpredict.config.load import parse_project
from convpredict.errors import ConfigError, DataError, PublishError
from convpredict.scoring.nightly.buckets import BucketStore
from convpredict.scoring.nightly.checks import check_scores
from convpredict.scoring.nightly.lock import LOCK, holding_lock, owner_of
from convpredict.scoring.nightly.plan import (
    Plan,
    cutoffs_between,
    last_cutoff,
    parse_run_id,
    run_id_of,
    settings_digest,
)
from convpredict.scoring.nightly.state import COMMIT, NightFolder
from convpredict.scoring.nightly.steps import Steps, peak_memory
from open_files import duplicate_of

NIGHT = datetime(2025, 6, 1, tzinfo=UTC)
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(
    st.text(min_size=1, max_size=12), INSTANTS.map(lambda at: at.replace(microsecond=0)), st.integers(1, 12)
)
def test_a_run_id_tells_cutoff_and_repetition(name, cutoff, repetition):
    run_id = run_id_of(name, cutoff, repetition)
    assert parse_run_id(name, run_id) == (cutoff, repetition)
    assert Path(run_id).name == run_id
    assert not run_id.startswith(".")
    assert run_id.isascii()


@pytest.mark.parametrize(
    "other", ["demo-20250601T000000Z.stopped-1", "demo2-20250601T000000Z", "demo-20251301T000000Z", "lock"]
)
def test_what_is_no_run_id_of_the_project(other):
    assert parse_run_id("demo", other) is None


@given(INSTANTS, st.integers(0, 23), st.integers(0, 59))
def test_the_last_cutoff_has_passed_within_a_day(now, hour, minute):
    cutoff = last_cutoff(now, f"{hour:02d}:{minute:02d}")
    assert timedelta() <= now - cutoff < timedelta(days=1)
    assert (cutoff.hour, cutoff.minute, cutoff.second, cutoff.microsecond) == (hour, minute, 0, 0)


@given(INSTANTS, st.integers(0, 60), st.integers(1, 9))
def test_the_nights_of_a_back_fill(first, days, step):
    nights = cutoffs_between(first, first + timedelta(days=days), "02:00", Duration(f"{step}d"))
    assert len(nights) == days // step + 1
    assert nights[0].date() == first.date()
    assert nights[-1].date() <= (first + timedelta(days=days)).date()
    assert all(later - earlier == timedelta(days=step) for earlier, later in itertools.pairwise(nights))


def config(**sections):
    content = {
        "name": "demo",
        "sources": {"people": {"file": "people.csv"}},
        "history": {"leads": {"source": "people", "attributes": {"city": "category"}}},
    }
    return parse_project({**content, **sections}).config


@pytest.mark.parametrize(
    "sections",
    [
        {"reasons": {"top": 2}},
        {"observations": {"max_age": "90d"}},
        {"history": {"leads": {"source": "people", "attributes": {"city": "number"}}}},
    ],
)
def test_what_decides_the_result_is_in_the_plan(sections):
    assert settings_digest(config(**sections)) != settings_digest(config())


@pytest.mark.parametrize(
    "sections", [{"nightly": {"at": "03:00", "bucket_leads": 7}}, {"monitoring": {"nights": 7}}]
)
def test_what_decides_nothing_is_not_in_the_plan(sections):
    assert settings_digest(config(**sections)) == settings_digest(config())


def test_a_plan_tells_what_differs():
    plan = Plan("demo-1", NIGHT, "bundle", "data", "settings", "")
    assert plan.difference(json.loads(json.dumps(plan.to_dict()))) == []
    other = Plan("demo-1", NIGHT, "bundle", "other data", "settings", "forgotten")
    assert other.difference(plan.to_dict()) == ["data", "forgotten"]
    assert other.difference({}) != []


def table(begin: int, end: int) -> pa.Table:
    return pa.table({"x": pa.array(np.arange(begin, end))})


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 30), st.integers(0, 20))
def test_buckets_hold_all_rows_however_often_they_are_interrupted(tmp_path_factory, sizes, least, stop_after):
    store = BucketStore(tmp_path_factory.mktemp("buckets"))
    bounds = np.cumsum([0, *sizes])
    total = int(bounds[-1])

    def batches(first: int):
        for begin, end in itertools.pairwise(bounds):
            if end > first:
                yield table(max(int(begin), first), int(end)), {"rows": int(end) - max(int(begin), first)}

    for _ in zip(range(stop_after), store.fill(batches(0), least, total), strict=False):
        pass
    finished = store.finished()
    first = finished[-1].end if finished else 0
    later = list(store.fill(batches(first), least, total))
    assert store.finished() == finished + later
    assert store.read(table(0, 0).schema).equals(table(0, total))
    assert all(bucket.end - bucket.begin >= least for bucket in store.finished()[:-1])
    noted = [note["rows"] for bucket in store.finished() for note in bucket.notes["batches"]]
    assert sum(noted) == total


@pytest.mark.parametrize("damage", ["rows", "note", "gone", "gap"])
def test_what_follows_a_damaged_bucket_is_not_trusted(tmp_path, damage):
    store = BucketStore(tmp_path)
    for number in range(3):
        store.add(table(10 * number, 10 * number + 10), 10 * number, number, {})
    assert [bucket.end for bucket in store.finished()] == [10, 20, 30]
    if damage == "rows":
        (tmp_path / "1.parquet").write_bytes(b"PAR1")
    elif damage == "note":
        (tmp_path / "1.json").write_text('{"begin": 10')
    elif damage == "gone":
        (tmp_path / "1.parquet").unlink()
    else:
        (tmp_path / "1.json").unlink()
    assert [bucket.end for bucket in store.finished()] == [10]
    assert store.read(table(0, 0).schema).equals(table(0, 10))


def scores(n: int = 4, **columns) -> pa.Table:
    p = np.linspace(0.1, 0.4, n)
    return pa.table(
        {
            "lead_id": pa.array([str(i) for i in range(n)], pa.string()),
            "p_convert_7d": p / 2,
            "p_convert_30d": p,
            **columns,
        }
    )


COLUMNS = ["p_convert_7d", "p_convert_30d"]


@pytest.mark.parametrize(
    ("given_scores", "told"),
    [
        (scores(), None),
        (scores(p_convert_30d=[0.0, 1.0, 1.0, 1.0], p_convert_7d=[0.0, 1.0, 0.0, 1.0]), None),
        (scores(0), "0 rows for 4 open leads"),
        (scores(5), "5 rows for 4 open leads"),
        (scores(lead_id=["a", "b", "a", "a"]), "2 rows repeat a lead"),
        (
            scores(p_convert_30d=[0.1, 0.2, float("nan"), 0.4]),
            "p_convert_30d is missing or outside of 0 to 1 in 1 row",
        ),
        (
            scores(p_convert_30d=[0.1, 0.2, float("inf"), 0.4]),
            "p_convert_30d is missing or outside of 0 to 1 in 1 row",
        ),
        (scores(p_convert_30d=pa.array([0.1, 0.2, None, 0.4])), "p_convert_30d is missing or outside"),
        (
            scores(p_convert_7d=[-1e-300, 0.0, 0.0, 0.0]),
            "p_convert_7d is missing or outside of 0 to 1 in 1 row",
        ),
        (
            scores(p_convert_30d=[0.1, 0.2, 1.0000001, 0.4]),
            "p_convert_30d is missing or outside of 0 to 1 in 1 row",
        ),
        (scores(p_convert_7d=[0.2, 0.3, 0.0, 0.0]), "p_convert_30d lies below p_convert_7d in 2 rows"),
    ],
)
def test_scores_that_cannot_be_are_stopped(given_scores, told):
    result = check_scores(given_scores, COLUMNS, 4)
    assert result.verdict == ("pass" if told is None else "stop")
    assert told is None or told in result.message


def manifest(folder: NightFolder, run_id: str, status: str = "published", **more) -> dict:
    cutoff, _ = parse_run_id("demo", run_id)
    content = {"run_id": run_id, "status": status, "cutoff": cutoff.isoformat(), **more}
    folder.keep_manifest(content)
    return content


def test_the_folder_tells_the_past(tmp_path):
    folder = NightFolder(tmp_path, "demo")
    assert folder.latest() is None
    assert list(folder.published()) == []
    assert folder.unfinished() == []
    days = [run_id_of("demo", NIGHT + timedelta(days=day)) for day in range(4)]
    for run_id in (days[1], days[0], f"{days[1]}-2"):
        manifest(folder, run_id)
    manifest(folder, days[2], "stopped")
    assert [each["run_id"] for each in folder.published()] == [f"{days[1]}-2", days[1], days[0]]
    assert next(folder.published(before=NIGHT + timedelta(days=1)))["run_id"] == days[0]
    assert folder.repetitions(NIGHT + timedelta(days=1)) == 2
    assert folder.repetitions(NIGHT + timedelta(days=2)) == 0
    assert folder.latest() == NIGHT + timedelta(days=1)
    folder.work(days[3]).mkdir(parents=True)
    assert (folder.unfinished(), folder.decided()) == ([days[3]], [])
    (folder.work(days[3]) / COMMIT).write_text("{}")
    assert folder.decided() == [days[3]]
    assert folder.latest() == NIGHT + timedelta(days=3)
    folder.drop_work(days[3])
    assert folder.unfinished() == []


def test_earlier_stops_of_a_night_are_kept_once_each(tmp_path):
    folder, run_id = NightFolder(tmp_path, "demo"), run_id_of("demo", NIGHT)
    stops = [manifest(folder, run_id, "stopped", error=str(number)) for number in range(3)]
    # As if the process had died between keeping the former manifest and writing the new one.
    (tmp_path / "runs" / f"{run_id}.stopped-3.json").write_text(json.dumps(stops[2]))
    published = manifest(folder, run_id)
    kept = [json.loads((tmp_path / "runs" / f"{run_id}.stopped-{k}.json").read_text()) for k in (1, 2, 3)]
    assert kept == stops
    assert folder.manifest(run_id) == published
    assert len(list((tmp_path / "runs").iterdir())) == 4


def test_a_damaged_manifest_is_no_missing_one(tmp_path):
    folder, run_id = NightFolder(tmp_path, "demo"), run_id_of("demo", NIGHT)
    manifest(folder, run_id)
    folder.manifest_path(run_id).write_text('{"status": "publ')
    with pytest.raises(DataError, match="restore it from a backup"):
        folder.latest()


def test_what_a_killed_run_was_writing_is_swept_away(tmp_path):
    folder, run_id = NightFolder(tmp_path, "demo"), run_id_of("demo", NIGHT)
    store = BucketStore(folder.work(run_id) / "buckets")
    store.add(table(0, 3), 0, 0, {})
    manifest(folder, run_id)
    partials = [
        folder.work(run_id) / "buckets" / ".1.parquet.2000000000.partial",
        tmp_path / "runs" / f".{run_id}.json.2000000000.partial",
        tmp_path / ".cross_lead.json.2000000000.partial",
        tmp_path / "monitoring" / ".index.html.2000000000.partial",
    ]
    for partial in partials:
        partial.parent.mkdir(exist_ok=True)
        partial.write_text("half")
    alive = tmp_path / "monitoring" / f".page.html.{os.getpid()}.partial"
    alive.write_text("half")
    assert folder.sweep() == 4
    assert alive.exists()
    assert not any(partial.exists() for partial in partials)
    assert len(store.finished()) == 1
    assert folder.is_published(run_id)


def test_the_lock_tells_its_owner_and_is_empty_afterwards(tmp_path):
    with holding_lock(tmp_path, "demo-1") as left_behind:
        assert left_behind is None
        assert owner_of(tmp_path)["run_id"] == "demo-1"
    assert owner_of(tmp_path) is None
    (tmp_path / "lock").write_text('{"pid": 1')
    with holding_lock(tmp_path, "demo-2") as left_behind:
        assert left_behind == {"pid": "unknown"}


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_lock(tmp_path):
    """A duplicate of a descriptor has the same lock as that of a forked child."""
    with holding_lock(tmp_path, "demo-1"):
        kept = duplicate_of(tmp_path / LOCK)
    try:
        with holding_lock(tmp_path, "demo-2"):
            pass
    finally:
        os.close(kept)


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match="cannot be written to"), holding_lock(tmp_path / "file", "demo-1"):
        pass


def test_steps_tell_rows_time_and_memory():
    steps = Steps()
    with steps.measure("large") as step:
        held = np.ones(40_000_000, np.uint8)
        step.rows = len(held)
        del held
    with steps.measure("small"):
        pass
    large, small = steps.done
    assert large["rows"] == 40_000_000
    assert large["seconds"] >= 0
    assert large["peak_memory_bytes"] - small["peak_memory_bytes"] > 20_000_000
    assert peak_memory() is not None


def test_a_span_of_nights_is_days():
    with pytest.raises(ConfigError, match="whole days"):
        cutoffs_between(NIGHT, NIGHT, "00:00", Duration("36h"))
