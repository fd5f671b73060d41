"""The comparison as a table for the terminal, and as cells for other tables."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from .sentences import Entry, percent_of_name

FINE = {"log_loss", "brier", "smooth_calibration_error", "binned_calibration_error"}
TITLES = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier",
    "smooth_calibration_error": "Smooth cal. error",
    "binned_calibration_error": "Binned cal. error",
    "calibration_slope": "Calibration slope",
    "calibration_intercept": "Calibration intercept",
    "calibration_ratio": "Predicted / observed",
}
VALUE_METRICS = {
    "total_ratio": ("Predicted / actual total → 1", 3),
    "normalised_gini": ("Normalised Gini ↑", 3),
    "spearman": ("Spearman ↑", 3),
    "decile_mape": ("Decile MAPE ↓", 3),
    "rmse": ("RMSE ↓", 0),
    "mae": ("MAE ↓", 0),
}
BEST = {
    "log_loss": "↓",
    "brier": "↓",
    "smooth_calibration_error": "↓",
    "binned_calibration_error": "↓",
    "calibration_slope": "→ 1",
    "calibration_intercept": "→ 0",
    "calibration_ratio": "→ 1",
}


def metrics_table(part: dict[str, Any], *, title: str | None = None) -> Table:
    """Metrics of one part (``metrics["test"]``): model, scorecard and difference, each with its interval.

    The arrows say where better lies: larger, smaller, or towards 1 or 0.

    >>> entry = {"value": .8754, "low": .861, "high": .89}
    >>> counts = {"rows": 10, "leads": 5, "positives": 2, "converting_leads": 1, "base_rate": .2}
    >>> table = metrics_table({"model": {"auc": entry}, "counts": counts, "interval": {"confidence": .95}})
    >>> [column.header for column in table.columns], list(table.columns[1].cells)
    (['', 'Model'], ['.875 [.861, .890]'])
    """
    level = f"{100 * part['interval']['confidence']:.4g} %"
    counts = part["counts"]
    caption = f"{counts['rows']:,} observations of {counts['leads']:,} leads; [{level} interval over leads]"
    table = Table(title=title, caption=caption, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    heads, rows = metric_cells(part)
    for head in heads:
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def metric_cells(part: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of one part: a row per metric, model, scorecard and difference beside each other."""
    who = [name for name in ("model", "scorecard", "difference") if name in part]
    rows = []
    for metric in part["model"]:
        digits = _digits(metric, part["model"][metric])
        cells = [_cell(part[name].get(metric), digits, signed=name == "difference") for name in who]
        rows.append([f"{_title(metric)} {BEST.get(metric, '↑')}", *cells])
    return ["", *(name.capitalize() for name in who)], rows


def horizon_cells(horizons: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table over horizons (``metrics["horizons"]``): observations and three metrics of each."""
    shown = ("auc", "log_loss", "calibration_ratio")
    rows = []
    for horizon, found in horizons.items():
        if found is None:
            rows.append([horizon, "cannot be judged", *("" for _ in shown)])
            continue
        cells = [_cell(found[metric], _digits(metric, found[metric]), signed=False) for metric in shown]
        rows.append([horizon, f"{found['counts']['rows']:,}", *cells])
    return ["Horizon", "Observations", *(f"{_title(name)} {BEST.get(name, '↑')}" for name in shown)], rows


def value_cells(value: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table of expected values (``metrics["value"]``): the model beside simpler answers."""
    judged = {name: found for name, found in value["expected_value"].items() if isinstance(found, dict)}
    rows = []
    for metric, (title, digits) in VALUE_METRICS.items():
        entries = [found[metric] for found in judged.values()]
        entries = [e if isinstance(e, dict) else {"value": e, "low": None, "high": None} for e in entries]
        rows.append([title, *(_cell(entry, digits, signed=False) for entry in entries)])
    return ["", *(name.replace("_", " ").capitalize() for name in judged)], rows


def _digits(metric: str, entry: Entry) -> int:
    value = entry["value"]
    return 3 if metric not in FINE else 4 if value is not None and value >= 0.05 else 5


def _title(metric: str) -> str:
    if metric.startswith("captured_top_"):
        return f"Captured in top {percent_of_name(metric):.10g} %"
    return TITLES.get(metric, metric)


def _cell(entry: Entry | None, digits: int, *, signed: bool) -> str:
    if entry is None:
        return ""
    if entry["value"] is None:
        return "undefined"
    value = _number(entry["value"], digits, signed)
    if entry["low"] is None:
        return value
    low = _number(entry["low"], digits, signed)
    if entry["high"] is None:
        return f"{value} [{low} or more]"
    return f"{value} [{low}, {_number(entry['high'], digits, signed)}]"


def _number(value: float, digits: int, signed: bool) -> str:
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("+-").startswith("0.") else text
