"""The fact behind a reason: one column's value as a sentence that is true at the cutoff."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import floor, isnan

from convpredict.features.declarations import OTHER, FeatureColumn

from .reason_phrases import Phrases

Value = float | str | None
Subject = tuple[str | None, str | None]
"""The interactions that a column looks at: (by, value); (None, None): all."""

_DAYS_OF_RATE = 30
_LONG_SILENCE = 1.0
_SILENT_DAYS = 7.0


@dataclass(frozen=True)
class Row:
    """What is known of one lead when a fact is told.

    ``days_since``: days since the last interaction of a subject, (None, None) for any of them; None: never.
    ``counts``: interactions of a subject by window in µs (None: all). ``attributes``: values of category
    attributes. ``cutoff_us``: the cutoff in µs, for words like yesterday. ``average``: the conversion rate of
    all leads by the span of the rate in µs.
    """

    days_since: Mapping[Subject, float | None] = field(default_factory=dict)
    counts: Mapping[Subject, Mapping[int | None, float]] = field(default_factory=dict)
    attributes: Mapping[str, Value] = field(default_factory=dict)
    cutoff_us: int | None = None
    average: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fact:
    """A column, its value (NaN and None: missing) and the direction of its contribution."""

    column: FeatureColumn
    value: Value
    is_for: bool
    row: Row
    phrases: Phrases

    @property
    def number(self) -> float | None:
        """The value as a number, or None where it is missing."""
        if self.value is None or isinstance(self.value, str) or isnan(self.value):
            return None
        return float(self.value)

    @property
    def subject(self) -> Subject:
        """The interactions that the column looks at."""
        return subject_of(self.column)

    @property
    def window(self) -> str:
        """The column's window in words."""
        return self.phrases.window(self.column.window_us)

    def ago(self, days: float) -> str:
        """So many days before the cutoff."""
        return self.phrases.ago(days, self.row.cutoff_us)

    def say(self, key: str, n: float | None = None, **parts: object) -> str:
        """A message about this fact: the nouns of its subject and its window are given to it."""
        known = {**self.phrases.nouns(*self.subject), "window": self.window}
        return self.phrases.say(key, n, **{**known, **parts})


def subject_of(column: FeatureColumn) -> Subject:
    """The interactions that a column looks at."""
    by = getattr(column.declaration, "by", None)
    return (by, column.value) if by is not None else (None, None)


def fact_of(fact: Fact) -> str:
    """The sentence.

    >>> from convpredict.config.features import CountFeature
    >>> from convpredict.config.base import Duration
    >>> declaration = CountFeature(windows=(Duration("7d"),), by="kind")
    >>> week = 7 * 86_400_000_000
    >>> column = FeatureColumn(
    ...     "c", "", "", "download", "number", declaration, window_us=week, value="download"
    ... )
    >>> row = Row(days_since={("kind", "download"): 1.2})
    >>> fact_of(Fact(column, 4.0, True, row, Phrases("en")))
    '4 downloads in the last 7 days, the last one 1 day ago'
    """
    tell = _TELL.get(fact.column.declaration.family, _plain)
    return tell(fact)


def _count(fact: Fact) -> str:
    number = fact.number or 0.0
    return _counted(fact, number, fact.column.window_us) if number else _nothing(fact)


def _counted(fact: Fact, number: float, window_us: int | None) -> str:
    things, window = fact.phrases.things(number, *fact.subject), fact.phrases.window(window_us)
    days = fact.row.days_since.get(fact.subject)
    if days is None:
        return fact.say("count", things=things, window=window)
    return fact.say("count_last", number, things=things, window=window, ago=fact.ago(days))


def _nothing(fact: Fact) -> str:
    """No interaction in the window: since when, where that is known."""
    if fact.subject in fact.row.days_since:
        days = fact.row.days_since[fact.subject]
        return fact.say("none_ever") if days is None else _silence(fact, days)
    return fact.say("none_ever" if fact.column.window_us is None else "none")


def _silence(fact: Fact, days: float) -> str:
    return fact.say("silent", floor(days)) if days >= 1 else fact.say("last", ago=fact.ago(days))


def _recency(fact: Fact) -> str:
    days = fact.number
    if days is None:
        return fact.say("none_ever")
    return fact.say("last", ago=fact.ago(days)) if fact.is_for else _silence(fact, days)


