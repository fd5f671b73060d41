"""Erasing a person: what counts as their id, what is rewritten, what a search still finds, and whole projects."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import os
import shutil
import socket
import sqlite3
import stat
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from convpredict import workflows
from convpredict.cli import app
from convpredict.config.load import load_project, parse_project
from convpredict.config.training import TrackingConfig
from convpredict.errors import BusyError, ConfigError, DataError
from convpredict.history.load import load_history
from convpredict.models.bundle import write_bundle
from convpredict.models.fitting import fit_conversion_model, make_bundle
from convpredict.scoring.forget.at_work import FILE as AT_WORK
from convpredict.scoring.forget.at_work import alone, sharing
from convpredict.scoring.forget.erasure import Places, erase_everywhere, search_everywhere
from convpredict.scoring.forget.files import count_found, erase_rows
from convpredict.scoring.forget.forgotten import (
    FILE,
    Forgotten,
    forgotten_rows,
    read_forgotten,
    write_forgotten,
)
from convpredict.scoring.forget.names import LeadNames
from convpredict.scoring.forget.places import note_places, read_places
from convpredict.scoring.forget.remote import RemoteRuns
from convpredict.scoring.ledger.ledger import Ledger
from convpredict.scoring.nightly.lock import holding_lock
from convpredict.scoring.nightly.state import NightFolder
from convpredict.tracking.items import Artifact, Param
from convpredict.tracking.runs import start_run
from convpredict.training.training_set import TrainingSet, build_training_set
from convpredict.workflows.common import note_results
from convpredict.workflows.forgetting import forget
from convpredict.workflows.nightly import nightly
from factories import day, make_history
from nightly_project import NIGHT, make_project
from open_files import duplicate_of
from test_ledger import night, scores

NAMES = LeadNames(("lead-17", "4711", str(UUID(int=0x17))))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(st.lists(TEXTS, max_size=30), st.lists(TEXTS, max_size=5), st.integers(0, 5))
def test_the_mask_is_what_hashing_one_by_one_gives(ids: list[str], gone: list[str], offset: int) -> None:
    forgotten = Forgotten(b"salt" * 8).adding(gone)
    wanted = {hmac.new(b"salt" * 8, text.encode(), hashlib.sha256).hexdigest() for text in gone}
    assert set(forgotten.hashes) == wanted
    all_ids = ids + gone
    table = pa.chunked_array([pa.array(all_ids[:3], pa.string()), pa.array(all_ids[3:], pa.string())])
    expected = [
        hmac.new(b"salt" * 8, text.encode(), hashlib.sha256).hexdigest() in wanted for text in all_ids
    ]
    assert forgotten.mask(table).tolist() == expected
    assert forgotten.mask(pa.array(all_ids, pa.string()).slice(offset)).tolist() == expected[offset:]
    assert [text in forgotten for text in all_ids] == expected


def test_numbers_and_texts_are_the_same_lead() -> None:
    forgotten = Forgotten(bytes(32)).adding([17, "x"])
    assert forgotten.mask(pa.array([17, 171, -17])).tolist() == [True, False, False]
    assert forgotten.adding(["17"]) == forgotten
    history = make_history([(16, day(0)), (17, day(0))])
    assert forgotten_rows(history, forgotten).tolist() == [False, True]


def test_many_leads_are_looked_up() -> None:
    ids = pa.array([f"lead-{number}" for number in range(300_000)])
    gone = list(range(5, 300_000, 29_999))
    forgotten = Forgotten(b"\1" * 32).adding([f"lead-{number}" for number in gone])
    assert np.flatnonzero(forgotten.mask(ids)).tolist() == gone


def test_the_file_is_private_and_comes_back(tmp_path: Path) -> None:
    forgotten = read_forgotten(tmp_path)
    assert len(forgotten) == 0
    assert forgotten.salt != read_forgotten(tmp_path).salt
    kept = forgotten.adding(["lead-17"]).noting("digest", ["lead-17"])
    write_forgotten(tmp_path, kept)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert read_forgotten(tmp_path) == kept
    assert kept.held("digest", ["lead-17", "lead-1"]) == ["lead-17"]
    assert "lead-17" not in (tmp_path / FILE).read_text()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"format": 2}', '{"format": 1, "salt": "zz", "leads": []}', '{"format": 1, "leads": [3]}'],
)
def test_a_damaged_file_is_no_empty_list(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(DataError, match="would be scored again"):
        read_forgotten(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("lead_id", "lead-17", True),
        ("lead_id", "lead-170", False),
        ("lead_id", "a lead-17", False),
        ("lead_id", 4711, True),
        ("lead_id", 47110, False),
        ("LEAD_ID", "4711", True),
        ("rank", 4711, False),
        ("note", "4711", False),
        ("note", "lead-17", True),
        ("note", "not-lead-17", False),
        ("line", "3;lead-17;x", True),
        ("line", "3;4711;x", True),
        ("line", "3;14711;lead-171", False),
        ("tags", ["x", "lead-17"], True),
        ("tags", [{"who": "lead-17"}], True),
        ("tags", ["lead-171"], False),
        ("url", "https://crm.example/leads/lead-17/edit", True),
        ("url", "https://crm.example/leads/lead-171/edit", False),
        ("page", "a 4711 in free text", False),
        ("payload", '{"lead_id": 4711}', True),
        ("payload", '{"lead_id": 47110}', False),
        ("payload", b"for lead-17.", True),
        ("lead_id", b"lead-17", True),
        ("lead_id", " lead-17 ", True),
        ("lead_id", Decimal(4711), True),
        ("key", UUID(int=0x17).bytes, True),
        ("tags", [], False),
        ("lead_id", 4711.0, True),
        ("tags", ["see lead-17"], True),
        ("tags", {"lead_id": 4711, "n": 1}, True),
        ("tags", {"lead_id": 1, "n": 4711}, False),
        ("tags", {"lead_id": None, "of": [{"url": "x/lead-17"}]}, True),
    ],
)
def test_what_counts_as_an_id_in_a_column(column: str, value: object, found: bool) -> None:
    table = pa.table({column: [value, None], "p": [0.1, 0.2]})
    assert NAMES.in_table(table).tolist() == [found, False]
    if isinstance(value, str | bytes):
        coded = pa.table({column: pa.array([value, None]).dictionary_encode()})
        assert NAMES.in_table(coded).tolist() == [found, False]


def test_the_columns_of_ids_are_those_of_the_sources() -> None:
    project = parse_project(
        {
            "name": "tiny",
            "sources": {"people": {"file": "people.csv"}},
            "history": {
                "leads": {"source": "people", "columns": {"lead_id": "Customer No", "created_at": "born"}}
            },
        }
    )
    names = LeadNames.of([4711], project.config.history)
    assert names.in_table(pa.table({"Customer No": [4711], "born": [4711]})).tolist() == [True]
    assert names.in_table(pa.table({"Customer No": [1], "born": [4711]})).tolist() == [False]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["lead-1", "lead-17", "lead-171", None])), max_size=20
    )
)
def test_rows_are_erased_and_nothing_else(rows: list[tuple[int, str | None]]) -> None:
    table = pa.table(
        {
            "n": pa.array([n for n, _ in rows], pa.int64()),
            "lead_id": pa.array([lead for _, lead in rows], pa.string()),
            "kind": pa.array(["a"] * len(rows)).dictionary_encode(),
        }
    ).replace_schema_metadata({"made": "by a test"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(table, path, row_group_size=3)
        before = path.read_bytes()
        expected = [row for row in rows if row[1] != "lead-17"]
        assert erase_rows(path, NAMES) == len(rows) - len(expected)
        left = pq.read_table(path)
        assert list(zip(left["n"].to_pylist(), left["lead_id"].to_pylist(), strict=True)) == expected
        assert left.schema.equals(pq.read_table(pa.BufferReader(before)).schema, check_metadata=True)
        assert (path.read_bytes() == before) == (len(rows) == len(expected))
        assert count_found(path, NAMES)[0] == 0


def test_an_id_within_a_quarantined_row_is_found_and_erased(tmp_path: Path) -> None:
    n = 3_000
    urls = [f"https://crm.example/leads/cust-{number:06d}/edit" for number in range(n)]
    pairs = pa.array([[(url, number)] for number, url in enumerate(urls)], pa.map_(pa.string(), pa.int64()))
    columns = {
        "url": pa.array(urls),
        "packed": pa.array([url.encode() for url in urls], pa.large_binary()),
        "coded": pa.array(urls).dictionary_encode(),
        "map": pairs,
    }
    for name, column in columns.items():
        aside = pa.table({"reason": ["missing id"] * n, "lead_id": pa.nulls(n, pa.string()), name: column})
        path = tmp_path / f"{name}.parquet"
        pq.write_table(aside, path, compression="zstd")
        names = LeadNames(("cust-002567",))
        assert count_found(path, names) == (1, "rows")
        assert erase_rows(path, names) == 1
        assert count_found(path, names)[0] == 0
        assert pq.read_table(path).equals(pa.concat_tables([aside.slice(0, 2567), aside.slice(2568)]))


def test_the_notes_of_a_table_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    field = pa.field("n", pa.int64(), metadata={"asked by": "lead-17"})
    pq.write_table(pa.table({"n": [1]}, schema=pa.schema([field])), path)
    assert count_found(path, NAMES) == (1, "bytes")


def test_lines_of_csv_files_are_erased(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('lead_id,note\n17,"lead-17"\n4711,"two\nlines, 4711"\n47110,x\n', encoding="utf-8")
    assert count_found(path, NAMES) == (2, "rows")
    assert erase_rows(path, NAMES) == 2
    assert path.read_text() == 'lead_id,note\n17,"lead-17"\n47110,x\n'
    assert count_found(path, NAMES) == (1, "lines")
    semicolons = tmp_path / "b.csv"
    semicolons.write_text("x;lead_id\n1;lead-17\n2;lead-18\n")
    assert erase_rows(semicolons, NAMES) == 1
    assert semicolons.read_text() == "x;lead_id\n2;lead-18\n"
    plain = tmp_path / "c.csv"
    plain.write_text("x,y\n1,lead-17\n")
    assert erase_rows(plain, NAMES) == 0
    assert count_found(plain, NAMES) == (1, "lines")


def plant(folder: Path, lead: str) -> dict[str, Path]:
    """A file of every kind that holds a lead."""
    files = {
        name: folder / name
        for name in ("a.parquet", "b.duckdb", "c.db", "d.csv.gz", "e.zip", "f.json", "g.bin")
    }
    table = pa.table({"lead_id": [lead, "other-0"], "p": [0.1, 0.2]})
    pq.write_table(table, files["a.parquet"])
    with closing(duckdb.connect(str(files["b.duckdb"]))) as connection:
        connection.register("rows", table)
        connection.execute("CREATE SCHEMA s; CREATE TABLE s.scores AS SELECT * FROM rows")
    with closing(sqlite3.connect(files["c.db"])) as connection:
        connection.execute('CREATE TABLE "a ""table" (key TEXT, lead_id TEXT)')
        connection.execute('INSERT INTO "a ""table" VALUES (?, ?)', ("k", lead))
        connection.commit()
    files["d.csv.gz"].write_bytes(gzip.compress(f"lead_id,p\n{lead},0.1\n".encode()))
    with zipfile.ZipFile(files["e.zip"], "w") as archive:
        archive.writestr("inside/x.csv", f"lead_id: {lead}\n")
    files["f.json"].write_text(json.dumps({"lead_id": lead}))
    files["g.bin"].write_bytes(b"\0\1" + lead.encode() + b"\0")
    return files


@pytest.mark.parametrize(
    ("lead", "found"), [("lead-17", True), ("lead-171", False), ("4711", True), ("47110", False)]
)
def test_every_kind_of_file_is_looked_into(tmp_path: Path, lead: str, found: bool) -> None:
    for name, path in plant(tmp_path, lead).items():
        expected = found and not (name == "g.bin" and lead == "4711")
        assert (count_found(path, NAMES)[0] > 0) == expected, name


def test_an_id_within_a_text_of_a_database_is_found(tmp_path: Path) -> None:
    path = tmp_path / "notes.duckdb"
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute(
            "CREATE TABLE notes AS SELECT 'lead-17 called' AS note, {'x': 'of lead-170'} AS more"
        )
    assert count_found(path, NAMES) == (1, "rows")


def test_deleted_rows_in_a_database_file_are_found_by_their_bytes(tmp_path: Path) -> None:
    path = plant(tmp_path, "lead-17")["b.duckdb"]
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute("DELETE FROM s.scores WHERE lead_id = 'lead-17'")
    assert b"lead-17" in path.read_bytes()
    assert count_found(path, NAMES) == (1, "bytes")


def places(folder: Path) -> Places:
    return Places(NightFolder(folder / "state", "shop"), (), (), [folder / "results"])


def test_a_search_tells_what_is_left_and_what_it_could_not_read(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    plant(results, "lead-17")
    (results / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    found = search_everywhere(NAMES, places(tmp_path))
    assert {Path(left.place).name for left in found.leftovers} == {
        *("a.parquet", "b.duckdb", "c.db", "d.csv.gz", "e.zip", "f.json", "g.bin")
    }
    assert [text.split(" ")[0].rpartition("/")[2] for text in found.unread] == ["broken.parquet"]
    assert erase_everywhere(NAMES, places(tmp_path)).rows == {str(results / "a.parquet"): 1}


def test_ledger_work_and_quarantine_of_text_ids(tmp_path: Path) -> None:
    where = places(tmp_path)
    ledger = Ledger(tmp_path / "state" / "ledger")
    leads = [f"lead-{number}" for number in range(1, 31)]
    for number in range(6):
        ledger.append(night(number), scores(leads, number))
    ledger.compact()
    work = tmp_path / "state" / "work" / "shop-20250301T000000Z" / "buckets"
    aside = tmp_path / "state" / "quarantine" / "shop-20250301T000000Z"
    rows = pa.table({"reason": ["x", "y"], "source_row": [1, 2], "lead_id": ["lead-17", "lead-1"]})
    for folder in (work, aside):
        folder.mkdir(parents=True)
        pq.write_table(rows, folder / "0.parquet")
    gone = erase_everywhere(NAMES, where)
    assert gone.found == {"lead-17"}
    assert gone.rows == {"ledger": 6, str(aside / "0.parquet"): 1}
    assert not work.exists()
    assert ledger.read(lead_ids=["lead-17"]).num_rows == 0
    assert ledger.read(lead_ids=["lead-1", "lead-18"]).num_rows == 12
    assert not search_everywhere(NAMES, where).leftovers
    assert erase_everywhere(NAMES, where).rows == {}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project with two published nights, a training run with MLflow, and a target in DuckDB."""
    folder = tmp_path_factory.mktemp("forget")
    made = make_project(folder, leads=300, publish=[{"parquet": "scores"}, {"duckdb": "scores.duckdb"}])
    for number in (1, 0):
        nightly(made.config, as_of=NIGHT - timedelta(days=number), run=made.run)
    project = load_project(made.config)
    history = load_history(project.config, project.data_dir)
    training_set = build_training_set(history, project)
    run = folder / "runs" / "demo-20251101T000000-abcd"
    training_set.save(run / "training_set")
    bundle = make_bundle(training_set, fit_conversion_model(training_set, project.config.model))
    write_bundle(run / "bundle", bundle)
    (run / "manifest.json").write_text(json.dumps(training_set.manifest))
    test = training_set.part("test")
    predictions = pa.table({"lead_id": test["lead_id"].to_numpy(), "p": np.zeros(len(test))})
    pq.write_table(predictions, run / "test_predictions.parquet")
    with start_run("demo", project.config.tracking, experiment="demo") as tracked:
        tracked.log([Param("name", "demo"), Artifact(run / "test_predictions.parquet")])
    latest = pq.read_table(folder / "scores" / "latest.parquet")["lead_id"].to_pylist()
    leads = [lead for lead in latest if lead in set(test["lead_id"])]
    return made, leads, tracked.run_id


