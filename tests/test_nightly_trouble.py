"""Nights that meet trouble others left: refused by the ledger, targets emptied, state restored, data replaced."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from convpredict.config.load import load_project
from convpredict.errors import ConfigError, DataError, GateError, PublishError
from convpredict.models.bundle import load_bundle, write_bundle
from convpredict.scoring.content_hash import content_hash
from convpredict.scoring.ledger.ledger import Ledger
from convpredict.scoring.nightly import night as scoring
from convpredict.scoring.nightly.session import NightRun, text_of
from convpredict.scoring.nightly.state import NightFolder
from convpredict.workflows.nightly import nights_text
from nightly_project import NIGHT, Nights, make_project

NEXT = NIGHT + timedelta(days=1)
OTHER_REASONS = "reasons={leads: all}"
"""An override with which the same night has other content."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = make_project(tmp_path_factory.mktemp("project"), leads=250)
    content = yaml.safe_load(made.config.read_text())
    made.config.write_text(yaml.safe_dump(content | {"reasons": {"leads": "none"}}))
    return made


@pytest.fixture(scope="module")
def published(project, tmp_path_factory) -> Path:
    """A folder with the state and the scores of one published night."""
    folder = tmp_path_factory.mktemp("published")
    Nights(project, folder).run()
    return folder


@pytest.fixture
def nights(project, tmp_path):
    return Nights(project, tmp_path / "nights")


@pytest.fixture
def after_a_night(project, published, tmp_path):
    """The project after a night; its own copy."""
    shutil.copytree(published, tmp_path / "nights")
    return Nights(project, tmp_path / "nights")


def told_by(metrics: Path) -> dict[str, float]:
    """What a metrics file says of the night as a whole."""
    lines = metrics.read_text().splitlines()
    found = [line.split('{name="demo"} ') for line in lines if '{name="demo"} ' in line]
    return {name.removeprefix("convpredict_night_"): float(value) for name, value in found}


def run_ids(nights: Nights) -> list[str]:
    return [run.run_id for run in Ledger(nights.state / "ledger").runs()]


def block(nights: Nights, folder: Path) -> None:
    """Add a target that fails until its file is removed."""
    folder.write_text("a file where the folder should be")
    nights.targets = f"nightly.publish=[{{parquet: '{nights.scores}'}}, {{parquet: '{folder}'}}]"


def foreign_ledger(nights: Nights) -> None:
    """A ledger whose leads have text for ids, not numbers."""
    rows = pa.table(
        {
            "lead_id": ["a", "b"],
            "p_convert_30d": [0.5, 0.25],
            "rank": [1, 2],
            "features_hash": pa.array([7, 8], pa.uint64()),
        }
    )
    model = {"name": "demo", "version": "1", "digest": "", "trained_until": None}
    before = NIGHT - timedelta(days=40)
    Ledger(nights.state / "ledger").append(
        {"run_id": "demo-old", "cutoff": before.isoformat(), "model": model}, rows
    )


def damaged_ledger(nights: Nights) -> None:
    """The ledger, with other scores of the decided night."""
    draft = json.loads((nights.state / "work" / nights.id_of() / "commit.json").read_text())
    rows = Ledger(nights.state / "ledger").read().drop_columns(["run_id", "cutoff"])
    name = "p_convert_30d"
    others = rows.set_column(rows.schema.get_field_index(name), name, pc.multiply(rows[name], 0.5))
    shutil.rmtree(nights.state / "ledger")
    Ledger(nights.state / "ledger").append(draft, others)


def test_what_the_ledger_refuses_is_not_decided(nights):
    foreign_ledger(nights)
    with pytest.raises(DataError, match="leads by string"):
        nights.run()
    assert NightFolder(nights.state, "demo").decided() == []
    assert not nights.scores.exists()
    shutil.rmtree(nights.state / "ledger")
    assert nights.run()[0].outcome == "published"


