"""One hash for what a table says, whatever its layout in memory or in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SLICE_ROWS = 65_536
"""The table is hashed in slices of this many rows, column by column: part of what defines the hash."""

_Update = Callable[[Any], None]


def content_hash(table: pa.Table) -> str:
    """The SHA-256 (hex) of names, types and values, in the order of columns and rows.

    Chunks, dictionary encoding, 32 or 64 bit offsets, metadata, and whatever lies in memory under a null make no
    difference; the last bit of a float64 does, as do NaN and null, and null and an empty list. Raises TypeError for
    types that no score table has (unions, maps, run ends).

    >>> a = pa.table({"lead_id": ["7", "8"], "p": [0.25, None]})
    >>> b = pa.concat_tables([a.slice(0, 1), a.slice(1)])
    >>> content_hash(a) == content_hash(b)
    True
    >>> content_hash(a) == content_hash(a.slice(0, 1))
    False
    """
    digest = hashlib.sha256()
    for field in table.schema:
        name = field.name.encode()
        digest.update(b"%d:%s:%s;" % (len(name), name, _type_name(field.type).encode()))
    digest.update(b"%d rows;" % table.num_rows)
    for start in range(0, table.num_rows, SLICE_ROWS):
        for column in table.slice(start, SLICE_ROWS).columns:
            _hash_array(_one_array(column), digest.update)
    return digest.hexdigest()


def _type_name(kind: pa.DataType) -> str:
    """The type without what does not matter: offset widths, dictionaries, names of list items."""
    if pa.types.is_dictionary(kind):
        return _type_name(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return "bytes"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"list[{kind.list_size}]<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{len(field.name)}:{field.name}:{_type_name(field.type)}' for field in kind)}>"
    if pa.types.is_null(kind) or pa.types.is_boolean(kind) or _is_fixed_width(kind):
        return str(kind)
    raise TypeError(
        f"a column of type {kind} has no content hash; cast it to numbers, text, instants or lists"
    )


def _is_fixed_width(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind)
    )


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _hash_array(array: pa.Array, update: _Update) -> None:
    kind = array.type
    if pa.types.is_dictionary(kind):
        _hash_array(array.cast(kind.value_type), update)
        return
    update(b"%d,%d;" % (len(array), array.null_count))
    if pa.types.is_null(kind):
        return
    if array.null_count:
        update(np.packbits(np.asarray(array.is_valid())))
    if pa.types.is_struct(kind):
        for child in array.flatten():
            _hash_array(child, update)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        update(_lengths(pc.list_value_length(array)))
        _hash_array(array.flatten(), update)
    elif _type_name(kind) in ("text", "bytes"):
        _hash_text(array, update)
    elif pa.types.is_boolean(kind):
        update(np.packbits(np.asarray(pc.fill_null(array, False))))
    else:
        _hash_fixed(array, update)


def _lengths(lengths: pa.Array) -> np.ndarray:
    return np.ascontiguousarray(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False), dtype="<i8")


def _hash_text(array: pa.Array, update: _Update) -> None:
    """The lengths, then all bytes that belong to a value, one after the other."""
    array = array.cast(pa.large_binary()).drop_null()
    update(_lengths(pc.binary_length(array)))
    _, offsets, data = array.buffers()
    if data is not None and len(array):
        ends = np.frombuffer(offsets, dtype="<i8")[array.offset : array.offset + len(array) + 1]
        update(memoryview(data)[ends[0] : ends[-1]])


def _hash_fixed(array: pa.Array, update: _Update) -> None:
    array = array.drop_null()
    if len(array):
        width = array.type.bit_width // 8
        start = array.offset * width
        update(memoryview(array.buffers()[1])[start : start + len(array) * width])
