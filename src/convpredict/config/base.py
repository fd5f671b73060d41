"""The building blocks of the configuration: strict models, durations and instants with units."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import total_ordering
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, core_schema

_UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000}
_DURATION = re.compile(r"^\s*(\d+)\s*([dhm])\s*$")


class Strict(BaseModel):
    """A frozen configuration object that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@total_ordering
class Duration:
    """A length of time with its unit, written ``30d``, ``12h`` or ``90m``.

    >>> Duration("30d").microseconds == 30 * 86_400_000_000
    True
    >>> str(Duration("24h")), Duration("24h") == Duration("1d"), Duration("12h").days
    ('1d', True, 0.5)
    """

    __slots__ = ("microseconds",)
    microseconds: int

    def __init__(self, text: str | int) -> None:
        if isinstance(text, int) and not isinstance(text, bool):
            object.__setattr__(self, "microseconds", text)
            return
        match = _DURATION.match(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                f"a duration must be a whole number with a unit, like '30d', '12h' or '90m'; got {text!r}"
            )
        object.__setattr__(self, "microseconds", int(match[1]) * _UNITS[match[2]])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Duration is immutable")

    @property
    def days(self) -> float:
        """Length in days."""
        return self.microseconds / _UNITS["d"]

    def __str__(self) -> str:
        for unit, size in _UNITS.items():
            if self.microseconds % size == 0 and self.microseconds:
                return f"{self.microseconds // size}{unit}"
        return "0d" if self.microseconds == 0 else f"{self.microseconds / _UNITS['m']:g}m"

    def __repr__(self) -> str:
        return f"Duration('{self}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.microseconds == other.microseconds

    def __lt__(self, other: Duration) -> bool:
        return self.microseconds < other.microseconds

    def __hash__(self) -> int:
        return hash(self.microseconds)

    def __reduce__(self) -> tuple[type[Duration], tuple[int]]:
        return (Duration, (self.microseconds,))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def parse(value: Any) -> Duration:
            if isinstance(value, Duration):
                return value
            if not isinstance(value, str):
                raise ValueError(
                    f"a duration needs a unit, like '30d', '12h' or '90m'; got the bare value {value!r}"
                )
            return cls(value)

        return core_schema.no_info_plain_validator_function(
            parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^\s*\d+\s*[dhm]\s*$", "examples": ["30d", "12h", "90m"]}


def _positive_duration(value: Duration) -> Duration:
    if value.microseconds <= 0:
        raise ValueError(f"this duration must be longer than zero; got {value}")
    return value


PositiveDuration = Annotated[Duration, AfterValidator(_positive_duration)]
"""A :class:`Duration` longer than zero."""


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise ValueError(
                f"an instant must be written as ISO 8601, like '2024-03-18' or '2024-03-18T02:00:00Z'; got {value!r}"
            ) from None
    elif not isinstance(value, datetime) and hasattr(value, "year"):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError(f"an instant must be written as ISO 8601, like '2024-03-18'; got {value!r}")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Instant = Annotated[datetime, BeforeValidator(_instant)]
"""A UTC instant; a date or a time without offset is read as UTC."""