def test_a_decided_night_that_the_ledger_refuses_keeps_no_later_one_back_and_can_be_discarded(
    nights, tmp_path
):
    block(nights, tmp_path / "blocked")
    with pytest.raises(PublishError):
        nights.run()
    (tmp_path / "blocked").unlink()
    shutil.rmtree(nights.scores)
    damaged_ledger(nights)
    with pytest.raises(DataError, match=f"--discard {nights.id_of()}"):
        nights.run(NEXT)
    assert set(nights.latest()["run_id"].to_pylist()) == {nights.id_of(NEXT)}
    assert nights.manifest(NEXT)["status"] == "published"
    assert nights.manifest()["status"] == "failed"

    (run,) = nights.run(None, run=None, discard=f"{nights.id_of()}=the ledger was restored")
    assert (run.outcome, run.exit_code) == ("discarded", 0)
    assert (nights.manifest()["status"], nights.manifest()["error"]) == (
        "failed",
        "discarded: the ledger was restored",
    )
    assert NightFolder(nights.state, "demo").unfinished() == []
    assert nights.run(NEXT)[0].outcome == "already published"


def test_only_a_decided_night_that_nobody_can_have_seen_is_discarded(after_a_night, tmp_path):
    nights = after_a_night
    with pytest.raises(ConfigError, match="is published"):
        nights.run(None, run=None, discard=nights.id_of())
    with pytest.raises(ConfigError, match="there is none"):
        nights.run(None, run=None, discard=nights.id_of(NEXT))
    with pytest.raises(ConfigError, match="leave the other options out"):
        nights.run(discard=nights.id_of())
    block(nights, tmp_path / "blocked")
    with pytest.raises(PublishError):
        nights.run(NEXT)
    (tmp_path / "blocked").unlink()
    with pytest.raises(PublishError, match="readers may have seen"):
        nights.run(None, run=None, discard=nights.id_of(NEXT))
    assert NightFolder(nights.state, "demo").decided() == [nights.id_of(NEXT)]


def test_a_decided_night_that_was_removed_can_be_published_again(after_a_night, tmp_path):
    nights = after_a_night
    block(nights, tmp_path / "blocked")
    with pytest.raises(PublishError):
        nights.run(NEXT)
    (tmp_path / "blocked").unlink()
    with pytest.raises(ConfigError, match="not been published yet"):
        nights.run(NEXT, again="it waits to be finished")
    shutil.rmtree(nights.state / "work" / nights.id_of(NEXT))
    with pytest.raises((DataError, PublishError), match="--again"):
        nights.run(NEXT, OTHER_REASONS)
    assert NightFolder(nights.state, "demo").decided() == []
    (run,) = nights.run(NEXT, OTHER_REASONS, again="somebody removed it")
    assert (run.run_id, run.outcome) == (f"{nights.id_of(NEXT)}-2", "published")
    assert [run_id for run_id in run_ids(nights) if nights.id_of(NEXT) in run_id] == [
        nights.id_of(NEXT),
        f"{nights.id_of(NEXT)}-2",
    ]


def test_a_night_that_an_older_backup_does_not_know_can_be_published_again(after_a_night):
    nights = after_a_night
    shutil.rmtree(nights.state)
    with pytest.raises(PublishError, match="with other content"):
        nights.run(NIGHT, OTHER_REASONS)
    assert NightFolder(nights.state, "demo").decided() == []
    (run,) = nights.run(NIGHT, OTHER_REASONS, again="the state was lost")
    assert (run.run_id, run.outcome) == (f"{nights.id_of()}-2", "published")
    assert nights.run(NEXT)[0].outcome == "published"


def test_a_target_that_is_configured_wrongly_ends_the_run_before_it_begins(nights, monkeypatch):
    monkeypatch.delenv("NO_SUCH_DATABASE", raising=False)
    nights.targets = f"nightly.publish=[{{parquet: '{nights.scores}'}}, {{postgres_env: NO_SUCH_DATABASE}}]"
    with pytest.raises(ConfigError, match="not set"):
        nights.run()
    assert not nights.scores.exists()
    assert not (nights.state / "work").exists()


