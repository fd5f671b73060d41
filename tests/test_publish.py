"""What every place that scores are published to promises: Parquet files, a DuckDB file, a real PostgreSQL server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from convpredict.config.base import Duration
from convpredict.config.nightly import DuckdbTarget, ParquetTarget, PostgresTarget
from convpredict.errors import PublishError
from convpredict.scoring.content_hash import content_hash
from convpredict.scoring.publish.duckdb import DuckdbPublisher
from convpredict.scoring.publish.make import make_publisher
from convpredict.scoring.publish.parquet import ParquetPublisher
from convpredict.scoring.publish.postgres import PostgresPublisher
from convpredict.scoring.publish.protocol import Publication, Publisher
from postgres_server import postgres_server
from publishing import check_whole, make, night, query, read, read_named


@dataclass(frozen=True)
class Place:
    kind: str
    where: str

    def publisher(self, wait: float = 10.0) -> Publisher:
        return make(self.kind, self.where, wait)

    def read(self) -> pa.Table:
        return read(self.kind, self.where)

    def shows(self, publication: Publication) -> None:
        """The current record and the rows are those of this publication, to the bit."""
        assert self.publisher().current() == publication
        check_whole(self.kind, self.where, {publication.run_id: publication.content_hash})

    def execute(self, sql: str) -> None:
        """Change the place behind the publisher's back."""
        if self.kind == "duckdb":
            with duckdb.connect(f"{self.where}/scores.duckdb") as connection:
                connection.execute(sql).fetchall()
        else:
            execute(self.where, sql)

    def files(self) -> list[Path]:
        """The files in which the place's bytes lie."""
        if self.kind != "postgres":
            return [path for path in Path(self.where).rglob("*") if path.is_file()]
        execute(self.where, "CHECKPOINT")
        folder = Path(self.where.partition("host=")[2]) / "data"
        return [path for path in (folder / "base").rglob("*") if path.is_file()]

    def holds(self, text: str) -> bool:
        """Whether a text lies anywhere in the bytes; Parquet is unpacked first, for it is compressed."""
        unpacked = [path for path in self.files() if path.suffix == ".parquet"]
        return any(text.encode() in path.read_bytes() for path in self.files()) or any(
            text in pq.ParquetFile(path).read()["lead_id"].to_pylist() for path in unpacked
        )


def execute(uri: str, *statements: str) -> None:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server("SELECT 1") as uri:
        yield uri


@pytest.fixture(params=["parquet", "duckdb", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param != "postgres":
        return Place(request.param, str(tmp_path))
    uri = request.getfixturevalue("server")
    execute(uri, "DROP SCHEMA IF EXISTS public CASCADE", "CREATE SCHEMA public")
    return Place("postgres", uri)


def test_one_night_after_the_other(place: Place) -> None:
    publisher = place.publisher()
    assert publisher.current() is None
    for day in (0, 1, 5):
        scores, publication = night(day)
        published = publisher.publish(scores, publication)
        assert (published.changed, published.current, published.rows) == (True, True, scores.num_rows)
        assert published.target == publisher.describe()
        place.shows(publication)
    assert place.read().column_names == scores.column_names


def test_the_layout_of_the_table_makes_no_difference(place: Place) -> None:
    scores, publication = night(0)
    position = scores.column_names.index("run_id")
    coded = scores.set_column(position, "run_id", scores["run_id"].dictionary_encode())
    place.publisher().publish(pa.concat_tables([coded.slice(0, 7), coded.slice(7)]), publication)
    place.shows(publication)


def test_the_same_run_again_changes_nothing(place: Place) -> None:
    place.publisher().publish(*night(0))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in _own_files(place)}
    again = place.publisher().publish(*night(0))
    assert (again.changed, again.current) == (False, True)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in _own_files(place)} == before
    place.shows(night(0)[1])


def _own_files(place: Place) -> list[Path]:
    return [] if place.kind == "postgres" else place.files()


