"""A real PostgreSQL server as a source."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from convpredict.config.load import parse_project
from convpredict.errors import ConfigError, DataError
from convpredict.history.load import load_history
from postgres_server import postgres_server

_SQL = """
CREATE TABLE people (id bigint, born timestamptz, city text, budget numeric(12, 2), gone timestamptz);
INSERT INTO people VALUES
  (5805028000000645014, '2024-01-01 10:00+01', 'Bonn', 12.50, NULL),
  (5805028000000645015, '2024-01-02 10:00+00', NULL, NULL, '2024-03-01 00:00+00');
CREATE SCHEMA crm;
CREATE TABLE crm.calls (person bigint, at timestamp, what text, ref uuid);
INSERT INTO crm.calls VALUES
  (5805028000000645014, '2024-01-03 12:00', 'call', '00000000-0000-0000-0000-000000000001'),
  (5805028000000645015, '2024-01-03 13:00', 'mail', '00000000-0000-0000-0000-000000000002'),
  (42, '2024-01-03 13:00', 'mail', '00000000-0000-0000-0000-000000000003');
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server(_SQL) as uri:
        yield uri


def _project(**sources: object) -> dict[str, object]:
    return {
        "name": "postgres",
        "sources": {
            "people": {"postgres_env": "CONVPREDICT_TEST_DB", "table": "people"},
            "calls": {"postgres_env": "CONVPREDICT_TEST_DB", "query": "SELECT * FROM crm.calls ORDER BY at"},
            **sources,
        },
        "history": {
            "validation": {"max_bad_share": 0.5},
            "leads": {
                "source": "people",
                "columns": {"lead_id": "id", "created_at": "born", "lost_at": "gone"},
                "attributes": {"city": "category", "budget": "number"},
            },
            "interactions": {
                "source": "calls",
                "timezone": "Europe/Berlin",
                "columns": {"lead_id": "person", "occurred_at": "at", "kind": "what", "event_id": "ref"},
            },
        },
    }


def test_tables_and_queries_become_a_history(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVPREDICT_TEST_DB", server)
    config = parse_project(_project()).config
    history = load_history(config, tmp_path, quarantine_dir=tmp_path / "quarantine")
    assert history.leads.to_pylist() == [
        {
            "lead_id": 5805028000000645014,
            "created_at": datetime(2024, 1, 1, 9, tzinfo=UTC),
            "lost_at": None,
            "city": "Bonn",
            "budget": 12.5,
        },
        {
            "lead_id": 5805028000000645015,
            "created_at": datetime(2024, 1, 2, 10, tzinfo=UTC),
            "lost_at": datetime(2024, 3, 1, tzinfo=UTC),
            "city": None,
            "budget": None,
        },
    ]
    rows = history.query("SELECT lead_row, occurred_at, kind FROM interactions ORDER BY ALL").to_pylist()
    noon_berlin = datetime(2024, 1, 3, 11, tzinfo=UTC)
    assert [(row["lead_row"], row["kind"]) for row in rows] == [(0, "call"), (1, "mail")]
    assert rows[0]["occurred_at"] == int(noon_berlin.timestamp()) * 1_000_000
    assert history.report is not None
    assert history.report.tables["interactions"].quarantined == {"unknown lead": 1}
    again = load_history(config, tmp_path)
    assert again.fingerprint == history.fingerprint


def test_an_unknown_table_is_named(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVPREDICT_TEST_DB", server)
    project = _project(people={"postgres_env": "CONVPREDICT_TEST_DB", "table": "peeple"})
    with pytest.raises(DataError, match=r"sources\.people: .*peeple"):
        load_history(parse_project(project).config, tmp_path)


@pytest.mark.parametrize(
    "uri",
    ["postgresql://u:hunter2@/none?host=nowhere", "postgresql://u:hunter2%zz@h/x", "password=hunter2 x=5"],
)
def test_a_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    pytest.importorskip("adbc_driver_postgresql", reason="the extra 'postgres' is not installed")
    monkeypatch.setenv("CONVPREDICT_TEST_DB", uri)
    with pytest.raises(DataError) as caught:
        load_history(parse_project(_project()).config, tmp_path)
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert "sources.people" in str(caught.value)


def test_an_unset_variable_is_named_by_its_key_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVPREDICT_TEST_DB", raising=False)
    with pytest.raises(ConfigError, match=r"sources\.people\.postgres_env: the environment variable"):
        load_history(parse_project(_project()).config, tmp_path)
