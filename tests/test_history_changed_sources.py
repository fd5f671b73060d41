"""Which sources changed on the disk since a history was read: replaced, appended to, touched, removed, added."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convpredict.config.load import parse_project
from convpredict.history.frames import history_from_frames
from convpredict.history.history import History
from convpredict.history.load import load_history
from convpredict.training.as_of import history_as_of, without_leads

SOURCES = {
    "leads": {"file": "leads.csv"},
    "calls": {"file": "calls/*.parquet"},
    "deals": {"duckdb": "deals.duckdb", "table": "deals"},
    "unused": {"file": "nowhere.csv"},
}
TABLES = {
    "timezone": "UTC",
    "leads": {"source": "leads"},
    "interactions": {"source": "calls"},
    "conversions": {"source": "deals"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "leads.csv").write_text("lead_id,created_at\na,2024-01-01\nb,2024-01-02\n", "utf-8")
    (tmp_path / "calls").mkdir()
    for number in range(2):
        pq.write_table(calls(number), tmp_path / "calls" / f"{number}.parquet")
    with duckdb.connect(str(tmp_path / "deals.duckdb")) as connection:
        connection.execute("CREATE TABLE deals AS SELECT 'b' AS lead_id, '2024-01-05' AS converted_at")
    return tmp_path


def calls(day: int) -> pa.Table:
    return pa.table({"lead_id": ["a"], "occurred_at": [f"2024-01-0{day + 2}"], "kind": ["call"]})


def read(folder: Path) -> History:
    config = parse_project({"name": "x", "sources": SOURCES, "history": TABLES}).config
    return load_history(config, folder)


def replace_by_a_copy(folder: Path) -> None:
    copy = folder / "copy.csv"
    copy.write_bytes((folder / "leads.csv").read_bytes())
    before = (folder / "leads.csv").stat()
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(copy, folder / "leads.csv")


def append_and_hide_it(folder: Path) -> None:
    path = folder / "leads.csv"
    before = path.stat()
    with path.open("a", encoding="utf-8") as stream:
        stream.write("c,2024-01-03\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch(folder: Path) -> None:
    path = folder / "calls" / "1.parquet"
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))


def write_to_the_database(folder: Path) -> None:
    with duckdb.connect(str(folder / "deals.duckdb")) as connection:
        connection.execute("CREATE TABLE more AS SELECT * FROM range(100000)")


def write_into_the_log_of_the_database(folder: Path) -> None:
    """As a writer that was killed, or that does not check-point, leaves it: the database's own file is not touched."""
    path = folder / "deals.duckdb"
    before = path.read_bytes()
    with duckdb.connect(str(path)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("INSERT INTO deals VALUES ('a', '2024-01-06')")
    assert path.read_bytes() == before
    assert path.with_name("deals.duckdb.wal").stat().st_size > 0


def test_a_change_in_the_log_of_a_database_makes_another_history(folder: Path) -> None:
    former = read(folder)
    write_into_the_log_of_the_database(folder)
    first = read(folder)
    assert first.conversions.num_rows == former.conversions.num_rows + 1
    assert first.fingerprint != former.fingerprint
    with duckdb.connect(str(folder / "deals.duckdb")) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("DELETE FROM deals WHERE lead_id = 'b'")
    assert first.sources_unchanged() == ["deals"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda folder: (folder / "calls" / "notes.txt").write_text("no call"), []),
        (lambda folder: (folder / "calls" / "1.parquet").read_bytes(), []),
        (replace_by_a_copy, ["leads"]),
        (append_and_hide_it, ["leads"]),
        (lambda folder: (folder / "leads.csv").unlink(), ["leads"]),
        (touch, ["calls"]),
        (lambda folder: pq.write_table(calls(2), folder / "calls" / "2.parquet"), ["calls"]),
        (lambda folder: (folder / "calls" / "0.parquet").unlink(), ["calls"]),
        (write_to_the_database, ["deals"]),
        (write_into_the_log_of_the_database, ["deals"]),
        (lambda folder: (touch(folder), replace_by_a_copy(folder)), ["calls", "leads"]),
    ],
)
def test_changed_files_are_found(folder: Path, change: Callable[[Path], object], found: list[str]) -> None:
    history = read(folder)
    assert history.sources_unchanged() == []
    cut = history_as_of(history, datetime(2024, 1, 4, tzinfo=UTC))
    fewer = without_leads(cut, np.array([True, False]))
    change(folder)
    assert [one.sources_unchanged() for one in (history, cut, fewer)] == [found] * 3


def test_a_relative_folder_means_the_one_that_was_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    history = read(Path(folder.name))
    monkeypatch.chdir("/")
    assert history.sources_unchanged() == []
    touch(folder)
    assert history.sources_unchanged() == ["calls"]


def test_frames_never_change() -> None:
    leads = pa.table({"lead_id": ["a"], "created_at": ["2024-01-01"], "source": ["web"]})
    assert history_from_frames(leads=leads, timezone="UTC").sources_unchanged() == []
