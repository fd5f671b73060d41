"""The judged sections of the report as plain data for the template: texts, tables and charts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..calls import digits_of, state_called_revenue, state_calls, weekly_lists
from ..capacity import CapacityCurve, capacity_curve
from ..segment_quality import FEWEST_POSITIVES, gain_with_interval, quality_by_segment
from ..segments import calibration_by_month, calibration_by_score
from ..sentences import percent_of_name, revenue_is_open, state_comparison, state_value
from ..tables import BEST, TITLES
from . import charts
from .inputs import ReportInputs
from .numbers import (
    brackets,
    compact,
    count,
    day,
    decimal,
    entry_text,
    is_known,
    percent,
    percent_brackets,
)
from .verdicts import judge_calibration, judge_comparison, judge_leakage, judge_value_badge, key_figures

View = dict[str, Any]
FINE = {"log_loss", "brier", "smooth_calibration_error", "binned_calibration_error"}
BETTER = {"↓": "lower is better", "↑": "higher is better", "→ 1": "best at 1", "→ 0": "best at 0"}
SHARES = "captured_top_"


def answer_view(
    inputs: ReportInputs, calls: dict[str, Any] | None, expected_revenue: float | None = None
) -> View:
    """The answer first: the one sentence, what it rests on, the verdicts, and what was judged.

    ``expected_revenue``: what the model expects, per quarter, of the leads on the lists of ``calls``.
    """
    judged = inputs.judged
    sentences = state_comparison(dict(inputs.metrics), part=inputs.part)
    counts = judged["counts"]
    head = sentences[min(1, len(sentences) - 1)]
    if calls is not None:
        head = state_calls(calls, confidence=inputs.confidence, converting_leads=counts["converting_leads"])
    if inputs.value:
        sentences += state_value(dict(inputs.value), confidence=inputs.confidence)
    if calls is not None and "amount" in calls:
        sentences.append(
            state_called_revenue(
                calls,
                expected=expected_revenue,
                so_far=revenue_is_open(inputs.value),
                currency=inputs.currency,
                confidence=inputs.confidence,
                converting_leads=counts["converting_leads"],
            )
        )
    verdicts = [judge_calibration(judged), judge_comparison(judged, calls)]
    verdicts += [badge] if inputs.value and (badge := judge_value_badge(inputs.value, judged)) else []
    verdicts.append(judge_leakage(inputs.leakage))
    manifest = inputs.manifest or {}
    facts = [
        ("Horizon", inputs.horizon_text),
        ("Observations", count(counts["rows"])),
        ("Leads", count(counts["leads"])),
        ("Converting leads", count(counts["converting_leads"])),
        ("Conversion rate", percent(counts["base_rate"])),
    ]
    if counts.get("first_cutoff"):
        facts.append(("Cutoffs", f"{day(counts['first_cutoff'])} to {day(counts['last_cutoff'])}"))
    if manifest.get("known_until"):
        facts.append(("Data known until", day(manifest["known_until"])))
    facts.append(("Run", inputs.run_id))
    return {
        "headline": head,
        "horizon": inputs.horizon_text,
        "sentences": [sentence for sentence in sentences if sentence != head],
        "verdicts": verdicts,
        "figures": key_figures(judged),
        "facts": facts,
    }


def calibration_view(inputs: ReportInputs) -> View:
    """Calibration by score and by month of the cutoff."""
    frame, confidence = inputs.predictions, inputs.confidence
    p = frame["p"].to_numpy(np.float64)
    by_score = calibration_by_score(frame["label"].to_numpy(), p, frame["lead_id"], confidence=confidence)
    by_month = calibration_by_month(
        frame["label"].to_numpy(), p, frame["cutoff"], frame["lead_id"], confidence=confidence
    )
    rare = by_score["predicted"].max() < 0.1
    digits = 3 if rare else 2
    return {
        "by_score": charts.reliability_chart(by_score, p),
        "by_score_rows": [
            [count(k + 1), *_calibration_cells(row, digits)]
            for k, row in enumerate(by_score.to_dict("records"))
        ],
        "by_month": charts.ratio_by_month_chart(by_month),
        "by_month_rows": [
            [str(row["month"]), *_calibration_cells(row, digits)] for row in by_month.to_dict("records")
        ],
        "head": [
            "observations",
            "converting",
            "predicted",
            "observed",
            "interval",
            "predicted / observed",
            "interval",
        ],
    }


def _calibration_cells(row: dict[Any, Any], digits: int) -> list[str]:
    return [
        count(row["rows"]),
        count(row["positives"]),
        percent(row["predicted"], digits=digits),
        percent(row["observed"], digits=digits),
        percent_brackets(row["observed_low"], row["observed_high"], digits=digits),
        decimal(row["ratio"], 2) if is_known(row["ratio"]) else "none convert",
        brackets(row["ratio_low"], row["ratio_high"], 2),
    ]


def gain_view(inputs: ReportInputs) -> View | None:
    """Gain and lift of the model's list and the scorecard's, with bands."""
    frame = inputs.predictions
    if not frame["label"].any():
        return None
    scores: dict[str, Any] = {"model": frame["p"].to_numpy(np.float64)}
    if inputs.points is not None:
        scores["scorecard"] = inputs.points.to_numpy(np.float64)
    tables = gain_with_interval(
        frame["label"].to_numpy(),
        scores,
        frame["lead_id"],
        resamples=inputs.resamples,
        confidence=inputs.confidence,
        seed=inputs.seed,
    )
    shown = [
        int(np.abs(tables["model"]["share"].to_numpy() - at).argmin()) for at in (0.01, 0.05, 0.1, 0.2, 0.5)
    ]
    rows = []
    for k in dict.fromkeys(shown):
        row = [percent(tables["model"]["share"].iloc[k], digits=1)]
        for table in tables.values():
            one = table.iloc[k]
            row += [
                percent(one["captured"], digits=1),
                percent_brackets(one["captured_low"], one["captured_high"], digits=1),
                f"{decimal(one['lift'], 1)}×",
            ]
        rows.append(row)
    head = ["top of the list"]
    for name in tables:
        head += [f"{name}: captured", "interval", "lift"]
    return {
        "gain": charts.gain_chart(tables),
        "lift": charts.lift_chart(tables),
        "head": head,
        "rows": rows,
        "scorecard": "scorecard" in tables,
    }


def replay(inputs: ReportInputs) -> CapacityCurve:
    """The capacity curve of the judged observations, with the capacity to start from among its rows."""
    frame = inputs.predictions
    wanted = start_capacity(inputs)
    value = frame["expected_value"].to_numpy(np.float64) if "expected_value" in frame else None
    revenue = frame["revenue"].to_numpy(np.float64) if "revenue" in frame else None
    interval = inputs.judged["interval"]
    return capacity_curve(
        frame["label"].to_numpy(),
        frame["p"].to_numpy(np.float64),
        None if inputs.points is None else inputs.points.to_numpy(np.float64),
        value,
        frame["cutoff"],
        frame["lead_id"],
        revenue=revenue,
        horizon_days=inputs.horizon_days,
        also_per_week=[wanted],
        resamples=int(interval.get("resamples", inputs.resamples)),
        confidence=inputs.confidence,
        seed=int(interval.get("seed", inputs.seed)),
    )


def start_capacity(inputs: ReportInputs) -> float:
    """Calls a week that the slider starts at."""
    given = inputs.calls["calls_per_week"] if inputs.calls is not None else inputs.calls_per_week
    lists = weekly_lists(
        inputs.predictions["cutoff"],
        inputs.predictions["lead_id"],
        given,
        horizon_days=inputs.horizon_days,
    )
    return lists.calls_per_week


def calls_of(curve: CapacityCurve, row: int) -> dict[str, Any] | None:
    """One capacity of the curve in the form of :func:`.calls.replay_calls`; None without a scorecard."""
    if "gain" not in curve.table:
        return None
    at = curve.table.iloc[row]
    entries = {
        name: {"value": at[column], "low": at[f"{column}_low"], "high": at[f"{column}_high"]}
        for name, column in (
            ("model", "model_conversions"),
            ("scorecard", "scorecard_conversions"),
            ("difference", "gain"),
        )
    }
    return {"calls_per_week": float(at["per_week"]), "conversions": entries}


def expected_revenue_of(curve: CapacityCurve, row: int) -> float | None:
    """What the model expects per quarter of the leads on its lists, at one capacity; None without a value model."""
    name = "model_expected_revenue"
    return float(curve.table[name].iloc[row]) if name in curve.table else None


def capacity_view(inputs: ReportInputs, curve: CapacityCurve, start: int) -> View:
    """The slider's data, its chart, and a table of some capacities for print and without scripts."""
    table = curve.table
    who = ["model"] + (["scorecard"] if inputs.points is not None else [])
    data: View = {"start": start, "who": who, "currency": inputs.currency, "columns": {}}
    data["so_far"] = revenue_is_open(inputs.value)
    for name in table:
        digits = 5 if name in ("share", "model_precision", "scorecard_precision") else 4
        values = table[name].to_numpy(np.float64)
        data["columns"][str(name)] = [round(float(v), digits) if np.isfinite(v) else None for v in values]
    picked = sorted(
        {0, start, len(table) - 1, *np.linspace(0, len(table) - 1, 12).round().astype(int).tolist()}
    )
    head = [
        "calls a week",
        "share of the list",
        *(f"{name}: {text}" for name in who for text in ("found", "interval")),
    ]
    head += ["model: expected", "calls per conversion"]
    if "model_expected_revenue" in table:
        head.append("model: expected revenue")
    rows = []
    for k in picked:
        at = table.iloc[k]
        row = [_calls_text(at["per_week"]), percent(at["share"], 2)]
        digits = digits_of({name: {"value": at[f"{name}_conversions"]} for name in who})
        for name in who:
            row.append(decimal(at[f"{name}_conversions"], digits))
            row.append(brackets(at[f"{name}_conversions_low"], at[f"{name}_conversions_high"], digits))
        found = at["model_conversions"]
        row += [decimal(at["model_expected"], 1), count(at["calls"] / found) if found > 0 else "–"]
        if "model_expected_revenue" in table:
            row.append(count(at["model_expected_revenue"]))
        rows.append(row)
    return {
        "chart": charts.capacity_chart(table),
        "data": data,
        "head": head,
        "rows": rows,
        "last": len(table) - 1,
        "start": start,
        "lists": count(curve.lists),
        "every": compact(round(curve.period_days, 1)),
        "list_leads": count(curve.open_leads),
        "ages": inputs.learnt_ages,
        "revenue": "model_expected_revenue" in table,
        "brought": "model_revenue" in table,
        "scorecard": len(who) == 2,
    }


