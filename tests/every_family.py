"""Declarations that between them cover every feature family, with vocabularies that leave values out."""

from __future__ import annotations

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
    RepeatFeature,
    ShareFeature,
    TopicFeature,
    TrendFeature,
)
from convpredict.features.feature_set import FeatureSet
from convpredict.features.vocabulary import Vocabularies
from convpredict.history.history import AttributeType

SIX_HOURS, WEEK, MONTH = Duration("6h"), Duration("7d"), Duration("30d")
FUNCTIONS = ("sum", "mean", "max", "last")
LEAD_ATTRIBUTES: dict[str, AttributeType] = {
    "source": "category",
    "owner": "category",
    "budget": "number",
    "renewal": "time",
}
INTERACTION_ATTRIBUTES: dict[str, AttributeType] = {"outcome": "category", "minutes": "number"}

OWN_ROWS: tuple[Feature, ...] = (
    CountFeature(windows=(SIX_HOURS, WEEK, "all")),
    CountFeature(windows=(WEEK, "all"), by="kind"),
    CountFeature(windows=(MONTH,), by="outcome"),
    CountFeature(windows=(MONTH,), by="outcome", values=("good",)),
    AggregateFeature(attribute="minutes", functions=FUNCTIONS, windows=(WEEK, "all")),
    AggregateFeature(attribute="minutes", functions=FUNCTIONS, windows=(MONTH,), by="kind"),
    RecencyFeature(),
    RecencyFeature(by="kind"),
    RecencyFeature(by="outcome"),
    AgeFeature(),
    AgeFeature(of="first"),
    AgeFeature(of="first", by="kind"),
    DecayedFeature(half_lives=(Duration("12h"), WEEK)),
    DecayedFeature(half_lives=(WEEK,), by="outcome"),
    DistinctFeature(windows=(SIX_HOURS, WEEK, "all")),
    DistinctFeature(of="kind", windows=(WEEK, "all")),
    DistinctFeature(of="outcome", windows=(WEEK, "all")),
    GapFeature(),
    RepeatFeature(),
    RepeatFeature(functions=("rate", "silence"), prior_repeats=2.0, prior_days=3.5),
    LastKindsFeature(k=3),
    LastKindsFeature(of="outcome", k=2),
    TrendFeature(short=WEEK, long=MONTH),
    TrendFeature(short=SIX_HOURS, long=WEEK, by="kind"),
    ShareFeature(of="hour"),
    ShareFeature(of="weekday"),
    TopicFeature(of="kind", windows=(WEEK, "all")),
    TopicFeature(of="outcome"),
    AttributeFeature(attribute="source"),
    AttributeFeature(attribute="budget"),
    AttributeFeature(attribute="renewal"),
    CalendarFeature(parts=("month", "weekday", "hour")),
)
"""Families that look at the lead's own rows only."""

ACROSS_LEADS: tuple[Feature, ...] = (
    RateFeature(keys=("source",), within=WEEK),
    RateFeature(keys=("owner",), within=MONTH, prior_leads=2.5),
    RateFeature(keys=("source", "owner"), within=WEEK, prior_leads=1.0),
    LoadFeature(key="owner", windows=(WEEK, "all")),
)
"""Families that look at other leads too."""

VOCABULARIES = Vocabularies(
    {
        ("interactions", "kind"): ("call", "mail"),
        ("interactions", "outcome"): ("good", "bad"),
        ("leads", "source"): ("ads", "web"),
        ("leads", "owner"): ("ann", "bob"),
    },
    {
        ("interactions", "kind"): "category",
        **{("interactions", name): kind for name, kind in INTERACTION_ATTRIBUTES.items()},
        **{("leads", name): kind for name, kind in LEAD_ATTRIBUTES.items()},
    },
)


def own_rows_set() -> FeatureSet:
    """Every family that looks at the lead's own rows only."""
    return FeatureSet.declare(OWN_ROWS, VOCABULARIES)


def every_family_set() -> FeatureSet:
    """Every family there is."""
    return FeatureSet.declare((*OWN_ROWS, *ACROSS_LEADS), VOCABULARIES)