@pytest.fixture
def project(template, tmp_path, monkeypatch):
    """A copy of the project to change, and a lead that everything holds."""
    made, leads, _ = template
    folder = tmp_path / "project"
    shutil.copytree(made.config.parent, folder)
    text = (folder / "project.yaml").read_text().replace(str(made.config.parent), str(folder))
    (folder / "project.yaml").write_text(text)
    uri = made.config.parent.as_uri()
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (uri, folder.as_uri())
            )
        connection.commit()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return folder / "project.yaml", str(leads[0])


def holding(folder: Path, lead: str) -> set[str]:
    """The files that hold a lead, by reading them with other tools than those under test."""
    found = set()
    for path in folder.rglob("*.parquet"):
        if "data" not in path.relative_to(folder).parts:
            rows = duckdb.execute(f"SELECT count(*) FROM '{path}' WHERE lead_id = {lead}").fetchone()
            if rows and rows[0]:
                found.add(path.relative_to(folder).parts[0])
    if not (folder / "scores.duckdb").exists():
        return found
    with closing(duckdb.connect(str(folder / "scores.duckdb"), read_only=True)) as connection:
        rows = connection.execute(f"SELECT count(*) FROM scores WHERE lead_id = {lead}").fetchone()
        found |= {"scores.duckdb"} if rows and rows[0] else set()
    return found


