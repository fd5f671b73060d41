"""Publishing to a real PostgreSQL server: cut connections, other people's locks, views, grants, types."""

from __future__ import annotations

import json
import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convpredict.errors import ConfigError, PublishError
from convpredict.scoring.content_hash import content_hash
from convpredict.scoring.publish.postgres import PostgresPublisher
from convpredict.scoring.publish.postgres_columns import columns_of, staged_rows
from convpredict.scoring.publish.protocol import Publication
from postgres_server import postgres_server
from publishing import ENV, check_whole, make, night, query


@pytest.fixture(scope="module")
def one_server() -> Iterator[str]:
    with postgres_server("CREATE ROLE reader LOGIN") as uri:
        yield uri


@pytest.fixture
def server(one_server: str) -> str:
    execute(one_server, "DROP SCHEMA IF EXISTS crm CASCADE", "DROP SCHEMA IF EXISTS public CASCADE")
    execute(one_server, "CREATE SCHEMA public", "GRANT USAGE ON SCHEMA public TO reader")
    return one_server


def execute(uri: str, *statements: str) -> None:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


def shows(uri: str, publication: Publication) -> None:
    assert make("postgres", uri).current() == publication
    check_whole("postgres", uri, {publication.run_id: publication.content_hash})


def _publishing(uri: str, day: int, errors: list[Exception]) -> threading.Thread:
    def publish() -> None:
        try:
            make("postgres", uri).publish(*night(day))
        except PublishError as error:
            errors.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    return thread


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)


_SLEEPING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
_SLEEPY = "CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'"
_ON_INSERT = "CREATE TRIGGER s AFTER INSERT ON scores FOR EACH STATEMENT EXECUTE FUNCTION sleepy()"
_ON_DELETE = "CREATE TRIGGER s BEFORE DELETE ON scores FOR EACH STATEMENT EXECUTE FUNCTION sleepy()"
_ON_COMMIT = (
    "CREATE CONSTRAINT TRIGGER s AFTER INSERT ON convpredict_publications DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION sleepy()"
)


@pytest.mark.parametrize("moment", [_ON_DELETE, _ON_INSERT, _ON_COMMIT], ids=["delete", "insert", "commit"])
def test_a_connection_cut_in_the_middle_leaves_the_former_night(server: str, moment: str) -> None:
    make("postgres", server).publish(*night(0))
    execute(server, _SLEEPY, moment)
    errors: list[Exception] = []
    thread = _publishing(server, 1, errors)
    _wait_for(lambda: query(server, _SLEEPING).num_rows == 1)
    shows(server, night(0)[1])
    query(
        server, "SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    )
    thread.join()
    assert len(errors) == 1
    assert "table scores of the PostgreSQL database" in str(errors[0])
    shows(server, night(0)[1])
    execute(server, "DROP FUNCTION sleepy CASCADE")
    make("postgres", server).publish(*night(1))
    shows(server, night(1)[1])


@contextmanager
def _cut_at_commit(uri: str, *, for_good: bool) -> Iterator[str]:
    """A wire to the server that lets the COMMIT of a publication through and breaks before its answer comes back;
    afterwards it is whole again, or stays cut."""
    behind = uri.partition("host=")[2]
    stopped, cut = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="cp-wire-") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/.s.PGSQL.5432")
        listening.listen()
        listening.settimeout(0.05)

        def serve() -> None:
            while not stopped.is_set():
                try:
                    client, _ = listening.accept()
                except TimeoutError:
                    continue
                with client, socket.socket(socket.AF_UNIX) as server:
                    if cut.is_set() and for_good:
                        continue
                    server.connect(f"{behind}/.s.PGSQL.5432")
                    _carry(client, server, stopped, cut)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield uri.replace(behind, folder)
        finally:
            stopped.set()
            thread.join()
    assert cut.is_set()


def _carry(
    client: socket.socket, server: socket.socket, stopped: threading.Event, cut: threading.Event
) -> None:
    last = False
    while not stopped.is_set():
        ready, _, _ = select.select([client, server], [], [], 0.05)
        for one, other in ((client, server), (server, client)):
            if one not in ready:
                continue
            content = one.recv(1 << 20)
            if not content:
                return
            other.sendall(content)
            last = last or (one is client and b"DROP TABLE pg_temp" in content)
            if one is client and last and b"COMMIT" in content and not cut.is_set():
                assert server.recv(1 << 20)
                cut.set()
                return


def test_a_commit_whose_answer_is_lost_is_looked_up(server: str) -> None:
    make("postgres", server).publish(*night(0))
    with _cut_at_commit(server, for_good=False) as wire:
        assert make("postgres", wire).publish(*night(1)).changed
    shows(server, night(1)[1])


