"""Columns of declared features: names, units, labels and concepts all derive from the declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

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
    SplitFeature,
    TopicFeature,
    TrendFeature,
    Window,
)
from convpredict.errors import ConfigError

from . import labels
from .declaration_checks import check_declaration, nearest
from .declarations import FeatureColumn
from .labels import humanize, slug
from .vocabulary import Vocabularies

ACTIVE_DAYS = "active_days"
_FUNCTION_WORDS = {"sum": "total", "mean": "mean", "max": "largest", "last": "latest"}
_PRIORS = ("prior_leads", "prior_repeats", "prior_days")
Meaning = tuple[Any, ...]


def columns_of(declaration: Feature, vocabularies: Vocabularies) -> tuple[FeatureColumn, ...]:
    """The columns of one declaration: windows, then functions, then values in the order of the vocabulary.

    Raises ConfigError for a column that the history does not have, or that has the wrong type.

    >>> vocabularies = Vocabularies({("interactions", "kind"): ("call",)})
    >>> declaration = CountFeature(windows=(Duration("7d"), "all"), by="kind")
    >>> for column in columns_of(declaration, vocabularies)[:2]:
    ...     print(column.name, "=", column.label)
    count_7d__kind_call = calls in the last 7 days
    count_7d__kind_other = interactions of other kinds in the last 7 days
    """
    return columns_of_all((declaration,), vocabularies)


def columns_of_all(declarations: Iterable[Feature], vocabularies: Vocabularies) -> tuple[FeatureColumn, ...]:
    """The columns of several declarations, in order; what is declared twice appears once, names are unique.

    Where two columns would share a name (values that differ in punctuation only, say) the later get ``_2``,
    ``_3`` and so on.
    """
    taken: dict[str, FeatureColumn] = {}
    known_labels: set[str] = set()
    seen: set[Meaning] = set()
    for declaration in declarations:
        check_declaration(declaration, vocabularies)
        for column in _EXPAND[type(declaration)](declaration, vocabularies):
            if meaning_of(column) in seen:
                continue
            seen.add(meaning_of(column))
            name, number = column.name, 2
            while name in taken:
                name, number = f"{column.name}_{number}", number + 1
            label = column.label if column.label not in known_labels else f"{column.label} [{name}]"
            known_labels.add(label)
            taken[name] = replace(column, name=name, label=label)
    return tuple(taken.values())


def meaning_of(column: FeatureColumn) -> Meaning:
    """What a column computes, whatever its name: equal for columns that two declarations have in common."""
    declaration = column.declaration
    subject = tuple(
        getattr(declaration, name, None)
        for name in ("attribute", "by", "of", "key", "keys", "within", "short", "long", *_PRIORS)
    )
    place = (column.window_us, column.half_life_us, column.value, column.function, column.index)
    return (declaration.family, *subject, *place)


def _values(declaration: SplitFeature, vocabularies: Vocabularies) -> tuple[str | None, ...]:
    """Overall, or the values that the declaration is split by."""
    if declaration.by is None:
        return (None,)
    categories = vocabularies.categories(("interactions", declaration.by))
    for value in declaration.values:
        if value not in categories:
            raise ConfigError(
                f"a feature split by {declaration.by} names the value '{value}', which is not in the "
                f"vocabulary, so it has no column; {nearest(value, categories)}"
            )
    return tuple(dict.fromkeys(declaration.values)) or categories


def _split(name: str, declaration: SplitFeature, value: str | None) -> str:
    return (
        name if value is None or declaration.by is None else f"{name}__{slug(declaration.by)}_{slug(value)}"
    )


def _windows(windows: Iterable[Window]) -> Iterator[tuple[str, int | None, str]]:
    """Each window as part of a name, in microseconds, and in words."""
    for window in windows:
        if isinstance(window, Duration):
            yield str(window), window.microseconds, labels.in_window(window)
        else:
            yield "all", None, labels.in_window(None)


def _number(
    declaration: Feature, name: str, label: str, unit: str, concept: str, **place: Any
) -> FeatureColumn:
    return FeatureColumn(name, label, unit, concept, "number", declaration, **place)


def _count(declaration: CountFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    for window, window_us, words in _windows(declaration.windows):
        for value in _values(declaration, vocabularies):
            yield _number(
                declaration,
                _split(f"count_{window}", declaration, value),
                f"{labels.interactions(declaration.by, value)} {words}",
                "interactions",
                labels.concept_of(declaration.by, value),
                window_us=window_us,
                value=value,
            )


def _aggregate(declaration: AggregateFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    attribute = declaration.attribute
    for window, window_us, words in _windows(declaration.windows):
        for function in declaration.functions:
            for value in _values(declaration, vocabularies):
                of = "" if value is None else f" of {labels.interactions(declaration.by, value)}"
                yield _number(
                    declaration,
                    _split(f"{function}_{slug(attribute)}_{window}", declaration, value),
                    f"{_FUNCTION_WORDS[function]} {labels.quantity(attribute)}{of} {words}",
                    labels.unit_of(attribute),
                    humanize(attribute),
                    window_us=window_us,
                    function=function,
                    value=value,
                )


def _recency(declaration: RecencyFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    for value in _values(declaration, vocabularies):
        yield _number(
            declaration,
            _split("recency", declaration, value),
            f"days since the last {labels.interaction(declaration.by, value)}",
            "days",
            labels.concept_of(declaration.by, value),
            value=value,
        )


def _age(declaration: AgeFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    if declaration.of == "creation":
        yield _number(declaration, "age", "days since creation", "days", "age")
        return
    for value in _values(declaration, vocabularies):
        yield _number(
            declaration,
            _split("first_age", declaration, value),
            f"days since the first {labels.interaction(declaration.by, value)}",
            "days",
            labels.concept_of(declaration.by, value),
            value=value,
        )


def _decayed(declaration: DecayedFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    for half_life in declaration.half_lives:
        for value in _values(declaration, vocabularies):
            yield _number(
                declaration,
                _split(f"decayed_{half_life}", declaration, value),
                f"{labels.interactions(declaration.by, value)}, halved every {labels.period(half_life)}",
                "interactions",
                labels.concept_of(declaration.by, value),
                half_life_us=half_life.microseconds,
                value=value,
            )


def _distinct(declaration: DistinctFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    of = declaration.of
    what = {ACTIVE_DAYS: "days with activity", "kind": "different kinds of interactions"}
    concept = "activity" if of == ACTIVE_DAYS else humanize(of)
    for window, window_us, words in _windows(declaration.windows):
        yield _number(
            declaration,
            f"distinct_{slug(of)}_{window}",
            f"{what.get(of, 'different ' + labels.plural(humanize(of)))} {words}",
            "days" if of == ACTIVE_DAYS else "values",
            concept,
            window_us=window_us,
        )


def _gap(declaration: GapFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    for function, label, unit in (
        ("mean", "usual days between interactions", "days"),
        ("deviation", "spread of the days between interactions", "days"),
        ("silence", "current silence, in usual gaps between interactions", "ratio"),
    ):
        yield _number(declaration, f"gap_{function}", label, unit, "rhythm", function=function)


def _repeat(declaration: RepeatFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    words = {
        "count": ("days on which the lead came back", "days"),
        "rate": ("usual repeats per day", "per day"),
        "span": ("share of the time since the first interaction that lies before the last", "share"),
        "silence": ("silence, weighed against the usual rhythm", "log ratio"),
        "expected": ("repeats per day to be expected after the silence", "per day"),
    }
    for function in declaration.functions:
        label, unit = words[function]
        yield _number(declaration, f"repeat_{function}", label, unit, "rhythm", function=function)


def _last(declaration: LastKindsFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    of = declaration.of
    for index in range(1, declaration.k + 1):
        yield FeatureColumn(
            f"last_{slug(of)}_{index}",
            f"{humanize(of)} of the {labels.nth_last(index)} interaction",
            "category",
            humanize(of),
            "category",
            declaration,
            index=index,
            categories=vocabularies.categories(("interactions", of)),
        )


def _trend(declaration: TrendFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    short, long = declaration.short, declaration.long
    for value in _values(declaration, vocabularies):
        yield _number(
            declaration,
            _split(f"trend_{short}_{long}", declaration, value),
            f"trend of {labels.interactions(declaration.by, value)}: "
            f"{labels.in_window(short)[7:]} against {labels.in_window(long)[7:]}",
            "log ratio",
            labels.concept_of(declaration.by, value),
            window_us=short.microseconds,
            value=value,
        )


def _share(declaration: ShareFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    hours = [f"share of interactions between {part} h UTC" for part in labels.DAY_PARTS]
    weekdays = [f"share of interactions on {day}" for day in labels.WEEKDAYS]
    concept = "time of day" if declaration.of == "hour" else "day of the week"
    for index, label in enumerate(hours if declaration.of == "hour" else weekdays):
        yield _number(declaration, f"share_{declaration.of}_{index}", label, "share", concept, index=index)


def _topic(declaration: TopicFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    of = declaration.of
    what = "kind of interaction" if of == "kind" else humanize(of)
    for window, window_us, words in _windows(declaration.windows):
        yield FeatureColumn(
            f"topic_{slug(of)}_{window}",
            f"most frequent {what} {words}",
            "category",
            humanize(of),
            "category",
            declaration,
            window_us=window_us,
            categories=vocabularies.categories(("interactions", of)),
        )


def _attribute(declaration: AttributeFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    name, key = declaration.attribute, ("leads", declaration.attribute)
    column, concept = f"attribute_{slug(name)}", humanize(name)
    kind = vocabularies.type_of(key)
    if kind == "category":
        categories = vocabularies.categories(key)
        yield FeatureColumn(
            column, concept, "category", concept, "category", declaration, categories=categories
        )
    elif kind == "time":
        event = labels.event_of(name)
        yield _number(declaration, column, f"days since {event}", "days", event)
    else:
        yield _number(declaration, column, labels.quantity(name), labels.unit_of(name), concept)


def _calendar(declaration: CalendarFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    words = {
        "month": "month of the year",
        "weekday": "day of the week, Monday 0",
        "hour": "hour of the day, UTC",
    }
    for part in declaration.parts:
        yield _number(declaration, f"calendar_{part}", words[part], part, "calendar", function=part)


def _rate(declaration: RateFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    name = "_".join(slug(key) for key in declaration.keys)
    concept = " and ".join(humanize(key) for key in declaration.keys)
    within = labels.length(declaration.within)
    rate = f"conversion rate of earlier leads with the same {concept}, within {within}"
    volume = f"earlier leads with the same {concept}, known for {within}"
    if "rate" in declaration.functions:
        yield _number(declaration, f"rate_{name}", rate, "share", concept, function="rate")
    if "volume" in declaration.functions:
        yield _number(declaration, f"volume_{name}", volume, "leads", concept, function="volume")


def _load(declaration: LoadFeature, vocabularies: Vocabularies) -> Iterator[FeatureColumn]:
    key = humanize(declaration.key)
    for window, window_us, words in _windows(declaration.windows):
        name = f"load_{slug(declaration.key)}_{window}"
        label = f"other leads with the same {key} created {words}"
        yield _number(declaration, name, label, "leads", key, window_us=window_us)


_EXPAND: Mapping[type, Callable[[Any, Vocabularies], Iterator[FeatureColumn]]] = {
    CountFeature: _count,
    AggregateFeature: _aggregate,
    RecencyFeature: _recency,
    AgeFeature: _age,
    DecayedFeature: _decayed,
    DistinctFeature: _distinct,
    GapFeature: _gap,
    RepeatFeature: _repeat,
    LastKindsFeature: _last,
    TrendFeature: _trend,
    ShareFeature: _share,
    TopicFeature: _topic,
    AttributeFeature: _attribute,
    CalendarFeature: _calendar,
    RateFeature: _rate,
    LoadFeature: _load,
}