def test_a_project_forgets_a_lead_everywhere(project, tmp_path: Path) -> None:
    config, lead = project
    folder = config.parent
    lists = tmp_path / "lists"
    lists.mkdir()
    shutil.copy(folder / "scores" / "latest.parquet", lists / "monday.parquet")
    assert holding(folder, lead) == {"nightly", "scores", "scores.duckdb", "runs", "mlruns"}
    rows = Ledger(folder / "nightly" / "ledger").read().num_rows

    snapshot = folder / "nightly" / "cross_lead.json"
    reports = sorted(path.name for path in (folder / "nightly" / "monitoring").glob("demo-*.json"))
    assert (snapshot.is_file(), len(reports)) == (True, 2)

    done = forget(config, [lead], also=[lists])
    assert not done.leftovers
    assert done.search.files > 20
    assert sorted(Path(path).name for path in done.removed) == ["cross_lead.json", *reports, "index.html"]
    assert not any(Path(path).exists() for path in done.removed)
    assert "'convpredict monitor CONFIG --rebuild' makes them anew" in done.text
    assert holding(folder, lead) == set()
    assert Ledger(folder / "nightly" / "ledger").read().num_rows == rows - 2
    assert done.erased["ledger"] == 2
    assert done.erased[str(lists / "monday.parquet")] == 1
    (model,) = done.models
    assert (model.folder.rpartition("/")[2], model.lead_ids) == ("training_set", (lead,))
    assert model.observations["test"] > 0
    assert done.in_sources == {lead: True}
    assert "delete them there" in done.text
    assert "nothing of them is left" in done.text
    TrainingSet.load(folder / "runs" / "demo-20251101T000000-abcd" / "training_set")

    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
    again = forget(config, [lead], also=[lists])
    assert again.erased == {}
    assert again.known_before == (lead,)
    assert [model.lead_ids for model in again.models] == [(lead,)]
    changed = {path.name for path, content in files.items() if path.read_bytes() != content}
    assert changed <= {"scores.duckdb", "mlflow.db"}

    nightly(config, as_of=NIGHT + timedelta(days=1), run=folder / "run")
    manifest = json.loads((folder / "nightly" / "runs" / "demo-20251201T000000Z.json").read_text())
    assert manifest["forgotten"] == 1
    assert holding(folder, lead) == set()
    assert forget(config, [lead]).removed == ()
    assert snapshot.is_file()


