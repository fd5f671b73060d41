"""Category values that cross from DuckDB as small integers are the values that would cross as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convpredict.config.load import parse_project
from convpredict.engines import buckets
from convpredict.engines.buckets import read_events
from convpredict.history.history import TIMESTAMP
from convpredict.history.load import load_history


def test_categories_cross_as_positions_only_where_that_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes taken in DuckDB name the same values as codes taken from text, missing and unseen ones too."""
    rng = np.random.default_rng(5)
    kinds = np.array(["call", "it's", 'a "b"', "visit", "", None], object)
    topics = np.array([*(f"topic {k}" for k in range(60)), None], object)
    n = 5_000
    table = pa.table(
        {
            "lead_id": rng.integers(0, 50, n),
            "occurred_at": pa.array(rng.integers(0, 10**15, n)).cast(TIMESTAMP),
            "kind": pa.array(kinds[rng.integers(0, len(kinds) - 1, n)]),
            "topic": pa.array(topics[rng.integers(0, len(topics), n)]),
            "few": pa.array(kinds[rng.integers(0, len(kinds), n)]),
        }
    )
    pq.write_table(table, tmp_path / "interactions.parquet")
    leads = {"lead_id": np.arange(50), "created_at": pa.array(np.zeros(50, np.int64)).cast(TIMESTAMP)}
    pq.write_table(pa.table(leads), tmp_path / "leads.parquet")
    content = {
        "name": "positions",
        "sources": {name: {"file": f"{name}.parquet"} for name in ("leads", "interactions")},
        "history": {
            "leads": {"source": "leads"},
            "interactions": {
                "source": "interactions",
                "attributes": {"topic": "category", "few": "category"},
            },
            "known_until": "2100-01-01T00:00:00Z",
        },
    }
    history = load_history(parse_project(content, data=tmp_path).config, tmp_path)
    rows, cutoffs = np.arange(50, dtype=np.int32), np.full(50, 2 * 10**15)
    read = []
    for many in (buckets._MANY_EVENTS, 0):
        monkeypatch.setattr(buckets, "_MANY_EVENTS", many)
        names = ("few", "kind", "topic")
        known = {"few": ["it's", "never met"], "topic": ["topic 1"]}
        taken = buckets._known_values(history, names, known)
        assert sorted(taken) == ([] if many else ["few", "kind"])
        with read_events(history, rows, cutoffs, categories=names, known=known) as store:
            events = [store.load(bucket) for bucket in store.buckets]
            texts = {name: np.array([*store.values(name), None], object) for name in names}
        read.append({name: [texts[name][part.codes[name]].tolist() for part in events] for name in names})
    assert read[0] == read[1]
    assert {value for part in read[1]["few"] for value in part} == {"call", "it's", 'a "b"', "visit", None}
