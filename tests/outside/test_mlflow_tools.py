"""MLflow's own tools on a model directory, in an environment that has its stated requirements and no checkout.

Run by ``make outside``: it downloads the requirements, and pyspark, into a fresh environment (minutes).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convpredict.config.reasons import ReasonsConfig
from convpredict.errors import BundleError
from convpredict.features.cross_lead import snapshot_cross_lead
from convpredict.scoring.scores import score_open_leads
from convpredict.tracking.model_directory import verify_model_directory, write_model_directory
from served_leads import CUTOFF, feature_frame, raw_frame, served_bundle, served_history

pytestmark = pytest.mark.skipif(
    not os.environ.get("CONVPREDICT_OUTSIDE"), reason="downloads an environment; run by make outside"
)
ALTERED = {
    "MLmodel": b"utc_time_created",
    "checksums.json": b'"format"',
    "pyfunc_script.py": b"The script of a model",
    "code/convpredict/models/trees.py": b"import",
    "code/convpredict/features/kernels/counts.py": b"import",
    "artifacts/bundle/bundle.json": b"classes",
    "artifacts/bundle/trees/seed_00.txt": b"leaf_value",
    "artifacts/cross_lead.json": b"settled",
    "requirements.txt": b"numpy",
    "input_example.json": b"columns",
}
"""A byte in each of these files is altered: the last one of this text's first place."""


