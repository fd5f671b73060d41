"""Tracking against a real MLflow store: written, read back, marked when it fails, and nothing sent away."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from convpredict.config.features import CountFeature, FeaturesConfig
from convpredict.config.training import TrackingConfig
from convpredict.errors import BundleError, ConfigError, DataError
from convpredict.tracking.items import (
    Artifact,
    Json,
    Metric,
    Param,
    Plot,
    Tag,
    Text,
    config_items,
    metric_items,
)
from convpredict.tracking.runs import fetch_bundle, find_run, read_run, start_run
from convpredict.tracking.store import connect, shown, tracking_uri

METRICS = {
    "test": {
        "model": {
            "auc": {"value": 0.8, "low": 0.75, "high": None},
            "brier": {"value": None, "low": None, "high": None},
        },
        "counts": {"rows": 10, "first_cutoff": "2024-03-18"},
    }
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One SQLite store for all tests here: setting one up takes two seconds."""
    folder = tmp_path_factory.mktemp("store")
    return TrackingConfig(uri=f"sqlite:///{folder}/deeper/mlflow.db")


@pytest.fixture(autouse=True)
def without_variable(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "trained"
    (folder / "trees").mkdir(parents=True)
    (folder / "bundle.json").write_text("{}")
    (folder / "trees" / "0.txt").write_text("tree")
    return folder


def items_of(bundle: Path):
    figure = Figure()
    figure.subplots().plot([0, 1])
    yield Param("model.seed", "0")
    yield Tag("project", "demo")
    yield from metric_items(METRICS)
    yield Text("notes/summary.txt", "äußerst gut\n")
    yield Json("manifest.json", {"b": 1, "a": [2]})
    yield Plot("plots/gain.png", figure)
    yield Artifact(bundle, "bundle")
    yield Artifact(bundle / "bundle.json", "single")


def test_what_is_logged_is_read_back(store, bundle):
    with start_run("first", store, experiment="read-back", tags={"kind": "train"}) as run:
        run.log(items_of(bundle))
    record = read_run(run.run_id, store)
    assert record.name == "first"
    assert record.params == {"model.seed": "0"}
    assert record.metrics == {"test/model/auc": 0.8, "test/model/auc_low": 0.75, "test/counts/rows": 10}
    assert record.tags == {"project": "demo", "kind": "train", "convpredict.completed": "true"}
    assert connect(store.uri).get_run(run.run_id).info.status == "FINISHED"

    fetched = fetch_bundle(run.run_id, store)
    assert sorted(str(path.relative_to(fetched)) for path in fetched.rglob("*.*")) == [
        "bundle.json",
        "trees/0.txt",
    ]
    artifacts = fetched.parent
    assert (artifacts / "notes" / "summary.txt").read_text(encoding="utf-8") == "äußerst gut\n"
    assert json.loads((artifacts / "metrics.json").read_text()) == METRICS
    assert list(json.loads((artifacts / "manifest.json").read_text())) == ["b", "a"]
    assert (artifacts / "plots" / "gain.png").read_bytes()[:4] == b"\x89PNG"
    assert (artifacts / "single" / "bundle.json").is_file()
    assert Path(store.uri.removeprefix("sqlite:///")).parent / "mlruns" in artifacts.parents


def test_a_bundle_is_copied_where_asked(store, bundle, tmp_path):
    with start_run("copy", store) as run:
        run.log([Artifact(bundle, "bundle")])
    copied = fetch_bundle(run.run_id, store, into=tmp_path / "here")
    assert copied.is_relative_to(tmp_path / "here")
    assert (copied / "trees" / "0.txt").read_text() == "tree"


def test_a_failing_run_is_marked_and_never_found(store):
    def fail_after_a_metric():
        with start_run("fails", store, experiment="failing") as run:
            started.append(run)
            run.log([Metric("a", 1.0)])
            raise ZeroDivisionError

    started = []
    with pytest.raises(ZeroDivisionError):
        fail_after_a_metric()
    (run,) = started
    assert connect(store.uri).get_run(run.run_id).info.status == "FAILED"
    assert find_run(store, experiment="failing") is None
    with pytest.raises(DataError, match=r"never completed \(status FAILED\)"):
        fetch_bundle(run.run_id, store)


def test_an_interrupted_run_is_marked_killed(store):
    with pytest.raises(KeyboardInterrupt), start_run("stops", store) as run:
        raise KeyboardInterrupt
    assert connect(store.uri).get_run(run.run_id).info.status == "KILLED"


def test_the_newest_completed_run_with_the_tags_is_found(store):
    runs = []
    for kind in ("train", "train", "tune"):
        with start_run(kind, store, experiment="search", tags={"kind": kind}) as run:
            runs.append(run.run_id)
    assert find_run(store, experiment="search").run_id in runs
    assert find_run(store, experiment="search", tags={"kind": "tune"}).run_id == runs[2]
    assert find_run(store, experiment="search", tags={"kind": "train"}).run_id in runs[:2]
    assert find_run(store, experiment="search", tags={"kind": "score"}) is None
    assert find_run(store, experiment="never made") is None


def test_two_runs_side_by_side_do_not_mix(store):
    with (
        start_run("outer", store, experiment="both") as outer,
        start_run("inner", store, experiment="both") as inner,
    ):
        outer.log([Param("who", "outer"), Metric("x", 1)])
        inner.log([Param("who", "inner"), Metric("x", 2)])
    assert read_run(outer.run_id, store).params == {"who": "outer"}
    assert read_run(inner.run_id, store).metrics == {"x": 2}


PROCESS = """
import sys
from convpredict.config.training import TrackingConfig
from convpredict.tracking.items import Metric, Param, Text
from convpredict.tracking.runs import start_run
with start_run(sys.argv[2], TrackingConfig(uri=sys.argv[1]), experiment="crowd") as run:
    for i in range(5):
        run.log([Metric(f"m{i}", i), Param(f"p{i}", sys.argv[2]), Text(f"{i}.txt", sys.argv[2])])
print(run.run_id)
"""


def test_two_processes_write_to_a_new_store_at_once_and_say_nothing(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-W", "error::DeprecationWarning:convpredict", "-c", PROCESS, uri]
    started = [
        subprocess.Popen(
            [*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        for name in ("one", "two")
    ]
    for process, name in zip(started, ("one", "two"), strict=True):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert err == ""
        record = read_run(out.strip(), TrackingConfig(uri=uri))
        assert record.metrics == {f"m{i}": i for i in range(5)}
        assert set(record.params.values()) == {name}


OFFLINE = """
import os, socket, sys, time
asked = []
def refuse(name):
    def call(*arguments, **options):
        asked.append((name, str(arguments[-2:])))
        raise OSError("no network")
    return call
socket.getaddrinfo = refuse("getaddrinfo")
socket.socket.connect = refuse("connect")
if sys.argv[2] == "ours":
    exec(sys.argv[3])
else:
    import mlflow
    mlflow.set_tracking_uri(sys.argv[1])
    with mlflow.start_run():
        mlflow.log_param("a", 1)
time.sleep(1.0)
os.write(1, str(len(asked)).encode())
os._exit(0)
"""


def count_network_calls(how: str, folder: Path) -> int:
    quiet = (
        "PYTEST",
        "MLFLOW",
        "CI",
        "GITHUB",
        "DO_NOT_TRACK",
        "JENKINS",
        "TF_BUILD",
        "GITLAB",
        "BUILDKITE",
        "RUNBOT",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(quiet)}
    code = PROCESS.replace("print(run.run_id)", "")
    command = [sys.executable, "-c", OFFLINE, f"sqlite:///{folder}/{how}.db", how, code]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=folder, timeout=120, check=True
    )
    return int(done.stdout.strip()[-1])


def test_nothing_leaves_the_machine(tmp_path):
    assert count_network_calls("ours", tmp_path) == 0


def test_the_variable_wins_over_the_configuration(store, monkeypatch, tmp_path):
    assert tracking_uri() == tracking_uri(TrackingConfig()) == "sqlite:///mlflow.db"
    assert tracking_uri(store) == store.uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    with start_run("elsewhere", TrackingConfig(uri=f"sqlite:///{tmp_path}/unused.db")) as run:
        pass
    assert run.uri == store.uri
    assert not (tmp_path / "unused.db").exists()


@pytest.mark.parametrize("uri", ["file:///tmp/somewhere", "./mlruns", "nonsense://x"])
def test_an_unusable_store_is_named_with_the_remedy(uri):
    with (
        pytest.raises(ConfigError, match=r"cannot use the tracking store .* sqlite:///mlflow\.db"),
        start_run("x", TrackingConfig(uri=uri)),
    ):
        pass


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, " * 100)
    with (
        pytest.raises(ConfigError, match="cannot use the tracking store"),
        start_run("x", TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")),
    ):
        pass


def test_passwords_are_not_shown():
    assert shown("postgresql://me:secret@host/db") == "postgresql://***@host/db"


def test_unknown_runs_missing_bundles_and_missing_files_are_named(store, tmp_path):
    with pytest.raises(DataError, match="there is no MLflow run 'nope'"):
        fetch_bundle("nope", store)
    with start_run("bare", store) as run:
        pass
    with pytest.raises(BundleError, match="has no folder 'bundle'"):
        fetch_bundle(run.run_id, store)
    with pytest.raises(BundleError, match="has no folder 'bundle'"):
        fetch_bundle(run.run_id, store, into=tmp_path)
    with pytest.raises(DataError, match="does not exist"), start_run("missing", store) as run:
        run.log([Artifact(tmp_path / "gone")])
    with pytest.raises(ConfigError, match="no quotes"):
        find_run(store, tags={"a": "b' or 'c"})


def test_a_deleted_experiment_is_named(store):
    with start_run("x", store, experiment="deleted"):
        pass
    client = connect(store.uri)
    client.delete_experiment(client.get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(ConfigError, match="is deleted"), start_run("x", store, experiment="deleted"):
        pass


def test_configurations_become_parameters(store):
    config = FeaturesConfig(
        declare=(CountFeature(windows=("7d", "all")),), exclude=tuple("x" * 10 for _ in range(900))
    )
    items = list(config_items(config))
    params = {item.name: item.value for item in items if isinstance(item, Param)}
    assert params["default"] == "true"
    assert params["max_values"] == "30"
    assert json.loads(params["declare"])[0]["windows"] == ["7d", "all"]
    assert len(params["exclude"]) == 6000
    whole = next(item for item in items if isinstance(item, Json))
    assert len(whole.content["exclude"]) == 900
    with start_run("config", store) as run:
        run.log(
            [
                *items,
                *(Param(f"many.{i}", str(i)) for i in range(250)),
                *(Metric(f"m/{i}", i) for i in range(1200)),
            ]
        )
    record = read_run(run.run_id, store)
    assert record.params["many.249"] == "249"
    assert len(record.metrics) == 1200


def test_importing_the_items_does_not_import_mlflow():
    code = (
        "import convpredict.tracking.items, convpredict.tracking.runs, sys; sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plots_are_saved_by_the_figure_itself(store):
    class Drawn:
        def savefig(self, fname, **options):
            Path(fname).write_bytes(io.BytesIO(b"drawn").getvalue())

    with start_run("plot", store) as run:
        run.log([Plot("a/b.png", Drawn()), Artifact(Path(__file__), "bundle")])
    assert (fetch_bundle(run.run_id, store).parent / "a" / "b.png").read_bytes() == b"drawn"
