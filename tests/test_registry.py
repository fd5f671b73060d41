"""The registry with real trainings: two at once on a new store, promotion, rollback, tampering, crashes, a server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from convpredict.cli import main
from convpredict.config.load import load_project
from convpredict.config.training import TrackingConfig
from convpredict.errors import BundleError, ConfigError, DataError, PromotionError, RegistryError
from convpredict.models.bundle import load_bundle
from convpredict.scoring.nightly.model import choose_champion
from convpredict.tracking import champions, store
from convpredict.tracking.champions import champion_at, read_changes, set_champion
from convpredict.tracking.checksums import write_checksums
from convpredict.tracking.load_back import check_same
from convpredict.tracking.model_directory import directory_digest
from convpredict.tracking.registration import settle_challenger
from convpredict.tracking.registry import get_model, list_versions, rollback
from convpredict.tracking.store import connect, patiently
from convpredict.tracking.versions import CHALLENGER, CHAMPION, PROMOTION, VERIFIED, Registry, open_registry
from convpredict.training.training_set import TrainingSet
from convpredict.workflows.data import simulate_data
from convpredict.workflows.monitoring import _bundle, _champion
from convpredict.workflows.promoting import list_models, promote
from convpredict.workflows.promoting import rollback as roll_back
from convpredict.workflows.tracked_runs import register_run

NAME = "shop"
CONFIG = {
    "name": NAME,
    "data": "data",
    "simulator": {"leads": 4000, "seed": 3},
    "sources": {name: {"file": f"{name}.parquet"} for name in ("leads", "interactions", "conversions")},
    "history": {
        "leads": {"source": "leads", "attributes": {"industry": "category", "channel": "category"}},
        "interactions": {"source": "interactions"},
        "conversions": {"source": "conversions"},
        "known_until": "2025-12-31",
    },
    "observations": {"cutoffs": {"every": "14d"}, "max_age": "120d"},
    "labels": {"horizons": ["30d"]},
    "split": {"test_share": 0.4},
    "features": {
        "default": False,
        "declare": [
            {"family": "count", "by": "kind", "windows": ["7d", "30d", "all"]},
            {"family": "recency"},
            {"family": "age"},
            {"family": "attribute", "attribute": "channel"},
            {"family": "attribute", "attribute": "industry"},
        ],
    },
    "model": {
        "n_estimators": 60,
        "num_leaves": 7,
        "seeds": 1,
        "logistic_weight": 0.2,
        "calibrators": ["none", "sigmoid"],
    },
    "leakage": {"enabled": False},
    "evaluation": {"resamples": 100, "top_shares": [0.05, 0.1]},
    "scorecard": {"rules": [{"kind": "download", "points": 10}, {"kind": "demo_request", "points": 30}]},
    "promotion": {"min_converting_leads": 20},
}
ONLY_AGE = "features.declare=[{family: age}]"
"""An override that leaves the model almost nothing to learn from."""
TWO = "labels.horizons=[30d, 60d]"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


class Shop:
    """A project in a folder, with the versions that two trainings made at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "shop.yaml"
        self.tracking = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
        content = {**CONFIG, "tracking": {"uri": self.tracking.uri}}
        self.config.write_text(yaml.safe_dump(content), encoding="utf-8")
        simulate_data(self.config)
        self.good, self.poor = self._train(("good", ("--set", TWO)), ("poor", ("--set", ONLY_AGE)))

    def _train(self, *wanted: tuple[str, tuple[str, ...]]) -> list[str]:
        command = [sys.executable, "-m", "convpredict.cli", "train", str(self.config), "--json", "--out"]
        started = [
            subprocess.Popen(
                [*command, str(self.folder / name), *options],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, options in wanted
        ]
        versions = []
        for process in started:
            out, err = process.communicate(timeout=600)
            assert process.returncode == 0, err
            versions.append(json.loads(out)["version"])
        return versions

    def model(self, wanted: str):
        return get_model(NAME, wanted, self.tracking)

    def champion(self) -> str | None:
        return open_registry(NAME, self.tracking).aliases().get(CHAMPION)

    def reset(self) -> None:
        """Forget all champions."""
        registry = open_registry(NAME, self.tracking)
        for key in registry.tags():
            registry.client.delete_registered_model_tag(NAME, key)
        if CHAMPION in registry.aliases():
            registry.client.delete_registered_model_alias(NAME, CHAMPION)
        for version in registry.versions():
            for key in (champions.WITHDRAWN, PROMOTION):
                if key in version.tags:
                    registry.client.delete_model_version_tag(NAME, version.version, key)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(trained, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trained.reset()
    return trained


def test_two_trainings_at_once_register_both_and_the_newest_is_the_challenger(shop):
    versions = {version.version: version for version in list_versions(NAME, shop.tracking)}
    assert {shop.good, shop.poor} == {"1", "2"} <= set(versions)
    assert versions["1"].verified
    assert versions["2"].verified
    newest = max((v for v in versions.values() if v.verified), key=lambda v: int(v.version))
    assert newest.aliases == (CHALLENGER,)


def test_a_version_tells_where_it_comes_from(shop):
    version = shop.model(shop.good)
    manifest = json.loads((shop.folder / "good" / "manifest.json").read_text())
    bundle = load_bundle(shop.folder / "good" / "bundle")
    assert version.digest == bundle.digest == version.load().digest
    assert version.tags["convpredict.manifest"] == bundle.created_from
    assert version.trained_until == datetime.fromisoformat(manifest["split"]["test_from"])
    assert version.tags["convpredict.known_until"] == manifest["known_until"] == "2025-12-31T00:00:00Z"
    assert version.tags["convpredict.first_cutoff"] == manifest["parts"]["train"]["first_cutoff"]
    metrics = json.loads((shop.folder / "good" / "metrics.json").read_text())["test"]
    assert version.verdicts["model"]["log_loss"] == metrics["model"]["log_loss"]
    assert version.verdicts["difference"]["log_loss"] == metrics["difference"]["log_loss"]
    assert len(version.tags["convpredict.config_digest"]) == 64


def test_what_is_registered_scores_as_what_was_trained(shop):
    rows = TrainingSet.load(shop.folder / "good" / "training_set").X("test")
    expected = load_bundle(shop.folder / "good" / "bundle").predict(rows)
    np.testing.assert_array_equal(shop.model(shop.good).load().predict(rows), expected)


def test_no_champion_yet_says_what_to_do(shop):
    with pytest.raises(RegistryError, match=r"no alias 'champion' .*'convpredict promote'"):
        shop.model("champion")
    with pytest.raises(RegistryError, match=r"no version 99 \(versions: 1, 2"):
        shop.model("99")
    with pytest.raises(RegistryError, match="no model is registered as 'other'"):
        get_model("other", "champion", shop.tracking)


def test_a_first_champion_is_judged_by_its_own_test_part(shop):
    done = promote(shop.config, version=shop.good)
    assert "no champion to compare with" in done.text
    assert shop.champion() == shop.good
    assert [change.by for change in read_changes(NAME, shop.tracking)] == ["first"]
    shop.reset()
    with pytest.raises(PromotionError, match="still no champion: the rule does not hold"):
        promote(shop.config, version=shop.good, overrides=["promotion.min_converting_leads=10000"])
    assert shop.champion() is None


def test_a_worse_challenger_is_refused_with_all_figures(shop):
    promote(shop.config, version=shop.good)
    with pytest.raises(PromotionError, match=r"DOES NOT HOLD: log loss: \+") as caught:
        promote(shop.config, version=shop.poor)
    assert shop.champion() == shop.good
    details = caught.value.details
    assert details["promoted"] is False
    gap = details["figures"]["difference"]["log_loss"]
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    counts = details["figures"]["counts"]
    assert counts["first_cutoff"] >= details["figures"]["since"][:10]
    assert counts["last_cutoff"] <= "2025-12-02"  # 30 days before the data ends
    assert {entry["segment"] for entry in details["figures"]["segments"]} == {"channel", "industry"}


def test_a_challenger_that_lacks_a_horizon_is_refused_and_named(shop):
    promote(shop.config, version=shop.good)
    wanted = r"DOES NOT HOLD: readers would lose 2 columns .*: p_convert_60d, median_days_to_conversion\."
    free = ["log_loss=any", "captured=any", "segments=any", "calibration_ratio=[0.1, 10]"]
    free = [f"promotion.{each}" for each in free]
    with pytest.raises(PromotionError, match=wanted) as caught:
        promote(shop.config, version=shop.poor, overrides=free)
    assert "with the labels and the scorecard that the champion was trained with" in str(caught.value)
    assert "this data could not have told a difference below" in str(caught.value)
    assert [check["name"] for check in caught.value.details["checks"] if check["holds"] is False] == [
        "columns"
    ]
    assert shop.champion() == shop.good
    promote(shop.config, version=shop.poor, force="nobody reads them")
    assert shop.champion() == shop.poor
    assert read_changes(NAME, shop.tracking)[-1].figures["lost_columns"] == [
        "p_convert_60d",
        "median_days_to_conversion",
    ]


def test_the_comparison_is_that_of_the_test_parts(shop):
    """Both were trained until the same instant, so that the comparison has exactly the rows of their test parts."""
    promote(shop.config, version=shop.good)
    with pytest.raises(PromotionError) as caught:
        promote(shop.config, version=shop.poor)
    for side, name in (("champion", "good"), ("challenger", "poor")):
        test = json.loads((shop.folder / name / "metrics.json").read_text())["test"]
        assert caught.value.details["figures"]["counts"]["rows"] == test["counts"]["rows"]
        for metric in ("log_loss", "auc", "captured_top_5pct", "calibration_ratio"):
            told = caught.value.details["figures"][side][metric]["value"]
            assert told == pytest.approx(test["model"][metric]["value"], rel=1e-12)


def test_a_better_challenger_is_promoted_and_a_forced_one_with_its_reason(shop):
    forced = promote(shop.config, version=shop.poor, force="the better one reads a field that goes away")
    assert forced.by == "force"
    done = promote(shop.config, version=shop.good, overrides=["promotion.log_loss=better"])
    assert (done.version, done.former, done.by) == (shop.good, shop.poor, "rule")
    first, second = read_changes(NAME, shop.tracking)
    assert first.reason == "the better one reads a field that goes away"
    assert (second.former, second.version, second.by) == (shop.poor, shop.good, "rule")
    assert second.figures["difference"]["log_loss"]["high"] < 0
    kept = json.loads(shop.model(shop.good).tags[PROMOTION])
    assert kept["figures"]["segments"]
    with pytest.raises(PromotionError, match="is champion already"):
        promote(shop.config, version=shop.good)
    with pytest.raises(ConfigError, match="--force needs a reason"):
        promote(shop.config, version=shop.poor, force=" ")


def test_too_few_outcomes_leave_the_champion_and_force_records_why_they_were_not_compared(shop):
    promote(shop.config, version=shop.poor, force="a start")
    few = ["history.known_until=2025-03-20"]
    with pytest.raises(PromotionError, match=r"nothing to compare the challenger by: .* 0 observations"):
        promote(shop.config, version=shop.good, overrides=few)
    with pytest.raises(PromotionError, match="Too few leads have converted since both were trained"):
        promote(shop.config, version=shop.good, overrides=["promotion.min_converting_leads=5000"])
    done = promote(shop.config, version=shop.good, overrides=few, force="cannot wait")
    assert "could not be compared" in done.text
    assert shop.champion() == shop.good


def test_models_that_predict_different_things_are_not_compared(shop):
    from convpredict.config.base import Duration
    from convpredict.models.bundle import Bundle
    from convpredict.scoring.model_pairs import check_comparable

    one = shop.model(shop.good).load()
    other = Bundle(one.name, one.model, one.feature_set, Duration("7d"))
    with pytest.raises(PromotionError, match="first horizon is 30d, the champion's 7d"):
        check_comparable(one, other)


def test_rolling_back_walks_back_and_what_was_withdrawn_needs_force(shop):
    with pytest.raises(RegistryError, match="there has been no champion"):
        roll_back(shop.config)
    promote(shop.config, version=shop.poor, force="a start")
    before = datetime.now(UTC)
    promote(shop.config, version=shop.good)
    promote(shop.config, version=shop.poor, force="a mistake")
    done = roll_back(shop.config, reason="it was a mistake")
    assert done.change.version == shop.champion() == shop.good
    assert roll_back(shop.config).change.version == shop.champion() == shop.poor
    with pytest.raises(RegistryError, match="is the first champion"):
        roll_back(shop.config)
    with pytest.raises(PromotionError, match="was rolled back, so no rule promotes it again"):
        promote(shop.config, version=shop.good)
    promote(shop.config, version=shop.good, force="it was not its fault")
    assert "convpredict.withdrawn" not in shop.model(shop.good).tags
    changes = read_changes(NAME, shop.tracking)
    assert [change.by for change in changes] == ["force", "rule", "force", "rollback", "rollback", "force"]
    assert changes[3].reason == "it was a mistake"
    assert champion_at(NAME, before, shop.tracking) == shop.poor
    assert champion_at(NAME, changes[0].at - timedelta(seconds=1), shop.tracking) is None
    for change in changes:
        assert champion_at(NAME, change.at, shop.tracking) == change.version
    listed = list_models(shop.config).summary
    assert [entry["to"] for entry in listed["changes"]] == [change.version for change in changes]


def bare_versions(name, tracking, count: int):
    """Versions in the registry that are marked as verified; where files matter, those of the shop are used."""
    client = connect(tracking.uri)
    client.create_registered_model(name)
    source = get_model(NAME, "1", tracking)
    for _ in range(count):
        client.create_model_version(name, str(source.folder), source.run_id, tags=dict(source.tags))
    return client


def test_rolling_back_passes_over_versions_that_were_deleted(shop):
    client = bare_versions("gone", shop.tracking, 4)
    for version in "1234":
        former = open_registry("gone", shop.tracking).aliases().get(CHAMPION)
        set_champion("gone", version, shop.tracking, by="force", expected=former)
    client.delete_model_version("gone", "2")
    client.delete_model_version("gone", "3")
    change = rollback("gone", shop.tracking)
    assert (change.former, change.version, change.figures) == ("4", "1", {"deleted": ["3", "2"]})
    from convpredict.workflows.promoting import RollbackRun

    assert "Passed over, as they were deleted: version 3, 2." in RollbackRun("gone", change).text
    with pytest.raises(RegistryError, match="version 1 is the first champion"):
        rollback("gone", shop.tracking)
    set_champion("gone", "4", shop.tracking, by="force", expected="1")
    client.delete_model_version("gone", "1")
    with pytest.raises(RegistryError, match="before version 4, the versions 1 were deleted"):
        rollback("gone", shop.tracking)


def test_rolling_back_without_an_alias_restores_the_last_recorded_champion(shop):
    promote(shop.config, version=shop.poor, force="a start")
    promote(shop.config, version=shop.good)
    client = connect(shop.tracking.uri)
    client.delete_registered_model_alias(NAME, CHAMPION)
    done = roll_back(shop.config)
    assert shop.champion() == done.change.version == shop.good
    assert "the alias had been deleted" in done.text
    assert champions.WITHDRAWN not in shop.model(shop.good).tags
    assert roll_back(shop.config).change.version == shop.champion() == shop.poor


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_in_a_rollback_never_leaves_the_bad_version_to_the_rule(shop, monkeypatch, after):
    """What ``rollback`` does once the files are checked, cut off at each of its calls."""
    whole, at, name = open_registry, 0, f"cut-{after}"
    bare_versions(name, shop.tracking, 2)
    back = {"by": "rollback", "expected": "2", "reason": "it is bad", "withdraw": True}
    set_champion(name, "1", shop.tracking, by="force", expected=None)
    while True:
        at += 1
        set_champion(name, "2", shop.tracking, by="force", expected="1")
        failing = Failing(connect(shop.tracking.uri), at, after=after)
        monkeypatch.setattr(
            champions, "open_registry", lambda *_, f=failing: Registry(name, shop.tracking.uri, f)
        )
        with contextlib.suppress(KeyboardInterrupt):
            set_champion(name, "1", shop.tracking, **back)
        monkeypatch.setattr(champions, "open_registry", whole)
        now = open_registry(name, shop.tracking)
        champion = now.aliases()[CHAMPION]
        assert champions.WITHDRAWN in now.version("2").tags or champion == "2"
        assert read_changes(name, shop.tracking)[-1].version == champion
        if champion == "2":
            set_champion(name, "1", shop.tracking, **back)
        if failing.left > 0:
            break
    assert at > 5


def test_a_bundle_that_is_not_the_registered_one_scores_no_night(shop):
    """Its checksums fit; only the digest that the registry keeps tells."""
    promote(shop.config, version=shop.good)
    project = load_project(shop.config)
    bundle = choose_champion(project.config)(datetime.now(UTC), False).bundle
    manifest = {"model": {"version": shop.good, "digest": bundle.digest}}
    assert _bundle(project, manifest) is not None
    client, key = connect(shop.tracking.uri), "convpredict.digest"
    client.set_model_version_tag(NAME, shop.good, key, "0" * 64)
    try:
        with pytest.raises(BundleError, match="is another one than was registered"):
            choose_champion(project.config)(datetime.now(UTC), False)
        assert _bundle(project, manifest) is None
    finally:
        client.set_model_version_tag(NAME, shop.good, key, bundle.digest)


def test_a_version_that_cannot_be_loaded_becomes_champion_by_no_force(shop):
    promote(shop.config, version=shop.good)
    client, key = connect(shop.tracking.uri), "convpredict.digest"
    digest = shop.model(shop.poor).tags[key]
    client.set_model_version_tag(NAME, shop.poor, key, "0" * 64)
    try:
        with pytest.raises(BundleError, match="is another one than was registered"):
            promote(shop.config, version=shop.poor, force="in a hurry")
    finally:
        client.set_model_version_tag(NAME, shop.poor, key, digest)
    assert open_registry(NAME, shop.tracking).aliases()[CHAMPION] == shop.good


def test_a_version_that_cannot_be_read_does_not_become_champion_again(shop):
    """Its files are those that were registered, but this version of convpredict does not know their format."""
    client, name = bare_versions("unread", shop.tracking, 2), "unread"
    folder = shop.folder / "unread"
    shutil.copytree(shop.model(shop.good).folder, folder)
    index = folder / "artifacts" / "bundle" / "bundle.json"
    content = json.loads(index.read_text())
    content["format"] = 99
    index.write_text(json.dumps(content))
    (folder / "checksums.json").unlink()
    write_checksums(folder)
    tags = {**get_model(name, "1", shop.tracking).tags, "convpredict.checksums": directory_digest(folder)}
    client.create_model_version(name, str(folder), shop.model(shop.good).run_id, tags=tags)
    set_champion(name, "3", shop.tracking, by="force", expected=None)
    set_champion(name, "2", shop.tracking, by="force", expected="3")
    with pytest.raises(
        BundleError, match=r"version 3 .*cannot be used, .*version 2 stays champion: .*promote"
    ):
        rollback(name, shop.tracking)
    registry = open_registry(name, shop.tracking)
    assert registry.aliases()[CHAMPION] == "2"
    assert champions.WITHDRAWN not in registry.version("2").tags
    assert [change.by for change in read_changes(name, shop.tracking)] == ["force", "force"]


def test_a_champion_set_by_hand_is_noticed(shop):
    promote(shop.config, version=shop.good)
    client = connect(shop.tracking.uri)
    client.set_registered_model_alias(NAME, CHAMPION, shop.poor)
    assert [change.by for change in read_changes(NAME, shop.tracking)] == ["first", "outside"]
    assert roll_back(shop.config).change.version == shop.good
    assert [change.by for change in read_changes(NAME, shop.tracking)] == ["first", "outside", "rollback"]


def test_another_promotion_in_between_is_not_overwritten(shop):
    promote(shop.config, version=shop.poor, force="a start")
    with pytest.raises(RegistryError, match="was changed meanwhile"):
        set_champion(NAME, shop.good, shop.tracking, by="rule", expected=None)
    assert shop.champion() == shop.poor


class Failing:
    """MLflow's client, which stops the process at one of its calls: before it, or after it took effect."""

    def __init__(self, client, at: int, *, after: bool) -> None:
        self.client, self.left, self.after = client, at, after

    def __getattr__(self, name):
        call = getattr(self.client, name)

        def counted(*arguments, **options):
            self.left -= 1
            if self.left == 0 and not self.after:
                raise KeyboardInterrupt
            result = call(*arguments, **options)
            if self.left == 0:
                raise KeyboardInterrupt
            return result

        return counted


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_call_of_a_change_leaves_one_champion_and_true_records(shop, monkeypatch, after):
    promote(shop.config, version=shop.poor, force="a start")
    whole, at = open_registry, 0
    while True:
        at += 1
        former = shop.champion()
        wanted = shop.good if former == shop.poor else shop.poor
        failing = Failing(connect(shop.tracking.uri), at, after=after)
        monkeypatch.setattr(
            champions, "open_registry", lambda *_, f=failing: Registry(NAME, shop.tracking.uri, f)
        )
        with contextlib.suppress(KeyboardInterrupt):
            set_champion(NAME, wanted, shop.tracking, by="force", expected=former, details={"a": 1})
        monkeypatch.setattr(champions, "open_registry", whole)
        now = shop.champion()
        assert now in (former, wanted)
        assert read_changes(NAME, shop.tracking)[-1].version == now
        assert champion_at(NAME, datetime.now(UTC), shop.tracking) == now
        if failing.left > 0:
            break
    assert at > 5
    assert [change.by for change in read_changes(NAME, shop.tracking)] == ["force"] * len(
        read_changes(NAME, shop.tracking)
    )


@pytest.mark.parametrize("name", ["artifacts/bundle/calibrator.json", "checksums.json", "MLmodel", "new.py"])
def test_a_tampered_artifact_is_refused(shop, name):
    folder = shop.model(shop.good).folder
    path = folder / name
    content = path.read_bytes() if path.is_file() else None
    promote(shop.config, version=shop.good)
    promote(shop.config, version=shop.poor, force="another one")
    try:
        if content is None:
            path.write_text("raise SystemExit('ran')")
        else:
            position = len(content) // 2
            path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(
            BundleError, match=name.replace(".", r"\.") if "checksums" not in name else "checksums"
        ):
            shop.model(shop.good)
        with pytest.raises(BundleError):
            rollback(NAME, shop.tracking)
        assert shop.champion() == shop.poor
    finally:
        path.unlink() if content is None else path.write_bytes(content)


def test_a_whole_model_in_place_of_another_is_refused(shop):
    """Every checksum inside fits: only what the registry keeps tells that it is another model."""
    good, poor = shop.model(shop.good).folder, shop.model(shop.poor).folder
    aside = good.with_name("aside")
    good.rename(aside)
    try:
        shutil.copytree(poor, good)
        with pytest.raises(BundleError, match="files were exchanged"):
            shop.model(shop.good)
    finally:
        shutil.rmtree(good)
        aside.rename(good)


def test_what_cannot_be_loaded_back_stays_unverified_and_is_used_by_nothing(shop):
    """The model directory of the results folder is whole; the artifact of its run is not."""
    run = shop.model(shop.good).run_id
    challenger = open_registry(NAME, shop.tracking).aliases()[CHALLENGER]
    artifact = shop.model(shop.good).folder / "pyfunc_script.py"
    content = artifact.read_bytes()
    artifact.write_bytes(content + b"\n")
    try:
        with pytest.raises(RegistryError, match="could not be loaded back"):
            register_run(shop.config, shop.folder / "good")
    finally:
        artifact.write_bytes(content)
    newest = list_versions(NAME, shop.tracking)[0]
    assert (newest.verified, newest.run_id) == (False, run)
    assert open_registry(NAME, shop.tracking).aliases()[CHALLENGER] == challenger
    for use in (
        lambda: shop.model(newest.version),
        lambda: promote(shop.config, version=newest.version, force="all the same"),
        lambda: set_champion(NAME, newest.version, shop.tracking, by="force", expected=None),
    ):
        with pytest.raises(RegistryError, match="was never verified"):
            use()


@pytest.mark.parametrize("other", [[0.5, 0.25], [0.5], [0.5, np.nextafter(0.125, 1)], [0.5, np.nan]])
def test_a_version_that_scores_otherwise_is_noticed(other):
    check_same("version 1", "rows", {"p": [0.5, 0.125]}, {"p": np.array([0.5, 0.125])})
    with pytest.raises(RegistryError, match="version 1 scores otherwise when it is loaded back"):
        check_same("version 1", "rows", {"p": other}, {"p": np.array([0.5, 0.125])})


def test_many_registrations_at_once_end_on_the_newest_challenger(shop):
    """Eight versions, verified by as many threads; a file that is no model is enough to point to."""
    client = connect(shop.tracking.uri)
    client.create_registered_model("crowd")
    numbers = [client.create_model_version("crowd", "file:///nowhere").version for _ in range(8)]
    failures = []

    def verify(number: str) -> None:
        registry = open_registry("crowd", shop.tracking)
        try:
            registry.client.set_model_version_tag("crowd", number, VERIFIED, "true")
            settle_challenger(registry)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=verify, args=(str(number),)) for number in numbers[::-1]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert open_registry("crowd", shop.tracking).aliases() == {CHALLENGER: "8"}


def test_only_the_folder_of_a_tracked_run_is_registered(shop, tmp_path):
    with pytest.raises(DataError, match=r"holds no metrics\.json"):
        register_run(shop.config, tmp_path)
    copy = tmp_path / "mixed"
    shutil.copytree(shop.folder / "good", copy, ignore=shutil.ignore_patterns("model"))
    shutil.copytree(shop.folder / "poor" / "model", copy / "model")
    with pytest.raises(RegistryError, match="of another training than its bundle"):
        register_run(shop.config, copy)


def test_the_command_line(shop, capsys, monkeypatch):
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["convpredict", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), capsys.readouterr().out

    config = str(shop.config)
    assert run("promote", config, "--version", shop.good)[0] == 0
    code, out = run("promote", config, "--version", shop.poor, "--json")
    assert code == 10
    error = json.loads(out)["error"]
    assert error["type"] == "PromotionError"
    assert error["details"]["figures"]["difference"]["log_loss"]["low"] > 0
    code, out = run("models", config)
    assert code == 0
    assert "champion" in out
    assert "not verified" in out or "challenger" in out
    assert max(map(len, out.splitlines())) <= 110
    found = json.loads(run("models", config, "--json")[1])
    assert [entry["version"] for entry in found["versions"] if "champion" in entry["aliases"]] == [shop.good]
    assert run("rollback", config)[0] == 11
    assert json.loads(run("promote", config, "--version", shop.poor, "--force", "so", "--json")[1])[
        "promoted"
    ]
    code, out = run("rollback", config, "--reason", "it was worse", "--json")
    assert json.loads(out)["to"] == shop.good


def test_a_locked_database_is_waited_for(tmp_path):
    path = tmp_path / "a.db"
    holder = sqlite3.connect(path, check_same_thread=False)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    writer = sqlite3.connect(path, timeout=0)
    tries = []

    def write() -> None:
        tries.append(1)
        with writer:
            writer.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        patiently(write, patience=0.1)
    release = threading.Timer(0.4, holder.rollback)
    release.start()
    patiently(write)
    release.join()
    assert len(tries) > 3
    assert writer.execute("SELECT count(*) FROM t").fetchone() == (1,)
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 / 0)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A tracking server that keeps the artifacts itself, so that clients get them by HTTP."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += [
        "--artifacts-destination",
        str(tmp_path / "kept"),
        "--default-artifact-root",
        "mlflow-artifacts:/",
    ]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=1) as answer:
                if answer.status == 200:
                    break
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_tracking_server_does_the_same(shop, server, tmp_path, capfd):
    folder = tmp_path / "results"
    shutil.copytree(shop.folder / "good", folder, ignore=shutil.ignore_patterns("tracked.json"))
    made = register_run(shop.config, folder)
    assert (made.version, made.tags[VERIFIED]) == ("1", "true")
    assert capfd.readouterr().out == ""
    assert made.load().digest == load_bundle(folder / "bundle").digest
    assert not made.folder.is_relative_to(tmp_path / "kept")
    promote(shop.config)
    assert get_model(NAME, "champion").digest == made.digest
    assert champion_at(NAME, datetime.now(UTC)) == "1"
    kept = next((tmp_path / "kept").rglob("calibrator.json"))
    kept.write_bytes(kept.read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"calibrator\.json"):
        get_model(NAME, "champion")