def test_an_older_night_does_not_replace_a_newer_one(place: Place) -> None:
    place.publisher().publish(*night(3))
    with pytest.raises(PublishError, match=r"already holds run shop-20240504T000000Z .* is not newer"):
        place.publisher().publish(*night(2))
    kept = place.publisher().publish(*night(2), older_ok=True)
    assert (kept.current, kept.changed) == (False, place.kind == "parquet")
    assert not place.publisher().publish(*night(2), older_ok=True).changed
    place.shows(night(3)[1])


def test_a_repetition_replaces_the_night_that_it_repeats_and_not_the_other_way_round(place: Place) -> None:
    place.publisher().publish(*night(1))
    place.publisher().publish(*night(1, repetition=2))
    place.publisher().publish(*night(1, repetition=10))
    for earlier in (1, 2):
        with pytest.raises(PublishError, match="is not newer"):
            place.publisher().publish(*night(1, repetition=earlier))
    place.shows(night(1, repetition=10)[1])


def test_a_run_id_never_stands_for_other_content(place: Place) -> None:
    scores, publication = night(0)
    place.publisher().publish(scores, publication)
    other = scores.set_column(5, "rank", pa.array(range(scores.num_rows), pa.int64()))
    with pytest.raises(PublishError, match=r"with other content .* --again REASON"):
        place.publisher().publish(other, replace(publication, content_hash=content_hash(other)))
    place.shows(publication)


def test_a_place_tells_what_it_keeps_of_a_run(place: Place) -> None:
    assert place.publisher().kept(night(1)[1].run_id) is None
    for day in (1, 2):
        place.publisher().publish(*night(day))
    former, latest = night(1)[1], night(2)[1]
    assert place.publisher().kept(latest.run_id) == latest
    assert place.publisher().kept(former.run_id) == (former if place.kind == "parquet" else None)


def test_a_copy_of_a_run_is_what_was_published_without_the_erased(tmp_path: Path) -> None:
    publisher = ParquetPublisher(tmp_path / "scores")
    scores, publication = night(1)
    assert publisher.copy_of(publication.run_id) is None
    publisher.publish(scores, publication)
    publisher.publish(*night(2))
    copy, told = publisher.copy_of(publication.run_id)
    assert told == publication
    assert content_hash(copy) == publication.content_hash
    gone = scores["lead_id"][0].as_py()
    publisher.erase([gone])
    copy, told = publisher.copy_of(publication.run_id)
    assert (told.rows, told.erased, copy.num_rows) == (publication.rows - 1, 1, publication.rows - 1)
    other = ParquetPublisher(tmp_path / "other")
    other.publish(copy, told)
    assert other.current() == told
    assert other.find([gone]) == []


def test_two_projects_do_not_share_a_place(place: Place) -> None:
    place.publisher().publish(*night(0))
    scores, publication = night(1)
    with pytest.raises(PublishError, match="holds the scores of 'shop', not of 'bank'"):
        place.publisher().publish(scores, replace(publication, name="bank"))
    place.shows(night(0)[1])


def test_what_lies_there_without_our_record_is_not_overwritten(place: Place) -> None:
    if place.kind == "parquet":
        (Path(place.where) / "scores").mkdir()
        pq.write_table(pa.table({"a": [1]}), Path(place.where) / "scores" / "latest.parquet")
    else:
        place.execute("CREATE TABLE scores AS SELECT 1 AS a")
    for attempt in (place.publisher().current, lambda: place.publisher().publish(*night(0))):
        with pytest.raises(PublishError, match="convpredict has not published"):
            attempt()
    if place.kind == "parquet":
        assert pq.read_table(Path(place.where) / "scores" / "latest.parquet").to_pylist() == [{"a": 1}]
    else:
        place.execute("SELECT a / a FROM scores")


