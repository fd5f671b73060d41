"""The figure of a backtest: four panels over the nights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MODEL, _OTHER = "#0072b2", "#d55e00"


def draw_nights(nights: pd.DataFrame) -> Figure:
    """AUC, predicted against observed conversions, conversions on the call lists, and drift of the scores.

    ``nights`` is the table of :class:`.backtest.BacktestJudgement`; thin lines mark new models.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 9), layout="constrained")
    axes: Any = figure.subplots(4, 1, sharex=True)
    at = nights["night"]
    for axis in axes:
        for trained_at in nights.loc[nights["trained_at"].diff().dt.total_seconds() > 0, "night"]:
            axis.axvline(trained_at, color="0.85", linewidth=0.8, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    _pair(axes[0], nights, "auc", "AUC")
    axes[1].plot(at, nights["expected"], color=_MODEL, label="predicted")
    axes[1].plot(at, nights["conversions"].where(nights["judged"] > 0), color=_OTHER, label="came")
    axes[1].set_ylabel("conversions")
    _pair(axes[2], nights, "found", "conversions on\nthe call list")
    axes[3].plot(at, nights["drift"], color=_MODEL, label="drift of the scores")
    axes[3].axhline(0.25, color="0.5", linestyle=":", label="a shift")
    axes[3].set_ylabel("stability index")
    for axis in axes:
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
        axis.set_ylim(bottom=min(axis.get_ylim()[0], 0.0) if axis is not axes[0] else None)
    axes[0].set_title("Night by night; grey lines: a new model", loc="left")
    figure.autofmt_xdate()
    return figure


def _pair(axis: Any, nights: pd.DataFrame, what: str, label: str) -> None:
    axis.plot(nights["night"], nights[f"{what}_model"], color=_MODEL, label="model")
    if f"{what}_scorecard" in nights:
        axis.plot(nights["night"], nights[f"{what}_scorecard"], color=_OTHER, linestyle="--", label="points")
    axis.set_ylabel(label)
