"""The sections behind the judgement: value, horizons, concepts, data quality, leaks, how it was made, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from . import charts
from .inputs import ReportInputs
from .numbers import count, day, decimal, entry_text, is_known, money, percent

View = dict[str, Any]
MANY_POSITIVES = 100
SEVERITY_TONE = {"severe": "bad", "warning": "open", "info": "good"}
PART_TITLES = {
    "train": "first fit",
    "between": "gap before calibration",
    "calibrate": "calibration",
    "recent": "recent, label not yet known",
    "test": "test (judged here)",
}


def value_view(inputs: ReportInputs) -> View | None:
    """Predicted against actual revenue by tenths of the expected value, and the metrics beside simpler answers."""
    if not inputs.value:
        return None
    deciles = pd.DataFrame(inputs.value.get("deciles") or {})
    alone = inputs.value.get("value") or {}
    view: View = {
        "tables": [],
        "chart": None,
        "rows": [],
        "complete": None,
        "one_value": bool(alone.get("one_value_for_all")),
    }
    for name, title in (("expected_value", "All observations"), ("value", "Converted leads alone")):
        found = inputs.value.get(name)
        if found:
            view["tables"].append({"title": title, **_value_table(found, inputs.currency)})
    for found, who in (
        (alone, "converted leads"),
        (inputs.value.get("expected_value") or {}, "observations"),
    ):
        if is_known(found.get("complete_share")) and view["complete"] is None:
            view["complete"] = f"{percent(found['complete_share'], 2)} of the {who}"
    if len(deciles) and {"predicted", "actual"} <= set(deciles):
        view["chart"] = charts.decile_chart(deciles, inputs.currency)
        view["head"] = ["tenth", "observations", "predicted", "actual", "predicted / actual"]
        view["rows"] = [
            [
                str(k + 1),
                count(row.get("rows")),
                money(row["predicted"], inputs.currency),
                money(row["actual"], inputs.currency),
                decimal(row["predicted"] / row["actual"], 2) if row["actual"] > 0 else "nothing came",
            ]
            for k, row in enumerate(deciles.to_dict("records"))
        ]
    return view if view["chart"] or view["tables"] else None


METRIC_TITLES = {
    "normalised_gini": "Normalised Gini ↑",
    "spearman": "Rank correlation ↑",
    "decile_mape": "Error by tenths (MAPE) ↓",
    "total_ratio": "Predicted / actual → 1",
    "rmse": "RMSE ↓",
    "mae": "MAE ↓",
    "coverage": "Coverage of the interval",
    "mean_width": "Mean width of the interval",
}
AMOUNTS = ("rmse", "mae", "mean_width")
VALUE_TITLES = {"model": "model", "same_value": "one value for all", "zero": "nothing"}


def _value_table(found: Mapping[str, Any], currency: str) -> View:
    """Rows of metrics by who predicts; what has one figure only stands under the model.

    Where the model has one value for all, rows that nobody has a figure for are left out.
    """
    who = [name for name, entries in found.items() if isinstance(entries, Mapping)]
    amounts = [found[each].get(name) for each in who for name in AMOUNTS] + [
        found.get(name) for name in AMOUNTS
    ]
    digits = 0 if max((each for each in amounts if is_known(each)), default=0.0) >= 100 else 2
    names = dict.fromkeys(name for each in who for name in found[each])
    rows = [
        {
            "title": _value_title(name, currency),
            "cells": [_value_cell(name, found[each].get(name), digits) for each in who],
        }
        for name in names
        if not found.get("one_value_for_all") or any(_has_figure(found[each].get(name)) for each in who)
    ]
    for name, figure in found.items():
        if name not in who and is_known(figure) and name not in ("complete_share", "one_value_for_all"):
            cells = [_value_cell(name, each, digits) for each in (figure, *[None] * (len(who) - 1))]
            rows.append({"title": _value_title(name, currency), "cells": cells})
    return {"head": [VALUE_TITLES.get(name, _title(name).lower()) for name in who], "rows": rows}


def _has_figure(entry: Any) -> bool:
    return (entry.get("value") if isinstance(entry, Mapping) else entry) is not None


def _value_title(name: str, currency: str) -> str:
    title = METRIC_TITLES.get(name, _title(name))
    if not currency or name not in AMOUNTS:
        return title
    words, arrow, _ = title.partition(" ↓")
    return f"{words} ({currency}){arrow}"


def _value_cell(name: str, entry: Any, digits: int) -> dict[str, str]:
    """A figure; ``digits`` are those of amounts, so that one table rounds all of them alike."""
    whole = entry if isinstance(entry, Mapping) else {"value": entry}
    if whole.get("value") is None:
        return {"value": "–", "interval": ""}
    return entry_text(whole, digits if name in AMOUNTS else 3)


def horizons_view(inputs: ReportInputs) -> View | None:
    """A row per horizon with the metrics that all of them have."""
    if not inputs.horizons:
        return None
    wanted = ("auc", "average_precision", "log_loss", "calibration_ratio")
    rows = []
    for horizon, content in inputs.horizons.items():
        if content is None:
            nothing = {"value": "one class only", "interval": ""}
            rows.append({"name": str(horizon), "counts": [count(None)] * 2, "cells": [nothing] * len(wanted)})
            continue
        entries = content.get("model", content)
        counts = content.get("counts", {})
        rows.append(
            {
                "name": str(horizon),
                "counts": [
                    count(counts.get("rows")),
                    count(counts.get("converting_leads", counts.get("positives"))),
                ],
                "cells": [entry_text(entries.get(name), 4 if name == "log_loss" else 3) for name in wanted],
            }
        )
    return (
        {"rows": rows, "head": ["AUC", "average precision", "log loss", "predicted / observed"]}
        if rows
        else None
    )


def importance_view(inputs: ReportInputs, largest: int = 15) -> list[View] | None:
    """The concepts that move the probability most, with their direction."""
    if inputs.importance is None or not len(inputs.importance):
        return None
    size = "importance" if "importance" in inputs.importance else "mean_abs"
    table = inputs.importance.sort_values(size, ascending=False, kind="stable").head(largest)
    top = float(table[size].max()) or 1.0
    return [
        {
            "concept": str(row["concept"]),
            "label": str(row.get("label") or ""),
            "width": f"{100 * row[size] / top:.1f}",
            "amount": decimal(row[size]),
            "direction": _direction(row.get("direction")),
        }
        for row in table.to_dict("records")
    ]


WAYS = {"higher is likelier": 1, "higher is less likely": -1}


def _direction(value: Any) -> View:
    """The direction as an arrow with words; a number counts by its sign."""
    if isinstance(value, str):
        sign, text = WAYS.get(value, 0), value
    else:
        sign = int(np.sign(value)) if is_known(value) else 0
        text = {1: "higher is likelier", -1: "higher is less likely", 0: "mixed"}[sign]
    return {
        "text": text,
        "arrow": {1: "↑", -1: "↓", 0: "↕"}[sign],
        "kind": {1: "up", -1: "down", 0: "both"}[sign],
    }


def quality_view(inputs: ReportInputs) -> View | None:
    """What was read, accepted and put aside, table by table."""
    if inputs.validation is None:
        return None
    rows = []
    reasons = []
    notes = []
    for name, table in inputs.validation.get("tables", {}).items():
        aside = sum(table.get("quarantined", {}).values())
        rows.append(
            [
                str(name),
                count(table.get("read")),
                count(table.get("accepted")),
                count(table.get("duplicates")),
                count(aside),
                percent(aside / table["read"]) if table.get("read") else "–",
                f"{day(table.get('first'))} to {day(table.get('last'))}",
            ]
        )
        reasons += [[str(name), str(why), count(n)] for why, n in table.get("quarantined", {}).items()]
        notes += [[str(name), str(why), count(n)] for why, n in table.get("notes", {}).items()]
    facts = [
        ("Leads", count(inputs.validation.get("leads"))),
        ("Converted, date known", count(inputs.validation.get("converted"))),
        ("Converted, date unknown", count(inputs.validation.get("undated"))),
        ("Lost", count(inputs.validation.get("lost"))),
    ]
    return {
        "rows": rows,
        "head": ["table", "read", "accepted", "duplicates", "quarantined", "share", "span"],
        "reasons": reasons,
        "notes": notes,
        "facts": facts,
        "warnings": [str(text) for text in inputs.validation.get("warnings", ())],
    }


def leakage_view(inputs: ReportInputs) -> View | None:
    """Findings of the leakage gate with evidence and remedy, and what was waived."""
    if inputs.leakage is None:
        return None
    findings = []
    for each in inputs.leakage.get("findings", ()):
        severity = str(each.get("severity", "info"))
        waived = bool(each.get("waived"))
        findings.append(
            {
                "name": str(each.get("name", "")),
                "severity": severity,
                "tone": "open" if waived else SEVERITY_TONE.get(severity, "open"),
                "columns": ", ".join(map(str, each.get("columns", ()))),
                "evidence": str(each.get("evidence", "")),
                "reason": str(each.get("reason") or ""),
                "remedy": str(each.get("remedy", "")),
                "waived": waived,
                "waiver": str(each.get("waiver_reason") or ""),
            }
        )
    examined = {_title(name): count(n) for name, n in (inputs.leakage.get("examined") or {}).items()}
    return {
        "findings": findings,
        "examined": ", ".join(f"{n} {name.lower()}" for name, n in examined.items()),
        "unknown_waivers": [str(name) for name in inputs.leakage.get("unknown_waivers", ())],
    }


def model_card_view(inputs: ReportInputs) -> View | None:
    """The parts that the model was made from, and what was chosen."""
    manifest, card = inputs.manifest or {}, inputs.model_card or {}
    if not manifest and not card:
        return None
    label = next(iter(manifest.get("labels", ())), None)
    parts = []
    for name, part in manifest.get("parts", {}).items():
        positives = part.get("labels", {}).get(label, {})
        parts.append(
            [
                PART_TITLES.get(name, name),
                count(part.get("observations")),
                count(part.get("leads")),
                f"{day(part.get('first_cutoff'))} to {day(part.get('last_cutoff'))}",
                count(positives.get("positives")),
                percent(positives.get("share")),
            ]
        )
    observations = manifest.get("observations", {})
    left_out = {**observations.get("excluded", {}), **observations.get("set_aside", {})}
    return {
        "parts": parts,
        "head": ["part", "observations", "leads", "cutoffs", "converting observations", "share"],
        "left_out": [[_title(name), count(n)] for name, n in left_out.items() if n],
        "facts": [(_title(name), _fact(value)) for name, value in card.items()],
        "digests": [
            (_title(name), str(manifest[name]))
            for name in ("data_fingerprint", "config_digest", "feature_set_digest")
            if name in manifest
        ],
        "versions": ", ".join(f"{name} {number}" for name, number in manifest.get("versions", {}).items()),
    }


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(number)}" for name, number in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return count(value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def limits_view(inputs: ReportInputs) -> list[str]:
    """What the figures do not say, as far as it can be told from them."""
    judged = inputs.judged
    counts, found = judged["counts"], []
    level = percent(inputs.confidence)
    found.append(
        f"All intervals are {level} intervals from resampling leads. They say how much the figures would move with "
        "other leads of the same kind; they do not cover a change of market, price, team or data entry after the "
        "test part."
    )
    if counts["converting_leads"] < MANY_POSITIVES:
        found.append(
            f"Only {count(counts['converting_leads'])} leads convert in the test part. Differences within the "
            "intervals are chance, and segments tell little."
        )
    open_gaps = [
        title
        for name, title in (
            ("auc", "ranking (AUC)"),
            ("log_loss", "log loss"),
            ("average_precision", "average precision"),
        )
        if _holds_zero(judged.get("difference", {}).get(name))
    ]
    if open_gaps:
        found.append(
            f"Not supported: that model and scorecard differ in {', '.join(open_gaps)}. The interval of the difference "
            "holds zero."
        )
    aside = (inputs.manifest or {}).get("observations", {}).get("set_aside", {})
    if aside.get("immature"):
        found.append(
            f"{count(aside['immature'])} of the newest observations were not judged: their horizon of "
            f"{inputs.horizon_text} had not ended when the data was taken."
        )
    undated = (inputs.manifest or {}).get("leads", {}).get("undated_conversion", 0)
    if undated:
        found.append(
            f"{count(undated)} leads converted at an unknown time. They were left out, not counted as negatives, so "
            "true conversion rates are higher than shown."
        )
    found.append(
        "The lists are replayed on what happened without them. They show who was on them, not what calling would have "
        "changed; only a split test shows that."
    )
    if inputs.test_looks:
        found.append(
            f"The test part was looked at {inputs.test_looks} times before. Every look that led to a change makes it a "
            "little too friendly."
        )
    else:
        found.append(
            "Whoever changes settings after reading this page and judges on the same test part again gets figures that "
            "are a little too friendly. Keep later data for the last word."
        )
    return found + list(inputs.notes)


def _holds_zero(gap: Mapping[str, Any] | None) -> bool:
    return (
        gap is not None and is_known(gap["low"]) and is_known(gap["high"]) and gap["low"] <= 0 <= gap["high"]
    )


def _title(name: Any) -> str:
    return str(name).replace("_", " ").capitalize()


GLOSSARY = (
    ("Observation", "One lead at one instant (the cutoff). Only what was known before it is used."),
    ("Horizon", "How long after the cutoff a conversion counts."),
    (
        "AUC",
        "How often a converting observation ranks above one that does not convert. 0.5 is chance, 1 is perfect.",
    ),
    (
        "Average precision",
        "How pure the top of the list is, on average over the converters. Chance gives the conversion rate.",
    ),
    (
        "Log loss",
        "The penalty for probabilities that turn out wrong, heaviest for confident ones. Lower is better.",
    ),
    ("Brier", "The mean squared distance between probability and outcome. Lower is better."),
    (
        "Predicted / observed",
        "How many conversions were predicted for each one that came. 1 is right, above 1 promises too many.",
    ),
    (
        "Calibration slope",
        "1: probabilities are as far apart as they should be. Below 1: too extreme. Above 1: too timid.",
    ),
    ("Captured", "Share of all converters that stand in the top of the list."),
    ("Lift", "How many times more converters the top of the list holds than a random part of the same size."),
    ("Interval", "The range that the figure would mostly stay in with other leads of the same kind."),
    (
        "Scorecard",
        "Points set by hand per activity: what the model is compared with, on the same observations.",
    ),
    ("Expected value", "Probability of converting times the revenue to expect after it."),
    ("Logit", "The scale on which contributions add up: the logarithm of p / (1 − p)."),
)