def test_a_view_in_the_place_of_the_table_is_not_overwritten(place: Place) -> None:
    if place.kind == "parquet":
        pytest.skip("files have no views")
    place.execute("CREATE VIEW scores AS SELECT 1 AS a WHERE false")
    with pytest.raises(PublishError):
        place.publisher().publish(*night(0))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop_columns(["cutoff"]), "lack the column cutoff"),
        (lambda t: t.slice(1), "have 299 rows, but 300 were announced"),
        (lambda t: pa.concat_tables([t.slice(0, 299), t.slice(5, 1)]), "1 rows repeat a lead_id"),
        (lambda t: pa.concat_tables([t.slice(0, 299), night(1)[0].slice(299, 1)]), "another run than"),
        (
            lambda t: t.set_column(0, "lead_id", pa.array([None, *t["lead_id"].to_pylist()[1:]])),
            "1 rows have no lead_id",
        ),
    ],
)
def test_a_table_that_is_not_that_of_the_night_is_refused(
    tmp_path: Path, spoil: object, message: str
) -> None:
    place = Place("parquet", str(tmp_path))
    place.publisher().publish(*night(0, rows=50))
    scores, publication = night(0, repetition=2)
    scores = scores.set_column(2, "run_id", pa.array([publication.run_id] * scores.num_rows))
    with pytest.raises(PublishError, match=message):
        place.publisher().publish(spoil(scores), publication)  # type: ignore[operator]
    place.shows(night(0, rows=50)[1])


def test_another_cutoff_and_a_run_id_that_names_no_folder_are_refused(tmp_path: Path) -> None:
    scores, publication = night(0)
    publisher = ParquetPublisher(tmp_path)
    with pytest.raises(PublishError, match="another cutoff than"):
        publisher.publish(scores, replace(publication, cutoff=publication.cutoff + timedelta(days=1)))
    with pytest.raises(PublishError, match="must consist of letters"):
        publisher.publish(scores, replace(publication, run_id="../shop"))
    assert list(tmp_path.iterdir()) == []


def test_a_night_without_leads_can_be_published(place: Place) -> None:
    place.publisher().publish(*night(0))
    scores, publication = night(1)
    empty = scores.slice(0, 0)
    publication = replace(publication, rows=0, content_hash=content_hash(empty))
    place.publisher().publish(empty, publication)
    assert place.publisher().current() == publication
    assert place.read().num_rows == 0
    place.publisher().publish(*night(2))
    place.shows(night(2)[1])


