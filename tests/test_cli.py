"""The command line as a person or a machine meets it: a small simulated funnel from end to end, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from commands import call
from convpredict.scoring.forget.places import read_places

ROOT = Path(__file__).parent.parent
SMALL = ("--set", "simulator.leads=2500", "--set", "model.seeds=2")
FAST = ("--set", "model.n_estimators=60", "--set", "model.num_leaves=7", "--set", "evaluation.resamples=50")


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


def start(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, as a person starts it."""
    return subprocess.run(
        [sys.executable, "-m", "convpredict.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{cwd}/mlflow.db"},
        capture_output=True,
        text=True,
        check=False,
    )


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same command in this process."""
    return call(*arguments, cwd=cwd, MLFLOW_TRACKING_URI=f"sqlite:///{cwd}/mlflow.db")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's configuration and a small simulated history."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "demo.yaml").write_text(
        (ROOT / "configs/demo.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    done = start("simulate", "demo.yaml", "--data", folder / "data", *SMALL, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["leads"] == 2500
    return folder


@pytest.fixture(scope="module")
def trained(project: Path) -> Path:
    out = project / "run"
    done = run("train", "demo.yaml", "--data", "data", "--out", out, *SMALL, *FAST, "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["folder"]) == out
    assert result["mlflow_run"]
    (project / "mlflow_run").write_text(result["mlflow_run"])
    return out


def test_check_summarises(project: Path) -> None:
    done = start("check", "demo.yaml", "--data", "data", "--quarantine", "q", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "2,500" in done.stdout
    assert "page_visit" in done.stdout
    machine = run("check", "demo.yaml", "--data", "data", "--quarantine", "q", "--json", cwd=project)
    assert json.loads(machine.stdout)["leads"] == 2500


def test_train_writes_everything(trained: Path) -> None:
    known = read_places(trained.parent.parent / "runs" / "demo_nightly")
    assert str(trained) in known.results
    assert f"sqlite:///{trained.parent}/mlflow.db" in known.stores
    metrics = json.loads((trained / "metrics.json").read_text())
    assert set(metrics["test"]) >= {"model", "scorecard", "difference"}
    auc = metrics["test"]["model"]["auc"]
    assert auc["low"] <= auc["value"] <= auc["high"]
    assert metrics["test"]["difference"]["auc"]["value"] == pytest.approx(
        auc["value"] - metrics["test"]["scorecard"]["auc"]["value"]
    )
    predictions = pq.read_table(trained / "test_predictions.parquet")
    assert predictions.column_names == ["lead_id", "cutoff", "label", "p", "scorecard_points"]
    assert predictions.num_rows == metrics["test"]["counts"]["rows"]
    p = predictions["p"].to_numpy()
    assert ((p > 0) & (p < 1)).all()
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["parts"]["test"]["observations"] == predictions.num_rows
    assert (trained / "bundle" / "bundle.json").is_file()


@pytest.mark.parametrize("text", ["{bad", "{}", "[]", '{"test": {}}'])
def test_compare_refuses_damaged_metrics(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    done = run("compare", tmp_path, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "metrics.json is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_that_cannot_be_written_is_no_traceback(project: Path) -> None:
    (project / "a_file").write_text("")
    to = ("--as-of", "2024-12-01", "--out", "a_file/features.parquet", "--json")
    done = run("features", "demo.yaml", "--data", "data", *to, cwd=project)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "a_file" in json.loads(done.stdout)["error"]["message"]


def test_score_by_folder_by_bundle_and_by_run(project: Path, trained: Path) -> None:
    shared = ("score", "demo.yaml", "--data", "data", *SMALL, *FAST, "--as-of", "2024-12-01")
    tables = []
    run_id = (project / "mlflow_run").read_text()
    sources = ((start, "--run", trained), (run, "--bundle", trained / "bundle"), (run, "--run", run_id))
    for index, (begin, *source) in enumerate(sources):
        out = project / f"scores_{index}.parquet"
        done = begin(*shared, *source, "--out", out, "--top", "5", cwd=project)
        assert done.returncode == 0, done.stderr
        tables.append(pq.read_table(out))
    for table in tables:
        assert table["lead_id"].equals(tables[0]["lead_id"])
        assert table["p_convert_30d"].equals(tables[0]["p_convert_30d"])
    p = tables[0]["p_convert_30d"].to_numpy()
    assert (np.diff(p) <= 0).all()
    assert tables[0]["rank"].to_pylist() == list(range(1, len(p) + 1))
    assert "Interrupted" not in done.stdout
    assert not list(project.glob(".*.partial"))


def test_scores_of_doubtful_data_come_with_a_warning(project: Path, trained: Path) -> None:
    out = project / "doubtful.parquet"
    shared = ("score", "demo.yaml", "--data", "data", *SMALL, "--run", trained, "--out", out)
    stale = ("--as-of", "2040-01-01", "--set", "history.conversions=null")
    done = run(*shared, *stale, "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    ends, outcomes = json.loads(done.stdout)["warnings"]
    assert "The data ends at" in ends
    assert "No conversions are declared" in outcomes
    assert "! No conversions are declared" in run(*shared, *stale, "--top", "0", cwd=project).stdout
    assert json.loads(run(*shared, "--json", cwd=project).stdout)["warnings"] == []
    german = run(
        *shared, "--set", "reasons.locale=de", "--set", "reasons.leads=0.01", "--top", "0", cwd=project
    )
    assert "Note: Reasons are told in 'de' and reasons.names.de is empty" in " ".join(german.stdout.split())


def test_scores_equal_the_test_predictions_of_the_same_night(project: Path, trained: Path) -> None:
    """The same cell in training and scoring: a lead's score at a test cutoff is its test prediction, to the bit."""
    predictions = pq.read_table(trained / "test_predictions.parquet").to_pandas()
    night = predictions["cutoff"].max()
    expected = predictions[predictions["cutoff"] == night].set_index("lead_id")["p"]
    out = project / "night.parquet"
    done = run(
        *("score", "demo.yaml", "--data", "data", *SMALL, "--run", trained, "--out", out),
        *("--as-of", night.isoformat(), "--json"),
        cwd=project,
    )
    assert done.returncode == 0, done.stderr
    scored = pq.read_table(out).to_pandas().set_index("lead_id")["p_convert_30d"]
    np.testing.assert_array_equal(scored.loc[expected.index].to_numpy(), expected.to_numpy())


