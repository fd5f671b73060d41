"""The wording of columns: plain English from the names and values of the user's own data."""

from __future__ import annotations

import re
import unicodedata

from convpredict.config.base import Duration

from .declarations import OTHER

_PAST = re.compile(r".*ed$|(?:sent|bought|sold|won|lost|done|made|seen|read|left|met|paid|held)$")
_WORD = re.compile(r"[A-Za-z]?[a-z]+")
_UNITS = {
    "eur": "EUR",
    "usd": "USD",
    "gbp": "GBP",
    "chf": "CHF",
    "seconds": "seconds",
    "minutes": "minutes",
    "hours": "hours",
    "days": "days",
    "weeks": "weeks",
    "months": "months",
    "years": "years",
    "percent": "percent",
    "share": "share",
}
DAY_PARTS = ("0 and 6", "6 and 12", "12 and 18", "18 and 24")
WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def slug(text: str) -> str:
    """Text as part of a column name: lower case ASCII letters, digits and underscores, at most 40.

    >>> slug("E-Mail geöffnet!"), slug("Звонок"), slug("(other)")
    ('e_mail_geoffnet', 'value', 'other')
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", ascii_text).strip("_")[:40].rstrip("_") or "value"


def humanize(name: str) -> str:
    """A column's name as words.

    >>> humanize("talk_time"), humanize("Utm-Campaign"), humanize("URL")
    ('talk time', 'utm campaign', 'URL')
    """
    words = spelled(name)
    return words if words.isupper() else words.lower()


def spelled(name: str) -> str:
    """A name as words in the user's own spelling.

    >>> spelled("Utm-Campaign"), spelled("Letzter_Anruf")
    ('Utm Campaign', 'Letzter Anruf')
    """
    return re.sub(r"[_\s-]+", " ", name).strip() or name


def unit_of(name: str) -> str:
    """Unit of a numeric attribute: read off the end of its name, or else the name itself.

    >>> unit_of("amount_eur"), unit_of("talk_minutes"), unit_of("score")
    ('EUR', 'minutes', 'score')
    """
    return _UNITS.get(slug(name).rsplit("_", 1)[-1], humanize(name))


def quantity(name: str) -> str:
    """A numeric attribute as words, a currency in brackets.

    >>> quantity("amount_eur"), quantity("talk_minutes")
    ('amount (EUR)', 'talk minutes')
    """
    return _with_currency(name, humanize(name))


def spelled_quantity(name: str) -> str:
    """A numeric attribute in the user's own spelling, a currency in brackets.

    >>> spelled_quantity("Umsatz_EUR"), spelled_quantity("Talk_minutes")
    ('Umsatz (EUR)', 'Talk minutes')
    """
    return _with_currency(name, spelled(name))


def _with_currency(name: str, words: str) -> str:
    unit = unit_of(name)
    named = unit.isupper() and words.lower().endswith(" " + unit.lower())
    return f"{words[: -len(unit)].strip()} ({unit})" if named else words


def plural(noun: str) -> str:
    """Plural of an English noun phrase, good enough for the names that CRMs give to things.

    >>> [plural(noun) for noun in ("call", "page view", "reply", "survey", "visit", "pitch", "sales")]
    ['calls', 'page views', 'replies', 'surveys', 'visits', 'pitches', 'sales']
    """
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    if re.search(r"(?:ss|x|z|ch|sh)$", noun):
        return noun + "es"
    return noun if noun.endswith("s") else noun + "s"


def noun_of(kind: str) -> tuple[str, str] | None:
    """Singular and plural of a value of ``kind`` that reads as English; ``None`` for codes and the like.

    >>> noun_of("page_view"), noun_of("Deal created")
    (('page view', 'page views'), ('deal created', 'deals created'))
    >>> noun_of("A_SUBMITTED"), noun_of("opened"), noun_of("form 3"), noun_of("W_Review")
    (None, None, None, None)
    """
    noun = spelled_noun_of(kind)
    return None if noun is None else (noun[0].lower(), noun[1].lower())


def spelled_noun_of(kind: str) -> tuple[str, str] | None:
    """:func:`noun_of` in the user's own spelling.

    >>> spelled_noun_of("Page_View"), spelled_noun_of("Deal created")
    (('Page View', 'Page Views'), ('Deal created', 'Deals created'))
    """
    words = re.split(r"[ _-]", kind)
    if len(words) > 3 or kind.isupper() or not all(_WORD.fullmatch(word) for word in words):
        return None
    if not _PAST.match(words[-1].lower()):
        return " ".join(words), plural(" ".join(words))
    if len(words) == 1:
        return None
    return " ".join(words), f"{plural(' '.join(words[:-1]))} {words[-1]}"


def interactions(by: str | None = None, value: str | None = None) -> str:
    """The interactions that a column looks at, in the plural.

    >>> interactions(), interactions("kind", "Page_View"), interactions("kind", "email_opened")
    ('interactions', 'page views', 'emails opened')
    >>> interactions("outcome", "no answer"), interactions("outcome", "(other)")
    ("interactions with outcome 'no answer'", 'interactions with another outcome')
    """
    if by is None or value is None:
        return "interactions"
    if by == "kind":
        if value == OTHER:
            return "interactions of other kinds"
        noun = noun_of(value)
        return noun[1] if noun else f"'{value}' interactions"
    return (
        f"interactions with another {humanize(by)}"
        if value == OTHER
        else f"interactions with {humanize(by)} '{value}'"
    )


def interaction(by: str | None = None, value: str | None = None) -> str:
    """One such interaction, in the singular.

    >>> interaction(), interaction("kind", "call"), interaction("kind", "(other)")
    ('interaction', 'call', 'interaction of another kind')
    >>> interaction("kind", "A_SUBMITTED"), interaction("outcome", "busy")
    ("'A_SUBMITTED' interaction", "interaction with outcome 'busy'")
    """
    if by is None or value is None:
        return "interaction"
    if by == "kind":
        if value == OTHER:
            return "interaction of another kind"
        noun = noun_of(value)
        return noun[0] if noun else f"'{value}' interaction"
    return (
        f"interaction with another {humanize(by)}"
        if value == OTHER
        else f"interaction with {humanize(by)} '{value}'"
    )


def concept_of(by: str | None = None, value: str | None = None) -> str:
    """What the columns about these interactions tell about.

    >>> concept_of(), concept_of("kind", "Page_View"), concept_of("outcome", "busy")
    ('activity', 'page view', 'outcome busy')
    """
    if by is None or value is None:
        return "activity"
    if by == "kind":
        return "other kinds" if value == OTHER else humanize(value)
    return f"{humanize(by)} {'other' if value == OTHER else value}"


def length(duration: Duration) -> str:
    """A duration in words.

    >>> [length(Duration(text)) for text in ("7d", "1d", "36h", "90m")]
    ['7 days', '1 day', '36 hours', '90 minutes']
    """
    text = str(duration)
    number, unit = text[:-1], {"d": "day", "h": "hour", "m": "minute"}[text[-1]]
    return f"{number} {unit if number == '1' else unit + 's'}"


def in_window(window: Duration | None) -> str:
    """A window in words; ``None`` is the whole history.

    >>> in_window(Duration("7d")), in_window(Duration("1d")), in_window(None)
    ('in the last 7 days', 'in the last 24 hours', 'over the whole history')
    """
    if window is None:
        return "over the whole history"
    return f"in the last {'24 hours' if str(window) == '1d' else length(window)}"


def nth_last(index: int) -> str:
    """The i-th most recent, in words.

    >>> [nth_last(index) for index in (1, 2, 3, 4)]
    ['last', 'second last', 'third last', '4th last']
    """
    return {1: "last", 2: "second last", 3: "third last"}.get(index, f"{index}th last")


def event_of(attribute: str) -> str:
    """What happened at the time that an attribute holds.

    >>> event_of("trial_started_at"), event_of("renewal_date"), event_of("birthday")
    ('trial started', 'renewal', 'birthday')
    """
    return re.sub(r"(?<=.) (?:at|date|on|time)$", "", humanize(attribute))


def period(duration: Duration) -> str:
    """A repeated duration in words.

    >>> period(Duration("1d")), period(Duration("14d"))
    ('day', '14 days')
    """
    return length(duration).removeprefix("1 ")