def test_a_target_that_is_out_of_reach_is_told_before_and_keeps_no_other_back(
    nights, monkeypatch, tmp_path, capsys
):
    # Whatever a target raises on purpose: its variable may also go while the night is scored.
    decide = scoring.decide
    monkeypatch.setenv("GONE_DATABASE", f"postgresql://nobody@/nothing?host={tmp_path}")

    def then_unset(*given):
        decide(*given)
        monkeypatch.delenv("GONE_DATABASE")

    monkeypatch.setattr(scoring, "decide", then_unset)
    nights.targets = f"nightly.publish=[{{postgres_env: GONE_DATABASE}}, {{parquet: '{nights.scores}'}}]"
    with pytest.raises(PublishError, match="1 of 2 targets"):
        nights.run()
    log = capsys.readouterr().err
    assert log.index("warning target_unusable") < log.index("info begun")
    assert nights.latest().num_rows > 0


def replace_file(path: Path) -> None:
    """Write the same file anew, as an export does."""
    partial = path.with_suffix(".partial")
    shutil.copyfile(path, partial)
    os.replace(partial, path)


@pytest.mark.parametrize("when", ["read", "assembled"])
def test_data_that_is_replaced_while_it_is_read_is_not_published(nights, tmp_path, monkeypatch, when):
    loaded = load_project(nights.project.config)
    shutil.copytree(loaded.data_dir, tmp_path / "data")
    name = {"read": "history_as_of", "assembled": "published_rows"}[when]
    step = getattr(scoring, name)

    def meanwhile(*given):
        replace_file(tmp_path / "data" / "interactions.parquet")
        return step(*given)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, name, meanwhile)
        with pytest.raises(DataError, match=r"changed while it was read \(interactions\)"):
            nights.run(data=tmp_path / "data")
    assert not nights.scores.exists()
    assert not (nights.state / "work" / nights.id_of()).exists()
    assert nights.manifest()["status"] == "failed"


def test_a_model_of_which_nobody_knows_what_it_learnt_is_honest_only_about_now(nights):
    bundle = {"run": None, "bundle": nights.project.run / "bundle"}
    (run,) = nights.run(NIGHT, now=NIGHT + timedelta(days=30), **bundle)
    assert run.manifest["model_knew_later"] is True
    assert "nothing tells until when the model learnt" in run.text
    assert any("never judged" in warning for warning in nights.manifest()["warnings"])
    (run,) = nights.run(NEXT, now=NEXT + timedelta(hours=30), **bundle)
    assert run.manifest["model_knew_later"] is False
    assert run.manifest["warnings"] == []


def test_what_is_doubtful_about_all_nights_of_a_call_is_told_once(nights):
    first = nights.project.trained_until - timedelta(days=3)
    runs = nights.run(None, start=first, end=first + timedelta(days=1))
    assert all("the model learnt from what was known until" in run.text for run in runs)
    told = nights_text(runs)
    assert told.count("the model learnt from what was known until") == 1
    assert "(2 nights)" in told


def test_a_night_that_fails_behind_the_latest_one_leaves_the_metrics(after_a_night, tmp_path):
    nights = after_a_night
    path = tmp_path / "metrics.prom"
    metrics = f"nightly.prometheus={path}"
    nights.run(NEXT, metrics)
    before = path.read_bytes()
    stops = "nightly.gates.model_age={warn: 1d, stop: 2d}"
    (run,) = nights.run(None, metrics, stops, start=NIGHT - timedelta(days=1), end=NIGHT - timedelta(days=1))
    assert (run.outcome, run.manifest["current"]) == ("stopped", False)
    with pytest.raises(DataError):
        nights.run(
            None,
            metrics,
            start=NIGHT - timedelta(days=1),
            end=NIGHT - timedelta(days=1),
            data=tmp_path / "none",
        )
    assert path.read_bytes() == before


def test_what_fails_after_the_publication_unpublishes_nothing(nights, monkeypatch, tmp_path):
    def full(folder, manifest):
        raise OSError(28, "No space left on device")

    told = tmp_path / "told.json"
    hook = (
        f"nightly.hooks=[{{command: [cp, /dev/stdin, {told}], when: [published, warned, stopped, failed]}}]"
    )
    with monkeypatch.context() as patch:
        patch.setattr(NightFolder, "note", full)
        (run,) = nights.run(NIGHT, hook)
    assert (run.outcome, run.exit_code) == ("published", 12)
    assert "the scores are published, but" in run.text
    payload = json.loads(told.read_text())
    assert (payload["outcome"], payload["exit_code"]) == ("warned", 12)
    assert nights.manifest()["status"] == "published"
    assert nights.run()[0].outcome == "published"
    assert nights.manifest()["steps"][-1]["step"] == "monitor"
    assert nights.run()[0].outcome == "already published"


