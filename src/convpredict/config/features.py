"""Declared features: one frozen object per family; names, units and labels derive from its parameters.

``by`` splits a family by the values of a category column of the interactions: ``kind`` or an attribute.
Without ``values`` there is a column for every value of the learnt vocabulary and one for ``(other)``; with
``values`` there are columns for these alone, and they keep a place of their own in the vocabulary however
rare they are.
``windows`` are durations or ``all`` (everything visible before the cutoff).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import PositiveDuration, Strict

Window = PositiveDuration | Literal["all"]
Windows = Annotated[tuple[Window, ...], Field(min_length=1)]


class SplitFeature(Strict):
    """What the families share that can be split by the values of a category column of the interactions."""

    by: str | None = None
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _values_of_something(self) -> SplitFeature:
        if self.values and self.by is None:
            raise ValueError("'values' needs 'by', the category column that these values belong to")
        return self


class CountFeature(SplitFeature):
    """Number of interactions per window, overall or per category value."""

    family: Literal["count"] = "count"
    windows: Windows


class AggregateFeature(SplitFeature):
    """Sum, mean, max or last of a numeric attribute per window, overall or per category value."""

    family: Literal["aggregate"] = "aggregate"
    attribute: str
    functions: Annotated[tuple[Literal["sum", "mean", "max", "last"], ...], Field(min_length=1)] = (
        "sum",
        "mean",
    )
    windows: Windows


class RecencyFeature(SplitFeature):
    """Days since the last interaction, overall or per category value."""

    family: Literal["recency"] = "recency"


class AgeFeature(SplitFeature):
    """Days since creation, since the first interaction, or since each category value's first interaction."""

    family: Literal["age"] = "age"
    of: Literal["creation", "first"] = "creation"

    @model_validator(mode="after")
    def _first_by(self) -> AgeFeature:
        if self.by is not None and self.of == "creation":
            raise ValueError(
                f"a lead has one creation, not one by {self.by}: write 'of: first' or leave out 'by'"
            )
        return self


class DecayedFeature(SplitFeature):
    """Interactions counted with exponential decay: 2 ** (-age / half_life) each."""

    family: Literal["decayed"] = "decayed"
    half_lives: Annotated[tuple[PositiveDuration, ...], Field(min_length=1)]


class DistinctFeature(Strict):
    """Number of distinct values of a category column, or of active days (UTC), per window."""

    family: Literal["distinct"] = "distinct"
    of: str = "active_days"
    windows: Windows


class GapFeature(Strict):
    """Mean and deviation of the gaps between interactions, and the current silence against the usual gap."""

    family: Literal["gap"] = "gap"


class RepeatFeature(Strict):
    """How often a lead came back, and how much its silence speaks against it, in the manner of buy-till-you-die models.

    A repeat is a further UTC day with interactions. ``prior_repeats`` repeats in ``prior_days`` are what a
    lead of whom nothing is known counts as having made.
    """

    family: Literal["repeat"] = "repeat"
    functions: Annotated[
        tuple[Literal["count", "rate", "span", "silence", "expected"], ...], Field(min_length=1)
    ] = ("count", "rate", "span", "silence", "expected")
    prior_repeats: Annotated[float, Field(gt=0, le=1000)] = 0.5
    prior_days: Annotated[float, Field(gt=0, le=100_000)] = 60.0


class LastKindsFeature(Strict):
    """The last ``k`` values of a category column, most recent first, as categories."""

    family: Literal["last"] = "last"
    of: str = "kind"
    k: Annotated[int, Field(ge=1, le=10)] = 3


class TrendFeature(SplitFeature):
    """Rate in a short window against a long one: log((n_short + 1) / (n_long * short / long + 1))."""

    family: Literal["trend"] = "trend"
    short: PositiveDuration
    long: PositiveDuration

    @model_validator(mode="after")
    def _short_before_long(self) -> TrendFeature:
        if self.short >= self.long:
            raise ValueError(
                f"a trend sets a short window against a longer one; got short {self.short}, long {self.long}"
            )
        return self


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

    Attribute histories are honoured: the latest value visible at the cutoff. ``values`` of a category keep a
    place of their own in the vocabulary, however rare they are.
    """

    family: Literal["attribute"] = "attribute"
    attribute: str
    values: tuple[str, ...] = ()


class CalendarFeature(Strict):
    """Month, weekday and hour of the cutoff, as numbers."""

    family: Literal["calendar"] = "calendar"
    parts: Annotated[tuple[Literal["month", "weekday", "hour"], ...], Field(min_length=1)] = (
        "month",
        "weekday",
    )


class RateFeature(Strict):
    """Smoothed conversion rate and volume of a lead attribute's value (or a pair's), from past outcomes."""

    family: Literal["rate"] = "rate"
    keys: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    within: PositiveDuration
    prior_leads: Annotated[float, Field(gt=0)] = 20.0
    functions: Annotated[tuple[Literal["rate", "volume"], ...], Field(min_length=1)] = ("rate", "volume")

    @model_validator(mode="after")
    def _two_keys(self) -> RateFeature:
        if len(set(self.keys)) < len(self.keys):
            raise ValueError(f"the keys of a rate must differ; got {', '.join(self.keys)}")
        return self


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
    | RepeatFeature
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

    ``max_values`` is the size of a learnt vocabulary, ``min_count`` how often a value must occur in the
    training window; rarer and later unseen values share one bucket.
    """

    default: bool = True
    declare: tuple[Feature, ...] = ()
    exclude: tuple[str, ...] = ()
    max_values: Annotated[int, Field(ge=1, le=1000)] = 30
    min_count: Annotated[int, Field(ge=1)] = 10
    bucket_events: Annotated[int, Field(gt=0)] = 4_000_000
