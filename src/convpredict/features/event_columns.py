"""Columns computed from a lead's interactions: which kernels run for them, and the run over one piece of a bucket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .declarations import OTHER, FeatureColumn
from .index import Bucket
from .kernels import (
    aggregates,
    counts,
    decayed,
    distinct,
    extremes,
    gaps,
    lasts,
    recency,
    shares,
    sums,
    topics,
)
from .kernels.timeline import ALL, Timeline, make_timeline, most

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
        names = ("by", "attribute", "of")
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
        tuple(dict.fromkeys(length for column in wanted for length in _lengths(column))),
    )


def _lengths(column: FeatureColumn) -> tuple[int, ...]:
    """Lengths (µs) of the windows that a column needs."""
    declaration: Any = column.declaration
    if declaration.family == "trend":
        return declaration.short.microseconds, declaration.long.microseconds
    if declaration.family in ("count", "aggregate", "distinct", "topic"):
        return (ALL if column.window_us is None else column.window_us,)
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


@dataclass(frozen=True)
class Matrices:
    """Computed columns, one row each: float32 numbers and int32 codes; rows are longer than there are cells."""

    numbers: npt.NDArray[np.float32]
    categories: npt.NDArray[np.int32]


@dataclass
class Walk:
    """The timeline of some leads, what their events say, and the matrices that the kernels fill."""

    plan: EventPlan
    coding: Coding
    timeline: Timeline
    codes: Mapping[str, npt.NDArray[np.int32]]
    values: Mapping[str, npt.NDArray[np.float64]]
    numbers: npt.NDArray[np.float32]
    categories: npt.NDArray[np.int32]
    _groups: dict[str | None, npt.NDArray[np.int32]] = field(default_factory=dict)
    _weights: dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]] = field(default_factory=dict)

    def groups(self, by: str | None) -> tuple[npt.NDArray[np.int32], int]:
        """The group of each event (-1: none) and the number of groups."""
        if by not in self._groups:
            if by is None:
                self._groups[by] = np.zeros(len(self.timeline.occurred_at), np.int32)
            else:
                self._groups[by] = self.coding.slots[by][self.codes[by]]
        return self._groups[by], 1 if by is None else len(self.plan.groups[by])

    def weights(self, half_life: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
        """Weights of the events for a half-life, and their eras."""
        if half_life not in self._weights:
            self._weights[half_life] = decayed.weigh(self.timeline.occurred_at, half_life)
        return self._weights[half_life]

    def group_of(self, column: FeatureColumn) -> int:
        """The group of a column's value; 0 if the column is not split."""
        by = getattr(column.declaration, "by", None)
        return 0 if by is None else self.plan.groups[by].index(column.value or OTHER)

    def windows(self, lengths: Sequence[int]) -> npt.NDArray[np.int64]:
        """Columns of ``timeline.leave`` for some lengths of windows."""
        return np.array([self.plan.lengths.index(length) for length in lengths], np.int64)


def walk_events(
    bucket: Bucket,
    lead_rows: npt.NDArray[np.int32],
    cutoffs: npt.NDArray[np.int64],
    plan: EventPlan,
    coding: Coding,
    *,
    reuse: Matrices | None = None,
) -> Matrices:
    """Compute the event columns of some observations of a bucket's leads.

    ``lead_rows`` and ``cutoffs`` (int64 µs) describe the observations, sorted by both. Returns matrices with
    one row per column of ``plan.numbers`` (NaN: missing) and of ``plan.categories`` (-1: missing), where cell
    i < len(cutoffs) belongs to observation i; they are filled into ``reuse`` if that is large enough.
    A pure function of its arguments: a cell does not depend on the other observations.
    """
    n = len(cutoffs)
    if reuse is None or reuse.numbers.shape[1] < n:
        # rows a multiple of 4 KiB apart would all fall into the same few sets of the cache
        stride = (n + 15) // 1024 * 1024 + 1024 + 16
        numbers = np.empty((len(plan.numbers), stride), np.float32)
        reuse = Matrices(numbers, np.empty((len(plan.categories), stride), np.int32))
    if n and plan.jobs:
        walk = _start(bucket, lead_rows, cutoffs, plan, coding, reuse)
        for job in plan.jobs:
            _RUN[job.family](walk, job)
    return reuse


def _start(
    bucket: Bucket,
    lead_rows: npt.NDArray[np.int32],
    cutoffs: npt.NDArray[np.int64],
    plan: EventPlan,
    coding: Coding,
    matrices: Matrices,
) -> Walk:
    """The walk of some observations: their leads' part of the bucket, and its timeline."""
    changes = np.flatnonzero(np.diff(lead_rows)) + 1
    starts = np.concatenate(([0], changes, [len(cutoffs)])).astype(np.int64)
    leads = lead_rows[starts[:-1]].astype(np.int64) - bucket.lead_begin
    begins, ends = bucket.lead_offsets[leads], bucket.lead_offsets[leads + 1]
    first, last = int(begins[0]), int(ends[-1])
    timeline = make_timeline(
        begins - first,
        ends - first,
        starts,
        np.array(cutoffs, np.int64),
        bucket.occurred_at[first:last],
        bucket.visible_at[first:last],
        np.array(plan.lengths, np.int64),
        late=bucket.late,
    )
    codes = {name: bucket.codes[name][first:last] for name in plan.read_categories}
    values = {name: bucket.numbers[name][first:last] for name in plan.read_numbers}
    return Walk(plan, coding, timeline, codes, values, matrices.numbers, matrices.categories)


