"""Nights to publish, readers of every place, and a program that publishes while it is killed over and over.

``python publishing.py KIND PLACE KILLS SEED`` publishes night after night to a place (parquet, duckdb, postgres), kills
each publisher with SIGKILL at a random moment, and checks after each, and all the while from a reader of its own, that
the place holds one whole night. Prints a line of JSON, or fails.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from convpredict.scoring.content_hash import content_hash
from convpredict.scoring.publish.duckdb import DuckdbPublisher
from convpredict.scoring.publish.parquet import ParquetPublisher
from convpredict.scoring.publish.postgres import PostgresPublisher
from convpredict.scoring.publish.protocol import Publication, Publisher

ENV = "CONVPREDICT_TEST_PUBLISH_DB"


def night(day: int, rows: int = 300, repetition: int = 1) -> tuple[pa.Table, Publication]:
    """The scores of a night: each day has other probabilities and a few leads more."""
    cutoff = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(days=day)
    run_id = f"shop-{cutoff:%Y%m%dT%H%M%SZ}" + (f"-{repetition}" if repetition > 1 else "")
    count = rows + day
    random_state = np.random.default_rng([day, repetition])
    p = np.sort(random_state.random(count))[::-1]
    ids = [f"lead-{day % 3}-{i:06d}" for i in range(count)]
    said = [None if i % 4 else [f"asked {i} times", "opened a mail"] for i in range(count)]
    told = [None if i % 4 else [{"concept": "calls", "contribution": float(p[i])}] for i in range(count)]
    concept = pa.list_(pa.struct([("concept", pa.string()), ("contribution", pa.float64())]))
    table = pa.table(
        {
            "lead_id": pa.array(ids, pa.string()),
            "cutoff": pa.array([cutoff] * count, pa.timestamp("us", "UTC")),
            "run_id": pa.array([run_id] * count, pa.string()),
            "p_convert_30d": pa.array(p, pa.float64()),
            "score": pa.array((100 * p).astype(np.int16), pa.int16()),
            "rank": pa.array(range(1, count + 1), pa.int64()),
            "expected_value": pa.array([None if i % 5 == 0 else 3.5 * i for i in range(count)], pa.float64()),
            "reasons_for": pa.array(said, pa.list_(pa.string())),
            "reason_contributions": pa.array(told, concept),
        }
    )
    return table, Publication(run_id, "shop", cutoff, count, content_hash(table))


def make(kind: str, place: str, wait: float = 60.0) -> Publisher:
    """A publisher of that kind; ``place``: its folder, or the connection string."""
    if kind == "parquet":
        return ParquetPublisher(Path(place) / "scores", "scores", wait)
    if kind == "duckdb":
        return DuckdbPublisher(Path(place) / "scores.duckdb", "scores", "scores.duckdb", wait)
    os.environ[ENV] = place
    return PostgresPublisher(ENV, "scores", wait)


def read(kind: str, place: str) -> pa.Table:
    """The published table as a reader gets it, in the order of ranks and the types of :func:`night`."""
    if kind == "parquet":
        with open(Path(place) / "scores" / "latest.parquet", "rb") as file:
            table = pq.read_table(file)
    elif kind == "duckdb":
        with duckdb.connect(str(Path(place) / "scores.duckdb"), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'").fetchall()
            table = connection.sql("SELECT * FROM scores ORDER BY rank").to_arrow_table()
    else:
        table = query(place, "SELECT * FROM scores ORDER BY rank")
        told = [
            None if text is None else json.loads(text) for text in table["reason_contributions"].to_pylist()
        ]
        schema = night(0, 1)[0].schema
        position = table.schema.get_field_index("reason_contributions")
        table = table.set_column(
            position, "reason_contributions", pa.array(told, schema.field("reason_contributions").type)
        )
    return table


def read_named(place: str) -> pa.Table:
    """The file that ``latest.json`` names, opened by its name, as many readers do more than once."""
    folder = Path(place) / "scores"
    pointer = json.loads((folder / "latest.json").read_text())
    table = pq.read_table(folder / pointer["file"], partitioning=None)
    run_id = pa.array([pointer["run_id"]] * table.num_rows, pa.string())
    return table.add_column(2, "run_id", run_id)


def query(uri: str, sql: str) -> pa.Table:
    """A query to PostgreSQL, on a connection of its own, outside of this module's code under test."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        table = cursor.fetch_arrow_table()
    columns = [c.combine_chunks() for c in table.columns]
    plain = [c.storage if isinstance(c.type, pa.ExtensionType | pa.OpaqueType) else c for c in columns]
    return pa.table(plain, names=table.column_names)


