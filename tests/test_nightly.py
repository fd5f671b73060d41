"""Whole nights on a small project: what is published, repeated, resumed, stopped, waived and filled in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from convpredict.config.load import load_project
from convpredict.errors import BundleError, BusyError, ConfigError, DataError, GateError, PublishError
from convpredict.history.load import load_history
from convpredict.models.bundle import load_bundle
from convpredict.scoring.content_hash import content_hash
from convpredict.scoring.forget.forgotten import read_forgotten, write_forgotten
from convpredict.scoring.ledger.ledger import Ledger
from convpredict.scoring.nightly.buckets import BucketStore
from convpredict.scoring.nightly.lock import holding_lock
from convpredict.scoring.scores import score_open_leads
from convpredict.training.as_of import history_as_of
from convpredict.workflows.nightly import worst_exit_code
from nightly_project import NIGHT, Nights, make_project

STOPPED = ("nightly.gates.model_age={warn: 1d, stop: 2d}",)
"""An override with which the model is too old, whatever the night."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"), leads=400)


@pytest.fixture
def nights(project, tmp_path):
    return Nights(project, tmp_path)


def test_a_night_publishes_what_scoring_gives(nights, project, capsys):
    (night,) = nights.run()
    assert (night.outcome, night.exit_code) == ("published", 0)
    loaded = load_project(project.config)
    known = history_as_of(load_history(loaded.config, loaded.data_dir), NIGHT)
    bundle = load_bundle(project.run / "bundle")
    expected = score_open_leads(
        known,
        bundle,
        as_of=NIGHT,
        max_age=loaded.config.observations.max_age,
        run_id=nights.id_of(),
        reasons=loaded.config.reasons,
    )
    assert content_hash(nights.latest()) == content_hash(expected.table)
    manifest = nights.manifest()
    assert manifest["scores_hash"] == content_hash(expected.table)
    assert manifest["leads"] == expected.table.num_rows == manifest["counts"]["rows"]
    assert manifest["model"]["digest"] == bundle.digest
    assert manifest["model_knew_later"] is False
    assert manifest["current"] is True
    assert manifest["explained"] == expected.table.num_rows - expected.table["reasons_for"].null_count > 0
    assert manifest["expected_conversions"] == pytest.approx(sum(expected.table["p_convert_30d"].to_pylist()))
    steps = [step["step"] for step in manifest["steps"]]
    assert steps == [
        *(
            "read",
            "model",
            "score",
            "explain",
            "assemble",
            "gates",
            "decide",
            "ledger",
            "publish",
            "compact",
            "monitor",
        ),
    ]
    assert all(step["peak_memory_bytes"] > 0 for step in manifest["steps"])
    kept = Ledger(nights.state / "ledger").read(columns=["lead_id", "p_convert_30d"])
    assert kept.sort_by("lead_id").equals(nights.latest().select(kept.column_names).sort_by("lead_id"))
    partition = nights.scores / "runs" / f"run_id={nights.id_of()}" / "scores.parquet"
    assert pq.ParquetFile(partition).metadata.num_rows == expected.table.num_rows
    assert json.loads((nights.state / "cross_lead.json").read_text())["as_of"] == NIGHT.isoformat()
    assert not list((nights.state / "work").iterdir())
    log = capsys.readouterr().err
    assert "published run_id=" + nights.id_of() in log
    leads = set(nights.latest()["lead_id"].to_pylist())
    assert not leads & set(log.replace("=", " ").split())


def test_the_same_night_again_changes_no_byte(nights):
    nights.run()
    before = nights.files()
    (night,) = nights.run()
    assert night.outcome == "already published"
    assert night.exit_code == 0
    assert "nothing was changed" in night.text
    assert nights.files() == before


def test_what_was_learnt_later_does_not_show(nights, project, tmp_path):
    nights.run()
    other = Nights(project, tmp_path / "then")
    other.run(NIGHT, f"history.known_until={NIGHT:%Y-%m-%d}")
    assert content_hash(other.latest()) == content_hash(nights.latest())


def test_the_cutoff_is_the_last_passed_time_of_day(nights):
    (night,) = nights.run(None, "nightly.at='02:00'", now=NIGHT + timedelta(hours=1))
    assert night.cutoff == NIGHT - timedelta(hours=22)
    (night,) = nights.run(None, "nightly.at='02:00'", now=NIGHT + timedelta(hours=2))
    assert night.cutoff == NIGHT + timedelta(hours=2)


