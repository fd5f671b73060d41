"""What a declared feature becomes: columns with a derived name, unit, human label and concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convpredict.config.features import Feature

OTHER = "(other)"
"""The bucket that rare values and values never seen in training share."""


@dataclass(frozen=True)
class FeatureColumn:
    """One column of a feature table.

    ``window_us`` and ``half_life_us`` are microseconds (``None``: the window ``all``, or no window; for a
    trend the short one). ``value`` is the value of ``by`` (``None``: overall). ``function`` is sum, mean, max
    or last of an aggregate; mean, deviation or silence of a gap; count,
    rate, span, silence or expected of a repeat; rate or volume of a rate; month, weekday or
    hour of a calendar. ``index`` is 1..k of ``last`` and the bin of ``share``. ``categories`` holds the
    vocabulary and ``(other)`` of a category column. Columns of one ``concept`` tell about one thing, in
    several windows say.
    """

    name: str
    label: str
    unit: str
    concept: str
    type: Literal["number", "category"]
    declaration: Feature
    window_us: int | None = None
    half_life_us: int | None = None
    value: str | None = None
    function: str | None = None
    index: int | None = None
    categories: tuple[str, ...] = ()
