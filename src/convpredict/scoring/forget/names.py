"""The ids to be erased, and what counts as one of them in a column, a text, or raw bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...config.history import TABLE_COLUMNS, HistoryConfig

TELLING_LENGTH = 6
"""Ids of text with at least so many characters are looked for everywhere; shorter ones may be any word."""

_UUID_BYTES = 16

LINE = "line"
"""The column of a malformed CSV line in quarantine, whose fields nobody can tell apart."""


@dataclass(frozen=True)
class LeadNames:
    """The ids to look for, as text, and the names (lower case) of the columns that hold ids of leads.

    In a column of ids a value counts if it is equal: 17 is found as 17 and "17", "lead-1" not in "lead-10". In any
    other column, of text, bytes, or lists and structures of them, an equal value counts if the id is no whole number.
    Within longer text and in raw bytes an id counts that stands by itself and is *telling*: at least six characters
    and no whole number. Other ids count after the name of a column of ids (``{"lead_id": 17}``), and in files that are
    no tables after the word lead.

    >>> names = LeadNames(("lead-17", "4711"))
    >>> [names.in_text(text) for text in ("see lead-17.", "lead-171", "4711 rows", '"lead_id": 4711')]
    [['lead-17'], [], [], ['4711']]
    """

    ids: tuple[str, ...]
    columns: frozenset[str] = frozenset({"lead_id", "canonical_id"})

    @classmethod
    def of(cls, ids: Iterable[object], history: HistoryConfig) -> LeadNames:
        """The ids with the columns that the sources of a configuration keep ids of leads in."""
        found = {"lead_id", "canonical_id"}
        for table, roles in TABLE_COLUMNS.items():
            entry = getattr(history, table)
            if entry is not None:
                found |= {
                    entry.columns[name].lower()
                    for name in roles
                    if roles[name] == "id" and name in entry.columns
                }
        return cls(tuple(dict.fromkeys(str(lead) for lead in ids)), frozenset(found))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The ids that are no whole numbers."""
        return tuple(lead for lead in self.ids if not _is_whole(lead))

    @cached_property
    def telling(self) -> tuple[str, ...]:
        """The ids that can be looked for anywhere."""
        return tuple(lead for lead in self.words if len(lead) >= TELLING_LENGTH)

    def columns_of(self, schema: pa.Schema) -> list[str]:
        """The columns of a table that may hold an id: those of ids, and all but numbers, times and truth values."""
        return [
            field.name for field in schema if field.name.lower() in self.columns or not is_plain(field.type)
        ]

    def in_table(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows of a table hold one of the ids."""
        found = np.zeros(table.num_rows, np.bool_)
        for name, column in zip(table.column_names, table.columns, strict=True):
            base = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
            is_id = name.lower() in self.columns
            if is_id and (_is_text(base) or pa.types.is_integer(base)):
                found |= _equal(column, self.ids)
            elif is_id and (pa.types.is_floating(base) or pa.types.is_decimal(base)):
                whole = [float(lead) for lead in self.ids if _is_whole(lead)]
                found |= np.isin(column.cast(pa.float64()).to_numpy(), whole)
            elif _is_text(base) and name.lower() == LINE:
                found |= np.array([bool(self.in_line(str(text))) for text in column.to_pylist()], np.bool_)
            elif _is_text(base):
                found |= self._in_texts(column)
            elif pa.types.is_list(base) and _is_text(base.value_type) and not is_id:
                whole_column = column.combine_chunks()
                rows = pc.list_parent_indices(whole_column).to_numpy()
                found[rows[self._in_texts(pa.chunked_array([pc.list_flatten(whole_column)]))]] = True
            elif not is_plain(base):
                values = column.to_pylist()
                found |= np.array([self._in_value(value, is_id=is_id) for value in values], np.bool_)
        return found

    def ids_in(self, table: pa.Table) -> set[str]:
        """Which of the ids the rows of a table hold."""
        if not table.num_rows:
            return set()
        return {lead for lead in self.ids if LeadNames((lead,), self.columns).in_table(table).any()}

    def _in_texts(self, column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """Which texts of a column are an id or hold one; only those that might are looked at one by one."""
        texts = column.cast(pa.large_string())
        might = np.zeros(len(texts), np.bool_)
        for lead in self.ids:
            might |= pc.fill_null(pc.match_substring(texts, lead), False).to_numpy()
        found = np.zeros(len(texts), np.bool_)
        for row in np.flatnonzero(might):
            found[row] = self._in_value(str(texts[int(row)]))
        return found

    def _in_value(self, value: object, *, is_id: bool = False) -> bool:
        """Whether a value of a column holds an id: as it is, or somewhere within."""
        if value is None or isinstance(value, bool):
            return False
        if isinstance(value, dict):
            return any(
                self._in_value(key) or self._in_value(each, is_id=self._is_key(key))
                for key, each in value.items()
            )
        if isinstance(value, tuple) and len(value) == 2:  # an entry of a map
            return self._in_value(value[0]) or self._in_value(value[1], is_id=self._is_key(value[0]))
        if isinstance(value, list | tuple):
            return any(self._in_value(each, is_id=is_id) for each in value)
        if isinstance(value, bytes) and len(value) == _UUID_BYTES and str(UUID(bytes=value)) in self.words:
            return True
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if is_id and text.strip() in self.ids:
            return True
        if not isinstance(value, str | bytes | UUID):
            return False
        if text in self.words or any(lead in text and _alone(lead).search(text) for lead in self.telling):
            return True
        others = [lead for lead in self.ids if lead not in self.telling and lead in text]
        return any(self._after_key(lead).search(text) for lead in others)

    def _is_key(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self.columns

    def _after_key(self, lead: str) -> re.Pattern[str]:
        """An id after the name of a column of ids, as in JSON."""
        keys = "|".join(re.escape(name) for name in sorted(self.columns))
        return re.compile(
            rf"""(?<![\w-])(?:{keys})["']?\s*[:=]\s*["'\[]?{re.escape(lead)}(?![\w.-])""", re.IGNORECASE
        )

    def in_line(self, text: str) -> list[str]:
        """The ids that stand in a line of a CSV file, whole numbers too."""
        return [lead for lead in self.ids if _alone(lead).search(text)]

    def in_text(self, text: str) -> list[str]:
        """The ids that stand in free text."""
        found = [lead for lead in self.telling if lead in text and _alone(lead).search(text)]
        others = [lead for lead in self.ids if lead not in self.telling]
        return found + [lead for lead in others if lead in text and _after_lead(lead).search(text)]

    def in_bytes(self, content: bytes, *, alone: bool = True) -> list[str]:
        """The telling ids that stand in raw bytes; with ``alone=False`` also within longer words."""
        found = [lead for lead in self.telling if lead.encode() in content]
        if not alone:
            return found
        return [
            lead
            for lead in found
            if re.search(rb"(?<![\w-])" + re.escape(lead.encode()) + rb"(?![\w-])", content)
        ]


def is_plain(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers, times or truth values, which hold no id outside of columns of ids."""
    base = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_primitive(base) or pa.types.is_decimal(base) or pa.types.is_null(base))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _equal(column: pa.ChunkedArray, ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    found: npt.NDArray[np.bool_] = pc.is_in(texts, value_set=pa.array(ids, pa.string())).to_numpy()
    return found


def _alone(lead: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(lead)}(?![\w-])")


def _after_lead(lead: str) -> re.Pattern[str]:
    return re.compile(
        rf"""\blead(?:[_ ]?id)?s?["']?\s*[:=]?\s*["'\[]?{re.escape(lead)}(?![\w.-])""", re.IGNORECASE
    )
