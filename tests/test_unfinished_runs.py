"""A training run that did not finish leaves nothing that could be scored with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from convpredict.errors import BundleError, BusyError, DataError
from convpredict.models.bundle import write_bundle
from convpredict.workflows.common import holding_results
from convpredict.workflows.scoring import score
from convpredict.workflows.tracked_runs import register_run
from convpredict.workflows.training import train
from open_files import duplicate_of
from test_bundle import make_bundle

CONFIG = """
name: tests
sources: {leads: {file: leads.csv}, events: {file: events.csv}}
history: {leads: {source: leads}, interactions: {source: events}, conversions: {source: events}}
observations: {cutoffs: {every: 7d}}
labels: {horizons: [30d]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose data is not there, so that every run fails where it reads."""
    path = tmp_path / "tests.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """What scoring needs of a finished run: a bundle, and the metrics that are written last."""
    folder = tmp_path / "run"
    write_bundle(folder / "bundle", make_bundle(n_estimators=3, seeds=1, logistic_weight=0.0, n_jobs=1))
    (folder / "metrics.json").write_text(json.dumps({}))
    return folder


def test_a_finished_run_is_scored_with_until_its_metrics_are_gone(config: Path, finished: Path) -> None:
    out = finished.parent / "scores.parquet"
    with pytest.raises(
        DataError, match=r"leads\.csv|events\.csv"
    ):  # the bundle was taken, the data is missed
        score(config, out, run=str(finished))
    (finished / "metrics.json").unlink()
    with pytest.raises(BundleError, match=r"holds no metrics\.json, so its training has not finished"):
        score(config, out, run=str(finished))
    with pytest.raises(
        DataError, match=r"leads\.csv|events\.csv"
    ):  # who names the bundle itself knows what they do
        score(config, out, bundle=finished / "bundle")
    assert not out.exists()


def test_training_that_fails_leaves_no_former_bundle_in_its_folder(config: Path, finished: Path) -> None:
    with pytest.raises(DataError, match=r"leads\.csv|events\.csv"):
        train(config, out=finished, track=False)
    assert not (finished / "bundle").exists()
    assert not (finished / "metrics.json").exists()
    with pytest.raises(BundleError, match="has not finished"):
        score(config, finished.parent / "scores.parquet", run=str(finished))


def test_what_is_no_bundle_stops_training_before_it_begins(config: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    (tmp_path / "run" / "bundle" / "notes.txt").write_text("x")
    with pytest.raises(BundleError, match="something else than a bundle"):
        train(config, out=tmp_path / "run", track=False)
    assert (tmp_path / "run" / "bundle" / "notes.txt").read_text() == "x"


def test_a_second_training_into_the_same_folder_is_refused_and_touches_nothing(
    config: Path, finished: Path
) -> None:
    with holding_results(finished), pytest.raises(BusyError, match="another training writes into") as refused:
        train(config, out=finished, track=False)
    assert refused.value.exit_code == 8
    assert (finished / "metrics.json").is_file()
    assert (finished / "bundle").is_dir()
    with pytest.raises(DataError, match=r"leads\.csv|events\.csv"):  # the folder is free again
        train(config, out=finished, track=False)


def test_what_a_training_writes_is_not_registered_meanwhile(config: Path, finished: Path) -> None:
    """Not even where it looks finished: before, half of one run and half of another could be registered."""
    for name in ("manifest.json", "model", "training_set"):
        (finished / name).touch()
    with holding_results(finished), pytest.raises(BusyError, match="or its model is being registered"):
        register_run(config, finished)
    (finished / "training_set").unlink()
    with pytest.raises(DataError, match="holds no training_set"):  # the folder is free again
        register_run(config, finished)
    with pytest.raises(DataError, match=r"holds no metrics\.json"):
        register_run(config, finished.parent / "nowhere")


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_folder(tmp_path: Path) -> None:
    """A duplicate of a descriptor has the same lock as that of a forked child."""
    with holding_results(tmp_path):
        kept = duplicate_of(tmp_path)
    try:
        with holding_results(tmp_path):
            pass
    finally:
        os.close(kept)
