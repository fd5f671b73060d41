"""Columns computed from a lead's interactions: which kernels run for them, and the run over one piece of a bucket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .declarations import OTHER, FeatureColumn
from .index import Bucket
from .kernels import counts, decayed, distinct, extremes, gaps, lasts, recency, shares, sums
from .kernels.sequences import ALL, Cutoffs, Sequences, make_sequences

ACTIVE_DAYS = "active_days"
EVENT_FAMILIES = frozenset(
    ("count", "aggregate", "recency", "decayed", "distinct", "gap", "last", "trend", "share", "topic")
)
Targets = npt.NDArray[np.int64]


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
        names = ("by", "attribute", "of", "short", "long")
        key = (declaration.family, *(getattr(declaration, name, None) for name in names))
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
            Job(group[0].declaration.family, tuple(group), tuple(places[id(column)] for column in group))
            for group in jobs.values()
        ),
        tuple(sorted(coded)),
        tuple(sorted(measured)),
        {by: tuple(value for value in (*known[by], OTHER) if value in used) for by, used in groups.items()},
        known,
    )


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


@dataclass
class Walk:
    """The events and cutoffs of some leads, with the sequences that several kernels share."""

    plan: EventPlan
    coding: Coding
    occurred_at: npt.NDArray[np.int64]
    visible_at: npt.NDArray[np.int64]
    late: bool
    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    cutoffs: Cutoffs
    codes: Mapping[str, npt.NDArray[np.int32]]
    values: Mapping[str, npt.NDArray[np.float64]]
    numbers: npt.NDArray[np.float32]
    categories: npt.NDArray[np.int32]
    _sequences: dict[tuple[str | None, str | None], Sequences] = field(default_factory=dict)

    def sequences(self, by: str | None = None, attribute: str | None = None) -> Sequences:
        """The leads' events split by a category, without those whose numeric attribute is missing."""
        key = (by, attribute)
        if key not in self._sequences:
            self._sequences[key] = make_sequences(
                self.occurred_at,
                self.visible_at,
                self.late,
                self.begins,
                self.ends,
                codes=None if by is None else self.codes[by],
                slots=None if by is None else self.coding.slots[by],
                n_groups=1 if by is None else len(self.plan.groups[by]),
                values=None if attribute is None else self.values[attribute],
            )
        return self._sequences[key]

    def group_of(self, column: FeatureColumn) -> int:
        """The group of a column's value; 0 if the column is not split."""
        by = getattr(column.declaration, "by", None)
        return 0 if by is None else self.plan.groups[by].index(column.value or OTHER)


