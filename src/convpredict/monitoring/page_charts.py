"""The charts of the monitoring page: each takes rows of plain data and returns an SVG element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from ..evaluation.report.numbers import brackets, compact, count, decimal, is_known, percent, percent_brackets
from ..evaluation.report.svg import Plot, Scale, linear_ticks
from .reports import parse_instant

LEFT, RIGHT, TOP, BOTTOM = 58.0, 468.0, 28.0, 268.0
WIDE = 1.9 * RIGHT
RATIO_TICKS = (0.1, 0.2, 0.5, 0.7, 1.0, 1.4, 2.0, 5.0, 10.0)
_DAY = 86_400.0


def status_strip(nights: Sequence[Mapping[str, Any]]) -> Markup:
    """One bar per night from the oldest to the newest: published, published with warnings, stopped or failed."""
    plot = Plot(
        "Status of the nights",
        "One bar for each night, the newest on the right: full height where it was published, half where gates "
        "warned, a short mark where it was stopped or failed.",
        Scale(0, max(len(nights), 1), 4, WIDE),
        Scale(0, 1, 44, 4),
        width=904,
        height=66,
    )
    width = (WIDE - 4) / max(len(nights), 1)
    for k, night in enumerate(nights):
        share = {"published": 1.0, "warned": 0.62}.get(night["tone"], 0.3)
        kind = {"published": "fill actual", "warned": "fill warned"}.get(night["tone"], "fill stopped")
        top = plot.y(share)
        gap = min(1.5, width / 4)
        plot.bar(plot.x(k) + gap, top, min(width, 40) - 2 * gap, plot.y(0) - top, kind, night["tip"])
    if nights:
        plot.text((4, 62), nights[0]["night"][:10], "tick")
        if len(nights) > 1:
            plot.text((WIDE, 62), nights[-1]["night"][:10], "tick", anchor="end")
    return plot.render()


def over_nights_chart(
    title: str, rows: Sequence[Mapping[str, Any]], *, y_title: str, reference: str | None = None
) -> Markup:
    """A number per night as a line; ``rows`` have ``night``, ``value``, ``tip`` and what ``reference`` names.

    The reference is drawn dotted: what chance explains, say.
    """
    known = [row for row in rows if is_known(row["value"])]
    others = [row[reference] for row in known if reference and is_known(row.get(reference))]
    whole = all(float(row["value"]).is_integer() for row in known)
    top = 1.08 * max([row["value"] for row in known] + others + [1.0 if whole else 1e-3])
    plot = Plot(title, f"{y_title} by night.", _time_scale(known), Scale(0, top, BOTTOM, TOP), height=310)
    ticks = linear_ticks(0, top, 4)
    if whole:
        ticks = [tick for tick in ticks if tick == int(tick)]
    _time_grid(plot, known, ticks, compact, y_title)
    if reference:
        line = [
            plot.at(_seconds(row["night"]), row[reference]) for row in known if is_known(row.get(reference))
        ]
        plot.path(line, "reference open")
    plot.path([plot.at(_seconds(row["night"]), row["value"]) for row in known], "line model")
    for row in known:
        place = plot.at(_seconds(row["night"]), row["value"])
        if row.get("alarm"):
            plot.dot(place, "dot alarm", row["tip"], 5)
        elif len(known) == 1:
            plot.dot(place, "dot model", row["tip"])
        else:
            plot.target(place, row["tip"])
    return plot.render()


def ratio_chart(title: str, rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Promised over observed conversions of consecutive nights, with intervals, on a logarithmic scale."""
    ends = [row[name] for row in rows for name in ("ratio", "low", "high") if is_known(row[name])]
    positive = [value for value in ends if value > 0]
    low = max(min([*positive, 1.0]) / 1.1, 0.1)
    high = min(max([*positive, 1.0]) * 1.1, 10.0)
    low, high = min(low, 0.7), max(high, 1.4)
    plot = Plot(
        title,
        "Promised over observed conversions, with intervals; at 1 as many convert as were promised.",
        _time_scale(rows),
        Scale(low, high, BOTTOM, TOP, log=True),
        height=310,
    )
    ticks = [tick for tick in RATIO_TICKS if low <= tick <= high]
    _time_grid(plot, rows, ticks, lambda v: f"{v:g}", "promised / observed")
    plot.line((LEFT, plot.y(1)), (RIGHT, plot.y(1)), "reference")
    for row in rows:
        at = _seconds(row["night"])
        top = row["high"] if is_known(row["high"]) else high
        plot.line(plot.at(at, row["low"]), plot.at(at, top), "interval model")
        shown = is_known(row["ratio"])
        said = (
            f"{decimal(row['ratio'], 2)} {brackets(row['low'], row['high'], 2)}"
            if shown
            else "none converted"
        )
        tip = (
            f"nights from {row['first'][:10]} to {row['last'][:10]}: promised / observed {said}; "
            f"{decimal(row['expected'], 1)} promised, {decimal(row['observed'], 1)} came"
        )
        kind = "dot model" if shown else "dot model hollow"
        plot.dot(plot.at(at, row["ratio"] if shown else high), kind, tip)
    return plot.render()


def captured_chart(title: str, rows: Sequence[Mapping[str, Any]], share: float) -> Markup:
    """Share of the converters in the top of the list, over consecutive nights, with intervals."""
    known = [row for row in rows if is_known(row["share"])]
    plot = Plot(
        title,
        "Share of the converters that were in the top of the list, with intervals; the dotted line is chance.",
        _time_scale(rows),
        Scale(0, 1, BOTTOM, TOP),
        height=310,
    )
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    _time_grid(plot, rows, ticks, lambda v: percent(v, 2), "converters captured")
    plot.line((LEFT, plot.y(share)), (RIGHT, plot.y(share)), "reference")
    for row in known:
        at = _seconds(row["night"])
        plot.line(plot.at(at, row["low"]), plot.at(at, row["high"]), "interval model")
        tip = (
            f"nights from {row['first'][:10]} to {row['last'][:10]}: {percent(row['share'], 2)} "
            f"{percent_brackets(row['low'], row['high'], 2)}, {decimal(row['found'], 1)} of {count(row['of'])}"
        )
        plot.dot(plot.at(at, row["share"]), "dot model", tip)
    return plot.render()


def _seconds(night: str) -> float:
    return parse_instant(night).timestamp()


def _time_scale(rows: Sequence[Mapping[str, Any]]) -> Scale:
    at = [_seconds(row["night"]) for row in rows] or [0.0]
    margin = max(0.03 * (max(at) - min(at)), _DAY / 2)
    return Scale(min(at) - margin, max(at) + margin, LEFT, RIGHT)


def _time_grid(
    plot: Plot, rows: Sequence[Mapping[str, Any]], y_ticks: Sequence[float], y_text: Any, y_title: str
) -> None:
    at = sorted({_seconds(row["night"]) for row in rows})
    wanted = min(4, len(at))
    step = (len(at) - 1) / max(wanted - 1, 1)
    ticks = [at[math.floor(k * step + 0.5)] for k in range(wanted)] if at else []
    same_year = len({_utc(tick).year for tick in ticks}) == 1
    form = "%d %b" if same_year else "%d %b %y"
    plot.grid(
        ticks,
        y_ticks,
        lambda s: _utc(s).strftime(form),
        y_text,
        x_title="cutoff of the night",
        y_title=y_title,
    )


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