def check_whole(kind: str, place: str, expected: dict[str, str]) -> str:
    """The run that the place shows, which must be one of the expected, whole, to the bit.

    Of files, also the run that ``latest.json`` names: the former one, for an instant.
    """
    if kind == "parquet" and (Path(place) / "scores" / "latest.json").exists():
        named = read_named(place)
        assert content_hash(named) == expected[named["run_id"][0].as_py()]
    table = read(kind, place)
    runs = set(table["run_id"].to_pylist())
    assert len(runs) == 1, f"a mixture: {runs}"
    run_id = runs.pop()
    assert content_hash(table) == expected[run_id], f"{run_id} is not whole: {table.num_rows} rows"
    return str(run_id)


def _forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _succeeds(work: Callable[[], None]) -> None:
    _, status = os.waitpid(_forked(work), 0)
    assert status == 0


def _poll(kind: str, place: str, expected: dict[str, str], stop: Path, seen: Path) -> None:
    last, reads = "", 0
    while not stop.exists():
        try:
            run_id = check_whole(kind, place, expected)
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise
            time.sleep(0.005)
            continue
        assert run_id >= last, f"went back from {last} to {run_id}"
        last, reads = run_id, reads + 1
        time.sleep(0.05)
    seen.write_text(str(reads))


def main(kind: str, place: str, kills: int, seed: int) -> None:
    """Publish, kill, check: ``kills`` times; this process itself opens nothing, since it forks.

    ``usual`` follows how long a publication takes while others use the machine, so that kills fall before its end.
    """
    if kind == "postgres":
        import adbc_driver_postgresql.dbapi  # noqa: F401
    rows = 6_000 if kind != "postgres" else 1_500
    nights = [night(day, rows) for day in range(3 * kills + 12)]
    expected = {publication.run_id: publication.content_hash for _, publication in nights}
    rng = random.Random(seed)
    scratch = Path(tempfile.mkdtemp(prefix="cp-publishing-"))

    def publish(day: int) -> None:
        assert make(kind, place).publish(*nights[day]).current

    def check(day: int) -> None:
        current = make(kind, place).current()
        assert current is not None
        assert current == next(p for _, p in nights if p.run_id == current.run_id)
        assert check_whole(kind, place, expected) == current.run_id
        (scratch / "run").write_text(current.run_id)

    _succeeds(lambda: publish(0))
    start = time.monotonic()
    _succeeds(lambda: publish(1))
    usual = time.monotonic() - start
    poller = _forked(lambda: _poll(kind, place, expected, scratch / "stop", scratch / "seen"))
    killed, new = 0, 0
    try:
        for day in range(2, len(nights) - 1):
            if killed == kills:
                break
            child = _forked(lambda day=day: publish(day))
            time.sleep(rng.uniform(0.1, 1.3) * usual)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert status in (0, signal.SIGKILL), status
            killed += status != 0
            usual *= 1.1 if status else 0.8
            _succeeds(lambda day=day: check(day))
            new += (scratch / "run").read_text() == nights[day][1].run_id
    finally:
        (scratch / "stop").touch()
    _, status = os.waitpid(poller, 0)
    assert status == 0, "the reader saw what it must not see"
    last = len(nights) - 1
    _succeeds(lambda: publish(last))
    _succeeds(lambda: check(last))
    assert (scratch / "run").read_text() == nights[last][1].run_id
    reads = int((scratch / "seen").read_text())
    shutil.rmtree(scratch)
    print(json.dumps({"killed": killed, "new": new, "reads": reads, "usual_seconds": round(usual, 3)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
