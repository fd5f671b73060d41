"""The wording of reasons in one language: messages, plurals, numbers, and what the user's own words are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from math import floor, log10
from typing import Any

from convpredict.config.reasons import Locale, Names
from convpredict.features import labels
from convpredict.features.declarations import OTHER
from convpredict.features.time_rule import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR

LOCALES: tuple[Locale, ...] = ("en", "de", "nl", "sv")
LONGEST = 120
"""Most characters of a reason."""

_LONGEST_WORD = 40
_MICROSECONDS_PER_MINUTE = MICROSECONDS_PER_HOUR // 60
_MINUTE = 60
_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
Message = str | dict[str, str] | list[str]


@cache
def catalogue(locale: Locale) -> Mapping[str, Message]:
    """All messages of a language: text with placeholders, ``one`` and ``other`` of it, or a list of words."""
    text = files("convpredict.models").joinpath("reason_messages", f"{locale}.json").read_text("utf-8")
    messages: dict[str, Message] = json.loads(text)
    return messages


@cache
def common_words(locale: Locale) -> Mapping[str, str | tuple[str, str]]:
    """Words for kinds and attributes that many CRMs have, such as ``call`` or ``source``; none in English.

    >>> common_words("de")["call"], common_words("nl")["source"]
    (('Anruf', 'Anrufe'), 'bron')
    """
    text = files("convpredict.models").joinpath("reason_messages", "words.json").read_text("utf-8")
    words: dict[str, str | list[str]] = json.loads(text).get(locale, {})
    return {name: word if isinstance(word, str) else (word[0], word[1]) for name, word in words.items()}


class Phrases:
    """Says things in one language.

    ``names`` gives the user's own words (kinds, attributes, values) in this language: singular and plural, or
    one form; they come before :func:`common_words`, which are for kinds and attributes alone. A word without one
    stays as it is.

    >>> Phrases("de", {"download": ("Download", "Downloads")}).things(2, "kind", "download")
    '2 Downloads'
    >>> Phrases("de").things(2, "kind", "download"), Phrases("de").things(2, "kind", "roundtable")
    ('2 Downloads', '2 × „roundtable“')
    >>> Phrases("en").things(1234.5, "kind", "page_visit")
    '1,234 page visits'
    """

    def __init__(self, locale: Locale, names: Names | None = None) -> None:
        self.locale = locale
        self._messages = catalogue(locale)
        self._values: Names = names or {}
        self._names = {**common_words(locale), **self._values}

    def say(self, key: str, n: float | None = None, **parts: object) -> str:
        """A message with its placeholders filled; ``n`` is a number that decides between one and other."""
        message = self._messages[key]
        number = None if n is None else self.number(n)
        if isinstance(message, dict):
            message = message["one" if number == "1" else "other"]
        if isinstance(message, list):
            raise TypeError(f"message {key} is a list of words")
        return message.format(n=number, **parts)

    def word(self, key: str, index: int) -> str:
        """One of a list of words, such as a month."""
        words = self._messages[key]
        return words[index % len(words)] if isinstance(words, list) else ""

    def number(self, x: float) -> str:
        """A number to three digits, whole from 100 on.

        >>> [Phrases("de").number(x) for x in (3.0, 0.01234, 12.34, 1234567.0)]
        ['3', '0,0123', '12,3', '1.234.567']
        """
        digits = 0 if x == 0 or abs(x) >= 100 else max(0, 2 - floor(log10(abs(x))))
        return self._marked(f"{float(x):,.{digits}f}", strip=True)

    def percent(self, share: float) -> str:
        """A share in percent, to one decimal from 1 % on.

        >>> Phrases("en").percent(0.0612), Phrases("nl").percent(0.0023), Phrases("sv").percent(0.5)
        ('6.1 %', '0,23%', '50 %')
        """
        text = f"{100 * share:.{1 if abs(share) >= 0.01 else 2}f}"
        return self.say("percent", number=self._marked(text, strip=True))

    def _marked(self, text: str, *, strip: bool) -> str:
        if strip and "." in text:
            text = text.rstrip("0").rstrip(".")
        decimal, thousands = self._messages["decimal"], self._messages["thousands"]
        return text.replace(",", "\0").replace(".", str(decimal)).replace("\0", str(thousands)) or "0"

    def name(self, word: str) -> str:
        """What a value of an attribute is called: by the user's words alone, for it may only look like a common one.

        >>> Phrases("de").name("event"), Phrases("de").kind("event"), Phrases("de").attribute("product")
        ('event', 'Veranstaltung', 'Produkt')
        """
        if word in self._values:
            return _short(self._given(word)[0])
        return _short(word if word.isupper() else word.replace("_", " "))

    def attribute(self, name: str) -> str:
        """What an attribute is called."""
        return _short(self._given(name)[0] if name in self._names else labels.spelled(name))

    def quantity(self, name: str) -> str:
        """What a numeric attribute is called, a currency in brackets, a unit that :meth:`amount` tells left out."""
        if name in self._names:
            return _short(self._given(name)[0])
        words, unit = labels.spelled_quantity(name), labels.unit_of(name)
        told_apart = unit in _SECONDS and words.lower().endswith(f" {unit}")
        return _short(words[: -len(unit) - 1] if told_apart else words)

    def amount(self, name: str, value: float) -> str:
        """A value of a numeric attribute; a length of time with its unit.

        >>> [Phrases("en").amount("talk_seconds", value) for value in (45.0, 3650.0, 86_400.0)]
        ['45 s', '1 h 1 min', '24 h']
        >>> Phrases("de").amount("amount_eur", 1500.0)
        '1.500'
        """
        unit = labels.unit_of(name)
        if unit not in _SECONDS or value < 0:
            return self.number(value)
        seconds = value * _SECONDS[unit]
        if seconds < _MINUTE:
            return f"{self.number(seconds)} s"
        hours, minutes = divmod(round(seconds / _MINUTE), _MINUTE)
        parts = [f"{self.number(hours)} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0)
        return " ".join(parts)

    def kind(self, value: str) -> str:
        """One kind of interaction, as a value."""
        if value == OTHER:
            return self.say("another_value")
        if value in self._names:
            return _short(self._given(value)[0])
        return _short(labels.spelled(value) if labels.noun_of(value) else value)

    def value(self, of: str, value: str) -> str:
        """A value of a category: of ``kind``, or of another attribute."""
        if value == OTHER:
            return self.say("another_value")
        return self.kind(value) if of == "kind" else self.name(value)

    def nouns(self, by: str | None, value: str | None) -> dict[str, str]:
        """``one`` and ``other``: singular and plural of the interactions that a column looks at."""
        return {"one": self._noun(by, value, 1), "other": self._noun(by, value, 2)}

    def things(self, count: float, by: str | None = None, value: str | None = None) -> str:
        """So many of the interactions that a column looks at."""
        whole = round(count) if abs(count) >= 100 or float(count).is_integer() else count
        number = self.number(whole)
        noun = self._noun(by, value, 1 if number == "1" else 2)
        raw = by == "kind" and value not in (None, OTHER) and self._own(str(value)) is None
        return self.say("counted_raw" if raw else "counted", count=number, noun=noun)

    def window(self, window_us: int | None) -> str:
        """A window up to the cutoff; ``None`` is the whole history."""
        return self.say("window_all") if window_us is None else self._span("window", window_us)

    def within(self, duration_us: int) -> str:
        """A length of time that something takes at most."""
        return self._span("within", duration_us)

    def ago(self, days: float, cutoff_us: int | None) -> str:
        """How long before the cutoff: by UTC days of the calendar where the cutoff is known, else by 24 hours."""
        if cutoff_us is None:
            whole = floor(days)
            return self.say("days_ago", whole) if whole >= 1 else self.say("less_than_a_day_ago")
        event_us = cutoff_us - round(days * MICROSECONDS_PER_DAY)
        passed = cutoff_us // MICROSECONDS_PER_DAY - event_us // MICROSECONDS_PER_DAY
        return self.say({0: "today", 1: "yesterday"}.get(passed, "days_ago"), passed)

    def _span(self, key: str, span_us: int) -> str:
        for unit, size, least in (
            ("days", MICROSECONDS_PER_DAY, 2),
            ("hours", MICROSECONDS_PER_HOUR, 1),
        ):
            if span_us % size == 0 and span_us >= least * size:
                return self.say(f"{key}_{unit}", span_us // size)
        return self.say(f"{key}_minutes", span_us / _MICROSECONDS_PER_MINUTE)

    def _given(self, word: str) -> tuple[str, str]:
        given: Any = self._names[word]
        return (given, given) if isinstance(given, str) else (given[0], given[1])

    def _own(self, kind: str) -> tuple[str, str] | None:
        """The kind's noun in this language, if there is one."""
        if kind in self._names:
            return self._given(kind)
        return labels.spelled_noun_of(kind) if self.locale == "en" else None

    def _noun(self, by: str | None, value: str | None, count: int) -> str:
        if by is None or value is None:
            return self.say("any", count)
        if by != "kind":
            parts = {"attribute": self.attribute(by), "value": _short(self.name(value))}
            return self.say("with_other_value" if value == OTHER else "with_value", count, **parts)
        if value == OTHER:
            return self.say("other_kind", count)
        own = self._own(value)
        if own is not None:
            return _short(own[count > 1])
        return self.say("raw_kind", count, name=self.kind(value))


def _short(text: str, longest: int = _LONGEST_WORD) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def shorten(text: str) -> str:
    """A reason at its greatest length.

    >>> len(shorten("long " * 50)), shorten("short")
    (120, 'short')
    """
    return _short(" ".join(text.split()), LONGEST)