def _age(fact: Fact) -> str:
    days = fact.number
    if getattr(fact.column.declaration, "of", "creation") == "first":
        return fact.say("none_ever") if days is None else fact.say("first", ago=fact.ago(days))
    if days is None:
        return _plain(fact)
    return fact.say("age", floor(days)) if days >= 1 else fact.say("age_new")


def _decayed(fact: Fact) -> str:
    """A weighted count is hard to picture: told by the silence, or by the count in the shortest window."""
    number = fact.number or 0.0
    if number == 0:
        return _nothing(fact)
    days = fact.row.days_since.get(fact.subject)
    if days is not None and days >= _SILENT_DAYS and not fact.is_for:
        return _silence(fact, days)
    for window_us, count in fact.row.counts.get(fact.subject, {}).items():
        if count > 0:
            return _counted(fact, count, window_us)
    return fact.say("decayed", things=fact.phrases.things(number, *fact.subject))


def _trend(fact: Fact) -> str:
    number = fact.number or 0.0
    if number == 0 and fact.row.days_since.get(fact.subject, 0.0) is None:
        return fact.say("none_ever")
    return fact.say("trend_up" if number > 0 else "trend_down" if number < 0 else "trend_flat")


def _distinct(fact: Fact) -> str:
    number, of = fact.number or 0.0, getattr(fact.column.declaration, "of", "")
    if number == 0 and of in ("active_days", "kind"):
        return _nothing(fact)
    if number == 0:
        return fact.say("no_value", quantity=fact.phrases.attribute(of))
    key = {"active_days": "active_days", "kind": "distinct_kinds"}.get(of, "distinct_values")
    return fact.say(key, number, attribute=fact.phrases.attribute(of))


def _gap(fact: Fact) -> str:
    if fact.number is None:
        return fact.say("rhythm_unknown")
    return fact.say(f"gap_{fact.column.function}", _two_digits(fact.number))


def _repeat(fact: Fact) -> str:
    number, function = fact.number, fact.column.function
    if number is None:
        return fact.say("rhythm_unknown")
    if function == "count":
        return fact.say("repeat_count", number) if number else fact.say("repeat_none")
    if function == "silence":
        return fact.say("repeat_silence_long" if number > _LONG_SILENCE else "repeat_silence_short")
    if function == "span":
        return fact.say("repeat_span", percent=fact.phrases.percent(number))
    return fact.say(f"repeat_{function}", _two_digits(number * _DAYS_OF_RATE))


def _two_digits(x: float) -> float:
    return float(f"{x:.2g}") if abs(x) < 100 else round(x)


def _last(fact: Fact) -> str:
    of, index = getattr(fact.column.declaration, "of", "kind"), fact.column.index or 1
    if not isinstance(fact.value, str) and of == "kind":
        return fact.say("none_ever") if index == 1 else fact.say("fewer", index)
    nth = fact.say(f"nth_{index}" if index <= 3 else "nth_n", index=index, before=index - 1)
    value = _category(fact, of)
    if of == "kind":
        return fact.say("last_kind", nth=nth, value=value)
    return fact.say("last_value", nth=nth, attribute=fact.phrases.attribute(of), value=value)


def _category(fact: Fact, of: str) -> str:
    if not isinstance(fact.value, str):
        return fact.say("not_known")
    return fact.phrases.value(of, fact.value)


def _share(fact: Fact) -> str:
    if fact.number is None:
        return fact.say("none_ever")
    index, percent = fact.column.index or 0, fact.phrases.percent(_two_digits(fact.number))
    none = "_none" if fact.number == 0 else ""
    if getattr(fact.column.declaration, "of", "") == "hour":
        return fact.say(f"share_hour{none}", percent=percent, start=6 * index, end=6 * index + 6)
    day = fact.phrases.word("days_of_activity", index)
    return fact.say(f"share_weekday{none}", percent=percent, day=day)


def _topic(fact: Fact) -> str:
    of = getattr(fact.column.declaration, "of", "kind")
    if of != "kind":
        attribute = fact.phrases.attribute(of)
        return fact.say("topic_value", attribute=attribute, value=_category(fact, of))
    if not isinstance(fact.value, str):
        return _nothing(fact)
    is_kind = fact.value != OTHER
    value = fact.phrases.nouns("kind", fact.value)["other"] if is_kind else _category(fact, of)
    return fact.say("topic_kind", value=value)


