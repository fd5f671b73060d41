"""Figures of an evaluation; each takes a table of :mod:`.segments`, or arrays, and returns a figure.

Figures are made without pyplot: they hold no global state, need no display, and are freed like any object.
Model and scorecard differ in colour (blue and orange of Okabe & Ito, told apart by colour-blind readers) and
in line style.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from .inputs import check_labels, check_probabilities
from .segments import calibration_by_month, calibration_by_score, gain_by_share

MODEL, SCORECARD, REFERENCE, TEXT = "#0072B2", "#D55E00", "#8A8A8A", "#333333"
COLOURS = {"model": MODEL, "scorecard": SCORECARD}
LINES: dict[str, Literal["-", "--", "-."]] = {"model": "-", "scorecard": "--"}
_SHOWN_DPI = 75
RARE = 0.2
"""Below this rate in the highest bin probabilities are drawn on a logarithmic scale."""


def draw_evaluation(
    label: ArrayLike,
    p_model: ArrayLike,
    scorecard_points: ArrayLike | None,
    lead_ids: Any,
    *,
    cutoff: Any = None,
    confidence: float = 0.95,
) -> dict[str, Figure]:
    """All figures of an evaluation by name: ``calibration``, ``gain``, ``scores``, ``calibration_by_month``.

    The arrays are those of :func:`.comparison.evaluate`; without ``cutoff`` there is no figure by month.
    """
    of_score = calibration_by_score(label, p_model, lead_ids, confidence=confidence)
    gains = {"model": gain_by_share(label, p_model)}
    if scorecard_points is not None:
        gains["scorecard"] = gain_by_share(label, scorecard_points)
    figures = {
        "calibration": draw_calibration(of_score, p_model),
        "gain": draw_gain(gains),
        "scores": draw_scores(label, p_model),
    }
    if cutoff is not None:
        months = calibration_by_month(label, p_model, cutoff, lead_ids, confidence=confidence)
        figures["calibration_by_month"] = draw_calibration_by_month(months)
    return figures


def draw_calibration(table: pd.DataFrame, p: ArrayLike, *, title: str = "Calibration") -> Figure:
    """The calibration curve with intervals over a histogram of the probabilities.

    Parameters
    ----------
    table : result of :func:`.segments.calibration_by_score`
    p : array of shape (rows,), the probabilities
    """
    figure, (curve, histogram) = _figure(6.4, 6.4, rows=2, height_ratios=[4, 1])
    q = np.asarray(p, np.float64)
    rare = bool(table["predicted"].max() < RARE and (table["predicted"] > 0).all())
    low, high = _calibration_range(table, q, rare)
    curve.plot([low, high], [low, high], color=REFERENCE, linestyle=":", label="predicted = observed")
    observed = table["observed"].clip(lower=low) if rare else table["observed"]
    _draw_intervals(
        curve, table["predicted"], observed, table["observed_low"].clip(lower=low), table["observed_high"]
    )
    none = table["positives"].to_numpy() == 0
    curve.plot(
        table["predicted"][~none],
        observed[~none],
        "o-",
        color=MODEL,
        label="bins of equal size, with interval",
    )
    if none.any():
        empty = observed[none]
        curve.plot(table["predicted"][none], empty, "v", color=MODEL, mfc="white", label="no conversion")
    curve.set(xlim=(low, high), ylim=(low, high), ylabel="observed conversion rate", title=title)
    curve.legend(frameon=False, loc="upper left")
    if rare:
        edges: Any = np.geomspace(low, high, 41)
        for axes in (curve, histogram):
            axes.set_xscale("log")
        curve.set_yscale("log")
    else:
        edges = np.linspace(low, high, 41)
    histogram.hist(q, bins=edges.tolist(), color=MODEL, alpha=0.75)
    histogram.set(xlim=(low, high), xlabel="predicted probability", ylabel="observations")
    for axis in (curve.xaxis, curve.yaxis, histogram.xaxis):
        if rare:
            axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        _percent(axis)
    curve.tick_params(labelbottom=False)
    histogram.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return figure


def draw_gain(tables: Mapping[str, pd.DataFrame], *, title: str = "Converters captured") -> Figure:
    """Gain (captured converters) and lift against the share of the list that is worked, best scores first.

    Parameters
    ----------
    tables : results of :func:`.segments.gain_by_share` by name, ``model`` and ``scorecard``
    """
    figure, (gain, lift) = _figure(10, 4.8, columns=2)
    for name, table in tables.items():
        share, captured = np.append(0.0, table["share"]), np.append(0.0, table["captured"])
        for axes, x, y in ((gain, share, captured), (lift, table["share"], table["lift"])):
            (line,) = axes.plot(x, y, color=COLOURS.get(name, TEXT), linewidth=2, label=name)
            line.set_linestyle(LINES.get(name, "-."))
    gain.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", label="chance")
    lift.axhline(1, color=REFERENCE, linestyle=":", label="chance")
    gain.set(xlim=(0, 1), ylim=(0, 1.01), title=title)
    gain.set(xlabel="share of the list", ylabel="share of the converters")
    lift.set(xlim=(0.005, 1), xscale="log", title="Lift over chance")
    lift.set(xlabel="share of the list (log scale)", ylabel="lift")
    visible = [table["lift"][table["share"] >= 0.005].max() for table in tables.values()]
    lift.set_ylim(0, 1.08 * max([1.0, *visible]))
    for axis in (gain.xaxis, gain.yaxis, lift.xaxis):
        _percent(axis)
    lift.set_xticks([0.01, 0.05, 0.1, 0.2, 0.5, 1])
    gain.legend(frameon=False, loc="lower right")
    return figure


def draw_scores(label: ArrayLike, p: ArrayLike, *, title: str = "Distribution of the scores") -> Figure:
    """How the probabilities of converting and of other observations are spread, each with area one.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1]; drawn on a logit scale
    """
    y = check_labels(label)
    q = np.clip(check_probabilities(p, len(y)), 1e-5, 1 - 1e-5)
    logit = np.log(q / (1 - q))
    figure, (axes,) = _figure(8, 4.2)
    edges = np.linspace(logit.min() - 0.05, logit.max() + 0.05, 51 if y.sum() >= 500 else 26)
    for value, name, colour in ((0, "did not convert", REFERENCE), (1, "converted", MODEL)):
        part = logit[y == value]
        if len(part):
            density, _ = np.histogram(part, bins=edges, density=True)
            label_text = f"{name} ({len(part):,})"
            axes.stairs(density, edges, fill=not value, color=colour, alpha=0.45 if not value else 1.0, lw=2)
            axes.patches[-1].set_label(label_text)
    ticks = np.array([1e-5, 1e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.999])
    at = np.log(ticks / (1 - ticks))
    inside = (at >= edges[0]) & (at <= edges[-1])
    axes.set_xticks(at[inside], [_percent_text(tick) for tick in ticks[inside]])
    axes.set(xlabel="predicted probability (logit scale)", ylabel="density", title=title)
    axes.legend(frameon=False, title="observations that")
    return figure


def draw_calibration_by_month(table: pd.DataFrame, *, title: str = "Calibration by month") -> Figure:
    """Predicted over observed conversions by month with intervals; months without conversions are marked.

    Parameters
    ----------
    table : result of :func:`.segments.calibration_by_month`
    """
    figure, (axes,) = _figure(max(6.4, 1.5 + 0.45 * len(table)), 4.4)
    at = np.arange(len(table))
    ratio = table["ratio"].to_numpy(np.float64)
    known = np.isfinite(ratio)
    low = table["ratio_low"].to_numpy(np.float64)
    high = table["ratio_high"].to_numpy(np.float64)
    ends = np.concatenate([ratio, low, high, [0.7, 1.4]])
    finite = ends[np.isfinite(ends) & (ends > 0)]
    bottom, top = max(finite.min() / 1.15, 0.05), min(finite.max() * 1.15, 20.0)
    axes.axhline(1, color=REFERENCE, linestyle=":", label="predicted = observed")
    for x, start, end in zip(at, np.clip(low, bottom, top), np.clip(high, bottom, top), strict=True):
        axes.plot([x, x], [start, end], color=MODEL, linewidth=1.5, alpha=0.7)
    shown = np.clip(ratio[known], bottom, top)
    axes.plot(at[known], shown, "o", color=MODEL, label="predicted / observed, with interval")
    if not known.all():
        marks = np.full((~known).sum(), top)
        axes.plot(at[~known], marks, "^", color=MODEL, markerfacecolor="white", label="no conversion")
    step = max(1, len(table) // 24 + (len(table) > 24))
    names = [f"{m}\n{n:,}" for m, n in zip(table["month"], table["positives"], strict=True)]
    axes.set_xticks(at[::step], names[::step], rotation=0 if len(table) <= 12 else 90)
    axes.set_yscale("log")
    axes.set(
        xlim=(-0.6, len(table) - 0.4),
        ylim=(bottom, top * 1.05),
        xlabel="month of the cutoff (below: converting observations)",
        ylabel="predicted / observed (log scale)",
        title=title,
    )
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10, 20) if bottom <= tick <= top]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, loc="best")
    return figure


class _Chart(Figure):
    """A figure that shows itself in a notebook, also where Matplotlib's own display is not set up."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        picture = BytesIO()
        self.savefig(picture, format="png")
        width, height = self.get_size_inches() * _SHOWN_DPI
        return picture.getvalue(), {"width": round(width), "height": round(height)}