def _calls_text(per_week: float) -> str:
    return decimal(per_week, 1) if per_week < 10 and per_week != round(per_week) else count(per_week)


def comparison_view(inputs: ReportInputs) -> View:
    """Every metric with its interval: model, scorecard and difference."""
    judged = inputs.judged
    who = [name for name in ("model", "scorecard", "difference") if name in judged]
    rows = []
    for metric in judged["model"]:
        value = judged["model"][metric]["value"]
        digits = 3 if metric not in FINE else 4 if value is not None and value >= 0.05 else 5
        gap = judged.get("difference", {}).get(metric)
        sure = (
            gap is not None
            and is_known(gap.get("low"))
            and is_known(gap.get("high"))
            and not gap["low"] <= 0 <= gap["high"]
        )
        rows.append(
            {
                "title": _metric_title(metric),
                "arrow": BEST.get(metric, "↑"),
                "better": BETTER[BEST.get(metric, "↑")],
                "cells": [
                    entry_text(
                        judged[name].get(metric),
                        digits,
                        signed=name == "difference",
                        share=metric.startswith(SHARES),
                    )
                    for name in who
                ],
                "sure": sure,
            }
        )
    return {"who": who, "rows": rows, "confidence": percent(inputs.confidence)}


def _metric_title(metric: str) -> str:
    if metric.startswith(SHARES):
        return f"Captured in the top {percent_of_name(metric):.10g} %"
    return TITLES.get(metric, metric.replace("_", " ").capitalize())