def test_results_in_another_working_directory_are_found(project, tmp_path: Path, monkeypatch) -> None:
    config, lead = project
    folder, elsewhere = config.parent, tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / "runs", elsewhere / "runs")
    (folder / "mlflow.db").unlink()
    bare = folder / "bare.yaml"
    bare.write_text(config.read_text().replace(f"tracking:\n  uri: sqlite:///{folder}/mlflow.db\n", ""))
    assert "mlflow" not in bare.read_text()
    blind = forget(bare, [lead])
    assert [text.partition(" (")[0] for text in blind.unproved] == [
        "no results of training were found",
        "no MLflow store was found",
    ]
    assert "nothing of them is left there, but that is no proof" in blind.text
    monkeypatch.chdir(elsewhere)
    with start_run("demo", experiment="demo") as tracked:
        tracked.log([Artifact(elsewhere / "runs" / "demo-20251101T000000-abcd" / "test_predictions.parquet")])
    run = Path("runs") / "demo-20251101T000000-abcd"
    assert note_results(load_project(bare), run, tracked=True) is None
    monkeypatch.chdir(tmp_path)
    found = forget(bare, [lead])
    assert not found.leftovers
    assert {Path(place).name for place in found.erased} >= {
        "training_set.parquet",
        "test_predictions.parquet",
    }
    assert len([place for place in found.erased if place.endswith("test_predictions.parquet")]) == 2
    assert holding(elsewhere, lead) == set()
    (elsewhere / "mlflow.db").rename(elsewhere / "other.db")
    shutil.move(elsewhere / run, tmp_path / run.name)
    missing = forget(bare, [lead])
    assert [str(elsewhere / run) in missing.unproved[0], "mlflow.db" in missing.unproved[1]] == [True, True]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}/other.db")
    again = CliRunner().invoke(app, ["forget", str(bare), lead, "--yes", "--also", str(tmp_path / run.name)])
    assert (again.exit_code, again.output.count("not proved:")) == (1, 1)


