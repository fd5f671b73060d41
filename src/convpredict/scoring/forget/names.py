"""The ids to be erased, and what counts as one of them in a column, a text, or raw bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...config.history import TABLE_COLUMNS, HistoryConfig

TELLING_LENGTH = 6
"""Ids of text with at least so many characters are looked for everywhere; shorter ones may be any word."""

LINE = "line"
"""The column of a malformed CSV line in quarantine, whose fields nobody can tell apart."""


@dataclass(frozen=True)
class LeadNames:
    """The ids to look for, as text, and the names (lower case) of the columns that hold ids of leads.

    In a column of ids a value counts if it is equal: 17 is found as 17 and "17", "lead-1" not in "lead-10". In any
    other column of text an equal value counts if the id is no whole number. In free text and raw bytes an id counts
    that stands by itself and is *telling*: at least six characters and no whole number; a whole number counts after
    the word lead (``lead_id: 17``).

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
        """The columns of a table that may hold an id: those of ids, and all that are text or made of texts."""
        return [field.name for field in schema if field.name.lower() in self.columns or _has_text(field.type)]

    def in_table(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows of a table hold one of the ids."""
        found = np.zeros(table.num_rows, np.bool_)
        for name in table.column_names:
            column = table[name]
            base = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
            is_text = pa.types.is_string(base) or pa.types.is_large_string(base)
            if name.lower() in self.columns and (is_text or pa.types.is_integer(base)):
                found |= _equal(column, self.ids)
            elif is_text and name.lower() == LINE:
                found |= np.array([bool(self.in_line(str(text))) for text in column.to_pylist()], np.bool_)
            elif is_text and self.words:
                found |= _equal(column, self.words)
            elif pa.types.is_nested(base) and self.words:
                found |= np.array([_inside(value, self.words) for value in column.to_pylist()], np.bool_)
        return found

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


def _has_text(kind: pa.DataType) -> bool:
    base = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(base) or pa.types.is_large_string(base) or pa.types.is_nested(base))


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _equal(column: pa.ChunkedArray, ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    texts = column.cast(pa.string())
    found: npt.NDArray[np.bool_] = pc.is_in(texts, value_set=pa.array(ids, pa.string())).to_numpy()
    return found


def _inside(value: object, ids: tuple[str, ...]) -> bool:
    """Whether a list or structure holds an id as one of its texts."""
    if isinstance(value, dict):
        return any(_inside(each, ids) for each in value.values())
    if isinstance(value, list | tuple):
        return any(_inside(each, ids) for each in value)
    return isinstance(value, str) and value in ids


def _alone(lead: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(lead)}(?![\w-])")


def _after_lead(lead: str) -> re.Pattern[str]:
    return re.compile(
        rf"""\blead(?:[_ ]?id)?s?["']?\s*[:=]?\s*["'\[]?{re.escape(lead)}(?![\w.-])""", re.IGNORECASE
    )