@pytest.fixture
def silent_server():
    """The address of a server that accepts whoever comes and answers nobody, and the connections so far."""
    accepted: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", accepted
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in accepted:
            connection.close()


def ask_for_the_night(project):
    choose_champion(project.config)(datetime.now(UTC), False)


def ask_for_retraining(project):
    _champion(project, {"model": {"version": "1"}})


def ask_for_monitoring(project):
    assert _bundle(project, {"model": {"version": "1"}}) is None
    raise RegistryError("cannot be used")


@pytest.mark.parametrize("ask", [ask_for_the_night, ask_for_retraining, ask_for_monitoring])
def test_a_server_that_never_answers_is_given_up(monkeypatch, silent_server, shop, ask):
    """The tries and the time-out of each are ours where the environment says nothing; here with a shorter time-out.
    They hold for nights, monitoring and the look at the champion, and for nothing that uploads."""
    uri, accepted = silent_server
    names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    for name in names:
        monkeypatch.setenv(name, "")  # so that what is set below is taken back
        monkeypatch.delenv(name)
    connect(shop.tracking.uri)
    assert not set(names) & set(os.environ)
    assert store._IMPATIENT["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "20"
    monkeypatch.setitem(store._IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with pytest.raises(RegistryError, match="cannot be used"):
        ask(load_project(shop.config, overrides=(f"tracking.uri={uri}",)))
    assert len(accepted) == 3
    assert not set(names) & set(os.environ)


def test_the_environment_says_how_long_a_server_is_waited_for(monkeypatch, silent_server):
    uri, accepted = silent_server
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RegistryError, match="cannot be used"):
        get_model(NAME, "champion", TrackingConfig(uri=uri))
    assert len(accepted) == 1


def test_a_server_that_is_down_is_named(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = TrackingConfig(uri=f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RegistryError, match="cannot be used"):
        get_model(NAME, "champion", config)