def test_places_are_added_by_several_at_once_and_a_damaged_note_is_told(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda i: note_places(tmp_path, results=Path(f"/r/{i}"), store="sqlite:////m.db"), range(40)
            )
        )
    known = read_places(tmp_path)
    assert sorted(known.results) == sorted(f"/r/{i}" for i in range(40))
    assert known.stores == ("sqlite:////m.db",)
    assert [path.name for path in tmp_path.iterdir()] == ["places.json"]
    (tmp_path / "places.json").write_text("{")
    with pytest.raises(DataError, match="not known where"):
        read_places(tmp_path)


def test_what_is_left_makes_the_command_fail(project, tmp_path: Path) -> None:
    config, lead = project
    with closing(duckdb.connect(str(tmp_path / "own.duckdb"))) as connection:
        connection.execute(f"CREATE TABLE mine AS SELECT {lead} AS lead_id")
    arguments = ["forget", str(config), lead, "--also", str(tmp_path / "own.duckdb")]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, ConfigError)
    assert holding(config.parent, lead)
    ran = CliRunner().invoke(app, [*arguments, "--yes"])
    assert ran.exit_code == 1
    assert "NOT everything is gone" in ran.output
    assert "own.duckdb: 1 rows" in ran.output
    told = json.loads(CliRunner().invoke(app, [*arguments, "--yes", "--json"]).output)
    assert [Path(left["place"]).name for left in told["leftovers"]] == ["own.duckdb"]
    done = CliRunner().invoke(app, ["forget", str(config), lead, "--yes"])
    assert done.exit_code == 0, done.output


