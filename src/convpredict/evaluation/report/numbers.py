"""How the report writes numbers: a point for decimals, a comma for thousands, a narrow space before the percent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SPACE = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


def is_known(value: Any) -> bool:
    """Whether a value is a finite number.

    >>> is_known(None), is_known(float("inf")), is_known(0)
    (False, False, True)
    """
    return isinstance(value, int | float) and math.isfinite(value)


def count(value: Any) -> str:
    """A whole number.

    >>> count(12345.4), count(None)
    ('12,345', '–')
    """
    return f"{value:,.0f}".replace("-", MINUS) if is_known(value) else NONE


def decimal(value: Any, digits: int = 3, *, signed: bool = False) -> str:
    """A number with fixed decimals; a rounded zero carries no sign.

    >>> decimal(.79146), decimal(-.0004, signed=True), decimal(1.2, 2, signed=True)
    ('0.791', '0.000', '+1.20')
    """
    if not is_known(value):
        return NONE
    text = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def percent(value: Any, figures: int = 3, *, digits: int | None = None, signed: bool = False) -> str:
    """A share in percent, with so many significant figures and no more than four decimals, or with fixed ``digits``.

    >>> percent(.0132648), percent(.5), percent(.0005, 1), percent(1), percent(-.0001, digits=1, signed=True)
    ('1.33\\u202f%', '50\\u202f%', '0.05\\u202f%', '100\\u202f%', '0.0\\u202f%')
    """
    if not is_known(value):
        return NONE
    size = abs(100 * value)
    whole = math.floor(math.log10(size)) + 1 if size > 0 else 1
    fixed = digits is not None
    digits = max(0, min(figures - whole, 4)) if digits is None else digits
    text = f"{100 * value:+.{digits}f}" if signed else f"{100 * value:.{digits}f}"
    if "." in text and not fixed:
        text = text.rstrip("0").rstrip(".")
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS) + SPACE + "%"


def money(value: Any, currency: str = "") -> str:
    """An amount, rounded to whole units.

    >>> money(12345.6, "EUR"), money(12345.6)
    ('12,346\\u202fEUR', '12,346')
    """
    return f"{count(value)}{SPACE}{currency}" if currency and is_known(value) else count(value)


def compact(value: float) -> str:
    """A short number for the ticks of an axis.

    >>> compact(0.05), compact(1500), compact(20000), compact(2500000)
    ('0.05', '1,500', '20k', '2.5M')
    """
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:,.10g}"


def brackets(low: Any, high: Any, digits: int = 3, *, signed: bool = False, unbounded: str = "∞") -> str:
    """The ends of an interval; empty where there is none.

    >>> brackets(.1, .25, 2), brackets(None, None), brackets(.5, None, 1)
    ('[0.10, 0.25]', '', '[0.5, ∞]')
    """
    if not is_known(low):
        return ""
    end = decimal(high, digits, signed=signed) if is_known(high) else unbounded
    return f"[{decimal(low, digits, signed=signed)}, {end}]"


def percent_brackets(
    low: Any, high: Any, figures: int = 3, *, digits: int | None = None, signed: bool = False
) -> str:
    """The ends of an interval of a share, in percent.

    >>> percent_brackets(.1, .25)
    '[10, 25]\\u202f%'
    """
    if not is_known(low) or not is_known(high):
        return ""
    first, last = (percent(end, figures, digits=digits, signed=signed) for end in (low, high))
    return f"[{first.removesuffix(SPACE + '%')}, {last.removesuffix(SPACE + '%')}]{SPACE}%"


def entry_text(
    entry: Mapping[str, Any] | None, digits: int = 3, *, signed: bool = False, share: bool = False
) -> dict[str, str]:
    """Value and interval of an entry of ``metrics.json`` as text; a ``share`` is written in percent.

    >>> entry_text({"value": .5, "low": .25, "high": 1})
    {'value': '0.500', 'interval': '[0.250, 1.000]'}
    """
    if entry is None:
        return {"value": "", "interval": ""}
    if entry.get("value") is None:
        return {"value": "undefined", "interval": ""}
    if share:
        return {
            "value": percent(entry["value"], digits=1, signed=signed),
            "interval": percent_brackets(entry.get("low"), entry.get("high"), digits=1, signed=signed),
        }
    return {
        "value": decimal(entry["value"], digits, signed=signed),
        "interval": brackets(entry.get("low"), entry.get("high"), digits, signed=signed),
    }


def day(instant: Any) -> str:
    """The day of an ISO 8601 instant.

    >>> day("2025-07-15T00:00:00+00:00"), day(None)
    ('2025-07-15', '–')
    """
    return str(instant)[:10] if instant else NONE
