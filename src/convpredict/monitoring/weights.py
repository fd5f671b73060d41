"""How much each judged night counts, so that sums over nights count each conversion once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from ..config.base import Duration
from .reports import parse_instant

PREFIX = "p_convert_"
"""What the name of a column of probabilities begins with; the horizon follows."""

Nights = Iterable[tuple[datetime, Collection[str] | None]]
"""Published nights that count: the cutoff, and the columns of probabilities (None: those of all horizons)."""


def weighted(judged: Sequence[Mapping[str, Any]], published: Nights) -> list[dict[str, Any]]:
    """The judged nights, each with its ``weight``: the time to the next night over the horizon, at most 1.

    Nights that lie closer together than the horizon see the same conversions. Which night is the next one may change
    after a night was judged (a back-fill publishes nights in between), so weights belong to no report: they are made
    here, of all nights published by now, whenever nights are pooled.

    >>> nights = [{"cutoff": f"2025-06-{day:02d}T00:00:00+00:00", "horizon": "7d"} for day in (1, 8)]
    >>> [night["weight"] for night in weighted(nights, [])]
    [1.0, 1.0]
    >>> between = datetime.fromisoformat("2025-06-02T00:00:00+00:00"), None
    >>> [round(night["weight"], 3) for night in weighted(nights, [between])]
    [0.143, 1.0]
    """
    nights = list(published)
    following = {
        horizon: _following(judged, nights, horizon)
        for horizon in {str(entry["horizon"]) for entry in judged}
    }
    return [
        {**entry, "weight": _weight(parse_instant(entry["cutoff"]), following[str(entry["horizon"])], entry)}
        for entry in judged
    ]


def published_nights(manifests: Iterable[Mapping[str, Any]]) -> Nights:
    """The nights that manifests tell of, as :func:`weighted` takes them: published, by a model that knew no later."""
    return [
        (parse_instant(manifest["cutoff"]), manifest.get("probability_columns"))
        for manifest in manifests
        if manifest["status"] == "published" and not manifest.get("model_knew_later")
    ]


def _following(judged: Sequence[Mapping[str, Any]], nights: Nights, horizon: str) -> dict[datetime, datetime]:
    """The next cutoff after each one but the last; several publications of one cutoff are one night."""
    cutoffs = {cutoff for cutoff, columns in nights if columns is None or PREFIX + horizon in columns}
    cutoffs |= {parse_instant(entry["cutoff"]) for entry in judged if entry["horizon"] == horizon}
    ordered = sorted(cutoffs)
    return dict(pairwise(ordered))


def _weight(cutoff: datetime, following: Mapping[datetime, datetime], entry: Mapping[str, Any]) -> float:
    if cutoff not in following:
        return 1.0
    gap = (following[cutoff] - cutoff) // timedelta(microseconds=1)
    return min(1.0, gap / Duration(str(entry["horizon"])).microseconds)
