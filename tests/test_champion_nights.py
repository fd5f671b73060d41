"""Champions that change over time in a real registry: which version scored which night, and why, to the bit."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from convpredict.config.history import SimulatorConfig
from convpredict.config.load import load_project
from convpredict.config.training import TrackingConfig
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.scoring.ledger.ledger import Ledger
from convpredict.scoring.scores import score_open_leads
from convpredict.tracking.champions import champion_at, read_changes
from convpredict.tracking.registry import get_model
from convpredict.training.as_of import history_as_of
from convpredict.workflows.ledger import explain, find_mis_scored
from convpredict.workflows.nightly import nightly
from convpredict.workflows.promoting import promote, rollback
from convpredict.workflows.training import train

NAME = "demo"
TABLES = ("leads", "interactions", "conversions", "revenue")
MORNING = timedelta(hours=3)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


def at(month: int, day: int) -> datetime:
    return datetime(2025, month, day, tzinfo=UTC)


class World:
    """A project at several instants of 2025: what is done at one of them knows the data up to then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "project.yaml"
        self.tracking = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
        simulate(SimulatorConfig(leads=1500, seed=11), folder / "data")
        history: dict[str, Any] = {name: {"source": name} for name in TABLES}
        history["leads"]["attributes"] = {"channel": "category"}
        content = {
            "name": NAME,
            "data": "data",
            "sources": {name: {"file": f"{name}.parquet"} for name in TABLES},
            "history": history,
            "observations": {"cutoffs": {"every": "14d"}, "max_age": "180d"},
            "labels": {"horizons": ["30d"], "value_horizon": "30d"},
            "split": {"test_share": 0.4},
            "features": {
                "default": False,
                "declare": [
                    {"family": "count", "by": "kind", "windows": ["30d", "all"]},
                    {"family": "recency"},
                    {"family": "age"},
                    {"family": "attribute", "attribute": "channel"},
                ],
            },
            "model": {
                "n_estimators": 20,
                "num_leaves": 5,
                "seeds": 1,
                "logistic_weight": 0.2,
                "calibrators": ["none", "sigmoid"],
            },
            "leakage": {"enabled": False},
            "evaluation": {"resamples": 60},
            "promotion": {"min_converting_leads": 10, "calibration_ratio": [0.3, 3.0]},
            "reasons": {"leads": "all"},
            "tracking": {"uri": self.tracking.uri},
            "nightly": {"publish": [{"parquet": "scores"}, {"duckdb": "scores.duckdb"}]},
        }
        self.config.write_text(yaml.safe_dump(content), encoding="utf-8")

    def known(self, instant: datetime) -> list[str]:
        return [f"history.known_until={instant:%Y-%m-%d}"]

    def train(self, instant: datetime) -> str:
        done = train(self.config, out=self.folder / f"{instant:%m%d}", overrides=self.known(instant))
        return str(done.version)

    def promote(self, instant: datetime, **more: Any):
        return promote(self.config, overrides=self.known(instant), now=instant, **more)

    def night(self, cutoff: datetime, **more: Any) -> None:
        now = cutoff + MORNING
        (night,) = nightly(self.config, as_of=cutoff, now=now, overrides=self.known(cutoff), **more)
        assert night.outcome == "published", night.text

    def fill_in(self, cutoff: datetime, now: datetime):
        (night,) = nightly(self.config, start=cutoff, end=cutoff, now=now, overrides=self.known(now))
        assert night.outcome == "published", night.text
        return night


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        world = World(tmp_path_factory.mktemp("world"))
        assert world.train(at(7, 1)) == "1"
        world.promote(at(7, 1))
        world.night(at(7, 2))
        world.night(at(7, 9))
        assert world.train(at(10, 1)) == "2"
        world.night(at(10, 1))
        world.second = world.promote(at(10, 1) + timedelta(hours=12))
        world.night(at(10, 2))
        world.night(at(10, 9))
        rollback(world.config, reason="it promises too much", now=at(10, 15))
        world.night(at(10, 9), again="the champion was bad")
        world.night(at(10, 16))
        world.filled = {
            cutoff: world.fill_in(cutoff, at(10, 17))
            for cutoff in (at(6, 20), at(8, 6), at(10, 5), at(10, 15))
        }
        yield world