def test_a_night_at_work_or_half_published_comes_first(project) -> None:
    config, lead = project
    state = config.parent / "nightly"
    work = state / "work" / "demo-20251202T000000Z"
    work.mkdir(parents=True)
    (work / "commit.json").write_text("{}")
    with pytest.raises(BusyError, match="finish it first"):
        forget(config, [lead])
    shutil.rmtree(work)
    with (
        holding_lock(state, "demo-20251202T000000Z"),
        pytest.raises(BusyError, match="another run is at work"),
    ):
        forget(config, [lead])
    assert not (state / FILE).exists()
    with pytest.raises(ConfigError, match="no lead to forget"):
        forget(config, [" "])
    with pytest.raises(ConfigError, match="does not exist"):
        forget(config, [lead], also=[config.parent / "nowhere"])


def test_artifacts_elsewhere_are_fetched_and_put_back(template, tmp_path: Path) -> None:
    tracking = TrackingConfig(uri=f"sqlite:///{template[0].config.parent}/mlflow.db")
    pq.write_table(pa.table({"lead_id": [1, 2, 2]}), tmp_path / "test_predictions.parquet")
    (tmp_path / "notes.txt").write_text("lead 2 called")
    with start_run("elsewhere", tracking, experiment="elsewhere") as tracked:
        tracked.log([Artifact(tmp_path / name, "deep") for name in ("test_predictions.parquet", "notes.txt")])
    runs, names = RemoteRuns([tracked.run_id], tracking), LeadNames(("2",))
    where = f"MLflow run {tracked.run_id}: deep/"
    assert [left.place for left in runs.find(names)] == [
        f"{where}notes.txt",
        f"{where}test_predictions.parquet",
    ]
    assert runs.erase(names) == {f"{where}test_predictions.parquet": 2}
    assert [left.place for left in runs.find(names)] == [f"{where}notes.txt"]


