"""The charts of the report: each takes a table and returns an SVG element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from .numbers import brackets, compact, count, decimal, is_known, money, percent, percent_brackets
from .svg import Plot, Scale, linear_ticks, log_ticks

Floats = NDArray[np.float64]

LEFT, RIGHT, TOP, BOTTOM = 58.0, 468.0, 28.0, 268.0
RATIO_TICKS = (0.1, 0.2, 0.5, 0.7, 1.0, 1.4, 2.0, 5.0, 10.0)
RARE = 0.2
"""Below this rate in the highest bin probabilities are drawn on a logarithmic scale."""


def reliability_chart(table: pd.DataFrame, p: Floats) -> Markup:
    """Observed against predicted rate by bin, with intervals, over a histogram of the probabilities."""
    rare = bool(table["predicted"].max() < RARE and (table["predicted"] > 0).all())
    low, high = _probability_range(table, p, rare)
    plot = Plot(
        "Calibration curve",
        "Observed conversion rate against predicted probability in bins of equal size, with intervals. "
        "On the dotted line predictions come true.",
        Scale(low, high, LEFT, RIGHT, log=rare),
        Scale(low, high, BOTTOM, TOP, log=rare),
        height=396,
    )
    ticks = log_ticks(low, high) if rare else linear_ticks(low, high)
    plot.grid(ticks, ticks, _percent, _percent, y_title="observed conversion rate")
    plot.line(plot.at(low, low), plot.at(high, high), "reference")
    shown = []
    for row in table.to_dict("records"):
        x, observed = plot.at(row["predicted"], row["observed"])
        plot.line((x, plot.y(row["observed_low"])), (x, plot.y(row["observed_high"])), "interval model")
        tip = (
            f"predicted {percent(row['predicted'])}, observed {percent(row['observed'])} "
            f"{percent_brackets(row['observed_low'], row['observed_high'])}; "
            f"{count(row['positives'])} of {count(row['rows'])} observations convert"
        )
        shown.append((x, observed, "dot model" if row["positives"] else "dot model hollow", tip))
    plot.path([(x, y) for x, y, kind, _ in shown if "hollow" not in kind], "line model thin")
    for x, y, kind, tip in shown:
        plot.dot((x, y), kind, tip)
    _histogram(plot, p, low, high, rare)
    return plot.render()


def _histogram(plot: Plot, p: Floats, low: float, high: float, rare: bool) -> None:
    edges = np.geomspace(low, high, 41) if rare else np.linspace(low, high, 41)
    counts, _ = np.histogram(np.clip(p, low, high), bins=edges)
    base, top = 366.0, 312.0
    scale = Scale(0, float(max(counts.max(), 1)), base, top)
    for k, rows in enumerate(counts.tolist()):
        x = plot.x(edges[k])
        plot.bar(x, scale(rows), plot.x(edges[k + 1]) - x - 1, base - scale(rows), "fill soft")
    plot.line((LEFT, base), (RIGHT, base), "axis")
    plot.text((LEFT - 8, top + 8), compact(float(counts.max())), "tick", anchor="end")
    plot.text(
        ((LEFT + RIGHT) / 2, 387), "predicted probability (bars: observations)", "axis-title", anchor="middle"
    )


def ratio_by_month_chart(table: pd.DataFrame) -> Markup:
    """Predicted over observed conversions by month of the cutoff, with intervals, on a logarithmic scale."""
    ends = table[["ratio", "ratio_low", "ratio_high"]].to_numpy(np.float64)
    finite = ends[np.isfinite(ends) & (ends > 0)]
    low = max(min(finite.min(initial=1.0) / 1.1, 0.7), 0.1)
    high = min(max(finite.max(initial=1.0) * 1.1, 1.4), 10.0)
    months = table["month"].tolist()
    plot = Plot(
        "Predicted over observed conversions by month",
        "One dot per month of the cutoff with its interval; at 1 as many convert as were predicted.",
        Scale(-0.6, len(months) - 0.4, LEFT, RIGHT),
        Scale(low, high, BOTTOM, TOP, log=True),
    )
    step = math.ceil(len(months) / 6)
    ticks = [float(k) for k in range(0, len(months), step)]
    plot.grid(
        ticks,
        [tick for tick in RATIO_TICKS if low <= tick <= high],
        lambda k: months[int(k)],
        lambda v: f"{v:g}",
        x_title="month of the cutoff",
        y_title="predicted / observed",
    )
    plot.line((LEFT, plot.y(1)), (RIGHT, plot.y(1)), "reference")
    for k, row in enumerate(table.to_dict("records")):
        known = is_known(row["ratio"])
        top = row["ratio_high"] if is_known(row["ratio_high"]) else high
        plot.line(plot.at(k, row["ratio_low"]), plot.at(k, top), "interval model")
        ends_text = brackets(row["ratio_low"], row["ratio_high"], 2)
        said = f"predicted / observed {decimal(row['ratio'], 2)} {ends_text}" if known else "no conversion"
        tip = (
            f"{row['month']}: {said}; {count(row['positives'])} of {count(row['rows'])} observations convert"
        )
        plot.dot(
            plot.at(k, row["ratio"] if known else high), "dot model" if known else "dot model hollow", tip
        )
    return plot.render()


def gain_chart(tables: Mapping[str, pd.DataFrame]) -> Markup:
    """Share of the converters captured against the share of the list that is worked."""
    plot = Plot(
        "Converters captured",
        "Share of the converters found against the share of the list that is worked, best scores first.",
        Scale(0, 1, LEFT, RIGHT),
        Scale(0, 1, BOTTOM, TOP),
    )
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    plot.grid(
        ticks, ticks, _percent, _percent, x_title="share of the list", y_title="share of the converters"
    )
    plot.line(plot.at(0, 0), plot.at(1, 1), "reference")
    _curves(plot, tables, "captured", start=0.0)
    return plot.render()


def lift_chart(tables: Mapping[str, pd.DataFrame]) -> Markup:
    """How many times better than chance the top of the list is."""
    first = min(float(table["share"].iloc[0]) for table in tables.values())
    tops = [float(table["lift"].max()) for table in tables.values()]
    bands = [
        float(np.nanmax(table["lift_high"].to_numpy(np.float64), initial=1.0)) for table in tables.values()
    ]
    top = max(1.2, min(1.08 * max(bands), 1.6 * max(tops)))
    plot = Plot(
        "Lift over chance",
        "How many times more converters than by chance, against the share of the list that is worked.",
        Scale(first, 1, LEFT, RIGHT, log=True),
        Scale(0, top, BOTTOM, TOP),
    )
    ticks = [tick for tick in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if tick >= first]
    plot.grid(
        ticks,
        linear_ticks(0, top),
        _percent,
        lambda v: f"{v:g}×",
        x_title="share of the list (logarithmic)",
        y_title="times chance",
    )
    plot.line((LEFT, plot.y(1)), (RIGHT, plot.y(1)), "reference")
    _curves(plot, tables, "lift")
    return plot.render()


def _curves(
    plot: Plot, tables: Mapping[str, pd.DataFrame], column: str, *, start: float | None = None
) -> None:
    for name, table in tables.items():
        x = table["share"].tolist()
        plot.band(x, table[f"{column}_low"].tolist(), table[f"{column}_high"].tolist(), f"band {name}")
    for name, table in reversed(list(tables.items())):
        points = [plot.at(x, y) for x, y in zip(table["share"], table[column], strict=True)]
        plot.path([plot.at(start, start), *points] if start is not None else points, f"line {name}")
    reference = next(iter(tables.values()))
    for k, share in enumerate(reference["share"].tolist()):
        said = [f"top {percent(share)}"]
        for name, table in tables.items():
            row = table.iloc[k]
            if column == "captured":
                ends = percent_brackets(row["captured_low"], row["captured_high"], 2)
                said.append(f"{name} {percent(row['captured'])} {ends}".rstrip())
            else:
                said.append(f"{name} {decimal(row['lift'], 1)}×")
        plot.target(
            plot.at(share, float(reference[column].iloc[k])), ": ".join((said[0], ", ".join(said[1:])))
        )


def capacity_chart(table: pd.DataFrame) -> Markup:
    """Conversions per quarter against calls a week, with a marker that the slider moves."""
    x = table["per_week"].tolist()
    who = ["model"] + (["scorecard"] if "scorecard_conversions" in table else [])
    columns = [f"{name}_conversions{end}" for name in who for end in ("", "_high")]
    top = 1.05 * max(1.0, float(np.nanmax(table[columns].to_numpy(np.float64))))
    plot = Plot(
        "Conversions found by calls a week",
        "Conversions per quarter that the lists hold, against the calls made in a week; the line marks the capacity "
        "that is chosen with the slider.",
        Scale(x[0], x[-1], LEFT, 1.9 * RIGHT, log=len(x) > 1 and x[0] > 0),
        Scale(0, top, BOTTOM, TOP),
        width=904,
    )
    plot.grid(
        log_ticks(x[0], x[-1], 9),
        linear_ticks(0, top),
        compact,
        compact,
        x_title="calls a week (logarithmic)",
        y_title="conversions per quarter",
    )
    for name in who:
        ends = [table[f"{name}_conversions_{end}"].tolist() for end in ("low", "high")]
        plot.band(x, ends[0], ends[1], f"band {name}")
    for name in reversed(who):
        y = table[f"{name}_conversions"].tolist()
        plot.path([plot.at(a, b) for a, b in zip(x, y, strict=True)], f"line {name}")
    plot.raw(
        f'<g id="capacity-marker" data-x="{" ".join(f"{plot.x(v):.1f}" for v in x)}">'
        f'<line class="marker" x1="0" y1="{TOP:g}" x2="0" y2="{BOTTOM:g}"/></g>'
    )
    return plot.render()


def decile_chart(table: pd.DataFrame, currency: str) -> Markup:
    """Predicted and actual revenue side by side in each tenth of the expected values, the highest first."""
    largest = float(np.nanmax(table[["predicted", "actual"]].to_numpy(np.float64), initial=0.0))
    top = 1.05 * largest if largest > 0 else 1.0
    plot = Plot(
        "Revenue by tenths of the expected value",
        "Predicted and actual revenue in each tenth of the observations, the highest expected values first.",
        Scale(0.4, len(table) + 0.6, LEFT, RIGHT),
        Scale(0, top, BOTTOM, TOP),
    )
    plot.grid(
        [float(k + 1) for k in range(len(table))],
        linear_ticks(0, top),
        lambda k: f"{k:g}",
        compact,
        x_title="tenth of the observations, highest expected value first",
        y_title=f"revenue{f', {currency}' if currency else ''}",
    )
    half = 0.36 * (RIGHT - LEFT) / (len(table) + 0.2)
    for k, row in enumerate(table.to_dict("records")):
        x = plot.x(k + 1)
        said = f"predicted {money(row['predicted'], currency)}, actual {money(row['actual'], currency)}"
        for start, name, kind in ((x - half, "predicted", "model"), (x + 1, "actual", "actual")):
            at = plot.y(max(row[name], 0.0))
            plot.bar(start, at, half - 1, BOTTOM - at, f"fill {kind}", f"tenth {k + 1}: {said}")
    return plot.render()


def interval_strip(
    value: float, low: float, high: float, scale: Scale, reference: float | None, kind: str
) -> Markup:
    """A small dot with its interval, for a row of a table; the numbers stand beside it."""
    marks = []
    if reference is not None:
        at = f"{scale(reference):.1f}"
        marks.append(f'<line class="reference" x1="{at}" y1="0" x2="{at}" y2="22"/>')
    if is_known(low):
        end = scale(high) if is_known(high) else scale.end
        marks.append(f'<line class="interval {kind}" x1="{scale(low):.1f}" y1="11" x2="{end:.1f}" y2="11"/>')
    if is_known(value):
        marks.append(f'<circle class="dot {kind}" cx="{scale(value):.1f}" cy="11" r="4"/>')
    width = scale.end + 6
    return Markup(f'<svg class="strip" viewBox="0 0 {width:g} 22" aria-hidden="true">{"".join(marks)}</svg>')


def strip_scale(values: Sequence[float], reference: float, *, log: bool = False) -> Scale:
    """A scale that holds all values and the reference, for the strips of one table.

    >>> strip_scale([.5, .9], .5).high
    0.9
    """
    finite = [value for value in values if is_known(value) and (value > 0 or not log)] + [reference]
    low, high = min(finite), max(finite)
    if log:
        low, high = (
            max(min(low, reference / 1.5), reference / 8),
            min(max(high, reference * 1.5), reference * 8),
        )
    return Scale(low, high if high > low else low + 1, 6, 134, log=log)


def _probability_range(table: pd.DataFrame, p: Floats, rare: bool) -> tuple[float, float]:
    high = min(1.0, 1.1 * float(max(p.max(), table["observed_high"].max())))
    if not rare:
        return 0.0, max(high, 0.01)
    positive = table["observed"][table["observed"] > 0]
    floor = min([float(table["predicted"].min()), *positive.tolist()])
    return max(floor / 10, min(floor / 2, float(p.min())), 1e-6), high


def _percent(value: float) -> str:
    return percent(value, 2)