def test_a_commit_that_cannot_be_looked_up_is_not_called_done(server: str) -> None:
    make("postgres", server).publish(*night(0))
    with _cut_at_commit(server, for_good=True) as wire:
        publisher = make("postgres", wire)
        with pytest.raises(PublishError, match=r"former night or run .* Run again: it finds out which"):
            publisher.publish(*night(1))
    assert not make("postgres", server).publish(*night(1)).changed
    shows(server, night(1)[1])


def test_a_reader_never_sees_a_mixture_and_is_never_kept_waiting(server: str) -> None:
    nights = [night(day) for day in range(6)]
    expected = {publication.run_id: publication.content_hash for _, publication in nights}
    publisher = make("postgres", server)
    publisher.publish(*nights[0])
    execute(server, _SLEEPY.replace("pg_sleep(60)", "pg_sleep(0.2)"), _ON_DELETE, _ON_COMMIT)
    seen: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append(check_whole("postgres", server, expected))
            time.sleep(0.02)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for scores, publication in nights[1:]:
            before = len(seen)
            publisher.publish(scores, publication)
            assert len(seen) > before, "the reader was kept waiting"
            _wait_for(lambda publication=publication: publication.run_id in seen[-1:])  # type: ignore[misc]
    finally:
        stop.set()
        reader.join()
    assert seen == sorted(seen)
    assert set(seen) == set(expected)


def test_two_machines_publish_one_after_the_other(server: str) -> None:
    make("postgres", server).publish(*night(0))
    execute(server, _SLEEPY.replace("pg_sleep(60)", "pg_sleep(1)"), _ON_INSERT)
    errors: list[Exception] = []
    first = _publishing(server, 2, errors)
    _wait_for(lambda: query(server, _SLEEPING).num_rows == 1)
    with pytest.raises(PublishError, match="is not newer"):
        make("postgres", server).publish(*night(1))
    first.join()
    assert errors == []
    shows(server, night(2)[1])


def test_who_holds_a_lock_too_long_is_not_waited_for(server: str) -> None:
    from adbc_driver_postgresql import dbapi

    make("postgres", server).publish(*night(0))
    with dbapi.connect(server) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE scores IN SHARE MODE")
        with pytest.raises(PublishError, match=r"held a lock on it for 0\.3 s"):
            make("postgres", server, wait=0.3).publish(*night(1))
    shows(server, night(0)[1])
    execute(server, _SLEEPY, _ON_INSERT)
    os.environ[ENV] = server
    with pytest.raises(PublishError, match=r"longer than 0\.3 s and was cancelled"):
        PostgresPublisher(ENV, timeout=0.3).publish(*night(1))
    shows(server, night(0)[1])


def test_views_grants_and_indexes_survive(server: str) -> None:
    make("postgres", server).publish(*night(0))
    execute(
        server,
        "CREATE VIEW hot AS SELECT lead_id, rank FROM scores WHERE rank <= 10",
        "CREATE INDEX by_p ON scores (p_convert_30d)",
        "GRANT SELECT ON scores, hot TO reader",
    )
    make("postgres", server).publish(*night(1))
    reader = server.replace("owner@", "reader@")
    assert query(reader, "SELECT lead_id FROM hot")["lead_id"][0].as_py().startswith("lead-1-")
    indexes = query(reader, "SELECT indexname FROM pg_indexes WHERE tablename = 'scores'")["indexname"]
    assert sorted(indexes.to_pylist()) == ["by_p", "scores_pkey"]


def test_columns_have_the_types_that_the_page_states(server: str) -> None:
    make("postgres", server).publish(*night(0))
    found = query(
        server,
        "SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
        "WHERE attrelid = 'scores'::regclass AND attnum > 0 ORDER BY attnum",
    )
    assert {row["name"]: row["type"] for row in found.to_pylist()} == {
        "lead_id": "text",
        "cutoff": "timestamp with time zone",
        "run_id": "text",
        "p_convert_30d": "double precision",
        "score": "smallint",
        "rank": "bigint",
        "expected_value": "double precision",
        "reasons_for": "text[]",
        "reason_contributions": "jsonb",
    }
    concept = query(server, "SELECT reason_contributions -> 0 ->> 'concept' AS c FROM scores WHERE rank = 1")
    assert concept["c"].to_pylist() == ["calls"]