def _figure(
    width: float, height: float, *, rows: int = 1, columns: int = 1, **grid: Any
) -> tuple[Figure, list[Axes]]:
    figure = _Chart(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.ravel(figure.subplots(rows, columns, gridspec_kw=grid or None)))
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(color="#E6E6E6", linewidth=0.8)
        each.set_axisbelow(True)
    return figure, axes


def _calibration_range(table: pd.DataFrame, p: NDArray[np.float64], rare: bool) -> tuple[float, float]:
    high = min(1.0, 1.1 * float(max(p.max(), table["observed_high"].max())))
    if not rare:
        return 0.0, high
    floor = min(table["predicted"].min(), table["observed"][table["observed"] > 0].min())
    return float(max(floor / 10, min(floor / 2, p.min()))), high


def _draw_intervals(axes: Axes, x: pd.Series, middle: pd.Series, low: pd.Series, high: pd.Series) -> None:
    reach = np.maximum(np.stack([middle - low, high - middle]), 0.0)
    axes.errorbar(x, middle, yerr=reach, fmt="none", ecolor=MODEL, alpha=0.6, capsize=3)


def _percent(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: _percent_text(value)))
    axis.set_minor_formatter(NullFormatter())


def _percent_text(value: float) -> str:
    return f"{100 * value:.3g} %"
