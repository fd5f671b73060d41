"""The hash of a table: the same for the same content however it is laid out, another for any other content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convpredict.scoring import content_hash as module
from convpredict.scoring.content_hash import content_hash

_STRUCT = pa.struct([("concept", pa.string()), ("contribution", pa.float64())])
_KINDS = {
    "text": (pa.string(), st.text(max_size=4)),
    "number": (pa.float64(), st.floats(allow_nan=False)),
    "count": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "small": (pa.int16(), st.integers(-100, 100)),
    "flag": (pa.bool_(), st.booleans()),
    "at": (pa.timestamp("us", "UTC"), st.integers(0, 10**15)),
    "reasons": (pa.list_(pa.string()), st.lists(st.none() | st.text(max_size=3), max_size=3)),
    "told": (
        pa.list_(_STRUCT),
        st.lists(
            st.fixed_dictionaries({"concept": st.text(max_size=2), "contribution": st.floats(0, 1)}),
            max_size=2,
        ),
    ),
}


@st.composite
def _tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 12))
    columns = {
        name: pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
        for name, (kind, values) in _KINDS.items()
    }
    return pa.table(columns)


@given(table=_tables(), cut=st.integers(0, 12), slice_rows=st.integers(1, 13))
def test_the_layout_makes_no_difference(table: pa.Table, cut: int, slice_rows: int) -> None:
    expected = content_hash(table)
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    assert content_hash(chunked) == expected
    shifted = pa.concat_tables([table.slice(0, 1), table]).combine_chunks().slice(min(1, table.num_rows))
    assert content_hash(shifted) == expected
    coded = chunked.set_column(0, "text", chunked["text"].dictionary_encode())
    assert content_hash(coded.replace_schema_metadata({"a": "b"})) == expected
    wide = table.set_column(6, "reasons", table["reasons"].cast(pa.large_list(pa.large_string())))
    assert content_hash(wide) == expected


@given(table=_tables(), data=st.data())
def test_another_value_gives_another_hash(table: pa.Table, data: st.DataObject) -> None:
    if not table.num_rows:
        return
    name = data.draw(st.sampled_from(sorted(_KINDS)))
    row = data.draw(st.integers(0, table.num_rows - 1))
    values = table[name].to_pylist()
    kind, strategy = _KINDS[name]
    new = data.draw(st.none() | strategy)
    changed = pa.array([*values[:row], new, *values[row + 1 :]], kind)
    if changed.equals(table[name].combine_chunks()):
        return
    if name == "number" and new == values[row]:
        return
    assert content_hash(table.set_column(table.column_names.index(name), name, changed)) != content_hash(
        table
    )


def _one(values: list[Any], kind: pa.DataType) -> str:
    return content_hash(pa.table({"x": pa.array(values, kind)}))


def test_what_looks_alike_is_told_apart() -> None:
    texts = pa.list_(pa.string())
    alike = [
        _one([["a", "b"], []], texts),
        _one([["a"], ["b"]], texts),
        _one([["ab"], []], texts),
        _one([["a", "b"], None], texts),
        _one([["a", None], []], texts),
        _one(["a", "b"], pa.string()),
        _one(["ab", ""], pa.string()),
        _one(["ab", None], pa.string()),
        _one([0.0, None], pa.float64()),
        _one([0.0, float("nan")], pa.float64()),
        _one([0.0, 0.0], pa.float64()),
        _one([0.0, -0.0], pa.float64()),
        _one([0.0, 5e-324], pa.float64()),
        _one([0, 0], pa.int64()),
        _one([0, 0], pa.int32()),
        _one([0, 0], pa.timestamp("us", "UTC")),
        _one([0, 0], pa.timestamp("us")),
        content_hash(pa.table({"y": pa.array([0, 0], pa.int64())})),
        content_hash(pa.table({"x": pa.array([0, 0], pa.int64()), "y": pa.array([0, 0], pa.int64())})),
        content_hash(pa.table({"y": pa.array([0, 0], pa.int64()), "x": pa.array([0, 0], pa.int64())})),
        _one([False, False], pa.bool_()),
        _one([True, False], pa.bool_()),
        _one([False, True], pa.bool_()),
    ]
    assert len(set(alike)) == len(alike)


def test_what_lies_under_a_null_is_not_looked_at() -> None:
    present = pa.py_buffer(np.packbits([1, 0, 1], bitorder="little"))
    one = pa.Array.from_buffers(pa.int64(), 3, [present, pa.py_buffer(np.array([1, 2, 3]))])
    two = pa.Array.from_buffers(pa.int64(), 3, [present, pa.py_buffer(np.array([1, 99, 3]))])
    assert one.to_pylist() == two.to_pylist() == [1, None, 3]
    assert (
        content_hash(pa.table({"x": one}))
        == content_hash(pa.table({"x": two}))
        == _one([1, None, 3], pa.int64())
    )

    offsets = pa.py_buffer(np.array([0, 1, 3, 4], np.int32))
    text = pa.Array.from_buffers(pa.string(), 3, [present, offsets, pa.py_buffer(b"axxb")])
    assert text.to_pylist() == ["a", None, "b"]
    assert content_hash(pa.table({"x": text})) == _one(["a", None, "b"], pa.string())

    items = pa.array(["a", "hidden", "hidden", "b"])
    lists = pa.Array.from_buffers(pa.list_(pa.string()), 3, [present, offsets], children=[items])
    assert lists.to_pylist() == [["a"], None, ["b"]]
    assert content_hash(pa.table({"x": lists})) == _one([["a"], None, ["b"]], pa.list_(pa.string()))

    hidden = pa.StructArray.from_arrays(
        [pa.array([1, 99, 3])], names=["n"], mask=pa.array([False, True, False])
    )
    plain = pa.array([{"n": 1}, None, {"n": 3}], hidden.type)
    assert content_hash(pa.table({"x": hidden})) == content_hash(pa.table({"x": plain}))


def test_many_rows_hash_alike_in_any_chunks_and_from_a_file(tmp_path: Path) -> None:
    rows = 2 * module.SLICE_ROWS + 17
    rng = np.random.default_rng(3)
    p = pa.array(rng.random(rows), mask=rng.random(rows) < 0.1)
    ids = pc.binary_join_element_wise("lead", pc.cast(pa.array(np.arange(rows)), pa.string()), "-")
    table = pa.table({"lead_id": ids, "p": p, "empty": pa.nulls(rows)})
    expected = content_hash(table)
    pieces = [table.slice(start, 9_973) for start in range(0, rows, 9_973)]
    assert content_hash(pa.concat_tables(pieces)) == expected
    pq.write_table(table, tmp_path / "scores.parquet", row_group_size=30_001)
    assert content_hash(pq.read_table(tmp_path / "scores.parquet")) == expected
    last = pa.concat_tables([table.slice(0, rows - 1), table.slice(0, 1)])
    assert content_hash(last) != expected


def test_a_type_that_no_score_table_has_is_refused() -> None:
    with pytest.raises(TypeError, match="map<string, int64> has no content hash"):
        content_hash(pa.table({"x": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}))
