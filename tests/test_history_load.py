"""Loading a history: sources, times, ties, duplicates, aliases, outcomes; expected values are worked out by hand."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convpredict.config.history import ValidationConfig
from convpredict.config.load import load_project, parse_project
from convpredict.errors import ConfigError, DataError
from convpredict.history.frames import history_from_frames
from convpredict.history.history import History
from convpredict.history.load import load_history

ANY_SHARE = ValidationConfig(max_bad_share=1)
LEADS = {"lead_id": ["b", "a", "c"], "created_at": ["2024-01-02", "2024-01-01T10:00:00Z", "2024-01-03"]}


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def frames(**tables: Any) -> History:
    tables.setdefault("leads", LEADS)
    built = {name: pa.table(value) if isinstance(value, dict) else value for name, value in tables.items()}
    known = {"timezone", "validation", "known_until", "lead_attributes", "interaction_attributes"}
    built |= {name: tables[name] for name in known & set(tables)}
    return history_from_frames(**{"timezone": "UTC", "validation": ANY_SHARE, **built})


def calls(history: History, columns: str = "lead_row, occurred_at, kind") -> list[tuple[Any, ...]]:
    sql = f"SELECT {columns} FROM interactions ORDER BY lead_row, occurred_at, tie"
    return [tuple(row.values()) for row in history.query(sql).to_pylist()]


def one_call(when: object, **more: Any) -> dict[str, Any]:
    return {"lead_id": ["a"], "occurred_at": [when], "kind": ["call"], **more}


def project(sources: dict[str, Any], **history: Any) -> Any:
    content = {"name": "x", "sources": sources, "history": {"timezone": "UTC", **history}}
    return parse_project(content).config


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "zone", "instant"),
    [
        ("2024-01-05", "UTC", "2024-01-05"),
        ("2024-01-05", "Europe/Berlin", "2024-01-04T23:00"),
        ("2024-07-05T12:30", "Europe/Berlin", "2024-07-05T10:30"),
        ("2024-07-05 12:30:15.25", "Europe/Berlin", "2024-07-05T10:30:15.250000"),
        ("2024-07-05 12:30:15,250", "Europe/Berlin", "2024-07-05T10:30:15.250000"),
        ("2024-07-05T12:30Z", "Europe/Berlin", "2024-07-05T12:30"),
        ("2024-07-05T12:30:00+02:00", None, "2024-07-05T10:30"),
        ("2024-07-05 12:30:00 -0530", None, "2024-07-05T18:00"),
        ("2024-07-05 12:30:00+02", None, "2024-07-05T10:30"),
        ("2024-03-31 02:30", "Europe/Berlin", "2024-03-31T01:30"),
        ("2024-10-27 02:30", "Europe/Berlin", "2024-10-27T01:30"),
    ],
)
def test_text_times_become_instants(written: str, zone: str | None, instant: str) -> None:
    leads = {"lead_id": ["a"], "created_at": ["2024-01-01T00:00Z"]}
    assert calls(frames(leads=leads, interactions=one_call(written), timezone=zone)) == [
        (0, us(instant), "call")
    ]


def test_skipped_and_repeated_local_times_are_counted() -> None:
    times = ["2024-03-31 02:30", "2024-10-27 02:30", "2024-10-27 03:00", "2024-10-27 01:59"]
    rows = {"lead_id": ["a"] * 4, "occurred_at": times, "kind": ["call"] * 4}
    report = frames(interactions=rows, timezone="Europe/Berlin").report
    assert report is not None
    notes = report.tables["interactions"].notes
    assert notes["occurred_at: local time skipped by daylight saving (moved forward)"] == 1
    assert notes["occurred_at: local time repeated by daylight saving (the later one taken)"] == 1


def test_arrow_times_with_and_without_zone() -> None:
    berlin = pa.array([0], pa.timestamp("us", tz="Europe/Berlin"))
    naive = pa.array([0], pa.timestamp("ms"))
    days = pa.array([0], pa.date32())
    for column, zone, instant in ((berlin, None, 0), (naive, "Asia/Tokyo", -9), (days, "Asia/Tokyo", -9)):
        leads = {"lead_id": ["a"], "created_at": ["2024-01-01T00:00Z"]}
        early = ValidationConfig(max_bad_share=1, earliest=datetime(1960, 1, 1, tzinfo=UTC))
        rows = {"lead_id": ["a"], "occurred_at": column, "kind": ["call"]}
        history = frames(leads=leads, interactions=rows, timezone=zone, validation=early)
        assert calls(history) == [(0, instant * 3_600_000_000, "call")]


def test_times_may_follow_several_formats(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("id;on;x\na;05.03.2024;1\nb;06.03.2024 10:30;2\nc;2024-03-07;3\n")
    leads = {
        "source": "l",
        "columns": {"lead_id": "id", "created_at": "on"},
        "attributes": {"x": "number"},
        "time_format": ["%d.%m.%Y %H:%M", "%d.%m.%Y"],
    }
    config = project({"l": {"file": "l.csv"}}, leads=leads, validation={"max_bad_share": 0.5})
    history = load_history(config, tmp_path)
    assert history.leads["created_at"].cast(pa.int64()).to_pylist() == [
        us("2024-03-05"),
        us("2024-03-06T10:30"),
    ]
    assert history.report is not None
    assert history.report.tables["leads"].quarantined == {"created_at cannot be read as a time": 1}


def test_decimal_commas_stop_the_run_and_the_message_says_how_to_read_them(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("lead_id;created_at;x\na;2024-03-05;1,5\nb;2024-03-06;2,25\n", "utf-8")
    leads = {"source": "l", "attributes": {"x": "number"}}
    with pytest.raises(DataError, match=r"SELECT \* REPLACE") as caught:
        load_history(project({"l": {"file": "l.csv"}}, leads=leads), tmp_path)
    assert "decimal comma" in str(caught.value)
    sql = "SELECT * REPLACE (replace(x, ',', '.') AS x) FROM l"
    read = project({"l": {"file": "l.csv"}}, leads={"sql": sql, "attributes": {"x": "number"}})
    assert load_history(read, tmp_path).leads["x"].to_pylist() == [1.5, 2.25]


# --- ids -------------------------------------------------------------------------------------------------------------


def test_nineteen_digits_survive_and_a_text_table_makes_every_id_text() -> None:
    big = [5805028000000645014, 5805028000000645015]
    leads = {"lead_id": big, "created_at": ["2024-01-01"] * 2}
    integer = frames(leads=leads, interactions={**one_call("2024-01-02"), "lead_id": [big[1]]})
    assert integer.leads["lead_id"].to_pylist() == big
    assert calls(integer, "lead_row") == [(1,)]
    text = frames(leads=leads, interactions={**one_call("2024-01-02"), "lead_id": [str(big[1])]})
    assert text.leads["lead_id"].to_pylist() == [str(entry) for entry in big]
    assert calls(text, "lead_row") == [(1,)]


def test_integers_in_a_float_column_of_pandas_are_refused() -> None:
    with_nan = pd.DataFrame({"lead_id": [1, None], "created_at": ["2024-01-01"] * 2})
    with pytest.raises(DataError, match=r"(?s)DOUBLE.*2\^53.*Int64"):
        history_from_frames(leads=with_nan, timezone="UTC", interactions=pd.DataFrame(one_call("2024-01-02")))


def test_leads_are_sorted_by_id_and_nothing_is_trimmed() -> None:
    leads = {"lead_id": ["b", " b", "a", "B"], "created_at": ["2024-01-01"] * 4}
    history = frames(leads=leads, interactions={**one_call("2024-01-02"), "lead_id": [" b"]})
    assert history.leads["lead_id"].to_pylist() == [" b", "B", "a", "b"]
    assert calls(history, "lead_row") == [(0,)]
    assert history.report is not None
    assert history.report.tables["leads"].notes == {"lead_id with spaces around it (kept as it is)": 1}


# --- events ----------------------------------------------------------------------------------------------------------


def test_ties_follow_the_source_without_event_ids() -> None:
    rows = {"lead_id": ["a"] * 3, "occurred_at": ["2024-01-02"] * 3, "kind": ["x", "z", "y"]}
    assert calls(frames(interactions=rows), "kind") == [("x",), ("z",), ("y",)]


@pytest.mark.parametrize(
    ("ids", "order"),
    [
        ([10, 9, 11], "yxz"),
        (["10", "9", "11"], "yxz"),
        (["e10", "e9", "e11"], "xzy"),
        (["b", "7", "a"], "yzx"),
        ([10, None, 11], "xzy"),
        (["", "b", "a"], "zyx"),
    ],
)
def test_ties_follow_event_ids_by_value_or_text(ids: list[Any], order: str) -> None:
    rows = {"lead_id": ["a"] * 3, "occurred_at": ["2024-01-02"] * 3, "kind": list("xyz"), "event_id": ids}
    assert "".join(row[0] for row in calls(frames(interactions=rows), "kind")) == order


def test_events_are_visible_from_the_later_of_happening_and_recording() -> None:
    recorded = ["2024-01-05", None, "2024-01-01"]
    rows = {
        "lead_id": ["a"] * 3,
        "occurred_at": ["2024-01-02"] * 3,
        "recorded_at": recorded,
        "kind": list("xyz"),
    }
    history = frames(interactions=rows)
    visible = [us("2024-01-05"), us("2024-01-02"), us("2024-01-02")]
    assert [row[0] for row in calls(history, "visible_at")] == visible
    assert history.has_late_records
    assert history.known_until == datetime(2024, 1, 5, tzinfo=UTC)
    assert not frames(interactions=one_call("2024-01-02")).has_late_records


def test_exact_duplicates_by_event_id_are_removed_and_conflicts_set_apart() -> None:
    rows = {
        "lead_id": ["a", "a", "a", "b", "a"],
        "occurred_at": ["2024-01-02"] * 5,
        "kind": ["x", "x", "y", "x", "x"],
        "event_id": ["1", "1", "1", "1", "2"],
    }
    history = frames(interactions=rows)
    assert history.report is not None
    report = history.report.tables["interactions"]
    conflict = "another row with this event_id says something else (the first one counts)"
    assert (report.read, report.accepted, report.duplicates, dict(report.quarantined)) == (
        5,
        2,
        1,
        {conflict: 2},
    )
    assert calls(history, "lead_row, kind") == [(0, "x"), (0, "x")]


def test_a_conversion_in_conflict_with_another_leads_makes_its_own_lead_undated() -> None:
    rows = {
        "lead_id": ["a", "b", "a"],
        "converted_at": ["2024-02-01", "2024-02-05", "2024-02-09"],
        "event_id": ["1", "1", "1"],
    }
    history = frames(conversions=rows, interactions=one_call("2024-01-02"))
    first = datetime(2024, 2, 1, tzinfo=UTC)
    assert history.conversions.select(["lead_row", "converted_at"]).to_pylist() == [
        {"lead_row": 0, "converted_at": first},
        {"lead_row": 1, "converted_at": None},
    ]


def test_absurd_times_of_loss_and_recording_do_not_stretch_the_history() -> None:
    far = pa.array([2**62, None, None], pa.timestamp("us", "UTC"))
    never = {**LEADS, "lost_at": ["9999-12-31", None, None]}
    for leads in (never, {**LEADS, "lost_at": far}):
        history = frames(leads=leads, interactions=one_call("2024-01-04"))
        assert history.known_until == datetime(2024, 1, 4, tzinfo=UTC)
        assert history.report is not None
        assert history.report.tables["leads"].quarantined == {"lost_at lies in or after 2200": 1}
    history = frames(
        interactions={
            "lead_id": ["a", "a"],
            "occurred_at": ["2024-01-04", "2024-01-05"],
            "kind": ["x", "x"],
            "recorded_at": ["0023-01-04", "9999-01-05"],
        }
    )
    assert history.report is not None
    assert history.report.tables["interactions"].quarantined == {
        "recorded_at lies before 1970-01-01": 1,
        "recorded_at lies in or after 2200": 1,
    }


def test_a_history_of_attributes_needs_no_interactions() -> None:
    leads = {**LEADS, "source": ["web", None, ""], "size": [1, 2, None]}
    history = frames(leads=leads)
    assert history.lead_attributes == {"source": "category", "size": "number"}
    assert history.leads["source"].to_pylist() == [None, "web", None]
    assert history.leads["size"].to_pylist() == [2.0, 1.0, None]
    assert list(history.scan()) == [] or sum(batch.num_rows for batch in history.scan()) == 0
    with pytest.raises(ConfigError, match=r"history\.interactions is missing"):
        frames()


def test_kinds_default_and_empty_text_is_missing() -> None:
    rows = {"lead_id": ["a"], "occurred_at": ["2024-01-02"], "page": [""]}
    assert calls(frames(interactions=rows), "kind, page") == [("interaction", None)]


# --- outcomes --------------------------------------------------------------------------------------------------------


def conversions(rows: list[tuple[str, str | None]], **more: Any) -> tuple[dict[str, str | None], History]:
    table = {
        "lead_id": [row[0] for row in rows],
        "converted_at": pa.array([row[1] for row in rows], pa.string()),
    }
    history = frames(conversions=table, interactions=one_call("2024-02-01"), **more)
    ids = history.leads["lead_id"].to_pylist()
    found = {
        ids[row["lead_row"]]: row["converted_at"].strftime("%m-%d %H:%M") if row["converted_at"] else None
        for row in history.conversions.to_pylist()
    }
    return found, history


def test_the_first_dated_conversion_counts() -> None:
    found, history = conversions([("a", None), ("a", "2024-01-20"), ("a", "2024-01-10"), ("b", None)])
    assert found == {"a": "01-10 00:00", "b": None}
    assert history.report is not None
    assert (history.report.converted, history.report.undated) == (1, 1)
    notes = history.report.tables["conversions"].notes
    assert notes["undated (converted, nobody knows when)"] == 2
    assert notes["further conversions of a lead (the first dated one counts)"] == 2


def test_a_conversion_dated_by_day_may_fall_on_the_day_of_creation() -> None:
    found, history = conversions([("a", "2024-01-01")])
    assert found == {"a": "01-01 10:00"}
    assert history.report is not None
    assert history.report.tables["conversions"].n_quarantined == 0
    found, _ = conversions([("a", "2024-01-01T00:00:01Z")])
    assert found == {"a": None}, "a time of day before the creation is no date"
    leads = {"lead_id": ["a"], "created_at": ["2024-01-05T22:30Z"]}
    found, _ = conversions([("a", "2024-01-05")], leads=leads, timezone="America/New_York")
    assert found == {"a": "01-05 22:30"}, "midnight and day are those of the declared zone"


def test_a_conversion_in_quarantine_makes_its_lead_undated_not_negative() -> None:
    found, history = conversions(
        [("a", "2020-01-01"), ("b", "soon"), ("c", "2020-01-01"), ("c", "2024-01-09")]
    )
    assert found == {"a": None, "b": None, "c": "01-09 00:00"}
    assert history.report is not None
    notes = history.report.tables["conversions"].notes
    assert notes["leads whose only conversion is in quarantine (treated as undated)"] == 2


def test_a_conversion_after_known_until_has_not_happened_yet() -> None:
    found, history = conversions([("a", "2024-03-01")], known_until="2024-02-15")
    assert found == {}
    assert history.known_until == datetime(2024, 2, 15, tzinfo=UTC)
    assert history.report is not None
    assert "conversions: no row of 1 is left (after known_until)." in history.report.warnings


def test_revenue_spend_and_attribute_changes() -> None:
    history = frames(
        leads={**LEADS, "owner": ["x", "y", "z"], "size": [1, 2, 3]},
        revenue={
            "lead_id": ["b", "a", "a", "a"],
            "occurred_at": ["2024-02-02", "2024-02-03", "2024-02-01", "2024-02-01"],
            "amount": ["1", "2.5", "1e2", "x"],
        },
        spend={"occurred_at": ["2024-02-02", "2024-02-01"], "amount": [1, 2], "channel": ["web", "fair"]},
        attribute_changes={
            "lead_id": ["a", "a", "a", "a"],
            "attribute": ["owner", "owner", "size", "colour"],
            "value": ["q", None, "big", "red"],
            "valid_from": ["2024-02-02", "2024-02-01", "2024-02-01", "2024-02-01"],
        },
    )
    revenue = [
        (row["lead_row"], row["occurred_at"].day, row["amount"]) for row in history.revenue.to_pylist()
    ]
    assert revenue == [(0, 1, 100.0), (0, 3, 2.5), (1, 2, 1.0)]
    assert [(row["amount"], row["channel"]) for row in history.spend.to_pylist()] == [
        (2.0, "fair"),
        (1.0, "web"),
    ]
    changes = [
        (row["attribute"], row["value"], row["valid_from"].day)
        for row in history.attribute_changes.to_pylist()
    ]
    assert changes == [("owner", None, 1), ("owner", "q", 2)]
    assert history.report is not None
    assert dict(history.report.tables["attribute_changes"].quarantined) == {
        "the attribute is not declared under history.leads.attributes": 1,
        "value cannot be read as a number": 1,
    }


# --- leads -----------------------------------------------------------------------------------------------------------


def test_a_lead_may_carry_dates(tmp_path: Path) -> None:
    born = pa.array([None, -1, 5], pa.date32())
    history = frames(leads={**LEADS, "born": born, "x": ["1", "2", "3"]})
    assert history.lead_attributes == {"born": "time", "x": "category"}
    found = history.leads["born"].to_pylist()
    assert found == [datetime(1969, 12, 31, tzinfo=UTC), None, datetime(1970, 1, 6, tzinfo=UTC)]
    assert history.leads.schema.field("born").type == pa.timestamp("us", tz="UTC")


def test_merged_leads_keep_the_earliest_creation_and_the_canonical_attributes() -> None:
    leads = {
        "lead_id": ["new", "old", "older", "renamed"],
        "created_at": ["2024-01-05", "2024-01-03", "2024-01-04", "2024-01-01"],
        "source": ["web", "fair", "phone", "mail"],
    }
    aliases = {"lead_id": ["older", "old", "renamed"], "canonical_id": ["old", "new", "gone"]}
    rows = {
        "lead_id": ["older", "new", "renamed", "gone"],
        "occurred_at": ["2024-02-01"] * 4,
        "kind": list("wxyz"),
    }
    history = frames(leads=leads, aliases=aliases, interactions=rows)
    settled = [(row["lead_id"], row["created_at"].day, row["source"]) for row in history.leads.to_pylist()]
    assert settled == [("gone", 1, "mail"), ("new", 3, "web")]
    assert calls(history, "lead_row, kind") == [(0, "y"), (0, "z"), (1, "w"), (1, "x")]
    assert history.report is not None
    report = history.report.tables["leads"]
    assert (report.read, report.accepted, history.n_leads) == (4, 4, 2)
    assert report.notes == {"rows merged into another lead by an alias": 2}


def test_repeated_leads_first_wins() -> None:
    leads = {
        "lead_id": ["a", "a", "a"],
        "created_at": ["2024-01-01", "2024-01-01", "2024-01-02"],
        "n": [1, 1, 1],
    }
    history = frames(leads=leads)
    assert history.report is not None
    report = history.report.tables["leads"]
    assert (report.read, report.accepted, report.duplicates, report.n_quarantined) == (3, 1, 1, 1)
    assert history.leads["created_at"].to_pylist() == [datetime(2024, 1, 1, tzinfo=UTC)]


# --- sources ---------------------------------------------------------------------------------------------------------


def test_the_same_history_from_every_kind_of_source(tmp_path: Path) -> None:
    leads = pd.DataFrame(
        {
            "lead_id": ["b", "a"],
            "created_at": ["2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z"],
            "x": ["1", "2"],
        }
    )
    events = pd.DataFrame(
        {"lead_id": ["a", "b", "a"], "occurred_at": ["2024-01-03T00:00:00Z"] * 3, "kind": list("xyz")}
    )
    typed = {
        "leads": leads.assign(created_at=pd.to_datetime(leads["created_at"])),
        "events": events.assign(occurred_at=pd.to_datetime(events["occurred_at"])),
    }
    for name, frame in (("leads", leads), ("events", events)):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        frame.to_csv(tmp_path / f"{name}.tsv", index=False, sep="\t", encoding="utf-16")
        (tmp_path / f"{name}.csv.gz").write_bytes(
            gzip.compress(frame.to_csv(index=False).encode("utf-8-sig"))
        )
        typed[name].to_parquet(tmp_path / f"{name}.parquet")
        for part in range(len(frame)):
            typed[name].iloc[[part]].to_parquet(tmp_path / f"part-{name}-{part}.parquet")
            frame.iloc[[part]].to_csv(tmp_path / f"part-{name}-{part}.csv", index=False)
        with duckdb.connect(str(tmp_path / "crm.duckdb")) as connection:
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM '{tmp_path}/{name}.parquet'")
    kinds: list[Any] = [
        lambda name: {"file": f"{name}.csv"},
        lambda name: {"file": f"{name}.tsv", "encoding": "utf-16"},
        lambda name: {"file": f"{name}.csv.gz"},
        lambda name: {"file": f"{name}.parquet"},
        lambda name: {"file": f"part-{name}-*.parquet"},
        lambda name: {"file": f"part-{name}-*.csv"},
        lambda name: {"duckdb": "crm.duckdb", "table": name},
    ]
    tables = {
        "leads": {"source": "leads", "attributes": {"x": "category"}},
        "interactions": {"source": "events"},
    }
    select = {
        "leads": {"sql": "SELECT * FROM leads", "attributes": {"x": "category"}},
        "interactions": {"sql": "SELECT * FROM events"},
    }
    expected = calls(
        history_from_frames(leads=leads, interactions=events), "lead_row, occurred_at, visible_at, tie, kind"
    )
    assert [row[4] for row in expected] == ["x", "z", "y"]
    found = []
    for make in kinds:
        for declared in (tables, select):
            config = project({name: make(name) for name in ("leads", "events")}, **declared)
            history = load_history(config, tmp_path)
            assert calls(history, "lead_row, occurred_at, visible_at, tie, kind") == expected
            assert history.leads["x"].to_pylist() == ["2", "1"]
            assert load_history(config, tmp_path).fingerprint == history.fingerprint
            found.append(history.fingerprint)
    assert len(set(found)) == len(found)
    polars = history_from_frames(
        leads=pl.from_pandas(leads), interactions=pl.read_parquet(tmp_path / "events.parquet")
    )
    assert calls(polars, "lead_row, occurred_at, visible_at, tie, kind") == expected
    pandas = history_from_frames(leads=typed["leads"], interactions=typed["events"])
    assert calls(pandas, "lead_row, occurred_at, visible_at, tie, kind") == expected
    lazy = history_from_frames(leads=pl.from_pandas(leads).lazy(), interactions=pa.Table.from_pandas(events))
    assert calls(lazy, "lead_row, occurred_at, visible_at, tie, kind") == expected


def test_a_parquet_history_with_every_reason_to_leave_a_row_out_scans_only_sound_rows(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "lead_id": ["a", "zz", "b", "a", "a", None, "b", "b", "b"],
            "occurred_at": pa.array([5, 5, None, 6, 5, 5, 7, 7, 7], pa.timestamp("s", tz="UTC")),
            "kind": list("klmnopqqr"),
            "event_id": ["1", "2", "3", "4", "5", "6", "7", "7", "7"],
            "amount": [1.0, 2.0, 3.0, float("inf"), float("nan"), 0.0, 1.0, 1.0, 1.0],
        }
    )
    pq.write_table(rows, tmp_path / "events.parquet")
    pq.write_table(
        pa.table({"lead_id": ["a", "b"], "created_at": pa.array([1, 2], pa.timestamp("s", tz="UTC"))}),
        tmp_path / "leads.parquet",
    )
    config = project(
        {"leads": {"file": "leads.parquet"}, "events": {"file": "events.parquet"}},
        leads={"source": "leads"},
        interactions={"source": "events", "attributes": {"amount": "number"}},
        validation={"max_bad_share": 1},
    )
    history = load_history(config, tmp_path, quarantine_dir=tmp_path / "q")
    second = 1_000_000
    expected = [(0, 5 * second, "k", 1.0), (0, 5 * second, "o", None), (1, 7 * second, "q", 1.0)]
    assert calls(history, "lead_row, occurred_at, kind, amount") == expected
    scanned = pa.Table.from_batches(history.scan(["amount"], where="lead_row = 0"))
    assert scanned.num_rows == 2
    assert history.n_interactions == 3
    stored = pq.read_table(tmp_path / "q" / "interactions.parquet").to_pylist()
    assert [(row["source_row"], row["kind"], row["reason"].split(" (")[0]) for row in stored] == [
        (2, "l", "unknown lead"),
        (3, "m", "occurred_at is missing"),
        (4, "n", "amount is infinite"),
        (6, "p", "lead_id is missing"),
        (9, "r", "another row with this event_id says something else"),
    ]


def test_the_fingerprint_tells_the_tables_of_one_duckdb_file_apart(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "crm.duckdb")) as connection:
        for table in ("old", "new"):
            connection.execute(
                f"CREATE TABLE {table} AS SELECT '{table}' AS lead_id, '2024-01-01' AS created_at, 1 AS x"
            )
    found = [
        load_history(
            project(
                {"l": {"duckdb": "crm.duckdb", "table": table}},
                leads={"source": "l", "attributes": {"x": "number"}},
            ),
            tmp_path,
        ).fingerprint
        for table in ("old", "new", "main.new")
    ]
    assert found[0] != found[1] == found[2]


def test_the_fingerprint_follows_content_and_declaration(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("lead_id,created_at,x,y\na,2024-01-01,1,2\n")
    first = project({"l": {"file": "l.csv"}}, leads={"source": "l", "attributes": {"x": "number"}})
    second = project({"l": {"file": "l.csv"}}, leads={"source": "l", "attributes": {"y": "number"}})
    one, two = load_history(first, tmp_path).fingerprint, load_history(second, tmp_path).fingerprint
    path.write_text("lead_id,created_at,x,y\na,2024-01-01,1,3\n")
    assert len({one, two, load_history(first, tmp_path).fingerprint}) == 3


def test_columns_with_the_same_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("lead_id,created_at,x,X\na,2024-01-01,1,2\n")
    config = project(
        {"l": {"file": "l.csv"}},
        leads={"source": "l", "attributes": {"x": "number", "z": {"type": "number", "column": "X_1"}}},
    )
    history = load_history(config, tmp_path)
    assert (history.leads["x"].to_pylist(), history.leads["z"].to_pylist()) == ([1.0], [2.0])
    assert history.report is not None
    assert "sources.l: 'X' (column 4) is read as 'X_1'" in history.report.warnings


def test_a_column_that_is_known_to_come_twice_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("lead_id,created_at,x,x,y,y\na,2024-01-01,1,2,3,4\n")
    source = {"file": "l.csv", "repeated_columns": ["x"]}
    config = project({"l": source}, leads={"source": "l", "attributes": {"x": "number"}})
    history = load_history(config, tmp_path)
    assert history.leads["x"].to_pylist() == [1.0]
    assert history.report is not None
    assert [told for told in history.report.warnings if "is read as" in told] == [
        "sources.l: 'y' (column 6) is read as 'y_1'"
    ]


def test_the_school_crm_mapping_survives_times_that_cannot_be_read(tmp_path: Path) -> None:
    tables = {
        "contacts": ["Id,Created Time", "c1,01.03.2024 10:00", "c2,02.03.2024 10:00"],
        "calls": [
            "Id,Call Start Time,CONTACTID,Call Duration (in seconds),Call Status",
            *(f"k{day},2024-03-{day:02d} 09:00:00,c1,60,Received" for day in range(3, 31)),
            "k99,zzz,c1,60,Received",
        ],
        "deals": [
            "Id,Closing Date,Stage,Page,Campaign,Source,Created Time,Initial Amount Paid,Contact Name",
            "d1,20.03.2024,Payment Done,/eng,spring,SMM,05.03.2024 10:00,3500,c1",
        ],
        "spend": ["Date,Source,Campaign,Spend", "2024-03-01,SMM,spring,1.5"],
    }
    for name, lines in tables.items():
        with gzip.open(tmp_path / f"{name}.csv.gz", "wt", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    project = load_project(Path(__file__).parent.parent / "configs/school_crm.yaml", data=tmp_path)
    history = load_history(project.config, project.data_dir)
    tables_read = history.report.to_dict()["tables"]
    assert tables_read["interactions"]["quarantined"] == {"occurred_at cannot be read as a time": 1}
    assert history.conversions["converted_at"].cast("int64").to_pylist() == [1_710_892_800_000_000]


@pytest.mark.parametrize(("when", "refused"), [("2031-01-01", True), ("2024-03-20", False)])
def test_one_row_far_in_the_future_does_not_decide_when_the_data_ends(when: str, refused: bool) -> None:
    days = pd.date_range("2024-01-01", periods=60, freq="D", tz="UTC")
    leads = pd.DataFrame({"lead_id": [f"l{i}" for i in range(60)], "created_at": days})
    interactions = pd.DataFrame(
        {
            "lead_id": ["l0", *leads["lead_id"]],
            "occurred_at": [pd.Timestamp(when, tz="UTC"), *days],
            "kind": "call",
        }
    )
    if refused:
        with pytest.raises(DataError, match=r"Declare history\.known_until"):
            history_from_frames(leads=leads, interactions=interactions)
    history = history_from_frames(leads=leads, interactions=interactions, known_until="2024-03-25")
    assert history.n_interactions == (60 if refused else 61)