SERVED = {
    "demo-20250620T000000Z": "1",
    "demo-20250702T000000Z": "1",
    "demo-20250709T000000Z": "1",
    "demo-20250806T000000Z": "1",
    "demo-20251001T000000Z": "1",
    "demo-20251002T000000Z": "2",
    "demo-20251005T000000Z": "2",
    "demo-20251009T000000Z": "2",
    "demo-20251009T000000Z-2": "1",
    "demo-20251015T000000Z": "1",
    "demo-20251016T000000Z": "1",
}
"""Which version scored which night. A night that is filled in has the champion of its cutoff: on 15 October at midnight
that is already the one that was rolled back to; on 20 June there was none, and the present one scored it."""


def manifest_of(world: World, run_id: str) -> dict[str, Any]:
    return json.loads((world.folder / "nightly" / "runs" / f"{run_id}.json").read_text())


def published(world: World, run_id: str) -> pa.Table:
    return pq.ParquetFile(world.folder / "scores" / "runs" / f"run_id={run_id}" / "scores.parquet").read()


def ledger_of(world: World) -> Ledger:
    return Ledger(world.folder / "nightly" / "ledger")


def test_the_registry_tells_who_was_champion_when(world):
    changes = read_changes(NAME, world.tracking)
    assert [(change.version, change.by) for change in changes] == [
        ("1", "first"),
        ("2", "rule"),
        ("1", "rollback"),
    ]
    assert [change.at for change in changes] == [at(7, 1), at(10, 1) + timedelta(hours=12), at(10, 15)]
    for instant, version in (
        (at(6, 30), None),
        (at(7, 1), "1"),
        (at(10, 1), "1"),
        (at(10, 2), "2"),
        (at(10, 15) - timedelta(microseconds=1), "2"),
        (at(10, 15), "1"),
    ):
        assert champion_at(NAME, instant, world.tracking) == version


def test_the_second_champion_was_held_to_its_values_too(world):
    """The rule promoted it, on revenue whose window had ended; text, summary and record tell the same."""
    (check,) = [check for check in world.second.summary["checks"] if check["name"] == "value"]
    assert check["holds"] is True
    assert check["sentence"] in world.second.text
    found = world.second.summary["figures"]["value"]
    assert found["value_horizon"] == "30d"
    assert found["counts"]["converting_leads"] >= 10
    assert found["counts"]["last_cutoff"] <= (at(10, 1) - timedelta(days=60)).isoformat()
    record = read_changes(NAME, world.tracking)[1].figures
    assert record["value"]["difference"] == found["difference"]
    assert record["checks"]["value"] is True
    assert get_model(NAME, "2", world.tracking).value_horizon.days == 30


@pytest.mark.parametrize("run_id", SERVED)
def test_everything_that_is_kept_of_a_night_names_its_version(world, run_id):
    version = SERVED[run_id]
    digest = get_model(NAME, version, world.tracking).digest
    manifest, table = manifest_of(world, run_id), published(world, run_id)
    (run,) = [run for run in ledger_of(world).runs() if run.run_id == run_id]
    assert (manifest["model"]["name"], manifest["model"]["version"]) == (NAME, version)
    assert (run.model.name, run.model.version) == (NAME, version)
    assert manifest["model"]["digest"] == run.model.digest == digest
    for column, value in (("model_name", NAME), ("model_version", version), ("model_digest", digest)):
        assert set(table[column].to_pylist()) == {value}
    assert table.num_rows == manifest["leads"] == run.rows > 20


@pytest.mark.parametrize("run_id", SERVED)
def test_every_score_is_what_the_version_of_that_night_gives(world, run_id):
    """Scored again with the version from the registry, and the ledger's rows are the published ones."""
    project = load_project(world.config, overrides=world.known(at(10, 17)))
    history = load_history(project.config, project.data_dir)
    table = published(world, run_id)
    cutoff = table["cutoff"][0].as_py()
    again = score_open_leads(
        history_as_of(history, cutoff),
        get_model(NAME, SERVED[run_id], world.tracking).load(),
        as_of=cutoff,
        max_age=project.config.observations.max_age,
        reasons=project.config.reasons,
    ).table
    names = [name for name in table.column_names if name not in ("model_version",)]
    assert again.select(names).equals(table.select(names).cast(again.select(names).schema))
    kept = ledger_of(world).read(run_ids=[run_id])
    ordered = table.sort_by("lead_id")
    for name in ("lead_id", "p_convert_30d", "expected_value", "rank"):
        assert kept[name].to_pylist() == ordered[name].to_pylist()


