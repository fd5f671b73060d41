"""Whatever the rows look like: each one is accepted, removed as an exact duplicate, or in quarantine, and only once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.config.load import parse_project
from convpredict.errors import DataError
from convpredict.history.history import History
from convpredict.history.load import load_history

IDS = st.sampled_from(["a", "b", "c", "old", "", "nan", None, "nobody"])
TIMES = st.sampled_from(
    [
        "2024-01-01",
        "2024-01-02T10:00Z",
        "2024-01-02T10:00Z",
        "2023-06-01",
        "0023-01-01",
        "9999-01-01",
        "",
        None,
        "x",
    ]
)
NUMBERS = st.sampled_from(["1", "2.5", "", "x", "inf", None])
EVENT_IDS = st.sampled_from(["1", "2", "3", None, ""])


def table_of(*columns: tuple[str, st.SearchStrategy[Any]], size: int) -> st.SearchStrategy[pa.Table]:
    row = st.tuples(*(strategy for _, strategy in columns))

    def build(rows: list[tuple[Any, ...]]) -> pa.Table:
        cells = list(zip(*rows, strict=True)) or [()] * len(columns)
        names = [name for name, _ in columns]
        table = pa.table({name: pa.array(cell, pa.string()) for name, cell in zip(names, cells, strict=True)})
        return table.append_column("position", pa.array([str(n + 1) for n in range(len(rows))], pa.string()))

    return st.lists(row, max_size=size).map(build)


HISTORIES = st.fixed_dictionaries(
    {
        "leads": table_of(("lead_id", IDS), ("created_at", TIMES), ("size", NUMBERS), size=6),
        "interactions": table_of(
            ("lead_id", IDS), ("occurred_at", TIMES), ("kind", IDS), ("amount", NUMBERS), ("event_id", EVENT_IDS),
            size=12,
        ),
        "conversions": table_of(("lead_id", IDS), ("converted_at", TIMES), size=5),
        "revenue": table_of(("lead_id", IDS), ("occurred_at", TIMES), ("amount", NUMBERS), size=5),
        "aliases": table_of(("lead_id", IDS), ("canonical_id", IDS), size=4),
    }
)  # fmt: skip


def load(tables: dict[str, pa.Table], folder: Path, known_until: str | None) -> History:
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    history: dict[str, Any] = {name: {"source": name} for name in tables}
    history["leads"]["attributes"] = {"size": "number"}
    history["interactions"]["attributes"] = {"amount": "number", "position": "number"}
    history |= {"timezone": "UTC", "known_until": known_until}
    history["validation"] = {"max_bad_share": 1, "max_events_per_lead": 6}
    sources = {name: {"file": f"{name}.parquet"} for name in tables}
    config = parse_project({"name": "x", "sources": sources, "history": history}).config
    return load_history(config, folder, quarantine_dir=folder / "quarantine")


@settings(max_examples=60)
@given(HISTORIES, st.sampled_from([None, "2024-01-01T12:00:00Z"]))
def test_every_row_is_accounted_for(tables: dict[str, pa.Table], known_until: str | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            history = load(tables, folder, known_until)
        except DataError:
            assert not any(map(_may_be_sound, tables["leads"].to_pylist()))
            return
        assert history.report is not None
        for table, rows in tables.items():
            report = history.report.tables[table]
            assert report.read == rows.num_rows
            assert report.read == report.accepted + report.duplicates + report.n_quarantined
            path = folder / "quarantine" / f"{table}.parquet"
            assert path.exists() == (report.n_quarantined > 0)
            if path.exists():
                stored = pq.read_table(path)
                assert stored.num_rows == report.n_quarantined
                assert stored["source_row"].cast(pa.string()).to_pylist() == stored["position"].to_pylist()
                assert stored["reason"].null_count == 0
        scanned = (
            pa.Table.from_batches(history.scan(["position"]), schema=None) if history.n_interactions else None
        )
        kept = [] if scanned is None else [int(value) for value in scanned["position"].to_pylist()]
        path = folder / "quarantine" / "interactions.parquet"
        apart = pq.read_table(path)["source_row"].to_pylist() if path.exists() else []
        assert len(kept) == len(set(kept)) == history.n_interactions
        assert not set(kept) & set(apart)
        removed = set(range(1, tables["interactions"].num_rows + 1)) - set(kept) - set(apart)
        assert len(removed) == history.report.tables["interactions"].duplicates
        rows = history.conversions["lead_row"].to_pylist()
        assert rows == sorted(set(rows))
        assert history.leads["lead_id"].to_pylist() == sorted(set(history.leads["lead_id"].to_pylist()))


def _may_be_sound(lead: dict[str, str | None]) -> bool:
    known = lead["lead_id"] in {"a", "b", "c", "old", "nobody"}
    early = lead["created_at"] in {"2024-01-01", "2023-06-01"}
    return known and early and lead["size"] not in {"x", "inf"}


def test_the_same_tables_give_the_same_history_twice() -> None:
    tables = {
        "leads": pa.table({"lead_id": ["b", "a"], "created_at": ["2024-01-01"] * 2, "size": ["1", "2"]}),
        "interactions": pa.table({
            "lead_id": ["a", "b"] * 50, "occurred_at": ["2024-01-02"] * 100, "kind": list("xy") * 50,
            "amount": ["1"] * 100, "event_id": [f"e{n * 7 % 100}" for n in range(100)],
            "position": [str(n) for n in range(100)],
        }),
    }  # fmt: skip
    content = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name:
            history = _loose(tables, Path(name))
            rows = history.query("SELECT * FROM interactions ORDER BY lead_row, occurred_at, tie").to_pylist()
            content.append((history.fingerprint, history.leads.to_pylist(), rows))
    assert content[0] == content[1]
    assert len({row["tie"] for row in content[0][2] if row["lead_row"] == 0}) == 50


def _loose(tables: dict[str, pa.Table], folder: Path) -> History:
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    history = {
        "timezone": "UTC",
        "leads": {"source": "leads", "attributes": {"size": "number"}},
        "interactions": {"source": "interactions"},
    }
    sources = {name: {"file": f"{name}.parquet"} for name in tables}
    return load_history(parse_project({"name": "x", "sources": sources, "history": history}).config, folder)