def test_features_as_of_and_for_given_observations(project: Path) -> None:
    out = project / "features.parquet"
    shared = ("features", "demo.yaml", "--data", "data", "--json", "--out", out)
    done = run(*shared, "--as-of", "2024-10-01", cwd=project)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(out)
    assert json.loads(done.stdout)["rows"] == table.num_rows > 100
    given = project / "observations.csv"
    given.write_text(f"lead_id,cutoff\n{table['lead_id'][0]},2024-10-01\n999999999,2024-10-01\n")
    done = run(*shared, "--observations", given, cwd=project)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["rows"] == 1
    assert sum(summary["rejected"].values()) == 1


def test_compare_shows_a_finished_run(project: Path, trained: Path) -> None:
    done = start("compare", trained, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "scorecard" in done.stdout
    assert "calls a week the model's lists hold" in " ".join(done.stdout.split())
    assert "interval" in done.stdout
    text = " ".join(done.stdout.split())
    assert "hindsight" in text.lower()
    assert "report.html" in text
    assert max(len(line) for line in done.stdout.splitlines()) <= 110


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["check", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["check", "demo.yaml", "--data", "nothing_here"], 3, "leads.parquet"),
        (["check", "demo.yaml", "--set", "labels.horizon=[30d]"], 2, "horizons"),
        (["score", "demo.yaml", "--data", "data", "--out", "x.parquet"], 2, "--bundle"),
        (
            ["backtest", "demo.yaml", "--data", "data", "--out", "b", "--retrain-every", "0d"],
            2,
            "--retrain-every is 0d",
        ),
        (["score", "demo.yaml", "--data", "data", "--out", "x.parquet"], 2, "needs a model"),
        (["score", "demo.yaml", "--data", "data", "--bundle", "nothing", "--out", "x.parquet"], 5, "nothing"),
        (["score", "demo.yaml", "--data", "data", "--run", "0" * 32, "--out", "x.parquet"], 3, "0" * 32),
        (
            ["features", "demo.yaml", "--data", "data", "--out", "x.parquet", "--as-of", "tomorrow"],
            2,
            "ISO 8601",
        ),
        (
            ["features", "demo.yaml", "--data", "data", "--out", "x.parquet", "--as-of", "1999-01-01"],
            3,
            "No observation",
        ),
        (["train", "demo.yaml", "--data", "data", "--set", "labels.horizons=[380d]"], 4, "test"),
        (["compare", "nothing"], 3, "metrics.json"),
        (["simulate"], 2, "config"),
    ],
)
def test_exit_codes(project: Path, arguments: list[str], code: int, words: str) -> None:
    done = run(*arguments, cwd=project)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["check", "nowhere.yaml"], "ConfigError"),
        (["check"], "UsageError"),
        (["chek", "demo.yaml"], "UsageError"),
        (["score", "demo.yaml", "--out", "x.parquet", "--top", "-3"], "UsageError"),
    ],
)
def test_machines_get_errors_as_json(project: Path, arguments: list[str], kind: str) -> None:
    done = run(*arguments, "--json", cwd=project)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["type"] == kind
    assert "Traceback" not in done.stderr


def test_an_interruption_says_so(project: Path) -> None:
    fifo = project / "waits.yaml"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "convpredict.cli", "check", str(fifo), "--json"]
    process = subprocess.Popen(
        command,
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Started from a shell's background, these tests ignore the signal, and so would every command they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    writer = os.open(fifo, os.O_WRONLY)  # returns once the command has opened the file for reading
    for _ in range(12):
        # A signal between the command's last look for one and its wait for the file is seen only with the next.
        process.send_signal(signal.SIGINT)
        try:
            output, message = process.communicate(timeout=5)
            break
        except subprocess.TimeoutExpired:
            continue
    os.close(writer)
    assert process.returncode == 130
    assert json.loads(output)["error"]["type"] == "Interrupted"
    assert "Traceback" not in message


@pytest.mark.parametrize("arguments", [["check", "nowhere.yaml"], ["simulate"], ["compare", "nothing"]])
def test_a_process_of_its_own_ends_the_same_way(project: Path, arguments: list[str]) -> None:
    """But for its name, which the first line of a usage error shows."""
    for more in ([], ["--json"]):
        process, here = start(*arguments, *more, cwd=project), run(*arguments, *more, cwd=project)
        assert (process.returncode, process.stdout) == (here.returncode, here.stdout)
        assert process.stderr.splitlines()[-1] == here.stderr.splitlines()[-1]
        assert "Traceback" not in process.stderr


def test_config_schema_is_json(project: Path) -> None:
    done = run("config", "schema", cwd=project)
    assert "history" in json.loads(done.stdout)["properties"]
