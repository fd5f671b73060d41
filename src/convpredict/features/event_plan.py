"""The plan of the columns that are computed from interactions: what to read, and which kernels to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .declarations import OTHER, FeatureColumn
from .kernels.timeline import ALL

ACTIVE_DAYS = "active_days"
EVENT_FAMILIES = frozenset(
    (
        "count",
        "aggregate",
        "recency",
        "decayed",
        "distinct",
        "gap",
        "repeat",
        "last",
        "trend",
        "share",
        "topic",
    )
)


def is_event_column(column: FeatureColumn) -> bool:
    """Whether the column is computed from interactions (and not from the lead's row or across leads)."""
    declaration = column.declaration
    return declaration.family in EVENT_FAMILIES or (declaration.family == "age" and declaration.of == "first")


@dataclass(frozen=True)
class Job:
    """Columns that one kernel computes in one call: ``places`` are their rows in the output matrix."""

    family: str
    columns: tuple[FeatureColumn, ...]
    places: tuple[int, ...]

    @property
    def declaration(self) -> Any:
        """What the columns have in common, but for windows and values."""
        return self.columns[0].declaration


@dataclass(frozen=True)
class EventPlan:
    """What to read and which kernels to run for the event columns of a feature set.

    ``numbers`` and ``categories`` list the columns in the order of the rows of the two output matrices.
    """

    numbers: tuple[FeatureColumn, ...]
    categories: tuple[FeatureColumn, ...]
    jobs: tuple[Job, ...]
    read_categories: tuple[str, ...]
    read_numbers: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    vocabularies: Mapping[str, tuple[str, ...]]
    lengths: tuple[int, ...]


def plan_events(
    columns: Sequence[FeatureColumn], vocabularies: Mapping[tuple[str, str], tuple[str, ...]]
) -> EventPlan:
    """Sort the event columns among ``columns`` into jobs. ``vocabularies`` as in the feature set."""
    wanted = [column for column in columns if is_event_column(column)]
    numbers = tuple(column for column in wanted if column.type == "number")
    categories = tuple(column for column in wanted if column.type == "category")
    places = {id(column): place for rows in (numbers, categories) for place, column in enumerate(rows)}
    jobs: dict[tuple[Any, ...], list[FeatureColumn]] = {}
    groups: dict[str, set[str]] = {}
    coded, measured = set(), set()
    for column in wanted:
        declaration: Any = column.declaration
        names = ("by", "attribute", "of", "prior_repeats", "prior_days")
        family = "count" if declaration.family == "trend" else declaration.family
        key = (family, *(getattr(declaration, name, None) for name in names))
        jobs.setdefault(key, []).append(column)
        by, of = getattr(declaration, "by", None), getattr(declaration, "of", None)
        if by is not None:
            groups.setdefault(by, set()).add(column.value or OTHER)
            coded.add(by)
        if declaration.family in ("distinct", "last", "topic") and of != ACTIVE_DAYS:
            coded.add(of)
        if declaration.family == "aggregate":
            measured.add(declaration.attribute)
    known = {name: vocabularies.get(("interactions", name), ()) for name in coded}
    return EventPlan(
        numbers,
        categories,
        tuple(
            Job(str(key[0]), tuple(group), tuple(places[id(column)] for column in group))
            for key, group in jobs.items()
        ),
        tuple(sorted(coded)),
        tuple(sorted(measured)),
        {by: tuple(value for value in (*known[by], OTHER) if value in used) for by, used in groups.items()},
        known,
        tuple(dict.fromkeys(length for column in wanted for length in window_lengths(column))),
    )


def window_lengths(column: FeatureColumn) -> tuple[int, ...]:
    """Lengths (µs) of the windows that a column needs, ``ALL`` for all; a trend needs two."""
    declaration: Any = column.declaration
    if declaration.family == "trend":
        return declaration.short.microseconds, declaration.long.microseconds
    if declaration.family in ("count", "aggregate", "distinct", "topic"):
        return (ALL if column.window_us is None else column.window_us,)
    if declaration.family == "repeat":
        return (ALL,)
    return ()


@dataclass(frozen=True)
class Coding:
    """Lookups from the codes of a dictionary; the last entry of each stands for the code -1 (missing).

    ``slots[by]`` gives the group of a value (-1: no column wants it); ``mapped[column]`` its category.
    """

    slots: Mapping[str, npt.NDArray[np.int32]]
    mapped: Mapping[str, npt.NDArray[np.int32]]
    sizes: Mapping[str, int]


def code_values(plan: EventPlan, values: Mapping[str, Sequence[str]]) -> Coding:
    """Look the ``values`` of each category column, in the order of their codes, up in the vocabularies."""
    slots, mapped = {}, {}
    for name, texts in values.items():
        vocabulary = plan.vocabularies[name]
        category = {value: number for number, value in enumerate(vocabulary)}
        codes = [category.get(text, len(vocabulary)) for text in texts]
        mapped[name] = np.array([*codes, -1], np.int32)
        if name in plan.groups:
            group = {value: number for number, value in enumerate(plan.groups[name])}
            of_category = [group.get(value, -1) for value in (*vocabulary, OTHER)]
            slots[name] = np.array([*(of_category[code] for code in codes), -1], np.int32)
    return Coding(slots, mapped, {name: len(texts) for name, texts in values.items()})