def test_numbers_as_ids_and_odd_values_arrive(server: str) -> None:
    _, publication = night(0)
    n = 3
    scores = pa.table(
        {
            "lead_id": pa.array([5805028000000645014, 7, -1], pa.int64()),
            "cutoff": pa.array([publication.cutoff] * n, pa.timestamp("us", "UTC")),
            "run_id": pa.array([publication.run_id] * n).dictionary_encode(),
            "p": pa.array([float("nan"), 5e-324, None]),
            "small": pa.array([255, None, 0], pa.uint8()),
            "wide": pa.array([2**32 - 1, None, 0], pa.uint32()),
            'odd "name': pa.array(["a\0b", "", "\N{GRINNING FACE}'\\"]),
            "list": pa.array([["x\0", None], [], None]),
            "told": pa.array([[{"c": "\0\\u0000", "v": float("nan")}], [], None]),
            "flag": pa.array([True, None, False]),
            "day": pa.array([0, None, 1], pa.date32()),
        }
    )
    publication = replace(publication, rows=n, content_hash=content_hash(scores))
    make("postgres", server).publish(scores, publication)
    found = query(server, 'SELECT lead_id, small, wide, "odd ""name", list, told::text AS told FROM scores')
    instead = "\N{REPLACEMENT CHARACTER}"
    assert found.to_pylist() == [
        {
            "lead_id": 5805028000000645014,
            "small": 255,
            "wide": 2**32 - 1,
            'odd "name': f"a{instead}b",
            "list": [f"x{instead}", None],
            "told": f'[{{"c": "{instead}\\\\u0000", "v": null}}]',
        },
        {"lead_id": 7, "small": None, "wide": None, 'odd "name': "", "list": [], "told": "[]"},
        {
            "lead_id": -1,
            "small": 0,
            "wide": 0,
            'odd "name': "\N{GRINNING FACE}'\\",
            "list": None,
            "told": None,
        },
    ]
    assert make("postgres", server).erase([7]) == 1
    assert make("postgres", server).find([7, "-1"]) != []
    assert make("postgres", server).find([7]) == []


@given(data=st.data())
def test_nested_values_become_json_that_says_the_same(data: st.DataObject) -> None:
    number = st.floats(allow_nan=False, allow_infinity=False)
    item = st.fixed_dictionaries(
        {
            'a "key': st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4),
            "v": st.none() | number,
            "n": st.none() | st.integers(-(2**63), 2**63 - 1),
            "flag": st.none() | st.booleans(),
            "list": st.none() | st.lists(st.none() | number, max_size=2),
        }
    )
    values = data.draw(st.lists(st.none() | st.lists(st.none() | item, max_size=3), max_size=6))
    text = pa.string()
    inner = [('a "key', text), ("v", pa.float64()), ("n", pa.int64()), ("flag", pa.bool_())]
    kind = pa.list_(pa.struct([*inner, ("list", pa.list_(pa.float64()))]))
    ids = [str(i) for i in range(len(values))]
    scores = pa.table({"lead_id": pa.array(ids, text), "told": pa.array(values, kind)}).slice(
        min(1, len(values))
    )
    told = staged_rows(scores, columns_of(scores.schema)).read_all()["told"].to_pylist()
    assert [None if each is None else json.loads(each) for each in told] == values[1:]


def test_ids_with_a_nul_character_and_types_without_a_counterpart_are_refused(server: str) -> None:
    scores, publication = night(0)
    ids = pa.array(["a\0", *scores["lead_id"].to_pylist()[1:]])
    with pytest.raises(PublishError, match="1 lead ids hold a NUL character"):
        make("postgres", server).publish(scores.set_column(0, "lead_id", ids), publication)
    spans = pa.array([1] * scores.num_rows, pa.duration("us"))
    with pytest.raises(PublishError, match="'took' of type duration"):
        make("postgres", server).publish(scores.append_column("took", spans), publication)
    large = pa.array([2**63] * scores.num_rows, pa.uint64())
    with pytest.raises(PublishError, match="'large' of type uint64"):
        make("postgres", server).publish(scores.append_column("large", large), publication)
    assert make("postgres", server).current() is None


