"""Single values of raw leads, checked: an error names the row (from 1), the column and the entry, never the value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from convpredict.errors import DataError
from convpredict.features.vocabulary import microseconds_of

from .feature_rows import category_text, is_missing

_DIGITS = re.compile(r"[+-]?\d{1,38}")
_LAST = 2**130


@dataclass(frozen=True)
class Place:
    """Where a value stands, for errors."""

    row: int
    column: str
    entry: int | None = None
    field: str = ""

    def __str__(self) -> str:
        if self.entry is None:
            return f"row {self.row}: '{self.column}'"
        return f"row {self.row}: '{self.field}' of entry {self.entry} of '{self.column}'"


def entries_of(value: Any, row: int, column: str) -> Iterator[Mapping[str, Any]]:
    """The entries of a list of mappings, which may be JSON text, or an array as Spark and Parquet give it."""
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise DataError(
                f"row {row}: '{column}' is no JSON; give a list of objects, or one as JSON text"
            ) from None
    if not isinstance(value, list | tuple | np.ndarray):
        if is_missing(value):
            return
        raise DataError(
            f"row {row}: '{column}' must be a list of objects, or one as JSON text; got a {type(value).__name__}"
        )
    for number, entry in enumerate(value, 1):
        found = entry.asDict() if hasattr(entry, "asDict") else entry
        if not isinstance(found, Mapping):
            raise DataError(
                f"row {row}: entry {number} of '{column}' must be an object with names and values; got a "
                f"{type(entry).__name__}"
            )
        yield found


def value_of(value: Any, kind: str, place: Place) -> Any:
    """A value as features take it: text, a float or µs; None where there is nothing."""
    if is_missing(value):
        return None
    if kind == "category":
        return _text(value, place)
    if kind == "number":
        return _amount(value, place)
    return instant_of(value, place)


def _text(value: Any, place: Place) -> str:
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if not isinstance(value, str | int | float | np.generic):
        raise DataError(f"{place} is a category and must be text; got a {type(value).__name__}")
    text = category_text(value, place.row, place.column)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{place} is no text in Unicode (half of a surrogate pair stands alone); repair its encoding where it "
            "comes from"
        ) from None
    return text


def _amount(value: Any, place: Place) -> float | None:
    text = value.strip().lower() if isinstance(value, str) else value
    if text in ("", "nan", "none", "null"):
        return None
    try:
        number = math.nan if isinstance(text, str) and "_" in text else float(text)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place} is no finite number; give one, or nothing where it is not known")
    return number


def changed_value(value: Any, kind: str, row: int, number: int) -> str | None:
    """The value of a change, checked, as the text that a table of changes holds."""
    place = Place(row, "attribute_changes", number, "value")
    found = value_of(value, kind, place)
    if found is None:
        return None
    if kind == "time":
        return str(pd.Timestamp(found, unit="us", tz="UTC").isoformat())
    return repr(found) if kind == "number" else str(found)


def needed_instant(entry: Mapping[str, Any], place: Place) -> int:
    """The instant of an entry's field, in µs."""
    value = entry.get(place.field)
    if is_missing(value):
        raise DataError(f"{place} is missing; every entry needs it")
    return instant_of(value, place)


def optional_instant(entry: Mapping[str, Any], name: str, place: Place, *, unless_stated: int) -> int:
    """The same where the field may be missing."""
    value = entry.get(name)
    if is_missing(value):
        return unless_stated
    return instant_of(value, Place(place.row, place.column, place.entry, name))


def optional_instants(frame: pd.DataFrame, column: str) -> list[int | None]:
    """A column of instants in µs, None where there is nothing."""
    return [
        None if is_missing(value) else instant_of(value, Place(row, column))
        for row, value in enumerate(frame[column].tolist(), 1)
    ]


def instant_of(value: Any, place: Place) -> int:
    """µs of an instant: text in ISO 8601 or a timestamp, either with an offset."""
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            found = None
    if not isinstance(found, datetime):
        raise DataError(f"{place} is no time in ISO 8601, like 2024-03-18T02:00:00Z; give one")
    if found.tzinfo is None:
        raise DataError(
            f"{place} has no offset, so nobody knows which instant it is; add one, like 2024-03-18T02:00:00Z or +01:00"
        )
    return microseconds_of(found.to_pydatetime(warn=False) if isinstance(found, pd.Timestamp) else found)


def ties_of(ids: Sequence[Any], row: int) -> list[int]:
    """Ranks by event id, as in a loaded history: whole numbers by value, then text, then those without, each in order.

    Raises DataError where an id is repeated: one of the two would count twice.
    """
    keys: list[tuple[int, str, int]] = []
    seen: set[str] = set()
    for number, given in enumerate(ids):
        if is_missing(given):
            keys.append((_LAST + 1, "", number))
            continue
        text = category_text(given, row, "interactions")
        if text in seen:
            raise DataError(
                f"row {row}: entry {number + 1} of 'interactions' repeats the event_id of an earlier one; give "
                "each once"
            )
        seen.add(text)
        keys.append((int(text) if _DIGITS.fullmatch(text) else _LAST, text, number))
    ranks = [0] * len(ids)
    for rank, number in enumerate(sorted(range(len(ids)), key=keys.__getitem__)):
        ranks[number] = rank
    return ranks