def _window_lengths(job: Job) -> list[int]:
    return list(
        dict.fromkeys(ALL if column.window_us is None else column.window_us for column in job.columns)
    )


def _grid(walk: Walk, job: Job, lengths: Sequence[int], function: str | None = None) -> Targets:
    """Rows of the output by group and window (or half-life); -1 where no column wants the cell."""
    by = getattr(job.declaration, "by", None)
    target = np.full((1 if by is None else len(walk.plan.groups[by]), len(lengths)), -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        if function is None or column.function == function:
            length = column.half_life_us if column.half_life_us is not None else column.window_us
            target[walk.group_of(column), lengths.index(ALL if length is None else length)] = place
    return target


def _count(walk: Walk, job: Job) -> None:

    pairs = dict.fromkeys(_lengths(column) for column in job.columns if column.declaration.family == "trend")
    lengths = list(dict.fromkeys(length for column in job.columns for length in _lengths(column)))
    groups, n_groups = walk.groups(job.declaration.by)
    target = np.full((n_groups, len(lengths)), -1, np.int64)
    trend_target = np.full((n_groups, len(pairs)), -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        if column.declaration.family == "count":
            target[walk.group_of(column), lengths.index(_lengths(column)[0])] = place
        else:
            trend_target[walk.group_of(column), list(pairs).index(_lengths(column))] = place
    trends = np.array([[lengths.index(length) for length in pair] for pair in pairs], np.int64).reshape(-1, 2)
    ratios = np.array([short / long for short, long in pairs], np.float64)
    windows = walk.windows(lengths)
    counts.count(walk.timeline, groups, n_groups, windows, target, trends, ratios, trend_target, walk.numbers)


def _recency(walk: Walk, job: Job) -> None:
    groups, n_groups = walk.groups(job.declaration.by)
    target = _grid(walk, job, [ALL])[:, 0].copy()
    recency.recency(walk.timeline, groups, n_groups, job.family == "age", target, walk.numbers)


def _decayed(walk: Walk, job: Job) -> None:
    groups, n_groups = walk.groups(job.declaration.by)
    half_lives = [column.half_life_us for column in job.columns if column.half_life_us is not None]
    lengths = list(dict.fromkeys(half_lives))
    target = _grid(walk, job, lengths)
    for number, length in enumerate(lengths):
        weights, eras = walk.weights(length)
        rows = target[:, number].copy()
        decayed.decayed(walk.timeline, groups, n_groups, weights, eras, length, rows, walk.numbers)


def _aggregate(walk: Walk, job: Job) -> None:
    lengths, timeline = _window_lengths(job), walk.timeline
    groups, n_groups = walk.groups(job.declaration.by)
    windows, values = walk.windows(lengths), walk.values[job.declaration.attribute]
    target = np.stack([_grid(walk, job, lengths, name) for name in ("sum", "mean", "max", "last")])
    aggregates.aggregate(timeline, groups, n_groups, values, windows, target, walk.numbers)
    if most(timeline.begins, timeline.ends) <= aggregates.FEW:
        return
    if bool((target[[aggregates.SUM, aggregates.MEAN]] >= 0).any()):
        sums.sum_and_mean(timeline, groups, n_groups, values.view(np.int64), windows, target, walk.numbers)
    if bool((target[aggregates.MAX] >= 0).any()):
        extremes.maximum(timeline, groups, n_groups, values, windows, target, walk.numbers)
    if bool((target[aggregates.LAST] >= 0).any()):
        extremes.last_value(timeline, groups, n_groups, values, windows, target, walk.numbers)


def _distinct(walk: Walk, job: Job) -> None:
    lengths, of, timeline = _window_lengths(job), job.declaration.of, walk.timeline
    if of == ACTIVE_DAYS:
        local, n_local = distinct.compact_days(timeline.occurred_at, timeline.begins, timeline.ends)
    else:
        size = walk.coding.sizes[of]
        local, n_local = distinct.compact(walk.codes[of], size, timeline.begins, timeline.ends)
    target = _grid(walk, job, lengths)[0]
    distinct.distinct(timeline, local, n_local, walk.windows(lengths), target, walk.numbers)


def _topic(walk: Walk, job: Job) -> None:
    lengths, of, timeline = _window_lengths(job), job.declaration.of, walk.timeline
    codes = walk.coding.mapped[of][walk.codes[of]]
    size = len(walk.plan.vocabularies[of]) + 1
    local, n_local = distinct.compact(codes, size, timeline.begins, timeline.ends)
    target = _grid(walk, job, lengths)[0]
    topics.topic(timeline, codes, local, n_local, walk.windows(lengths), target, walk.categories)


def _gap(walk: Walk, job: Job) -> None:
    place = dict.fromkeys(("mean", "deviation", "silence"), -1)
    place.update((column.function or "", row) for column, row in zip(job.columns, job.places, strict=True))
    gaps.gaps(walk.timeline, place["mean"], place["deviation"], place["silence"], walk.numbers)


def _last(walk: Walk, job: Job) -> None:
    target = np.full(max(column.index or 1 for column in job.columns), -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        target[(column.index or 1) - 1] = place
    codes = walk.coding.mapped[job.declaration.of][walk.codes[job.declaration.of]]
    lasts.last_codes(walk.timeline, codes, target, walk.categories)


def _share(walk: Walk, job: Job) -> None:
    target = np.full(7, -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        target[column.index or 0] = place
    shares.shares(walk.timeline, job.declaration.of == "weekday", target, walk.numbers)


_RUN: Mapping[str, Callable[[Walk, Job], None]] = {
    "count": _count,
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