@pytest.mark.parametrize("run_id", [run_id for run_id in SERVED if run_id != "demo-20251009T000000Z"])
def test_a_score_is_explained_by_the_version_that_gave_it(world, run_id):
    table = published(world, run_id)
    lead, cutoff = table["lead_id"][0].as_py(), table["cutoff"][0].as_py()
    told = explain(world.config, str(lead), as_of=cutoff, overrides=world.known(at(10, 17))).to_dict()
    assert (told["run_id"], told["verdict"]) == (run_id, "reproduced exactly")
    assert told["model"]["version"] == SERVED[run_id]
    assert told["model"]["digest"] == get_model(NAME, SERVED[run_id], world.tracking).digest
    assert told["probabilities_now"]["p_convert_30d"] == table["p_convert_30d"][0].as_py()
    assert told["reasons_for"] == table["reasons_for"][0].as_py()
    before = told["before"]
    if before is not None:
        assert told["model_changed"] == (SERVED[run_id] != SERVED[before["run_id"]])


def test_the_champions_differ_and_readers_have_the_one_that_serves(world):
    first, second = published(world, "demo-20251009T000000Z"), published(world, "demo-20251009T000000Z-2")
    assert sorted(first["lead_id"].to_pylist()) == sorted(second["lead_id"].to_pylist())
    assert first.sort_by("lead_id")["p_convert_30d"] != second.sort_by("lead_id")["p_convert_30d"]
    latest = pq.ParquetFile(world.folder / "scores" / "latest.parquet").read()
    assert set(latest["run_id"].to_pylist()) == {"demo-20251016T000000Z"}
    assert set(latest["model_version"].to_pylist()) == {"1"}
    import duckdb

    with duckdb.connect(str(world.folder / "scores.duckdb"), read_only=True) as base:
        shown = base.execute("SELECT DISTINCT run_id, model_version, model_digest FROM scores").fetchall()
    assert shown == [("demo-20251016T000000Z", "1", get_model(NAME, "1", world.tracking).digest)]


def test_a_night_that_is_filled_in_before_any_champion_says_so(world):
    told = world.filled[at(6, 20)]
    assert any("nothing tells which version was champion at the cutoff" in each for each in told.warnings)
    for cutoff in (at(8, 6), at(10, 5), at(10, 15)):
        manifest = manifest_of(world, f"demo-{cutoff:%Y%m%dT%H%M%SZ}")
        assert manifest["afterwards"]
        assert not manifest["current"]
        assert manifest["model_knew_later"] is False
        assert not any("champion" in warning for warning in manifest["warnings"])


def test_misses_can_be_joined_with_what_was_published(world, tmp_path):
    """Version, digest and run of the CSV file are those of the scores, the ledger and the manifest."""
    out = tmp_path / "misses.csv"
    found = find_mis_scored(world.config, top=500, out=out, overrides=world.known(at(12, 31)))
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 10
    assert {row["model_version"] for row in rows} == {"1", "2"}
    for row in rows:
        table = published(world, row["run_id"])
        (line,) = table.filter(pc.equal(table["lead_id"].cast(pa.string()), row["lead_id"])).to_pylist()
        assert (row["model_version"], row["model_digest"]) == (line["model_version"], line["model_digest"])
        assert (float(row["p"]), int(row["rank"])) == (line["p_convert_30d"], line["rank"])
        assert row["reproduced"] == "true"
    assert all(row["model_digest"] for row in found.to_dict()["misses"])


def test_what_a_night_tells_names_its_version(world, capsys):
    world.night(at(10, 17))
    log = capsys.readouterr().err
    digest = get_model(NAME, "1", world.tracking).digest
    assert f"model run_id=demo-20251017T000000Z model_version=1 model_digest={digest}" in log