def test_columns_come_and_go(place: Place) -> None:
    place.publisher().publish(*night(0))
    scores, publication = night(1)
    grades = pa.array(["A", None] * (scores.num_rows // 2) + ["B"] * (scores.num_rows % 2))
    changed = scores.drop_columns(["expected_value"]).append_column("scorecard_grade", grades)
    publication = replace(publication, content_hash=content_hash(changed))
    place.publisher().publish(changed, publication)
    assert place.publisher().current() == publication
    found = place.read()
    if place.kind == "postgres":
        assert found["expected_value"].null_count == found.num_rows
        found = found.drop_columns(["expected_value"])
    assert content_hash(found.select(changed.column_names)) == publication.content_hash
    assert set(found.column_names) == set(changed.column_names)


def test_erased_leads_are_gone_from_the_bytes_too(place: Place) -> None:
    lead, former = "lead-1-000004", "lead-0-000004"
    publisher = place.publisher()
    publisher.publish(*night(0))
    publisher.publish(*night(1))
    assert place.holds(lead)
    assert publisher.find([lead, "nobody"]) != []
    assert publisher.find(["nobody", 7]) == []
    files = 2 if place.kind == "parquet" else 1
    assert publisher.erase([lead, lead, "nobody"]) == files
    publisher.erase([former])
    assert not place.holds(lead)
    assert not place.holds(former)
    assert publisher.find([lead, former]) == []
    scores, publication = night(1)
    assert publisher.current() == replace(publication, rows=publication.rows - 1, erased=1)
    kept = scores.filter(pa.array([value != lead for value in scores["lead_id"].to_pylist()]))
    assert content_hash(place.read()) == content_hash(kept)
    assert publisher.erase([lead]) == 0
    assert not publisher.publish(scores, publication).changed, "the same run again would bring the lead back"
    assert publisher.find([lead]) == []
    publisher.publish(*night(2))
    place.shows(night(2)[1])


def test_without_a_rebuilt_place_the_bytes_of_deleted_rows_would_stay(place: Place) -> None:
    """Why erasing takes more than deleting: the search of the test above does find what DELETE leaves."""
    if place.kind == "parquet":
        pytest.skip("files are always written anew")
    place.publisher().publish(*night(1))
    place.execute("DELETE FROM scores WHERE lead_id = 'lead-1-000004'")
    assert place.holds("lead-1-000004")


def test_there_is_nothing_to_erase_before_the_first_night(place: Place) -> None:
    assert place.publisher().erase(["lead-1-000004"]) == 0
    assert place.publisher().find(["lead-1-000004"]) == []


def test_rows_that_somebody_deleted_come_back_with_the_same_run(place: Place) -> None:
    if place.kind == "parquet":
        pytest.skip("a file is whole or not there")
    scores, publication = night(0)
    place.publisher().publish(scores, publication)
    place.execute("DELETE FROM scores WHERE rank > 100")
    current = place.publisher().current()
    assert current is not None
    assert current.rows == 100
    assert place.publisher().publish(scores, publication).changed
    place.shows(publication)
    place.publisher().erase(["lead-0-000000"])
    place.execute("DELETE FROM scores WHERE rank > 100")
    with pytest.raises(PublishError, match=r"changed by hand after 1 rows .* were erased"):
        place.publisher().publish(scores, publication)


def test_killed_at_any_moment_readers_see_one_whole_night(place: Place) -> None:
    """Kills publishers at random moments while another process reads; see publishing.py."""
    program = Path(__file__).with_name("publishing.py")
    kills = os.environ.get("CONVPREDICT_KILLS", "4")
    ran = subprocess.run(
        [sys.executable, str(program), place.kind, place.where, kills, "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    account = json.loads(ran.stdout)
    assert account["killed"] == int(kills)
    assert account["reads"] > 0
    if place.kind != "postgres":
        assert [path for path in place.files() if ".partial" in path.name or "rebuild" in path.name] == []


def test_a_disk_that_is_full_or_read_only_leaves_the_former_night() -> None:
    """On a file system of two megabytes, if this user may mount one."""
    with tempfile.TemporaryDirectory(prefix="cp-full-") as name:
        mounted = shutil.which("mount") and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", name], capture_output=True, check=False
        )
        if not mounted or mounted.returncode:
            pytest.skip("this user may not mount a tmpfs")
        try:
            for kind in ("parquet", "duckdb"):
                place = Place(kind, str(Path(name) / kind))
                Path(place.where).mkdir()
                place.publisher().publish(*night(0, rows=50))
                with pytest.raises(PublishError, match=r"[Nn]o space|free space"):
                    place.publisher().publish(*night(1, rows=60_000))
                place.shows(night(0, rows=50)[1])
                place.publisher().publish(*night(2, rows=60))
                place.shows(night(2, rows=60)[1])
                subprocess.run(["mount", "-o", "remount,ro", name], check=True)
                with pytest.raises(PublishError, match=r"[Rr]ead-only file system"):
                    place.publisher().publish(*night(3, rows=50))
                place.shows(night(2, rows=60)[1])
                subprocess.run(["mount", "-o", "remount,rw", name], check=True)
                shutil.rmtree(place.where)
        finally:
            subprocess.run(["umount", name], check=True)


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "scores").write_text("a file where a folder should be")
    (tmp_path / "scores.duckdb").mkdir()
    for kind in ("parquet", "duckdb"):
        with pytest.raises(PublishError, match=r"Check the disk, its free space and the rights"):
            make(kind, str(tmp_path)).publish(*night(0))


def test_who_has_the_latest_file_open_goes_on_reading_it(tmp_path: Path) -> None:
    place = Place("parquet", str(tmp_path))
    place.publisher().publish(*night(0))
    with pq.ParquetFile(tmp_path / "scores" / "latest.parquet") as opened:
        place.publisher().publish(*night(1))
        assert content_hash(opened.read()) == night(0)[1].content_hash
    place.shows(night(1)[1])


def test_the_latest_run_is_named_for_readers_that_open_a_file_twice(tmp_path: Path) -> None:
    place = Place("parquet", str(tmp_path))
    pointer = tmp_path / "scores" / "latest.json"
    for day in (0, 1):
        place.publisher().publish(*night(day))
        assert content_hash(read_named(place.where)) == night(day)[1].content_hash
    before = pointer.read_text()
    place.publisher().publish(*night(0), older_ok=True)
    assert pointer.read_text() == before
    pointer.unlink()
    assert not place.publisher().publish(*night(1)).changed
    assert pointer.read_text() == before, "a publication that was killed before the last step is made up for"


def test_runs_are_a_hive_partitioned_folder(tmp_path: Path) -> None:
    place = Place("parquet", str(tmp_path))
    for day in (0, 1):
        place.publisher().publish(*night(day))
    runs = tmp_path / "scores" / "runs"
    by_arrow = ds.dataset(runs, partitioning="hive").to_table()
    by_duckdb = duckdb.sql(f"SELECT * FROM read_parquet('{runs}/*/*.parquet')").to_arrow_table()
    for table in (by_arrow, by_duckdb, pq.read_table(runs)):
        assert table.column_names.count("run_id") == 1
        counts = table.group_by("run_id").aggregate([("lead_id", "count")]).to_pylist()
        assert {row["run_id"]: row["lead_id_count"] for row in counts} == {
            night(0)[1].run_id: 300,
            night(1)[1].run_id: 301,
        }


def test_the_leftovers_of_a_killed_publication_are_removed_by_the_next(tmp_path: Path) -> None:
    place = Place("parquet", str(tmp_path))
    place.publisher().publish(*night(0))
    folder = tmp_path / "scores"
    dead = folder / "runs" / "run_id=shop-20240502T000000Z"
    dead.mkdir()
    (dead / ".scores.parquet.77.partial").write_bytes(b"half")
    (folder / ".latest.parquet.77.partial").write_bytes(b"half")
    (folder / "runs" / "run_id=empty").mkdir()
    place.publisher().publish(*night(5))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    kept = {f"runs/run_id={night(day)[1].run_id}/scores.parquet" for day in (0, 5)}
    assert names == {".lock", "latest.parquet", "latest.json", *kept}
    assert len(list((folder / "runs").iterdir())) == 2


def test_a_run_file_that_was_damaged_before_it_became_current_is_written_anew(tmp_path: Path) -> None:
    place = Place("parquet", str(tmp_path))
    run = tmp_path / "scores" / "runs" / f"run_id={night(0)[1].run_id}"
    run.mkdir(parents=True)
    (run / "scores.parquet").write_bytes(b"not Parquet")
    place.publisher().publish(*night(0))
    assert pq.ParquetFile(run / "scores.parquet").read().num_rows == 300
    place.shows(night(0)[1])


_HOLD = """
import fcntl, sys, time
import duckdb
if sys.argv[1] == "parquet":
    file = open(sys.argv[2] + "/scores/.lock")
    fcntl.flock(file, fcntl.LOCK_EX)
else:
    connection = duckdb.connect(sys.argv[2] + "/scores.duckdb", read_only=True)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["parquet", "duckdb"])
def test_who_holds_the_place_too_long_is_told_and_who_lets_go_is_waited_for(
    kind: str, tmp_path: Path
) -> None:
    place = Place(kind, str(tmp_path))
    place.publisher().publish(*night(0))
    command = [sys.executable, "-c", _HOLD, kind, place.where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(PublishError, match=r"another process has .* for (more than )?0\.3 s"):
            place.publisher(wait=0.3).publish(*night(1))
        place.shows(night(0)[1])
        later = subprocess.Popen(["sleep", "0.5"], stdout=holder.stdin)
        holder.stdin.close()
        place.publisher(wait=60).publish(*night(1))
        later.wait()
    place.shows(night(1)[1])


def test_a_reader_in_the_same_process_is_waited_for_too(tmp_path: Path) -> None:
    place = Place("duckdb", str(tmp_path))
    place.publisher().publish(*night(0))
    with (
        duckdb.connect(str(tmp_path / "scores.duckdb"), read_only=True),
        pytest.raises(PublishError, match="kept the file open"),
    ):
        place.publisher(wait=0.1).publish(*night(1))
    place.publisher().publish(*night(1))


def test_the_rest_of_a_duckdb_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shared.duckdb"
    with duckdb.connect(str(path)) as connection:
        for sql in (
            "CREATE SCHEMA crm",
            "CREATE TABLE crm.notes AS SELECT range AS id FROM range(1000)",
            "CREATE INDEX by_id ON crm.notes (id)",
            "CREATE SEQUENCE numbers START 7",
            "CREATE VIEW hot AS SELECT 1 AS one",
        ):
            connection.execute(sql).fetchall()
    path.chmod(0o640)
    one, two = (DuckdbPublisher(path, table) for table in ("scores", 'crm.of "us"'))
    one.publish(*night(0))
    two.publish(*night(3))
    assert one.current() == night(0)[1]
    assert two.current() == night(3)[1]
    assert one.erase(["lead-0-000001"]) == 1
    assert two.current() == night(3)[1]
    assert path.stat().st_mode & 0o777 == 0o640
    with duckdb.connect(str(path), read_only=True) as connection:
        found = [
            connection.execute(sql).fetchall()
            for sql in (
                "SELECT count(*) FROM crm.notes",
                "SELECT * FROM hot",
                "SELECT count(*) FROM duckdb_indexes() WHERE index_name = 'by_id'",
                "SELECT start_value FROM duckdb_sequences()",
            )
        ]
    assert found == [[(1000,)], [(1,)], [(1,)], [(7,)]]


def test_targets_of_the_configuration_become_publishers(tmp_path: Path) -> None:
    files = make_publisher(ParquetTarget(parquet="out"), tmp_path)
    assert isinstance(files, ParquetPublisher)
    assert files.folder == tmp_path / "out"
    base = make_publisher(DuckdbTarget(duckdb="out/scores.duckdb", table="crm.scores"), tmp_path)
    assert isinstance(base, DuckdbPublisher)
    assert (base.path, base.schema, base.table) == (tmp_path / "out" / "scores.duckdb", "crm", "scores")
    server = make_publisher(PostgresTarget(postgres_env="SCORES_DB", timeout=Duration("5m")), tmp_path)
    assert isinstance(server, PostgresPublisher)
    assert [each.describe() for each in (files, base, server)] == [
        "Parquet files in out",
        "table crm.scores of the DuckDB file out/scores.duckdb",
        "table scores of the PostgreSQL database in SCORES_DB",
    ]
    for name in ("a.b.c", ".a", "a.", ""):
        with pytest.raises(ValueError, match="table"):
            DuckdbTarget(duckdb="x", table=name)


def test_a_record_survives_json_and_ignores_what_a_later_version_adds() -> None:
    publication = night(0)[1]
    content = json.loads(json.dumps(publication.to_dict()))
    assert Publication.from_dict({**content, "invented_later": 1}) == publication


def test_the_same_night_gives_the_same_files(tmp_path: Path) -> None:
    digests = set()
    for name, pieces in (("a", 1), ("b", 3)):
        scores, publication = night(0)
        size = scores.num_rows // pieces
        chunked = pa.concat_tables([scores.slice(start, size) for start in range(0, scores.num_rows, size)])
        ParquetPublisher(tmp_path / name).publish(chunked, publication)
        digests.add(hashlib.sha256((tmp_path / name / "latest.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_record_of_a_postgres_table_can_be_read_by_anybody(server: str) -> None:
    execute(server, "DROP SCHEMA IF EXISTS public CASCADE", "CREATE SCHEMA public")
    make("postgres", server).publish(*night(0))
    row = query(server, "SELECT * FROM convpredict_publications").to_pylist()[0]
    publication = night(0)[1]
    assert row == {
        "table_name": "scores",
        "run_id": publication.run_id,
        "name": "shop",
        "cutoff": publication.cutoff,
        "rows": 300,
        "content_hash": publication.content_hash,
        "erased": 0,
    }