def test_an_interruption_stays_one_where_a_library_makes_another_error_of_it(nights, monkeypatch):
    """DuckDB raises a RuntimeError out of a query that a signal interrupts; monitoring has not failed then."""

    def interrupted(ledger):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt as error:
            raise RuntimeError("Query interrupted") from error

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "compact", interrupted)
        with pytest.raises(KeyboardInterrupt):
            nights.run()
    assert nights.manifest()["status"] == "published"
    assert [step["step"] for step in nights.manifest()["steps"]][-1] == "publish"
    assert nights.run()[0].outcome == "published"
    assert [step["step"] for step in nights.manifest()["steps"]][-2:] == ["compact", "monitor"]


def test_what_a_run_left_that_died_at_its_very_end_is_removed(nights):
    nights.run()
    before = nights.files()
    buckets = nights.state / "work" / nights.id_of() / "buckets"
    buckets.mkdir(parents=True)
    (buckets / "0.parquet").write_text("")
    assert nights.run()[0].outcome == "already published"
    assert nights.files() == before
    assert not buckets.parent.exists()


def test_finished_months_of_the_ledger_are_merged(nights):
    nights.run(NIGHT - timedelta(days=1))
    nights.run()
    files = nights.state / "ledger" / "months", nights.state / "ledger" / "runs"
    assert [len(list(folder.glob("*.parquet"))) for folder in files] == [0, 2]
    nights.run(NIGHT + timedelta(days=1))
    assert [len(list(folder.glob("*.parquet"))) for folder in files] == [1, 1]
    assert len(Ledger(nights.state / "ledger").runs()) == 3


class CutShortError(RuntimeError):
    """Stands for whatever ends a run between two buckets."""


@pytest.fixture
def after_one_bucket(monkeypatch):
    """Let the next run end after its first bucket of scores."""
    add = BucketStore.add

    def ends(store, table, begin, number, notes):
        if store.folder.name == "buckets" and number == 1:
            raise CutShortError
        return add(store, table, begin, number, notes)

    def interrupt(nights, *overrides):
        with monkeypatch.context() as patch:
            patch.setattr(BucketStore, "add", ends)
            with pytest.raises(CutShortError):
                nights.run(NIGHT, "features.bucket_events=500", "nightly.bucket_leads=20", *overrides)

    return interrupt


def buckets_done(log: str) -> list[int]:
    return [int(line.split(" bucket=")[1].split()[0]) for line in log.splitlines() if " info bucket " in line]


SMALL = ("features.bucket_events=500", "nightly.bucket_leads=20")


def test_finished_buckets_are_not_scored_again(nights, project, tmp_path, after_one_bucket, capsys):
    after_one_bucket(nights)
    assert buckets_done(capsys.readouterr().err) == [0]
    assert nights.manifest()["status"] == "failed"
    assert nights.manifest()["error"].startswith("CutShortError: not expected, at test_nightly.py")
    nights.run(NIGHT, *SMALL)
    log = capsys.readouterr().err
    done = buckets_done(log)
    assert done[0] == 1
    assert len(done) > 1
    assert "resumed" in log
    undisturbed = Nights(project, tmp_path / "undisturbed")
    undisturbed.run(NIGHT, *SMALL)
    assert buckets_done(capsys.readouterr().err) == [0, *done]
    assert content_hash(undisturbed.latest()) == content_hash(nights.latest())
    same = ("leads", "counts", "scores_hash", "expected_conversions", "explained", "excluded")
    assert {key: nights.manifest()[key] for key in same} == {key: undisturbed.manifest()[key] for key in same}


def test_work_of_another_plan_is_begun_anew(nights, after_one_bucket, capsys):
    after_one_bucket(nights)
    capsys.readouterr()
    nights.run(NIGHT, *SMALL, "reasons.top=2")
    log = capsys.readouterr().err
    assert 'begun_anew run_id=demo-20251130T000000Z differs=["settings"]' in log
    assert buckets_done(log)[0] == 0


def test_a_damaged_bucket_is_scored_again(nights, after_one_bucket, capsys):
    after_one_bucket(nights)
    capsys.readouterr()
    path = nights.state / "work" / nights.id_of() / "buckets" / "0.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    nights.run(NIGHT, *SMALL)
    assert buckets_done(capsys.readouterr().err)[0] == 0


def test_unfinished_work_of_another_night_is_thrown_away(nights, after_one_bucket, capsys):
    after_one_bucket(nights)
    nights.run(NIGHT + timedelta(days=1))
    assert "thrown_away run_id=demo-20251130T000000Z" in capsys.readouterr().err
    assert not list((nights.state / "work").iterdir())