def test_who_is_unknown_is_forgotten_in_advance(project) -> None:
    config, _ = project
    done = forget(config, ["nobody-at-all"])
    assert done.erased == {}
    assert done.in_sources == {"nobody-at-all": False}
    assert "look at how the id is written" in done.text
    assert any("found anywhere" in str(left) for left in done.leftovers)
    assert not any("found anywhere" in str(left) for left in forget(config, ["nobody-at-all"]).leftovers)
    assert "nobody-at-all" in read_forgotten(config.parent / "nightly")


def test_each_id_that_is_found_nowhere_is_named(project) -> None:
    config, lead = project
    unknown = ("999999999", "lead-nobody-1")
    ran = CliRunner().invoke(app, ["forget", str(config), lead, *unknown, "--yes"])
    assert ran.exit_code == 1
    assert f"nothing of {lead} " not in ran.output
    for each in unknown:
        assert f"not proved: nothing of {each} was found anywhere" in ran.output
    assert holding(config.parent, lead) == set()
    assert CliRunner().invoke(app, ["forget", str(config), lead, "--yes"]).exit_code == 0


def test_an_id_that_only_one_place_holds_is_not_unknown(project, tmp_path: Path) -> None:
    config, lead = project
    kept = config.parent / "scores" / "runs" / "run_id=demo-20251130T000000Z" / "scores.parquet"
    table = pq.ParquetFile(kept).read()
    stray = table.slice(0, 1).set_column(
        0, table.schema.field(0), pa.array([77_000_001], table.schema.field(0).type)
    )
    pq.write_table(pa.concat_tables([table, stray]).replace_schema_metadata(table.schema.metadata), kept)
    (tmp_path / "own.csv").write_text("lead_id,p\n77000002,0.5\n")
    done = forget(config, [lead, "77000001", "77000002", "77000003"], also=[tmp_path / "own.csv"])
    assert done.nowhere == ("77000003",)
    assert done.to_dict()["nowhere"] == ["77000003"]


class EndedError(Exception):
    """The test has seen what it wanted."""


def test_nobody_is_forgotten_while_a_training_may_write_them(project, tmp_path: Path) -> None:
    """Before, the search said that nothing was left, and the training then wrote its rows of the lead."""
    config, lead = project
    said: list[str] = []

    def step(name: str, share: float) -> None:
        if name == "building features":
            ran = CliRunner().invoke(app, ["forget", str(config), lead, "--yes"])
            assert isinstance(ran.exception, BusyError)
            said.append(str(ran.exception))
            raise EndedError

    with pytest.raises(EndedError):
        workflows.train(config, out=tmp_path / "out", track=False, progress=step)
    assert "train, process " in said[0]
    assert holding(config.parent, lead)
    assert (config.parent / "nightly" / AT_WORK).read_bytes() == b""
    assert not forget(config, [lead], also=[tmp_path / "out"]).leftovers


def test_nothing_that_writes_rows_of_leads_begins_while_some_are_erased(project, tmp_path: Path) -> None:
    config, _ = project
    out = tmp_path / "out"
    with alone(config.parent / "nightly"):
        for work in (
            lambda: workflows.train(config, out=out),
            lambda: workflows.backtest(config, out),
            lambda: workflows.score(config, out, run="x"),
            lambda: workflows.tune(config),
            lambda: workflows.find_mis_scored(config, out=out),
            lambda: workflows.monitor(config, rebuild=True),
            lambda: workflows.write_feature_table(config, out),
            lambda: workflows.register_run(config, out),
            lambda: workflows.check_data(config, quarantine=out),
        ):
            with pytest.raises(BusyError, match=r"leads are being erased.*forget, process"):
                work()
    assert not out.exists()


def test_check_keeps_forget_out_and_makes_no_nightly_folder(project, tmp_path: Path) -> None:
    """It writes the rows that it puts aside."""
    config, lead = project
    nightly_folder = config.parent / "nightly"

    def forgetting(name: str, share: float) -> None:
        with pytest.raises(BusyError, match="check, process"):
            forget(config, [lead])

    workflows.check_data(config, quarantine=tmp_path / "q", progress=forgetting)
    shutil.rmtree(nightly_folder)
    workflows.check_data(config, quarantine=tmp_path / "q")
    assert not nightly_folder.exists()

    def first_forgotten(name: str, share: float) -> None:
        nightly_folder.mkdir()
        write_forgotten(nightly_folder, read_forgotten(nightly_folder).adding([lead]))

    with pytest.raises(DataError, match="leads were forgotten while 'check' was at work"):
        workflows.check_data(config, quarantine=tmp_path / "q", progress=first_forgotten)


