"""The commands of monitoring on a real nightly project: monitor, retrain-if."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from convpredict.cli import app
from convpredict.config.base import Duration
from convpredict.errors import NotEnoughDataError, PromotionError, RegistryError
from convpredict.tracking.store import connect
from convpredict.tracking.versions import DIGEST, VERIFIED
from convpredict.workflows import PromotionRun, TrainingRun, monitor, nightly, retrain_if
from convpredict.workflows.monitoring import challenge, why_paused
from nightly_project import make_project

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

FIRST = datetime(2025, 8, 17, tzinfo=UTC)
WEEKS = 9
LATER = FIRST + timedelta(days=7 * WEEKS)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Nine weekly nights, filled in with a model that had learnt before them."""
    made = make_project(tmp_path_factory.mktemp("watched"))
    nightly(made.config, start=FIRST, end=LATER - timedelta(days=7), every="7d", run=made.run)
    return made


@pytest.fixture(scope="module")
def folder(project):
    return project.config.parent / "nightly"


def reports_of(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "monitoring").glob("demo-*.json"))}


def test_the_nightly_run_monitors_each_night(folder, project):
    assert len(reports_of(folder)) == WEEKS
    assert (folder / "monitoring" / "index.html").is_file()
    last = json.loads(list(reports_of(folder).values())[-1])
    assert last["drift"][0]["column"] == "score"
    assert set(last["realised"]) == {"30d"}
    assert last["realised"]["30d"]["nights"] == 4
    assert set(last["realised"]["30d"]["segments"]) == {"channel", "owner"}


def test_monitor_writes_what_is_missing_and_shows_the_state(folder, project):
    before = reports_of(folder)
    gone = folder / "monitoring" / list(before)[4]
    gone.unlink()
    run = monitor(project.config)
    assert run.written == (gone.stem,)
    gone.write_bytes(before[gone.name])
    assert [report.run_id for report in run.reports] == [name.removesuffix(".json") for name in before]
    assert monitor(project.config).written == ()
    shown = CliRunner().invoke(app, ["monitor", str(project.config)])
    assert shown.exit_code == 0
    assert "2025-10-12 00:00" in shown.output
    assert "Within 30d, 4 nights since 2025-08-17" in shown.output


def test_rebuild_gives_the_same_reports_even_from_a_damaged_one(folder, project):
    monitor(project.config)
    before = reports_of(folder)
    (folder / "monitoring" / list(before)[-1]).write_text("{")
    told = CliRunner().invoke(app, ["monitor", str(project.config), "--rebuild", "--json"])
    assert json.loads(told.output)["written"] == [name.removesuffix(".json") for name in before]
    after = reports_of(folder)
    assert list(after) == list(before)
    assert list(after.values())[:-1] == list(before.values())[:-1]
    assert monitor(project.config, rebuild=True).written
    assert reports_of(folder) == after


def test_retrain_if_says_what_holds_and_does_nothing_on_a_dry_run(folder, project):
    run = retrain_if(project.config, dry_run=True, now=LATER, overrides=["monitoring.retrain.age=7d"])
    assert (run.outcome, run.exit_code) == ("would train", 0)
    assert run.reasons[0].startswith("age: the model is")
    assert not (folder / "monitoring" / "retrain.json").exists()
    quiet = [f"monitoring.retrain.{rule}" for rule in ("age=null", "drifted_columns=null", "realised=false")]
    calm = retrain_if(project.config, now=LATER, overrides=quiet)
    assert (calm.outcome, calm.reasons, calm.text) == ("nothing to do", (), "No reason to train again.")