def test_a_stopped_night_publishes_nothing_and_a_waiver_lets_it_pass(nights, tmp_path, capsys):
    nights.run(NIGHT - timedelta(days=1))
    seen = content_hash(nights.latest())
    told = tmp_path / "told.json"
    hook = f"nightly.hooks=[{{command: [sh, -c, 'cat > {told}']}}]"
    (night,) = nights.run(NIGHT, *STOPPED, hook)
    assert (night.outcome, night.exit_code, worst_exit_code([night])) == ("stopped", 7, 7)
    assert "readers keep the scores of demo-20251129T000000Z" in night.message
    assert "--waive 'model_age=REASON'" in night.message
    assert content_hash(nights.latest()) == seen
    assert [run.run_id for run in Ledger(nights.state / "ledger").runs()] == ["demo-20251129T000000Z"]
    manifest = nights.manifest()
    assert (manifest["status"], manifest["waived"]) == ("stopped", {})
    assert manifest["error"].startswith("GateError: ")
    payload = json.loads(told.read_text())
    assert (payload["outcome"], payload["exit_code"], payload["run_id"]) == ("stopped", 7, nights.id_of())
    capsys.readouterr()
    (night,) = nights.run(NIGHT, *STOPPED, waive=("model_age=no newer one is ready",))
    assert night.outcome == "published"
    assert content_hash(nights.latest()) != seen
    assert buckets_done(capsys.readouterr().err) == []
    assert nights.manifest()["waived"] == {"model_age": "no newer one is ready"}
    assert nights.manifest(suffix=".stopped-1") == manifest


def test_a_waiver_of_a_gate_that_passed_is_not_recorded(nights):
    nights.run(waive=("rows=the CRM was merged",))
    assert nights.manifest()["waived"] == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"waive": ("sound=never mind",)}, "no gate"),
        ({"waive": ("rows",)}, "no reason"),
        ({"again": "because"}, "not been published yet"),
        ({"every": "7d"}, "--from and --to"),
        ({"now": NIGHT - timedelta(hours=1)}, "lies ahead"),
        ({"as_of": NIGHT + timedelta(microseconds=1)}, "whole second"),
        ({"as_of": None, "start": NIGHT}, "--from and --to"),
        ({"as_of": None, "start": NIGHT, "end": NIGHT - timedelta(days=1)}, "exchange"),
        ({"as_of": None, "start": NIGHT, "end": NIGHT, "every": "12h"}, "whole days"),
        ({"as_of": None, "start": NIGHT, "end": NIGHT, "every": "weekly"}, "--every"),
        ({"as_of": None, "start": NIGHT, "end": NIGHT, "now": NIGHT - timedelta(days=2)}, "has passed"),
        ({"bundle": Path("bundle")}, "one model"),
    ],
)
def test_what_cannot_be_meant_is_refused(nights, options, told):
    with pytest.raises(ConfigError, match=told):
        nights.run(**options)
    assert not nights.state.exists()


def test_a_night_is_published_again_under_an_id_of_its_own(nights):
    nights.run()
    first = nights.latest()
    (night,) = nights.run(again="the segment names were wrong")
    assert night.run_id == "demo-20251130T000000Z-2"
    second = nights.latest()
    assert set(second["run_id"].to_pylist()) == {night.run_id}
    assert second.drop_columns("run_id").equals(first.drop_columns("run_id"))
    assert nights.manifest(suffix="-2")["again"] == "the segment names were wrong"
    assert len(Ledger(nights.state / "ledger").runs()) == 2
    assert nights.run()[0].outcome == "already published"


def test_a_clock_that_was_set_back_stops_the_night(nights, tmp_path):
    nights.run()
    before = nights.files()
    told = tmp_path / "told.json"
    with pytest.raises(GateError, match="clock was set back"):
        nights.run(
            None, f"nightly.hooks=[{{command: [cp, /dev/stdin, {told}]}}]", now=NIGHT - timedelta(days=3)
        )
    assert json.loads(told.read_text())["outcome"] == "stopped"
    told.unlink()
    assert nights.files() == before