def test_who_is_at_work_shares_the_lock_and_the_dead_are_not_told(tmp_path: Path) -> None:
    line = {"pid": 2**22 + 1, "host": socket.gethostname(), "run_id": "dead", "since": "x"}
    (tmp_path / AT_WORK).write_text(json.dumps(line) + "\nno JSON\n")
    with sharing(tmp_path, "train"), sharing(tmp_path, "score"):
        with pytest.raises(BusyError) as raised, alone(tmp_path):
            pass
        assert "train, process" in str(raised.value)
        assert "score, process" in str(raised.value)
        assert "dead" not in str(raised.value)
    with alone(tmp_path), pytest.raises(BusyError), sharing(tmp_path, "train"):
        pass
    assert (tmp_path / AT_WORK).read_bytes() == b""


def test_a_child_that_was_forked_meanwhile_keeps_no_lock(tmp_path: Path) -> None:
    """A duplicate of a descriptor has the same lock as that of a forked child."""
    for held in (sharing(tmp_path, "train"), alone(tmp_path)):
        with held:
            kept = duplicate_of(tmp_path / AT_WORK)
        try:
            with alone(tmp_path):
                pass
            with sharing(tmp_path, "score"):
                pass
        finally:
            os.close(kept)


def test_where_no_lock_can_be_had_the_list_is_compared(tmp_path: Path) -> None:
    (tmp_path / AT_WORK).symlink_to(tmp_path / "nowhere" / "lock")
    with sharing(tmp_path, "train"):
        pass
    with (
        pytest.raises(DataError, match="leads were forgotten while 'train' was at work"),
        sharing(tmp_path, "train"),
    ):
        write_forgotten(tmp_path, read_forgotten(tmp_path).adding(["lead-17"]))
    with pytest.raises(DataError, match="cannot be written or locked"), alone(tmp_path):
        pass


def test_where_neither_lock_nor_list_can_be_read_a_new_or_changed_list_is_told(tmp_path: Path) -> None:
    """Before, a list that could not be read counted as none. A folder in its place cannot be read by root either."""
    (tmp_path / AT_WORK).symlink_to(tmp_path / "nowhere" / "lock")
    unreadable = tmp_path / FILE
    with (
        pytest.raises(DataError, match="leads were forgotten while 'train' was at work"),
        sharing(tmp_path, "train"),
    ):
        unreadable.mkdir()
    with sharing(tmp_path, "train"):
        pass
    with pytest.raises(DataError, match="leads were forgotten"), sharing(tmp_path, "train"):
        (unreadable / "more").touch()


def test_where_not_even_the_state_of_the_list_is_known_nothing_begins(tmp_path: Path) -> None:
    (tmp_path / AT_WORK).symlink_to(tmp_path / "nowhere" / "lock")
    (tmp_path / FILE).symlink_to(tmp_path / FILE)
    begun = False
    with pytest.raises(DataError, match="can be neither read nor looked at"), sharing(tmp_path, "train"):
        begun = True
    assert not begun


@pytest.mark.parametrize("damaged", ["nightly/ledger/runs", "nightly/ledger/index.json", "scores/runs"])
def test_a_file_that_cannot_be_read_keeps_nobody_in_the_other_places(project, damaged: str) -> None:
    config, lead = project
    place = config.parent / damaged
    path = place if place.is_file() else sorted(place.rglob("*.parquet"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    ran = CliRunner().invoke(app, ["forget", str(config), lead, "--yes"])
    assert (ran.exit_code, type(ran.exception)) == (1, SystemExit)
    unread = [text for text in ran.output.splitlines() if text.startswith("  could not be looked at")]
    told = " ".join(text for text in unread if path.name in text)
    assert told
    assert ("restore it from a backup" in told) == ("ledger" in damaged)
    if path.suffix == ".parquet":
        path.unlink()
        assert holding(config.parent, lead) == set()
    path.write_bytes(whole)
    assert CliRunner().invoke(app, ["forget", str(config), lead, "--yes"]).exit_code == 0
    assert holding(config.parent, lead) == set()
