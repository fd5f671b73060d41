"""Score columns as PostgreSQL knows them: which type each becomes, and the rows that COPY brings over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import PublishError

_BATCH_ROWS = 65_536
_NUL, _INSTEAD = "\0", "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class PostgresColumn:
    """A column: ``sql_type`` in the score table, ``staged`` as COPY brings it (JSON comes as text)."""

    name: str
    sql_type: str
    staged: pa.DataType

    @property
    def quoted(self) -> str:
        """The name as an SQL identifier."""
        return quoted(self.name)

    @property
    def from_staging(self) -> str:
        """The expression that turns the staged column into the published one."""
        return f"{self.quoted}::jsonb" if self.sql_type == "jsonb" else self.quoted


def quoted(name: str) -> str:
    """An SQL identifier; a dot within it is part of the name."""
    return '"' + name.replace('"', '""') + '"'


def columns_of(schema: pa.Schema) -> list[PostgresColumn]:
    """The columns that a score table has in PostgreSQL.

    >>> fields = [("lead_id", pa.string()), ("reasons_for", pa.list_(pa.string())), ("rank", pa.int64())]
    >>> [column.sql_type for column in columns_of(pa.schema(fields))]
    ['text', 'text[]', 'bigint']
    """
    return [PostgresColumn(field.name, *_types(field.name, field.type)) for field in schema]


def staged_rows(scores: pa.Table, columns: list[PostgresColumn]) -> pa.RecordBatchReader:
    """The rows for COPY, batch by batch.

    Raises PublishError where a lead_id holds a NUL character, which PostgreSQL cannot store and which cannot be
    replaced without naming another lead; in any other text it becomes U+FFFD.
    """
    lead_id = pc.cast(scores["lead_id"], pa.string())
    if broken := pc.sum(pc.match_substring(lead_id, _NUL)).as_py():
        raise PublishError(
            f"{broken:,} lead ids hold a NUL character, which PostgreSQL cannot store: no reader could join these "
            "scores with its leads. Correct the ids in the source, or publish to Parquet or DuckDB."
        )
    schema = pa.schema([(column.name, column.staged) for column in columns])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in scores.to_batches(max_chunksize=_BATCH_ROWS):
            arrays = [_staged(batch.column(column.name), column) for column in columns]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _types(name: str, kind: pa.DataType) -> tuple[str, pa.DataType]:
    if pa.types.is_dictionary(kind):
        return _types(name, kind.value_type)
    simple = _simple_types(kind)
    if simple is not None:
        return simple
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = _simple_types(kind.value_type)
        return (f"{item[0]}[]", pa.list_(item[1])) if item is not None else ("jsonb", pa.string())
    if pa.types.is_struct(kind):
        return "jsonb", pa.string()
    raise PublishError(f"The score column {name!r} of type {kind} has no counterpart in PostgreSQL.")


def _simple_types(kind: pa.DataType) -> tuple[str, pa.DataType] | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text", pa.string()
    if pa.types.is_boolean(kind):
        return "boolean", pa.bool_()
    if pa.types.is_integer(kind):
        bits = kind.bit_width * (2 if pa.types.is_unsigned_integer(kind) else 1)
        if bits <= 16:
            return "smallint", pa.int16()
        if bits == 32:
            return "integer", pa.int32()
        return ("bigint", pa.int64()) if bits == 64 else None
    if pa.types.is_floating(kind):
        return ("double precision", pa.float64()) if kind.bit_width == 64 else ("real", pa.float32())
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp", pa.timestamp("us", kind.tz)
    if pa.types.is_date(kind):
        return "date", pa.date32()
    return None


def _staged(array: pa.Array, column: PostgresColumn) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if column.sql_type == "jsonb":
        return _json_texts(array)
    array = array.cast(column.staged)
    if column.sql_type == "text":
        return pc.replace_substring(array, _NUL, _INSTEAD)
    if column.sql_type == "text[]" and pc.any(pc.match_substring(array.flatten(), _NUL)).as_py():
        return pa.array([_clean(value) for value in array.to_pylist()], column.staged)
    return array


def _json_texts(array: pa.Array) -> pa.Array:
    """Every value as JSON text, column by column, since a list of reasons for each of a million leads is usual."""
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
        items = pc.fill_null(_json_texts(array.flatten()), "null")
        joined = pc.binary_join(pa.LargeListArray.from_arrays(ends, items), ", ")
        text = pc.binary_join_element_wise("[", joined, "]", "")
    elif pa.types.is_struct(kind):
        parts: list[Any] = ["{"]
        for position, (field, values) in enumerate(zip(kind, array.flatten(), strict=True)):
            key = json.dumps(_clean(field.name), ensure_ascii=False)
            parts += [f"{', ' if position else ''}{key}: ", pc.fill_null(_json_texts(values), "null")]
        text = pc.binary_join_element_wise(*parts, "}", "")
    elif pa.types.is_floating(kind):
        text = pc.if_else(pc.is_finite(array), pc.cast(array, pa.string()), "null")
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        text = pc.cast(array, pa.string())
    else:
        coded = array if pa.types.is_dictionary(kind) else array.dictionary_encode()
        words = [
            json.dumps(_clean(word), ensure_ascii=False, default=str) for word in coded.dictionary.to_pylist()
        ]
        text = pa.array(words, pa.string()).take(coded.indices)
    return pc.if_else(array.is_valid(), text, pa.scalar(None, pa.string()))


def _clean(value: Any) -> Any:
    """The value with U+FFFD for the NUL characters, which text and jsonb cannot hold."""
    if isinstance(value, str):
        return value.replace(_NUL, _INSTEAD)
    return [_clean(item) for item in value] if isinstance(value, list) else value