def _attribute(fact: Fact) -> str:
    name = getattr(fact.column.declaration, "attribute", fact.column.concept)
    if fact.column.type == "category":
        value = _category(fact, name)
        return fact.say("attribute", attribute=fact.phrases.attribute(name), value=value)
    if fact.column.unit == "days" and fact.column.label.startswith("days since "):
        attribute = fact.phrases.attribute(name)
        if fact.number is None:
            return fact.say("date_missing", attribute=attribute)
        return fact.say("attribute", attribute=attribute, value=fact.ago(fact.number))
    value = fact.say("not_known") if fact.number is None else fact.phrases.amount(name, fact.number)
    return fact.say("attribute", attribute=fact.phrases.quantity(name), value=value)


def _calendar(fact: Fact) -> str:
    number = int(fact.number or 0)
    if fact.column.function == "month":
        return fact.say("scored_at", value=fact.phrases.word("months", number - 1))
    if fact.column.function == "weekday":
        return fact.say("scored_at", value=fact.phrases.word("weekdays", number))
    return fact.say("scored_at", value=fact.say("hour", value=number))


def _keys(fact: Fact) -> str:
    declaration = fact.column.declaration
    names = getattr(declaration, "keys", None) or (getattr(declaration, "key", ""),)
    words = [fact.phrases.attribute(name) for name in names]
    return words[0] if len(words) == 1 else fact.say("and", first=words[0], second=words[1])


def _rate(fact: Fact) -> str:
    number = fact.number
    if number is None:
        return fact.say("attribute", attribute=_keys(fact), value=fact.say("not_known"))
    if fact.column.function == "volume":
        return fact.say("volume", number, attribute=_keys(fact))
    within = getattr(fact.column.declaration, "within").microseconds  # noqa: B009 - rates alone have it
    attribute, percent, span = _keys(fact), fact.phrases.percent(number), fact.phrases.within(within)
    usual = fact.row.average.get(within)
    if usual is None or (number > usual) != fact.is_for:
        return _group(fact) or fact.say("rate", attribute=attribute, percent=percent, within=span)
    average = fact.phrases.percent(usual)
    return fact.say("rate_average", attribute=attribute, percent=percent, within=span, average=average)


def _group(fact: Fact) -> str | None:
    """The values of a rate's attributes: what to tell where the rate alone would seem to speak the other way."""
    names = getattr(fact.column.declaration, "keys", ())
    if not names or fact.row.average == {} or not all(name in fact.row.attributes for name in names):
        return None
    told = []
    for name in names:
        value = fact.row.attributes[name]
        word = fact.phrases.value(name, value) if isinstance(value, str) else fact.say("not_known")
        told.append(fact.say("attribute", attribute=fact.phrases.attribute(name), value=word))
    return ", ".join(told)


def _load(fact: Fact) -> str:
    if fact.number is None:
        return fact.say("attribute", attribute=_keys(fact), value=fact.say("not_known"))
    return fact.say("load", fact.number, attribute=_keys(fact))


def _aggregate(fact: Fact) -> str:
    name = str(getattr(fact.column.declaration, "attribute", ""))
    quantity = fact.phrases.quantity(name)
    if fact.subject != (None, None):
        quantity = fact.say("of_things", quantity=quantity)
    if fact.number is None:
        return fact.say("no_value", quantity=quantity)
    key = {"last": "latest"}.get(str(fact.column.function), str(fact.column.function))
    return fact.say(key, quantity=quantity, value=fact.phrases.amount(name, fact.number))


def _plain(fact: Fact) -> str:
    """A column of a family without sentences of its own."""
    value = fact.say("not_known")
    if isinstance(fact.value, str):
        value = fact.phrases.name(fact.value)
    elif fact.number is not None:
        value = fact.phrases.number(fact.number)
    return fact.say("attribute", attribute=fact.phrases.attribute(fact.column.concept), value=value)


_TELL: Mapping[str, Callable[[Fact], str]] = {
    "count": _count,
    "recency": _recency,
    "age": _age,
    "decayed": _decayed,
    "trend": _trend,
    "distinct": _distinct,
    "gap": _gap,
    "repeat": _repeat,
    "last": _last,
    "share": _share,
    "topic": _topic,
    "attribute": _attribute,
    "calendar": _calendar,
    "rate": _rate,
    "load": _load,
    "aggregate": _aggregate,
}