def walk_events(
    bucket: Bucket,
    lead_rows: npt.NDArray[np.int32],
    cutoffs: npt.NDArray[np.int64],
    plan: EventPlan,
    coding: Coding,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Compute the event columns of some observations of a bucket's leads.

    ``lead_rows`` and ``cutoffs`` (int64 µs) describe the observations, sorted by both. Returns a float32 matrix with
    one row per column of ``plan.numbers`` and an int32 matrix (-1: missing) with one per column of
    ``plan.categories``. A pure function of its arguments: a cell does not depend on the other observations.
    """
    n = len(cutoffs)
    changes = np.flatnonzero(np.diff(lead_rows)) + 1
    starts = np.concatenate(([0], changes, [n])) if n else np.zeros(1, np.int64)
    leads = lead_rows[starts[:-1]].astype(np.int64) - bucket.lead_begin
    begins, ends = bucket.lead_offsets[leads], bucket.lead_offsets[leads + 1]
    first, last = (int(begins[0]), int(ends[-1])) if n else (0, 0)
    walk = Walk(
        plan,
        coding,
        bucket.occurred_at[first:last],
        bucket.visible_at[first:last],
        bucket.late,
        begins - first,
        ends - first,
        Cutoffs(starts.astype(np.int64), np.ascontiguousarray(cutoffs, np.int64)),
        {name: bucket.codes[name][first:last] for name in plan.read_categories},
        {name: bucket.numbers[name][first:last] for name in plan.read_numbers},
        np.empty((len(plan.numbers), n), np.float32),
        np.empty((len(plan.categories), n), np.int32),
    )
    for job in plan.jobs:
        _RUN[job.family](walk, job)
    return walk.numbers, walk.categories


def _lengths(job: Job) -> npt.NDArray[np.int64]:
    lengths = dict.fromkeys(ALL if column.window_us is None else column.window_us for column in job.columns)
    return np.array(list(lengths), np.int64)


def _grid(walk: Walk, job: Job, lengths: Sequence[int], function: str | None = None) -> Targets:
    """Rows of the output by group and window; -1 where no column wants the cell."""
    n_groups = (
        1 if getattr(job.declaration, "by", None) is None else len(walk.plan.groups[job.declaration.by])
    )
    target = np.full((n_groups, len(lengths)), -1, np.int64)
    position = {length: number for number, length in enumerate(lengths)}
    for column, place in zip(job.columns, job.places, strict=True):
        if function is None or column.function == function:
            length = column.half_life_us if column.half_life_us is not None else column.window_us
            target[walk.group_of(column), position[ALL if length is None else length]] = place
    return target


def _groups(walk: Walk, job: Job) -> Targets:
    """Rows of the output by group."""
    n_groups = 1 if job.declaration.by is None else len(walk.plan.groups[job.declaration.by])
    target = np.full(n_groups, -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        target[walk.group_of(column)] = place
    return target


def _count(walk: Walk, job: Job) -> None:
    lengths = _lengths(job)
    target = _grid(walk, job, lengths.tolist())
    counts.count(walk.sequences(job.declaration.by), walk.cutoffs, lengths, target, walk.numbers)


def _trend(walk: Walk, job: Job) -> None:
    short, long = job.declaration.short.microseconds, job.declaration.long.microseconds
    sequences = walk.sequences(job.declaration.by)
    counts.trend(sequences, walk.cutoffs, short, long, _groups(walk, job), walk.numbers)


def _recency(walk: Walk, job: Job) -> None:
    sequences = walk.sequences(job.declaration.by)
    recency.recency(sequences, walk.cutoffs, job.family == "age", _groups(walk, job), walk.numbers)


def _decayed(walk: Walk, job: Job) -> None:
    half_lives = np.array(list(dict.fromkeys(column.half_life_us for column in job.columns)), np.int64)
    target = _grid(walk, job, half_lives.tolist())
    decayed.decayed(walk.sequences(job.declaration.by), walk.cutoffs, half_lives, target, walk.numbers)


def _aggregate(walk: Walk, job: Job) -> None:
    lengths = _lengths(job)
    sequences = walk.sequences(job.declaration.by, job.declaration.attribute)
    functions = {column.function for column in job.columns}
    targets = {name: _grid(walk, job, lengths.tolist(), name) for name in ("sum", "mean", "max", "last")}
    if functions & {"sum", "mean"}:
        sums.sum_and_mean(sequences, walk.cutoffs, lengths, targets["sum"], targets["mean"], walk.numbers)
    if "max" in functions:
        extremes.maximum(sequences, walk.cutoffs, lengths, targets["max"], walk.numbers)
    if "last" in functions:
        extremes.last_value(sequences, walk.cutoffs, lengths, targets["last"], walk.numbers)


def _distinct(walk: Walk, job: Job) -> None:
    lengths, of = _lengths(job), job.declaration.of
    if of == ACTIVE_DAYS:
        local, most = distinct.compact_days(walk.occurred_at, walk.begins, walk.ends)
    else:
        local, most = distinct.compact(walk.codes[of], walk.coding.sizes[of], walk.begins, walk.ends)
    target = _grid(walk, job, lengths.tolist())[0]
    distinct.distinct(walk.sequences(), walk.cutoffs, local, most, lengths, target, walk.numbers)


def _topic(walk: Walk, job: Job) -> None:
    lengths, of = _lengths(job), job.declaration.of
    codes = walk.coding.mapped[of][walk.codes[of]]
    local, most = distinct.compact(codes, len(walk.plan.vocabularies[of]) + 1, walk.begins, walk.ends)
    target = _grid(walk, job, lengths.tolist())[0]
    distinct.topic(walk.sequences(), walk.cutoffs, codes, local, most, lengths, target, walk.categories)


def _gap(walk: Walk, job: Job) -> None:
    place = dict.fromkeys(("mean", "deviation", "silence"), -1)
    place.update((column.function or "", row) for column, row in zip(job.columns, job.places, strict=True))
    gaps.gaps(
        walk.sequences(), walk.cutoffs, place["mean"], place["deviation"], place["silence"], walk.numbers
    )


def _last(walk: Walk, job: Job) -> None:
    target = np.full(max(column.index or 1 for column in job.columns), -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        target[(column.index or 1) - 1] = place
    codes = walk.coding.mapped[job.declaration.of][walk.codes[job.declaration.of]]
    lasts.last_codes(walk.sequences(), walk.cutoffs, codes, target, walk.categories)


def _share(walk: Walk, job: Job) -> None:
    target = np.full(7, -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        target[column.index or 0] = place
    by_weekday = job.declaration.of == "weekday"
    shares.shares(walk.sequences(), walk.cutoffs, by_weekday, target, walk.numbers)


_RUN: Mapping[str, Callable[[Walk, Job], None]] = {
    "count": _count,
    "trend": _trend,
    "recency": _recency,
    "age": _recency,
    "decayed": _decayed,
    "aggregate": _aggregate,
    "distinct": _distinct,
    "topic": _topic,
    "gap": _gap,
    "last": _last,
    "share": _share,
}
