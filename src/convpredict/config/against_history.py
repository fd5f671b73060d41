"""Settings that only a loaded history can refute: windows, horizons and dates outside its span."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pyarrow.compute as pc

from ..errors import ConfigError
from .base import Duration
from .root import Config
from .training import AgeCutoffs, GridCutoffs


class HistorySpan(Protocol):
    """What is looked at: the leads' ``created_at`` and the end of complete data."""

    @property
    def leads(self) -> Any:
        """The Arrow table of leads."""

    @property
    def known_until(self) -> datetime:
        """The end of complete data."""


def check_against_history(config: Config, history: HistorySpan) -> None:
    """Raise :class:`ConfigError` for a window, horizon, age or date that this history cannot fill.

    The history spans from its first lead's creation to ``known_until``. The error names the key and the span.
    """
    first = pc.min(history.leads["created_at"]).as_py()
    if first is None:
        return
    start, end = first.astimezone(UTC), history.known_until
    for key, duration in _durations(config):
        if timedelta(microseconds=duration.microseconds) > end - start:
            raise ConfigError(
                f"{key} is {duration}, but the history spans only {(end - start).days} days ({start:%Y-%m-%d} to "
                f"{end:%Y-%m-%d}), so it could never be filled. Shorten it, or load a longer history."
            )
    for key, moment in _instants(config):
        if moment is not None and not start <= moment < end:
            raise ConfigError(
                f"{key} is {moment:%Y-%m-%d}, but the history spans {start:%Y-%m-%d} to {end:%Y-%m-%d}; "
                "choose an instant within it."
            )


def _durations(config: Config) -> Iterator[tuple[str, Duration]]:
    for position, horizon in enumerate(config.labels.horizons):
        yield f"labels.horizons[{position}]", horizon
    cutoffs = config.observations.cutoffs
    if isinstance(cutoffs, GridCutoffs):
        yield "observations.cutoffs.every", cutoffs.every
    if isinstance(cutoffs, AgeCutoffs):
        for position, age in enumerate(cutoffs.ages):
            yield f"observations.cutoffs.ages[{position}]", age
    for position, feature in enumerate(config.features.declare):
        key = f"features.declare[{position}]"
        for index, window in enumerate(getattr(feature, "windows", ())):
            if isinstance(window, Duration):
                yield f"{key}.windows[{index}]", window
        for name in ("short", "long", "within"):
            if isinstance(value := getattr(feature, name, None), Duration):
                yield f"{key}.{name}", value


def _instants(config: Config) -> Iterator[tuple[str, datetime | None]]:
    yield "split.test_from", config.split.test_from
    yield "split.calibrate_from", config.split.calibrate_from