def test_a_report_that_is_missing_is_written_before_it_is_asked(folder, project):
    """As 'forget' leaves it, or a night whose monitoring failed."""
    before = reports_of(folder)
    last = folder / "monitoring" / list(before)[-1]
    rule = ["monitoring.retrain.age=null", "monitoring.retrain.drifted_columns=null"]
    asked = retrain_if(project.config, dry_run=True, now=LATER, overrides=rule)
    last.unlink()
    retrain_if(
        project.config, dry_run=True, now=LATER, overrides=[*rule, "monitoring.retrain.realised=false"]
    )
    assert not last.exists(), "where the rule asks for no report, none is needed"
    again = retrain_if(project.config, dry_run=True, now=LATER, overrides=rule)
    assert (again.outcome, again.reasons) == (asked.outcome, asked.reasons)
    former, written = json.loads(before[last.name]), json.loads(last.read_text())
    assert written["realised"] == former["realised"] != {}
    last.write_bytes(before[last.name])


class Registry:
    """A real registry of versions without files, and a copy of the nights whose manifests name versions of it."""

    def __init__(self, project, folder, place) -> None:
        self.project, self.nights, self.uri = project, place / "nightly", f"sqlite:///{place}/mlflow.db"
        shutil.copytree(folder, self.nights)
        self.client = connect(self.uri)
        self.client.create_registered_model("demo")
        for version in ("1", "2"):
            tags = {VERIFIED: "true", DIGEST: version * 64}
            self.client.create_model_version("demo", "/nowhere", tags=tags)

    def scored_by(self, *versions: str) -> None:
        """Who scored the nights, the last ones as named; all were registered 114 days ago, the manifests say."""
        paths = sorted((self.nights / "runs").glob("demo-*.json"))
        for path, version in zip(paths, ["1"] * (len(paths) - len(versions)) + [*versions], strict=True):
            manifest = json.loads(path.read_text())
            old = (datetime.now(UTC) - timedelta(days=114)).isoformat()
            named = {"version": version, "digest": version * 64, "registered_at": old}
            path.write_text(json.dumps(manifest | {"model": manifest["model"] | named}))

    def ask(self, *more: str, **options):
        rule = ("age=1d", "drifted_columns=null", "realised=false")
        given = [f"nightly.folder={self.nights}", f"tracking.uri='{self.uri}'"]
        given += [f"monitoring.retrain.{part}" for part in rule]
        return retrain_if(self.project.config, dry_run=True, overrides=[*given, *more], **options)


class TestChampion:
    """The model that is judged is the registry's champion, not whatever scored the last night."""

    @pytest.fixture
    def registry(self, project, folder, tmp_path, monkeypatch):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Registry(project, folder, tmp_path)

    def test_the_champion_that_scored_the_last_night_is_judged_by_it(self, registry):
        registry.scored_by("1")
        registry.client.set_registered_model_alias("demo", "champion", "1")
        run = registry.ask()
        assert run.outcome == "would train"
        assert run.reasons[0].startswith("age: the model is 114 days old")

    def test_one_that_was_promoted_since_is_judged_by_its_own_age_only(self, registry):
        registry.scored_by("1")
        registry.client.set_registered_model_alias("demo", "champion", "2")
        drifts = ("monitoring.retrain.drifted_columns=1", "monitoring.retrain.realised=true")
        run = registry.ask(*drifts)
        assert (run.outcome, run.reasons, run.exit_code) == ("nothing to do", (), 0)
        assert "Version 2, the champion, has not scored a night yet: only its own age is judged." in run.text
        later = registry.ask(*drifts, now=datetime.now(UTC) + timedelta(days=3))
        assert later.outcome == "would train"
        (reason,) = later.reasons
        assert reason.startswith("age: the model is 3 days old")

    def test_after_a_rollback_the_withdrawn_model_is_not_judged(self, registry):
        registry.scored_by("2")
        registry.client.set_registered_model_alias("demo", "champion", "1")
        run = registry.ask()
        assert run.outcome == "nothing to do"
        assert "Version 1, the champion, has not scored a night since it is champion again" in run.text

    def test_a_registry_without_a_champion_is_an_error_where_it_had_one(self, registry):
        registry.scored_by("1")
        with pytest.raises(RegistryError, match=r"there is no 'champion'|has no alias"):
            registry.ask()

    def test_nights_of_a_bundle_are_judged_where_there_is_no_champion(self, registry):
        assert registry.ask().reasons[0].startswith("age: ")
        assert registry.ask().message == "Nothing was trained (--dry-run)."
        registry.client.set_registered_model_alias("demo", "champion", "2")
        assert "Version 2, the champion, has not scored a night yet" in registry.ask().text

    def test_nights_of_a_bundle_need_no_registry(self, registry, monkeypatch, tmp_path):
        registry.uri = f"sqlite:///{tmp_path}/other.db"
        assert registry.ask().reasons[0].startswith("age: ")
        assert not (tmp_path / "other.db").exists()
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        registry.uri = "http://127.0.0.1:9"
        run = registry.ask()
        assert run.outcome == "would train"
        assert "The model of the last night was judged, as nothing tells of a champion" in run.text