def test_a_table_in_a_schema_or_further_down_the_search_path(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(server, "CREATE SCHEMA crm")
    monkeypatch.setenv(ENV, server)
    PostgresPublisher(ENV, "crm.scores").publish(*night(0))
    PostgresPublisher(ENV, "crm.others").publish(*night(3))
    assert query(server, "SELECT count(*) AS n FROM crm.scores")["n"][0].as_py() == 300
    assert PostgresPublisher(ENV, "crm.scores").current() == night(0)[1]
    assert PostgresPublisher(ENV, "scores").current() is None
    monkeypatch.setenv(ENV, f"{server}&options=-csearch_path%3Dpublic,crm")
    assert PostgresPublisher(ENV, "scores").current() == night(0)[1]
    PostgresPublisher(ENV, "scores").publish(*night(1))
    assert PostgresPublisher(ENV, "crm.scores").current() == night(1)[1]
    assert query(server, "SELECT to_regclass('public.convpredict_publications') IS NULL AS none")["none"][
        0
    ].as_py()
    monkeypatch.setenv(ENV, f"{server}&options=-csearch_path%3Dnowhere")
    with pytest.raises(PublishError, match="names no schema that exists"):
        PostgresPublisher(ENV, "scores").current()
    with pytest.raises(PublishError, match='schema "nowhere" does not exist'):
        PostgresPublisher(ENV, "nowhere.scores").publish(*night(0))


def test_a_table_that_somebody_made_ready_keeps_its_types(server: str) -> None:
    execute(server, "CREATE TABLE scores (lead_id varchar(40) PRIMARY KEY, rank integer, note text)")
    publisher = make("postgres", server)
    assert publisher.current() is None
    scores, publication = night(0)
    publisher.publish(scores, publication)
    found = query(server, "SELECT lead_id, rank, note, score FROM scores ORDER BY rank")
    assert found["rank"].type == pa.int32()
    assert found["note"].null_count == 300
    assert found["score"].to_pylist() == scores["score"].to_pylist()
    execute(
        server, "ALTER TABLE scores ALTER lead_id TYPE varchar(13)", "DELETE FROM convpredict_publications"
    )
    execute(server, "DELETE FROM scores")
    long = pa.array(["x" * 14, *scores["lead_id"].to_pylist()[1:]])
    with pytest.raises(PublishError, match=r"value too long for type character varying\(13\)"):
        publisher.publish(scores.set_column(0, "lead_id", long), publication)


def test_a_trigger_that_swallows_rows_is_noticed(server: str) -> None:
    make("postgres", server).publish(*night(0))
    execute(
        server,
        "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.rank = 5 THEN RETURN NULL; "
        "END IF; RETURN NEW; END'",
        "CREATE TRIGGER d BEFORE INSERT ON scores FOR EACH ROW EXECUTE FUNCTION drop_it()",
    )
    with pytest.raises(PublishError, match="took 300 of 301 rows"):
        make("postgres", server).publish(*night(1))
    shows(server, night(0)[1])


def test_who_may_only_read_is_told(server: str) -> None:
    make("postgres", server).publish(*night(0))
    execute(server, "GRANT SELECT ON scores, convpredict_publications TO reader")
    reader = make("postgres", server.replace("owner@", "reader@"))
    assert reader.current() == night(0)[1]
    with pytest.raises(PublishError, match="permission denied for table scores"):
        reader.publish(*night(1))
    standby = make("postgres", f"{server}&options=-cdefault_transaction_read_only%3Don")
    with pytest.raises(PublishError, match="read-only transaction"):
        standby.publish(*night(1))
    shows(server, night(0)[1])


def test_erasing_without_owning_the_table_says_what_is_left_to_do(server: str) -> None:
    make("postgres", server).publish(*night(0))
    execute(server, "GRANT SELECT, DELETE, INSERT ON scores, convpredict_publications TO reader")
    execute(server, "GRANT CREATE ON SCHEMA public TO reader")
    other = make("postgres", server.replace("owner@", "reader@"))
    with pytest.raises(PublishError, match=r"did not write the table anew.*VACUUM \(FULL, ANALYZE\)"):
        other.erase(["lead-0-000001"])
    assert other.find(["lead-0-000001"]) == []


@pytest.mark.parametrize("uri", ["postgresql://me:hunter2@/x?host=nowhere", "postgresql://me:hunter2%zz@h/x"])
def test_the_connection_string_is_never_shown(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    pytest.importorskip("adbc_driver_postgresql", reason="the extra 'postgres' is not installed")
    monkeypatch.setenv(ENV, uri)
    publisher = PostgresPublisher(ENV)
    for attempt in (publisher.current, lambda: publisher.publish(*night(0)), lambda: publisher.erase(["a"])):
        with pytest.raises(PublishError) as caught:
            attempt()
        assert "hunter2" not in str(caught.value)
        assert uri not in str(caught.value)
    assert "hunter2" not in publisher.describe()


def test_an_unset_variable_is_an_error_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(ENV, raising=False)
    with pytest.raises(ConfigError, match=r"nightly\.publish\.postgres_env"):
        PostgresPublisher(ENV).current()
