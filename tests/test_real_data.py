"""The configurations for real exports, on the real exports: their traps are met, and the bars are held."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from convpredict import workflows
from convpredict.config.load import load_project
from convpredict.history.load import load_history
from convpredict.training.training_set import build_training_set

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


def read(name: str):
    if not (DATA / name).is_dir():
        pytest.skip(f"the data set {name} is not beside the project")
    project = load_project(ROOT / f"configs/{name}.yaml", data=DATA / name)
    return project, load_history(project.config, project.data_dir, require=("conversions",))


def test_school_crm_keeps_its_long_ids_and_its_undated_wins() -> None:
    project, history = read("school_crm")
    assert history.leads["lead_id"].null_count == 0
    assert pc.min(pc.utf8_length(history.leads["lead_id"].cast("string"))).as_py() == 19
    conversions = history.report.to_dict()["tables"]["conversions"]
    assert conversions["notes"]["undated (converted, nobody knows when)"] > 0.35 * conversions["read"]
    undated = set(
        history.conversions.filter(pc.is_null(history.conversions["converted_at"]))["lead_row"].to_pylist()
    )
    ids = {history.leads["lead_id"][row].as_py() for row in undated}
    training_set = build_training_set(history, project)
    assert not ids & set(training_set.frame["lead_id"])
    assert training_set.manifest["leads"]["undated_conversion"] == len(undated)


def test_bpic2012_interactions_hold_no_outcome() -> None:
    project, history = read("bpic2012")
    kinds = set(history.query("SELECT DISTINCT kind FROM interactions")["kind"].to_pylist())
    assert not {
        kind for kind in kinds if kind.startswith(("A_APPROVED", "A_REGISTERED", "A_ACTIVATED", "A_DECLINED"))
    }
    assert history.leads["lost_at"].null_count == history.n_leads - 10_442
    assert history.conversions.num_rows == 2_246
    training_set = build_training_set(history, project)
    parts = {part: set(training_set.lead_ids(part)) for part in ("train", "calibrate", "test")}
    assert not parts["test"] & (parts["train"] | parts["calibrate"])


def test_olist_funnel_trains_on_a_first_contact_and_a_win() -> None:
    project, history = read("olist_funnel")
    training_set = build_training_set(history, project)
    assert training_set.y("test").sum() > 50
    assert history.report.to_dict()["tables"]["conversions"]["quarantined"]


def test_school_crm_beats_the_plain_reference_and_the_hand_set_points(tmp_path: Path) -> None:
    """The bars of the data's README for a plain LightGBM on the same protocol: .871, .056, .02223."""
    read("school_crm")
    run = workflows.train(
        ROOT / "configs/school_crm.yaml", out=tmp_path / "run", data=DATA / "school_crm", track=False
    )
    test = run.metrics["test"]
    assert test["model"]["auc"]["value"] >= 0.871
    assert test["model"]["average_precision"]["value"] >= 0.056
    assert test["model"]["log_loss"]["value"] <= 0.0222
    assert test["difference"]["captured_top_5pct"]["low"] > 0
    assert test["difference"]["log_loss"]["high"] < 0
    predictions = pq.read_table(tmp_path / "run/test_predictions.parquet").to_pandas()
    assert predictions["cutoff"].min().isoformat() == "2024-03-18T00:00:00+00:00"
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == run.metrics