def stability_view(inputs: ReportInputs) -> list[View]:
    """Ranking and calibration by month, then by every segment attribute."""
    frame = inputs.predictions
    month = pd.to_datetime(frame["cutoff"], utc=True).dt.strftime("%Y-%m")
    groups: list[tuple[str, Any, int]] = [("Month of the cutoff", month, 0)]
    if inputs.segments is not None:
        groups += [(str(name), inputs.segments[name], 8) for name in inputs.segments]
    views = []
    for title, values, largest in groups:
        table = quality_by_segment(
            frame["label"].to_numpy(),
            frame["p"].to_numpy(np.float64),
            values,
            frame["lead_id"],
            largest=largest,
            resamples=inputs.resamples,
            confidence=inputs.confidence,
            seed=inputs.seed,
        )
        views.append({"title": title, "rows": _segment_rows(table)})
    return views


def _segment_rows(table: pd.DataFrame) -> list[View]:
    auc = charts.strip_scale([*table["auc_low"], *table["auc_high"], *table["auc"]], 0.5)
    ratio = charts.strip_scale([*table["ratio_low"], *table["ratio_high"], *table["ratio"]], 1.0, log=True)
    rows = []
    for row in table.to_dict("records"):
        few = not is_known(row["auc"])
        rows.append(
            {
                "name": str(row["segment"]),
                "rows": count(row["rows"]),
                "leads": count(row["leads"]),
                "converting": count(row["converting_leads"]),
                "auc": "too few" if few else decimal(row["auc"]),
                "auc_interval": brackets(row["auc_low"], row["auc_high"]),
                "auc_strip": ""
                if few
                else charts.interval_strip(row["auc"], row["auc_low"], row["auc_high"], auc, 0.5, "model"),
                "ratio": decimal(row["ratio"], 2) if is_known(row["ratio"]) else "none convert",
                "ratio_interval": brackets(row["ratio_low"], row["ratio_high"], 2),
                "ratio_strip": charts.interval_strip(
                    row["ratio"], row["ratio_low"], row["ratio_high"], ratio, 1.0, "model"
                ),
                "off": is_known(row["ratio_low"])
                and (row["ratio_low"] > 1 or (is_known(row["ratio_high"]) and row["ratio_high"] < 1)),
            }
        )
    return rows


FEWEST = FEWEST_POSITIVES
