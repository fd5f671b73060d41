"""Vocabularies: the values of category columns that have a place of their own, learnt once and then frozen.

A vocabulary is learnt from what was known before the end of the training window only: interactions by
``visible_at < until``, lead attributes by ``created_at < until``, attribute histories by the time they
became visible. The most frequent values come first, ties in the order of the values; rarer values and values
first seen later share the bucket ``(other)``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from convpredict.history.history import AttributeType, History

from .declarations import OTHER

ColumnKey = tuple[str, str]
"""``("interactions", column)`` or ``("leads", attribute)``."""

KIND: ColumnKey = ("interactions", "kind")


@dataclass(frozen=True)
class Vocabularies(Mapping[ColumnKey, tuple[str, ...]]):
    """Frozen vocabularies by column, with the types of the columns; ``(other)`` is not part of a vocabulary.

    >>> vocabularies = Vocabularies({("interactions", "kind"): ("page view", "call")})
    >>> vocabularies["interactions", "kind"], vocabularies.type_of(("interactions", "kind"))
    (('page view', 'call'), 'category')
    """

    values_by_column: Mapping[ColumnKey, tuple[str, ...]]
    types: Mapping[ColumnKey, AttributeType] = field(default_factory=dict)

    def __getitem__(self, key: ColumnKey) -> tuple[str, ...]:
        return self.values_by_column[key]

    def __iter__(self) -> Iterator[ColumnKey]:
        return iter(self.values_by_column)

    def __len__(self) -> int:
        return len(self.values_by_column)

    def type_of(self, key: ColumnKey) -> AttributeType | None:
        """Type of a column, ``None`` for an unknown one; a column with a vocabulary is a category."""
        return "category" if key in self.values_by_column else self.types.get(key)

    def categories(self, key: ColumnKey) -> tuple[str, ...]:
        """The categories of a column coded by this vocabulary: its values, then ``(other)``."""
        return (*self[key], OTHER)

    def restrict(self, keys: Collection[ColumnKey], types: Collection[ColumnKey]) -> Vocabularies:
        """Only the vocabularies and types of these columns."""
        return Vocabularies(
            {key: self[key] for key in sorted(keys)},
            {key: self.types[key] for key in sorted(types) if key in self.types},
        )


def column_types(history: History) -> dict[ColumnKey, AttributeType]:
    """Types of the columns that features can be declared on: ``kind``, and every attribute."""
    types: dict[ColumnKey, AttributeType] = {KIND: "category"}
    types.update({("interactions", name): kind for name, kind in history.interaction_attributes.items()})
    types.update({("leads", name): kind for name, kind in history.lead_attributes.items()})
    return types


def learn_vocabularies(
    history: History,
    *,
    until: datetime,
    max_values: int,
    min_count: int,
    columns: Collection[ColumnKey] | None = None,
    named: Mapping[ColumnKey, Collection[str]] | None = None,
) -> Vocabularies:
    """Learn the vocabulary of every category column (or of ``columns``) from what was known before ``until``.

    A vocabulary holds at most ``max_values`` values that occur ``min_count`` times, the most frequent first
    (ties in ascending order). The values ``named`` by declarations follow, however rare.
    """
    types = column_types(history)
    learnt: dict[ColumnKey, tuple[str, ...]] = {}
    for key, kind in types.items():
        if kind != "category" or (columns is not None and key not in columns):
            continue
        counts = (_count_interactions if key[0] == "interactions" else _count_leads)(history, key[1], until)
        learnt[key] = _most_frequent(counts, max_values, min_count, (named or {}).get(key, ()))
    return Vocabularies(learnt, types)


def microseconds_of(instant: datetime) -> int:
    """Microseconds since 1970 of an instant; a naive one is read as UTC.

    >>> microseconds_of(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _most_frequent(
    counts: Mapping[str, int], max_values: int, min_count: int, named: Collection[str]
) -> tuple[str, ...]:
    frequent = sorted(
        (value for value, count in counts.items() if count >= min_count and value != OTHER),
        key=lambda value: (-counts[value], value),
    )[:max_values]
    return (*frequent, *(value for value in sorted(set(named)) if value not in frequent and value != OTHER))


def _count_interactions(history: History, column: str, until: datetime) -> dict[str, int]:
    name = '"' + column.replace('"', '""') + '"'
    table = history.query(
        f"SELECT CAST({name} AS VARCHAR) AS value, count(*) AS n FROM interactions "
        f"WHERE visible_at < {microseconds_of(until)} AND {name} IS NOT NULL GROUP BY 1"
    )
    return dict(zip(table["value"].to_pylist(), table["n"].to_pylist(), strict=True))


def _count_leads(history: History, attribute: str, until: datetime) -> dict[str, int]:
    limit = pa.scalar(microseconds_of(until), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    known = history.leads.filter(pc.less(history.leads["created_at"], limit))
    columns = [known[attribute].cast(pa.string())]
    changes = history.attribute_changes
    if changes.num_rows:
        changes = changes.filter(pc.equal(changes["attribute"], attribute))
        recorded_at = pc.coalesce(changes["recorded_at"], changes["valid_from"])
        visible = pc.and_(pc.less(changes["valid_from"], limit), pc.less(recorded_at, limit))
        columns.append(changes.filter(visible)["value"].cast(pa.string()))
    counts = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    return {
        entry["values"]: entry["counts"]
        for entry in pc.value_counts(counts.drop_null()).to_pylist()
        if entry["values"] is not None
    }