def test_older_nights_are_filled_in_behind_what_readers_see(nights, project):
    nights.run()
    seen = content_hash(nights.latest())
    first = project.trained_until - timedelta(days=2)
    runs = nights.run(
        None, start=first, end=first + timedelta(days=4), every="2d", run=None, bundle=project.run / "bundle"
    )
    assert [run.outcome for run in runs] == ["published"] * 3
    runs += nights.run(None, start=NIGHT - timedelta(days=1), end=NIGHT)
    assert [run.outcome for run in runs[3:]] == ["published", "already published"]
    assert content_hash(nights.latest()) == seen
    assert nights.manifest(NIGHT - timedelta(days=1))["current"] is False
    cutoffs = [run.cutoff for run in Ledger(nights.state / "ledger").runs()]
    assert cutoffs == [
        first,
        first + timedelta(days=2),
        first + timedelta(days=4),
        NIGHT - timedelta(days=1),
        NIGHT,
    ]
    assert all((nights.scores / "runs" / f"run_id={run.run_id}").is_dir() for run in runs)
    # A bundle folder tells nothing of when it was trained: filled in afterwards, such nights may have known more.
    assert nights.manifest(first)["model_knew_later"] is True
    assert json.loads((nights.state / "cross_lead.json").read_text())["as_of"] == NIGHT.isoformat()


def test_a_model_that_knew_later_is_told_apart(nights, project):
    first = project.trained_until - timedelta(days=1)
    runs = nights.run(None, start=first, end=first + timedelta(days=1))
    assert [run.manifest["model_knew_later"] for run in runs] == [True, False]


def test_a_stopped_night_of_a_back_fill_does_not_end_it(nights):
    nights.run(NIGHT - timedelta(days=2))
    # From one day to the next the scores move by more than nothing: with no tolerance at all, each night stops.
    runs = nights.run(None, *STOPPED, start=NIGHT - timedelta(days=2), end=NIGHT)
    assert [run.outcome for run in runs] == ["already published", "stopped", "stopped"]
    assert worst_exit_code(runs) == 7


def test_two_runs_do_not_work_in_one_folder(nights):
    with holding_lock(nights.state, "demo-another"):
        held = json.loads((nights.state / "lock").read_text())
        with pytest.raises(
            BusyError, match=f"run demo-another, process {os.getpid()}, on {held['host']}, since 20"
        ):
            nights.run()
    assert (nights.state / "lock").read_text() == ""
    assert nights.run()[0].outcome == "published"