class Outside:
    """A folder with a fresh environment, a model directory, its inputs, and what the scored list says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        self.mlflow = folder / "venv" / "bin" / "mlflow"
        self.listed: Any = None
        self.environment = {
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PYSPARK_PYTHON": str(self.python),
            **{
                name: value
                for name, value in os.environ.items()
                if name.startswith(("PIP_", "SSL_", "JAVA_"))
            },
        }

    def run(self, *command: Any, check: bool = True) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder / "elsewhere",
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert not check or ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
        return ran

    def read(self, name: str) -> Any:
        return json.loads((self.folder / "elsewhere" / name).read_text())

    def check(self, found: list[dict[str, Any]]) -> None:
        """Every number and text that the scored list has as well, to the bit."""
        assert len(found) == len(self.listed)
        names = [name for name in found[0] if name in self.listed.columns and not name.startswith("reason")]
        assert len(names) >= 12
        for name in names:
            one, other = [row[name] for row in found], self.listed[name].tolist()
            if isinstance(other[0], str):
                assert one == other, name
            else:
                assert np.array(one, np.float64).tobytes() == np.array(other, np.float64).tobytes(), name


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    it = Outside(tmp_path_factory.mktemp("outside"))
    place = it.folder / "elsewhere"
    place.mkdir()
    (it.folder / "home").mkdir()
    rows, history = served_history()
    bundle = served_bundle(history)
    snapshot = snapshot_cross_lead(history, bundle.feature_set, CUTOFF)
    write_model_directory(place / "model", bundle, cross_lead=snapshot)
    table = score_open_leads(history, bundle, as_of=CUTOFF, reasons=ReasonsConfig(locale="de", top=2)).table
    it.listed = table.to_pandas().sort_values("lead_id", ignore_index=True)
    write_inputs(place, rows, history, bundle)
    shutil.copy(Path(__file__).with_name("in_venv.py"), place)
    subprocess.run([sys.executable, "-m", "venv", it.folder / "venv"], check=True)
    pip = (it.python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
    it.run(*pip, "--requirement", place / "model" / "requirements.txt")
    return it


def write_inputs(place: Path, rows: Any, history: Any, bundle: Any) -> None:
    raw, features = raw_frame(rows), feature_frame(history, bundle).drop(columns=["lead_id", "cutoff"])
    records = raw.to_dict("records")
    plain = [{name: None if value != value else value for name, value in row.items()} for row in records]
    (place / "raw.json").write_text(json.dumps({"dataframe_records": plain}))
    lines = [json.dumps({"number": number, **row}) for number, row in enumerate(plain)]
    (place / "raw.jsonl").write_text("\n".join(lines))
    text = {name: raw[name].map(json.dumps) for name in ("interactions", "attribute_changes")}
    numbered = raw.assign(**text, number=range(len(raw)))
    numbered.to_csv(place / "raw.csv", index=False)
    features.to_csv(place / "features.csv", index=False)
    content = features.astype(object).where(features.notna(), None)
    split = {"columns": list(content), "data": content.values.tolist()}
    (place / "features.json").write_text(json.dumps({"dataframe_split": split}))
    doubles = {c.name: "float64" if c.type == "number" else "string" for c in bundle.feature_set.columns}
    features.astype(doubles).assign(number=range(len(features))).to_parquet(place / "features.parquet")


def test_the_environment_has_no_checkout(outside: Outside) -> None:
    listed = outside.run(outside.python, "-m", "pip", "list", "--format=freeze").stdout
    assert "convpredict" not in listed
    ran = outside.run(outside.python, "-c", "import convpredict", check=False)
    assert "No module named 'convpredict'" in ran.stderr


@pytest.mark.parametrize(
    ("name", "kind"), [("features", "csv"), ("features", "json"), ("raw", "csv"), ("raw", "json")]
)
def test_mlflow_models_predict(outside: Outside, name: str, kind: str) -> None:
    begin = time.monotonic()
    outside.run(
        outside.mlflow, "models", "predict", "--env-manager", "local", "-m", "model",
        "-i", f"{name}.{kind}", "-t", kind, "-o", "predicted.json",
    )  # fmt: skip
    print(f"mlflow models predict, {name}.{kind}: {time.monotonic() - begin:.1f} s")
    outside.check(outside.read("predicted.json")["predictions"])


@pytest.fixture(scope="session")
def server(outside: Outside) -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [
        outside.mlflow,
        "models",
        "serve",
        "--env-manager",
        "local",
        "-m",
        "model",
        "-p",
        str(port),
        "-w",
        "1",
    ]
    with (outside.folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=outside.folder / "elsewhere",
            env=outside.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(1500):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, (outside.folder / "server.log").read_text()[-3000:]
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_mlflow_models_serve(outside: Outside, server: str) -> None:
    for name in ("raw", "features"):
        status, answer = ask(server, outside.read(f"{name}.json"))
        assert status == 200
        outside.check(answer["predictions"])
    rows = outside.read("raw.json")["dataframe_records"]
    took = []
    for number, row in enumerate(rows[:40]):
        begin = time.monotonic()
        _, answer = ask(server, {"dataframe_records": [row]})
        took.append(time.monotonic() - begin)
        assert answer["predictions"][0]["p_convert_30d"] == outside.listed["p_convert_30d"][number]
    print(f"one raw lead by HTTP: median {1000 * sorted(took)[len(took) // 2]:.0f} ms")
    params = {"reasons": True, "locale": "de", "top": 2}
    _, answer = ask(server, {"dataframe_records": rows, "params": params})
    told = [row["reasons_for"] for row in answer["predictions"]]
    assert told == [list(entry) for entry in outside.listed["reasons_for"]]
    status, answer = ask(server, {"dataframe_records": [{**rows[0], "created_at": "soon"}]})
    assert status == 400
    assert "row 1: 'created_at' is no time" in json.dumps(answer)


def test_load_model(outside: Outside) -> None:
    outside.run(outside.python, "in_venv.py", "load")
    found = outside.read("loaded.json")
    assert found["package"] == str(outside.folder / "elsewhere" / "model/code/convpredict/__init__.py")
    outside.check(found["raw"])
    outside.check(found["features"])
    assert [row["reasons_for"] for row in found["raw"]] == [
        list(told) for told in outside.listed["reasons_for"]
    ]


def test_an_altered_byte_is_refused(outside: Outside) -> None:
    place = outside.folder / "elsewhere"
    for number, (name, text) in enumerate(ALTERED.items()):
        copy = place / "altered" / str(number)
        shutil.copytree(place / "model", copy)
        content = bytearray((copy / name).read_bytes())
        content[content.index(text) + len(text) - 1] ^= 1
        (copy / name).write_bytes(bytes(content))
        with pytest.raises(BundleError, match=name):
            verify_model_directory(copy)
    outside.run(outside.python, "in_venv.py", "refusals")
    for number, said in outside.read("refusals.json").items():
        print(said)
        assert list(ALTERED)[int(number)] in said
        assert "altered after it was written" in said
    ran = outside.run(
        outside.mlflow, "models", "predict", "--env-manager", "local", "-m", "altered/4",
        "-i", "raw.json", "-t", "json", check=False,
    )  # fmt: skip
    assert ran.returncode != 0
    assert "counts.py' of" in ran.stderr


def test_spark_udf(outside: Outside) -> None:
    pip = (outside.python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
    outside.run(*pip, "pyspark>=4,<5")
    begin = time.monotonic()
    outside.run(outside.python, "in_venv.py", "spark")
    print(f"spark_udf, three frames: {time.monotonic() - begin:.1f} s")
    for name, found in outside.read("spark.json").items():
        print(name, len(found))
        outside.check(found)


def test_all_of_that_left_no_traces_in_the_model_directory(outside: Outside) -> None:
    verify_model_directory(outside.folder / "elsewhere" / "model")
