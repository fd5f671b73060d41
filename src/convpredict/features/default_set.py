"""The default feature set, derived from what the history has, so that a newcomer declares nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from convpredict.config.base import Duration
from convpredict.config.features import (
    AgeFeature,
    AggregateFeature,
    AttributeFeature,
    CalendarFeature,
    CountFeature,
    DecayedFeature,
    DistinctFeature,
    Feature,
    GapFeature,
    LastKindsFeature,
    LoadFeature,
    RateFeature,
    RecencyFeature,
    ShareFeature,
    TopicFeature,
    TrendFeature,
    Window,
)
from convpredict.history.history import TIMESTAMP, History

from .columns import columns_of
from .vocabulary import Vocabularies, microseconds_of

MAX_COLUMNS = 180
MAX_SPLIT_VALUES = 12
_MAX_PER_LEAD_SHARE = 1 / 20
_OWNER = re.compile(
    r"(?:^|[_ -])(?:owner|agent|rep|salesperson|seller|assignee|sdr|advisor|manager)(?:$|[_ -])"
)

_TWO_YEARS_DAYS = 730
"""Before two years are seen, a month of the year stands for one stretch of time, not for a season."""

Ranked = tuple[int, Feature]
"""Importance (0: always there) and declaration; the least important go when there are too many columns."""


def default_declarations(
    history: History, vocabularies: Vocabularies, *, until: datetime, horizon: Duration
) -> tuple[Feature, ...]:
    """Declarations for a history: what happened, how recently, how regularly, in which direction, to whom.

    Families that are split by values use the twelve most frequent; above about 180 columns, the least
    important declarations are left out, so that a history with many attributes does not explode.
    ``vocabularies`` are those learnt on the training window, which ends at ``until``; ``horizon`` is the span
    of the conversion rates. What only tells the time is left out, as tests lie in the future: the month
    before two years are seen, and the volumes of the rates, which grow with the history (measured at 50,000
    simulated leads: with both, the predictions of the test part add up to .951 of the truth, without to .977).
    """
    ranked = [*_lead_features(history, vocabularies, until, horizon)]
    if history.n_interactions:
        windows = _Windows(_span_days(history, until))
        ranked = [
            *_activity(windows),
            *_split_activity("kind", windows, vocabularies),
            *_attribute_activity(history, windows, vocabularies),
            *ranked,
        ]
    return _fit_size(ranked, vocabularies)


class _Windows:
    """The usual windows, without those that are longer than the history."""

    def __init__(self, span_days: float) -> None:
        self.span_days = span_days

    def fitting(self, *texts: str) -> tuple[Window, ...]:
        windows = tuple(Duration(text) for text in texts)
        return (*(window for window in windows if window.days < self.span_days), "all")

    def holds(self, text: str) -> bool:
        return Duration(text).days < self.span_days


def _activity(windows: _Windows) -> Iterator[Ranked]:
    yield 0, CountFeature(windows=windows.fitting("1d", "7d", "30d", "90d"))
    yield 0, RecencyFeature()
    yield 0, AgeFeature(of="first")
    yield 0, DecayedFeature(half_lives=(Duration("3d"), Duration("14d"), Duration("45d")))
    yield 0, DistinctFeature(of="active_days", windows=windows.fitting("7d", "30d"))
    yield 0, GapFeature()
    if windows.holds("30d"):
        yield 1, TrendFeature(short=Duration("7d"), long=Duration("30d"))
    if windows.holds("90d"):
        yield 1, TrendFeature(short=Duration("30d"), long=Duration("90d"))
    yield 4, ShareFeature(of="hour")
    yield 5, ShareFeature(of="weekday")


def _split_activity(by: str, windows: _Windows, vocabularies: Vocabularies) -> Iterator[Ranked]:
    """What each kind did; with one kind only, the overall columns say it all."""
    vocabulary = vocabularies["interactions", by]
    if len(vocabulary) < 2:
        return
    values = vocabulary[:MAX_SPLIT_VALUES] if len(vocabulary) > MAX_SPLIT_VALUES else ()
    yield 1, CountFeature(windows=windows.fitting("7d", "30d"), by=by, values=values)
    yield 1, RecencyFeature(by=by, values=values)
    yield 3, DecayedFeature(half_lives=(Duration("14d"),), by=by, values=values)
    yield 2, DistinctFeature(of=by, windows=windows.fitting("30d"))
    yield 1, LastKindsFeature(of=by, k=3)
    yield 3, TopicFeature(of=by, windows=windows.fitting("30d"))
    if windows.holds("30d"):
        yield 6, TrendFeature(short=Duration("7d"), long=Duration("30d"), by=by, values=values)


def _attribute_activity(history: History, windows: _Windows, vocabularies: Vocabularies) -> Iterator[Ranked]:
    """Attributes of the interactions: numbers are summed and averaged, categories counted."""
    for name, kind in history.interaction_attributes.items():
        if kind == "number":
            functions = ("sum", "mean", "max")
            yield 2, AggregateFeature(attribute=name, functions=functions, windows=windows.fitting("30d"))
        elif kind == "category" and vocabularies["interactions", name]:
            vocabulary = vocabularies["interactions", name]
            yield 3, DistinctFeature(of=name, windows=("all",))
            yield 2, TopicFeature(of=name, windows=("all",))
            if len(vocabulary) <= MAX_SPLIT_VALUES:
                yield 2, CountFeature(windows=windows.fitting("30d"), by=name)
                yield 4, LastKindsFeature(of=name, k=1)


def _lead_features(
    history: History, vocabularies: Vocabularies, until: datetime, horizon: Duration
) -> Iterator[Ranked]:
    yield 0, AgeFeature(of="creation")
    for name, kind in history.lead_attributes.items():
        if kind != "category" or vocabularies["leads", name]:
            yield 0, AttributeFeature(attribute=name)
    seasons = _span_days(history, until) >= _TWO_YEARS_DAYS
    yield 0, CalendarFeature(parts=("month", "weekday") if seasons else ("weekday",))
    for name, kind in history.lead_attributes.items():
        if kind == "category" and _groups_leads(history, name, until):
            if history.conversions.num_rows:
                yield 1, RateFeature(keys=(name,), within=horizon, functions=("rate",))
            if _OWNER.search(name.lower()):
                yield 2, LoadFeature(key=name, windows=(Duration("30d"),))


def _groups_leads(history: History, attribute: str, until: datetime) -> bool:
    """Whether an attribute sorts the leads known before ``until`` into groups: at least two, of some size."""
    values = _known_leads(history, until)[attribute]
    n_values = pc.count_distinct(values, mode="only_valid").as_py()
    n_leads = len(values) - values.null_count
    return bool(2 <= n_values <= max(12, n_leads * _MAX_PER_LEAD_SHARE))


def _known_leads(history: History, until: datetime) -> pa.Table:
    limit = pa.scalar(microseconds_of(until), pa.int64()).cast(TIMESTAMP)
    return history.leads.filter(pc.less(history.leads["created_at"], limit))


def _span_days(history: History, until: datetime) -> float:
    """Days between the first lead and the end of the training window."""
    if not history.n_leads:
        return 0.0
    first = pc.min(history.leads["created_at"].cast(pa.int64())).as_py()
    return float(max((microseconds_of(until) - first) / Duration("1d").microseconds, 0.0))


def _fit_size(ranked: Sequence[Ranked], vocabularies: Vocabularies) -> tuple[Feature, ...]:
    """Leave out the least important declarations, the later first, until the columns fit."""
    sizes = [len(columns_of(declaration, vocabularies)) for _, declaration in ranked]
    kept = set(range(len(ranked)))
    for index in sorted(kept, key=lambda index: (ranked[index][0], index), reverse=True):
        if sum(sizes[kept_index] for kept_index in kept) <= MAX_COLUMNS or ranked[index][0] == 0:
            break
        kept.remove(index)
    return tuple(ranked[index][1] for index in sorted(kept))