HOLD = """
import sys, time
from pathlib import Path
from convpredict.scoring.nightly.lock import holding_lock
with holding_lock(Path(sys.argv[1]), "demo-dead"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_dead_owner_is_noticed(nights, capsys):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(nights.state)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=f"process {process.pid}"):
        nights.run()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert nights.run()[0].outcome == "published"
    assert f"owner_died former_pid={process.pid}" in capsys.readouterr().err


def test_programs_that_hooks_leave_behind_do_not_hold_the_lock(nights, tmp_path):
    script = tmp_path / "hook.sh"
    script.write_text('#!/bin/sh\n(sleep 20 & echo $! > "$1") > /dev/null 2>&1\n')
    script.chmod(0o755)
    pid = tmp_path / "pid"
    nights.run(NIGHT, f"nightly.hooks=[{{command: [{script}, {pid}], when: [published]}}]")
    left = int(pid.read_text())
    try:
        os.kill(left, 0)
        assert nights.run(NIGHT + timedelta(days=1))[0].outcome == "published"
    finally:
        os.kill(left, signal.SIGKILL)


def test_a_target_that_fails_keeps_no_other_from_its_scores(nights, tmp_path, capsys):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    nights.targets = f"nightly.publish=[{{parquet: '{blocked}'}}, {{parquet: '{nights.scores}'}}]"
    with pytest.raises(PublishError, match="1 of 2 targets have the new scores") as caught:
        nights.run()
    assert caught.value.exit_code == 9
    assert nights.latest().num_rows > 0
    assert nights.manifest()["status"] == "failed"
    # The next night is scored all the same, and what failed is tried again first.
    with pytest.raises(PublishError):
        nights.run(NIGHT + timedelta(days=1))
    assert set(nights.latest()["run_id"].to_pylist()) == {nights.id_of(NIGHT + timedelta(days=1))}
    blocked.unlink()
    capsys.readouterr()
    runs = nights.run(NIGHT + timedelta(days=1))
    assert [(run.run_id, run.outcome) for run in runs] == [
        (nights.id_of(), "published"),
        (nights.id_of(NIGHT + timedelta(days=1)), "published"),
    ]
    assert buckets_done(capsys.readouterr().err) == []
    both = [pq.ParquetFile(folder / "latest.parquet").read() for folder in (blocked, nights.scores)]
    assert both[0].equals(both[1])
    assert [run.cutoff for run in Ledger(nights.state / "ledger").runs()] == [
        NIGHT,
        NIGHT + timedelta(days=1),
    ]


def test_scores_that_were_altered_after_the_decision_are_not_published(nights, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    nights.targets = f"nightly.publish=[{{parquet: '{blocked}'}}]"
    with pytest.raises(PublishError):
        nights.run()
    blocked.unlink()
    path = nights.state / "work" / nights.id_of() / "scores.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(PublishError, match="something changed the file"):
        nights.run()
    assert not blocked.exists()


def test_monitoring_that_fails_unpublishes_nothing_and_is_loud(nights):
    nights.state.mkdir()
    (nights.state / "monitoring").write_text("a file where the folder should be")
    (night,) = nights.run()
    assert (night.outcome, night.exit_code) == ("published", 12)
    assert "monitoring the night failed" in night.text
    assert nights.latest().num_rows == nights.manifest()["leads"]
    assert any("monitoring the night failed" in warning for warning in nights.manifest()["warnings"])


def test_a_history_that_cannot_be_read_fails_the_night_and_is_told(nights, project, tmp_path):
    told = tmp_path / "told.json"
    hook = f"nightly.hooks=[{{command: [cp, /dev/stdin, {told}]}}]"
    metrics = f"nightly.prometheus={tmp_path}/metrics.prom"
    with pytest.raises(DataError):
        nights.run(NIGHT, hook, metrics, data=tmp_path / "nowhere")
    assert nights.manifest()["status"] == "failed"
    assert json.loads(told.read_text())["exit_code"] == 3
    assert 'convpredict_night_exit_code{name="demo"} 3' in (tmp_path / "metrics.prom").read_text()
    nights.run(NIGHT, metrics)
    assert 'convpredict_night_exit_code{name="demo"} 0' in (tmp_path / "metrics.prom").read_text()


def test_bad_rows_are_set_apart(nights, project, tmp_path):
    loaded = load_project(project.config)
    data = tmp_path / "data"
    data.mkdir()
    for path in loaded.data_dir.glob("*.parquet"):
        (data / path.name).write_bytes(path.read_bytes())
    leads = pq.read_table(data / "conversions.parquet")
    frame = leads.to_pandas()
    frame.loc[0, "lead_id"] = 10**9
    frame.to_parquet(data / "conversions.parquet")
    nights.run(data=data)
    put_aside = pq.read_table(nights.state / "quarantine" / nights.id_of() / "conversions.parquet")
    assert put_aside["reason"].to_pylist() == ["unknown lead"]
    assert nights.manifest()["data"]["quarantine"] == {"conversions": {"unknown lead": 1}}


def test_who_was_forgotten_is_not_scored(nights):
    nights.run(NIGHT - timedelta(days=1))
    leads = nights.latest()["lead_id"].to_pylist()[:3]
    write_forgotten(nights.state, read_forgotten(nights.state).adding(leads))
    nights.run()
    assert not set(leads) & set(nights.latest()["lead_id"].to_pylist())
    assert nights.manifest()["forgotten"] == 3


def test_an_unfinished_training_run_is_refused(nights, project, tmp_path):
    with pytest.raises(BundleError, match=r"metrics\.json"):
        nights.run(run=tmp_path)
    assert nights.manifest()["status"] == "failed"


def test_the_command_line_tells_and_exits_as_documented(nights, project, tmp_path):
    content = yaml.safe_load(project.config.read_text())
    content["data"] = str(load_project(project.config).data_dir)
    content["nightly"] |= {"folder": "state", "publish": [{"parquet": "scores"}], "log": "json"}
    config = tmp_path / "project.yaml"
    config.write_text(yaml.safe_dump(content))
    arguments = ["nightly", str(config), "--run", str(project.run), "--as-of", f"{NIGHT:%Y-%m-%d}", "--json"]

    def command(*more: str):
        return subprocess.run(
            [sys.executable, "-m", "convpredict.cli", *arguments, *more], capture_output=True, text=True
        )

    done = command("--set", "nightly.gates.model_age={stop: 1d}")
    assert done.returncode == 7, done.stderr
    (night,) = json.loads(done.stdout)
    assert night["outcome"] == "stopped"
    assert {json.loads(line)["run_id"] for line in done.stderr.splitlines()} == {nights.id_of()}