class TestChallenge:
    """What becomes of a challenger's training; the training and the promotion themselves run in tests/outside."""

    manifest: ClassVar[dict] = {"model": {"version": "1"}}
    pause = Duration("7d")

    def trained(self, tmp_path):
        return TrainingRun("demo-1", tmp_path / "run", {}, (), {}, "abc", "2")

    def test_one_that_the_gate_refuses_gives_exit_code_10_and_a_pause(self, tmp_path):
        def refuse(version):
            raise PromotionError(f"version {version} of 'demo' is not promoted")

        state = tmp_path / "retrain.json"
        run = challenge(state, LATER, ("age: old.",), lambda: self.trained(tmp_path), refuse)
        assert (run.outcome, run.exit_code) == ("not promoted", 10)
        assert "version 2 of 'demo' is not promoted" in run.text
        assert "before 2025-10-26 00:00" in why_paused(state, self.manifest, self.pause, LATER)
        assert why_paused(state, self.manifest, self.pause, LATER + timedelta(days=7)) is None

    def test_one_that_is_promoted_is_not_trained_again_before_it_has_scored(self, tmp_path):
        state = tmp_path / "retrain.json"
        assert why_paused(state, self.manifest, self.pause, LATER) is None
        made = PromotionRun("demo", "2", "1", "rule", ("It holds.",), {})
        run = challenge(state, LATER, ("age: old.",), lambda: self.trained(tmp_path), lambda version: made)
        assert (run.outcome, run.exit_code) == ("promoted", 0)
        assert "Version 2" in why_paused(state, self.manifest, self.pause, LATER)
        assert why_paused(state, {"model": {"version": "2"}}, self.pause, LATER) is None

    @pytest.mark.parametrize("error", [NotEnoughDataError("too few"), MemoryError(), KeyboardInterrupt()])
    def test_a_training_that_fails_is_not_tried_again_every_night(self, tmp_path, error):
        state = tmp_path / "retrain.json"

        def fail():
            assert why_paused(state, self.manifest, self.pause, LATER), "a kill must leave the same trace"
            raise error

        with pytest.raises(type(error)):
            challenge(state, LATER, ("age: old.",), fail, lambda version: None)
        told = why_paused(state, self.manifest, self.pause, LATER + timedelta(days=6))
        assert "a training was begun" in told
        assert "before 2025-10-26 00:00" in told
        assert why_paused(state, self.manifest, self.pause, LATER + timedelta(days=7)) is None

    def test_a_promotion_that_fails_pauses_and_names_the_version(self, tmp_path):
        def fail(version):
            raise RegistryError("the registry does not answer")

        state = tmp_path / "retrain.json"
        with pytest.raises(RegistryError):
            challenge(state, LATER, ("age: old.",), lambda: self.trained(tmp_path), fail)
        told = why_paused(state, self.manifest, self.pause, LATER)
        assert "the promotion of version 2 was begun" in told
        assert "'convpredict promote'" in told


def test_without_nights_there_is_nothing_to_watch(tmp_path, project):
    config = tmp_path / "project.yaml"
    config.write_text(project.config.read_text())
    for command in (monitor, retrain_if):
        with pytest.raises(NotEnoughDataError, match="no published night"):
            command(config)
