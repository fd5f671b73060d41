"""The gates before publishing: from which value on each one warns, and from which it stops the night."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .base import Duration, PositiveDuration, Strict

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Limits(Strict):
    """From ``warn`` on a gate warns, from ``stop`` on it stops the night; None: never."""

    warn: Amount | None = None
    stop: Amount | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.warn is not None and self.stop is not None and self.warn > self.stop:
            raise ValueError(f"'warn' ({self.warn:g}) must not lie above 'stop' ({self.stop:g})")
        return self


class AgeLimits(Strict):
    """From the age ``warn`` on a gate warns, from ``stop`` on it stops the night; None: never."""

    warn: PositiveDuration | None = None
    stop: PositiveDuration | None = None

    @model_validator(mode="after")
    def _ordered(self) -> AgeLimits:
        if self.warn is not None and self.stop is not None and self.warn > self.stop:
            raise ValueError(f"'warn' ({self.warn}) must not be longer than 'stop' ({self.stop})")
        return self


class FreshnessConfig(Strict):
    """How long the data may have been silent: as a whole (``data``), single kinds of interactions, and leads,
    conversions and revenue.

    A kind is silent where events that should have come by its own past did not: ``days`` back are looked at,
    against ``reference`` before them. ``missing_events`` is the number of events that must be missing by then.
    ``ignore_kinds``: kinds that ended on purpose.
    """

    data: AgeLimits = AgeLimits(warn=Duration("36h"), stop=Duration("3d"))
    missing_events: Limits = Limits(warn=10, stop=30)
    reference: PositiveDuration = Duration("56d")
    ignore_kinds: tuple[str, ...] = ()


class GatesConfig(Strict):
    """One entry a gate (docs/reference/gates.md says what each measures)."""

    rows: Limits = Limits(warn=0.2, stop=0.5)
    tables: Limits = Limits(warn=0.02, stop=0.2)
    missing: Limits = Limits(warn=0.1, stop=0.3)
    scores_training: Limits = Limits(warn=0.25, stop=1.0)
    scores_last_night: Limits = Limits(warn=0.1, stop=0.5)
    unknown: Limits = Limits(warn=0.05, stop=0.25)
    freshness: FreshnessConfig = FreshnessConfig()
    volume: Limits = Limits(warn=0.4, stop=0.7)
    hours: Limits = Limits(warn=0.25)
    model_age: AgeLimits = AgeLimits(warn=Duration("120d"), stop=Duration("365d"))
    quarantine: Limits = Limits(warn=0.01, stop=0.05)
