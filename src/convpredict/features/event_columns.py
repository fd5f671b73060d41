"""Columns computed from a lead's interactions: which kernels run for them, and the run over one piece of a bucket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .declarations import OTHER, FeatureColumn
from .event_plan import ACTIVE_DAYS, Coding, EventPlan, Job, window_lengths
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
    repeats,
    shares,
    sums,
    topics,
)
from .kernels.timeline import ALL, Timeline, make_timeline, most

_REPEATS = ("count", "rate", "span", "silence", "expected")
Targets = npt.NDArray[np.int64]


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

    pairs = dict.fromkeys(
        window_lengths(column) for column in job.columns if column.declaration.family == "trend"
    )
    lengths = list(dict.fromkeys(length for column in job.columns for length in window_lengths(column)))
    groups, n_groups = walk.groups(job.declaration.by)
    target = np.full((n_groups, len(lengths)), -1, np.int64)
    trend_target = np.full((n_groups, len(pairs)), -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        if column.declaration.family == "count":
            target[walk.group_of(column), lengths.index(window_lengths(column)[0])] = place
        else:
            trend_target[walk.group_of(column), list(pairs).index(window_lengths(column))] = place
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


def _repeat(walk: Walk, job: Job) -> None:
    """Repeats follow from the number of active days and the days since the last and the first interaction."""
    timeline, n = walk.timeline, len(walk.timeline.at)
    facts = np.empty((3, n), np.float64)
    days, n_days = distinct.compact_days(timeline.occurred_at, timeline.begins, timeline.ends)
    row = np.arange(3)
    distinct.distinct(timeline, days, n_days, walk.windows([ALL]), row[:1], facts)
    groups, n_groups = walk.groups(None)
    recency.recency(timeline, groups, n_groups, False, row[1:2], facts)
    recency.recency(timeline, groups, n_groups, True, row[2:], facts)
    target = np.full(len(_REPEATS), -1, np.int64)
    for column, place in zip(job.columns, job.places, strict=True):
        target[_REPEATS.index(column.function or "")] = place
    priors = float(job.declaration.prior_repeats), float(job.declaration.prior_days)
    repeats.repeats(n, facts, *priors, target, walk.numbers)


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
    "repeat": _repeat,
    "last": _last,
    "share": _share,
}
