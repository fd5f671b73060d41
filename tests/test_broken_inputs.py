"""Every broken input ends in a message that helps, or in a quarantined row with its reason; none is lost silently."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from broken_inputs import CALLS, LEADS, PROJECT, WHOLE, WINS, Broken, write_sound_files
from convpredict.config.load import parse_project
from convpredict.errors import ConvpredictError, DataError
from convpredict.history.history import History
from convpredict.history.load import load_history
from convpredict.history.validation import BadRowsError


def _changed(changes: dict[str, Any]) -> dict[str, Any]:
    project: dict[str, Any] = copy.deepcopy(PROJECT)
    for key, value in changes.items():
        *folders, last = key.split(".")
        target = project
        for folder in folders:
            target = target.setdefault(folder, {})
        target[last] = value
    return project


def _load(folder: Path, changes: dict[str, Any] | None = None, require: tuple[str, ...] = ()) -> History:
    config = parse_project(_changed(changes or {})).config
    return load_history(config, folder, quarantine_dir=folder / "quarantine", require=require)


def test_the_sound_project_loads(tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    history = _load(tmp_path, require=("conversions",))
    assert (history.n_leads, history.n_interactions, history.conversions.num_rows) == (20, 20, 10)
    assert history.report is not None
    assert all(table.n_quarantined == 0 for table in history.report.tables.values())
    assert not (tmp_path / "quarantine").exists()


@pytest.mark.parametrize("broken", WHOLE, ids=lambda broken: broken.name)
def test_what_stops_the_run_says_why(broken: Broken, tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    if broken.files is not None:
        broken.files(tmp_path)
    with pytest.raises(ConvpredictError) as caught:
        _load(tmp_path, broken.config, require=("conversions",))
    message = str(caught.value)
    assert isinstance(caught.value, broken.error), message
    assert caught.value.exit_code == broken.error.exit_code
    for part in broken.says:
        assert part in message


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("CAST(Source AS INT)", "Could not convert string ... to INT32"),
        ("strptime(Source, '%Y')", "Could not parse string ..."),
        ("CAST(Source AS TIMESTAMP)", "invalid timestamp field format: ..."),
        ("CAST(CAST(Id AS HUGEINT) AS INT)", "with value ... can't be cast"),
    ],
)
def test_a_failing_select_names_no_value_of_a_lead(tmp_path: Path, expression: str, told: str) -> None:
    write_sound_files(tmp_path)
    with pytest.raises(DataError) as caught:
        _load(tmp_path, {"history.leads": {"sql": f"SELECT {expression} AS lead_id FROM people"}})
    message = str(caught.value)
    assert told in message
    assert not any(value in message for value in ("web", "fair", "58050280000006450"))


ROWS = [
    ("an id is missing", "calls.csv", ",2024-02-01T09:00Z,call", "interactions", "lead_id is missing"),
    ("an id is nan", "calls.csv", "NaN,2024-02-01T09:00Z,call", "interactions", "lead_id is missing"),
    ("an unknown lead", "calls.csv", "17,2024-02-01T09:00Z,call", "interactions", "unknown lead"),
    ("an id with a space", "calls.csv", "{} ,2024-02-01T09:00Z,call", "interactions", "unknown lead"),
    ("a time is missing", "calls.csv", "{},,call", "interactions", "occurred_at is missing"),
    ("no time at all", "calls.csv", "{},soon,call", "interactions", "occurred_at cannot be read as a time"),
    (
        "30 February",
        "calls.csv",
        "{},2024-02-30,call",
        "interactions",
        "occurred_at cannot be read as a time",
    ),
    (
        "another format",
        "calls.csv",
        "{},01.02.2024,call",
        "interactions",
        "occurred_at cannot be read as a time",
    ),
    ("an epoch", "calls.csv", "{},1706778000,call", "interactions", "occurred_at cannot be read as a time"),
    ("year 0023", "calls.csv", "{},0023-02-01,call", "interactions", "occurred_at lies before 1970-01-01"),
    ("year 9999", "calls.csv", "{},9999-12-31,call", "interactions", "occurred_at lies in or after 2200"),
    ("infinity", "calls.csv", "{},infinity,call", "interactions", "occurred_at cannot be read as a time"),
    ("a short line", "calls.csv", "{}", "source calls", "malformed line: too few fields"),
    ("a long line", "calls.csv", "{},2024-02-01,call,x", "source calls", "malformed line: too many fields"),
    (
        "a conflicting lead",
        "leads.csv",
        "{},2024-01-01 09:00,web,1",
        "leads",
        "another row with this lead_id",
    ),
    ("a lead without creation", "leads.csv", "9,,web,1", "leads", "created_at is missing"),
    (
        "no number",
        "leads.csv",
        "9,2024-01-01 09:00,web,'€ 2.900,00'",
        "leads",
        "budget cannot be read as a number",
    ),
    ("an infinite number", "leads.csv", "9,2024-01-01 09:00,web,-inf", "leads", "budget is infinite"),
    ("a number too large", "leads.csv", "9,2024-01-01 09:00,web,1e999", "leads", "budget is infinite"),
    (
        "won before creation",
        "wins.csv",
        "{},2020-01-01",
        "conversions",
        "converted before the lead was created",
    ),
    ("won at no time", "wins.csv", "{},yes", "conversions", "converted_at cannot be read as a time"),
    ("won by nobody", "wins.csv", ",2024-02-01", "conversions", "lead_id is missing"),
]


@pytest.mark.parametrize(("name", "file", "line", "table", "reason"), ROWS, ids=[row[0] for row in ROWS])
def test_a_bad_row_is_set_apart_with_its_reason(
    name: str, file: str, line: str, table: str, reason: str, tmp_path: Path
) -> None:
    write_sound_files(tmp_path)
    path = tmp_path / file
    rows_before = len(path.read_text().splitlines()) - 1
    line = line.format("5805028000000645001").replace("'€ 2.900,00'", '"€ 2.900,00"')
    path.write_text(path.read_text() + line + "\n" + path.read_text().splitlines()[-1] + "\n")
    changes = {"history.validation": {"max_bad_share": 0.2}}
    duplicates = 1 if file == "leads.csv" else 0  # the last lead again is a duplicate, elsewhere one more row
    history = _load(tmp_path, changes)
    assert history.report is not None
    report = history.report.tables[table]
    assert [key.startswith(reason) for key in report.quarantined] == [True]
    assert (report.n_quarantined, report.duplicates) == (1, duplicates)
    assert report.read == rows_before + 2
    assert report.accepted == rows_before + 1 - duplicates
    stored = pq.read_table(tmp_path / "quarantine" / f"{table.replace(' ', '_')}.parquet").to_pylist()
    assert len(stored) == 1
    assert stored[0]["reason"].startswith(reason)
    assert stored[0]["source_row"] == rows_before + 1
    fields = line.split(",")
    kept = stored[0]["line"] if "line" in stored[0] else next(iter(list(stored[0].values())[2:]))
    assert kept == (line if "line" in stored[0] else fields[0])


def test_events_after_a_declared_end_are_set_apart_and_do_not_count_as_bad(tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    history = _load(tmp_path, {"history.known_until": "2024-02-10T08:00:00Z"})
    assert history.report is not None
    report = history.report.tables["interactions"]
    assert report.quarantined == {"after known_until": 10}
    assert report.bad_share == 0
    assert history.n_interactions == 10
    stored = pq.read_table(tmp_path / "quarantine" / "interactions.parquet")
    assert stored["source_row"].to_pylist() == list(range(11, 21))


def test_a_lead_with_absurdly_many_events_keeps_its_row_and_loses_its_events(tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    flood = "".join(f"5805028000000645003,2024-03-01T00:{n:02}Z,ping\n" for n in range(30))
    (tmp_path / "calls.csv").write_text(CALLS + flood)
    changes = {"history.validation": {"max_events_per_lead": 20, "max_bad_share": 0.7}}
    history = _load(tmp_path, changes)
    assert history.report is not None
    reason = "its lead has 31 interactions, more than the 20 allowed"
    assert history.report.tables["interactions"].quarantined == {reason: 31}
    assert any("1 lead with more than 20 interactions" in warning for warning in history.report.warnings)
    assert (history.n_leads, history.n_interactions) == (20, 19)
    assert history.query("SELECT count(*) AS n FROM interactions WHERE lead_row = 2")["n"].to_pylist() == [0]
    with pytest.raises(BadRowsError, match="31 x its lead has 31 interactions") as caught:
        _load(tmp_path, {"history.validation": {"max_events_per_lead": 20, "max_bad_share": 0.3}})
    assert caught.value.exit_code == 3
    assert caught.value.report.tables["interactions"].quarantined == {reason: 31}


def test_two_million_events_on_one_lead_are_refused_with_the_count(tmp_path: Path) -> None:
    import duckdb

    write_sound_files(tmp_path)
    duckdb.connect().execute(
        "COPY (SELECT '5805028000000645003' AS Lead, 'ping' AS Kind, "
        "TIMESTAMPTZ '2024-03-01' + to_milliseconds(i) AS At "
        f"FROM range(2_000_000) t(i)) TO '{tmp_path}/calls.parquet'"
    )
    with pytest.raises(DataError, match="2,000,000 x its lead has 2000000 interactions"):
        _load(tmp_path, {"sources.calls": {"file": "calls.parquet"}})


def test_malformed_lines_count_against_their_source(tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    (tmp_path / "calls.csv").write_text(CALLS.replace(",call", ""))
    with pytest.raises(
        DataError, match=r"source calls: 100\.0% of 20 rows .* 20 x malformed line: too few fields"
    ):
        _load(tmp_path)


def test_a_row_that_follows_a_malformed_line_keeps_its_number(tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    lines = CALLS.splitlines()
    lines[5:5] = ["broken"]
    lines[9:9] = ["nobody,2024-02-01T09:00Z,call", '"two\nlines",2024-02-01T09:00Z,call', "also,broken"]
    (tmp_path / "calls.csv").write_text("\n".join([*lines, "last,2024-02-01T09:00Z,call"]) + "\n")
    _load(tmp_path, {"history.validation": {"max_bad_share": 0.5}})
    stored = pq.read_table(tmp_path / "quarantine" / "interactions.parquet").to_pylist()
    assert [(row["Lead"], row["source_row"]) for row in stored] == [
        ("nobody", 9),
        ("two\nlines", 10),
        ("last", 25),
    ]
    malformed = pq.read_table(tmp_path / "quarantine" / "source_calls.parquet")["source_row"].to_pylist()
    assert malformed == [5, 11]


def test_aliases_in_a_cycle_are_set_apart(tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    (tmp_path / "aliases.csv").write_text("old,new\na,b\nb,c\nc,a\n" + "".join(f"x{n},y\n" for n in range(9)))
    changes = {
        "sources.aliases": {"file": "aliases.csv"},
        "history.aliases": {"source": "aliases", "columns": {"lead_id": "old", "canonical_id": "new"}},
        "history.validation": {"max_bad_share": 0.25},
    }
    history = _load(tmp_path, changes)
    assert history.report is not None
    assert history.report.tables["aliases"].quarantined == {"part of a cycle of aliases": 3}
    stored = pq.read_table(tmp_path / "quarantine" / "aliases.parquet").to_pylist()
    assert [(row["old"], row["source_row"]) for row in stored] == [("a", 1), ("b", 2), ("c", 3)]


def test_a_stale_quarantine_file_does_not_survive_a_sound_run(tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    (tmp_path / "wins.csv").write_text(WINS + "17,2024-02-01\n")
    loose = {"history.validation": {"max_bad_share": 0.5}}
    _load(tmp_path, loose)
    assert (tmp_path / "quarantine" / "conversions.parquet").exists()
    (tmp_path / "wins.csv").write_text(WINS)
    _load(tmp_path, loose)
    assert not (tmp_path / "quarantine" / "conversions.parquet").exists()


def test_rows_of_a_quarantined_lead_say_so(tmp_path: Path) -> None:
    write_sound_files(tmp_path)
    (tmp_path / "leads.csv").write_text(LEADS.replace("2024-01-07 08:00", "0023-01-07 08:00"))
    history = _load(tmp_path, {"history.validation": {"max_bad_share": 0.15}})
    assert history.report is not None
    assert history.report.tables["leads"].quarantined == {"created_at lies before 1970-01-01": 1}
    assert history.report.tables["interactions"].quarantined == {"its lead is in quarantine": 1}
    assert history.report.tables["conversions"].quarantined == {"its lead is in quarantine": 1}