def test_a_target_that_lacks_the_published_night_gets_it(after_a_night, tmp_path):
    nights = after_a_night
    other, database = tmp_path / "other", tmp_path / "scores.duckdb"
    nights.targets = (
        f"nightly.publish=[{{duckdb: '{database}'}}, {{parquet: '{nights.scores}'}}, {{parquet: '{other}'}}]"
    )
    (run,) = nights.run()
    assert (run.outcome, run.exit_code) == ("already published", 0)
    assert "it was missing" in run.text
    assert content_hash(pq.ParquetFile(other / "latest.parquet").read()) == nights.manifest()["scores_hash"]
    assert database.exists()
    assert len(nights.manifest()["targets"]) == 3
    before = nights.files()
    assert "nothing was changed" in nights.run()[0].text
    assert nights.files() == before

    (nights.scores / "latest.parquet").unlink()
    assert "it was missing" in nights.run()[0].text
    assert content_hash(nights.latest()) == nights.manifest()["scores_hash"]


def test_a_target_that_lacks_the_published_night_is_told_where_no_copy_is_left(after_a_night, tmp_path):
    nights = after_a_night
    nights.targets = f"nightly.publish=[{{duckdb: '{tmp_path / 'scores.duckdb'}'}}]"
    with pytest.raises(PublishError, match="no Parquet target keeps its scores") as caught:
        nights.run()
    assert caught.value.exit_code == 9
    (run,) = nights.run(again="the database is new")
    assert (run.run_id, run.outcome) == (f"{nights.id_of()}-2", "published")


def test_a_waived_stop_is_told_with_its_reason():
    gates = [{"gate": "rows", "verdict": "stop", "message": "half as many leads"}]
    manifest = {
        "leads": 2,
        "model": {"version": "3", "digest": "d" * 64},
        "expected_conversions": 1.0,
        "gates": gates,
        "waived": {"rows": "the CRM was merged"},
    }
    run = NightRun("demo-1", NIGHT, "published", manifest)
    assert "! [rows] half as many leads (waived: the CRM was merged)" in run.text
    assert text_of([run]) == run.text


@pytest.mark.parametrize("name", ["-demo", "x" * 200])
def test_a_name_that_cannot_name_files_is_refused_at_once(nights, name):
    with pytest.raises(ConfigError, match="choose another name"):
        nights.run(NIGHT, f"name='{name}'")
    assert not nights.state.exists()


def test_a_night_that_is_stopped_shows_on_the_page_and_names_every_waiver(nights, tmp_path):
    nights.run()
    page = nights.state / "monitoring" / "index.html"
    before = page.read_text()
    later = NIGHT + timedelta(days=60)
    limits = "nightly.gates.freshness={data: {warn: 1h, stop: 2h}}"
    stopped = nights.run(later, limits)[0]
    assert stopped.outcome == "stopped"
    waived = [gate["gate"] for gate in stopped.manifest["gates"] if gate["verdict"] == "stop"]
    assert len(waived) > 1
    assert all(f"--waive '{gate}=REASON'" in stopped.message for gate in waived)
    assert page.read_text() != before
    assert f"{later:%Y-%m-%d}" in page.read_text()


def test_metrics_are_those_of_the_published_night_again_after_a_refusal(nights, tmp_path):
    metrics = tmp_path / "night.prom"
    options = f"nightly.prometheus='{metrics}'"
    nights.run(NIGHT, options)
    published = told_by(metrics)
    with pytest.raises(GateError, match="clock was set back"):
        nights.run(None, options, now=NIGHT - timedelta(days=3))
    refused = told_by(metrics)
    assert (refused["exit_code"], refused["cutoff_timestamp_seconds"] < NIGHT.timestamp()) == (7, True)
    assert nights.run(NIGHT, options)[0].outcome == "already published"
    again = told_by(metrics)
    assert again.pop("last_attempt_timestamp_seconds") == refused["last_attempt_timestamp_seconds"]
    assert refused["last_attempt_timestamp_seconds"] >= published.pop("last_attempt_timestamp_seconds")
    assert again == published


