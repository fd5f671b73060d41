"""Declared features: one frozen object per family; names, units and labels derive from its parameters.

``by`` splits a family by the values of a category column of the interactions: ``kind`` or an attribute.
``windows`` are durations or ``all`` (everything visible before the cutoff).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import PositiveDuration, Strict

Window = PositiveDuration | Literal["all"]
Windows = Annotated[tuple[Window, ...], Field(min_length=1)]


class CountFeature(Strict):
    """Number of interactions per window, overall or per category value."""

    family: Literal["count"] = "count"
    windows: Windows
    by: str | None = None


class AggregateFeature(Strict):
    """Sum, mean, max or last of a numeric attribute per window, overall or per category value."""

    family: Literal["aggregate"] = "aggregate"
    attribute: str
    functions: Annotated[tuple[Literal["sum", "mean", "max", "last"], ...], Field(min_length=1)] = ("sum", "mean")
    windows: Windows
    by: str | None = None


class RecencyFeature(Strict):
    """Days since the last interaction, overall or per category value."""

    family: Literal["recency"] = "recency"
    by: str | None = None


class AgeFeature(Strict):
    """Days since creation, since the first interaction, or since each category value's first interaction."""

    family: Literal["age"] = "age"
    of: Literal["creation", "first"] = "creation"
    by: str | None = None


class DecayedFeature(Strict):
    """Interactions counted with exponential decay: 2 ** (-age / half_life) each."""

    family: Literal["decayed"] = "decayed"
    half_lives: Annotated[tuple[PositiveDuration, ...], Field(min_length=1)]
    by: str | None = None


class DistinctFeature(Strict):
    """Number of distinct values of a category column, or of active days (UTC), per window."""

    family: Literal["distinct"] = "distinct"
    of: str = "active_days"
    windows: Windows


class GapFeature(Strict):
    """Mean and deviation of the gaps between interactions, and the current silence against the usual gap."""

    family: Literal["gap"] = "gap"


class LastKindsFeature(Strict):
    """The last ``k`` values of a category column, most recent first, as categories."""

    family: Literal["last"] = "last"
    of: str = "kind"
    k: Annotated[int, Field(ge=1, le=10)] = 3


class TrendFeature(Strict):
    """Rate in the short window against the rate in the long one: log((n_short + 1) / (n_long * short / long + 1))."""

    family: Literal["trend"] = "trend"
    short: PositiveDuration
    long: PositiveDuration
    by: str | None = None


class ShareFeature(Strict):
    """Share of a lead's interactions in four six-hour parts of the day and on each weekday (UTC)."""

    family: Literal["share"] = "share"
    of: Literal["hour", "weekday"]


class TopicFeature(Strict):
    """The most frequent value of a category column per window, as a category; ties go to the most recent."""

    family: Literal["topic"] = "topic"
    of: str
    windows: Windows = ("all",)


class AttributeFeature(Strict):
    """A lead attribute: a category, a number, or the days from a date to the cutoff.

    Attribute histories are honoured: the latest value visible at the cutoff.
    """

    family: Literal["attribute"] = "attribute"
    attribute: str


class CalendarFeature(Strict):
    """Month, weekday and hour of the cutoff, as numbers."""

    family: Literal["calendar"] = "calendar"
    parts: Annotated[tuple[Literal["month", "weekday", "hour"], ...], Field(min_length=1)] = ("month", "weekday")


class RateFeature(Strict):
    """Smoothed conversion rate and volume of a lead attribute's value (or a pair's), from outcomes known before."""

    family: Literal["rate"] = "rate"
    keys: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    within: PositiveDuration
    prior_leads: Annotated[float, Field(gt=0)] = 20.0


class LoadFeature(Strict):
    """How many leads of the same key (an owner, say) were created in the window before the cutoff."""

    family: Literal["load"] = "load"
    key: str
    windows: Windows


Feature = Annotated[
    CountFeature
    | AggregateFeature
    | RecencyFeature
    | AgeFeature
    | DecayedFeature
    | DistinctFeature
    | GapFeature
    | LastKindsFeature
    | TrendFeature
    | ShareFeature
    | TopicFeature
    | AttributeFeature
    | CalendarFeature
    | RateFeature
    | LoadFeature,
    Field(discriminator="family"),
]


class FeaturesConfig(Strict):
    """The feature set: the default derived from the tables, plus declared features, minus excluded columns.

    ``max_values`` is the size of a learnt vocabulary, ``min_count`` how often a value must occur in the training
    window; rarer and later unseen values share one bucket.
    """

    default: bool = True
    declare: tuple[Feature, ...] = ()
    exclude: tuple[str, ...] = ()
    max_values: Annotated[int, Field(ge=1, le=1000)] = 30
    min_count: Annotated[int, Field(ge=1)] = 10
    bucket_events: Annotated[int, Field(gt=0)] = 4_000_000