def test_a_night_that_is_published_already_hides_no_failure_of_a_later_one(after_a_night, tmp_path):
    nights, path = after_a_night, tmp_path / "metrics.prom"
    metrics = f"nightly.prometheus={path}"
    nights.run(NIGHT, metrics)
    assert told_by(path)["exit_code"] == 0
    with pytest.raises(DataError):
        nights.run(NEXT, metrics, data=tmp_path / "none")
    failed = path.read_bytes()
    assert told_by(path)["exit_code"] == 3
    assert nights.run(NIGHT, metrics)[0].outcome == "already published"
    assert path.read_bytes() == failed
    path.unlink()
    nights.run(NIGHT, metrics)
    assert not path.exists(), "the failed night's manifest tells of it"
    nights.state.joinpath("runs", f"{nights.id_of(NEXT)}.json").unlink()
    path.write_bytes(failed)
    nights.run(NIGHT, metrics)
    assert path.read_bytes() == failed, "a night that was refused before it began has no manifest"


def test_an_old_night_that_is_refused_by_name_leaves_the_metrics(after_a_night, tmp_path):
    nights, path = after_a_night, tmp_path / "metrics.prom"
    metrics = f"nightly.prometheus={path}"
    nights.run(NEXT, metrics)
    before = path.read_bytes()
    with pytest.raises(GateError, match="names an old night"):
        nights.run(NIGHT - timedelta(days=3), metrics)
    assert path.read_bytes() == before


def test_a_first_night_without_a_conversion_warns(nights, project, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(load_project(project.config).data_dir, data)
    conversions = data / "conversions.parquet"
    pq.write_table(pq.read_table(conversions).slice(0, 0), conversions)
    (night,) = nights.run(data=data)
    assert night.outcome == "published"
    assert "! conversions has no row at all, although the model learnt from such rows" in night.text
    (night,) = nights.run(NEXT, data=data)
    assert "! conversions has no row at all" in night.text, "the night before tells of none either"


class TestInterrupted:
    """A signal ends a night soon, whatever its hooks do."""

    def hook(self, folder: Path, then: str) -> str:
        """A hook that adds a line to a file and goes on with a shell script."""
        script = folder / "hook.sh"
        script.write_text(f"echo called >> {folder}/told\n{then}\n")
        when = "[published, warned, stopped, failed]"
        return f"nightly.hooks=[{{command: [sh, '{script}'], when: {when}, retries: 1}}]"

    def calls(self, folder: Path) -> int:
        return len((folder / "told").read_text().splitlines())

    def test_a_hook_that_is_interrupted_is_not_called_again(self, nights, tmp_path):
        once = f"if mkdir {tmp_path}/interrupted; then kill -TERM $PPID; sleep 60; fi"
        hook, metrics = self.hook(tmp_path, once), tmp_path / "metrics.prom"
        with pytest.raises(KeyboardInterrupt):
            nights.run(NIGHT, hook, f"nightly.prometheus={metrics}")
        assert self.calls(tmp_path) == 1
        assert told_by(metrics)["exit_code"] == 130
        assert nights.manifest()["status"] == "published"
        assert nights.run(NIGHT, hook)[0].outcome == "published"
        assert self.calls(tmp_path) == 2, "the next run tells of the night"

    def test_the_hooks_of_an_interrupted_night_get_one_short_try(self, nights, tmp_path, monkeypatch, capsys):
        def interrupted(ledger, manifest, rows):
            os.kill(os.getpid(), signal.SIGTERM)

        hook = self.hook(tmp_path, "sleep 60")
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "check", interrupted)
            with pytest.raises(KeyboardInterrupt):
                nights.run(NIGHT, hook)
        assert self.calls(tmp_path) == 1
        assert "was killed after 5 s" in capsys.readouterr().err
        assert nights.manifest()["error"].startswith("KeyboardInterrupt")


def test_a_model_without_a_profile_is_doubted_aloud(nights):
    bundle = nights.folder / "without_profile"
    write_bundle(bundle, replace(load_bundle(nights.project.run / "bundle"), profile=None))
    night = nights.run(bundle=bundle, run=None)[0]
    assert night.outcome == "published"
    assert any("no profile" in warning for warning in night.warnings)
