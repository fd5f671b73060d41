"""The badges on top of the report: a claim is made only where its interval supports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..sentences import CALIBRATED, FEW_CONVERTERS
from .numbers import brackets, decimal, is_known, percent, percent_brackets


@dataclass(frozen=True)
class Verdict:
    """A question, its answer in a word (``tone``: good, bad, open), and the figures it rests on."""

    question: str
    answer: str
    tone: str
    figures: str
    why: str


def judge_calibration(judged: Mapping[str, Any]) -> Verdict:
    """Whether as many convert as were predicted.

    >>> judge_calibration({"model": {"calibration_ratio": {"value": 1.1, "low": .9, "high": 1.2}}}).answer
    'Yes'
    >>> judge_calibration({"model": {"calibration_ratio": {"value": .86, "low": .69, "high": 1.14}}}).answer
    'Cannot tell'
    """
    entry = judged["model"].get("calibration_ratio") or {"value": None, "low": None, "high": None}
    value, low, high = entry["value"], entry["low"], entry["high"]
    figures = f"predicted / observed {decimal(value, 2)} {brackets(low, high, 2)}".rstrip()
    question = "Calibrated?"
    if not is_known(value) or not is_known(low):
        return Verdict(question, "Cannot tell", "open", figures, "too few conversions for an interval")
    if judged.get("counts", {}).get("converting_leads", FEW_CONVERTERS) < FEW_CONVERTERS:
        return Verdict(question, "Cannot tell", "open", figures, "too few leads convert")
    if is_known(high) and high < 1:
        return Verdict(question, "No", "bad", figures, "it promises too few conversions")
    if low > 1:
        return Verdict(question, "No", "bad", figures, "it promises too many conversions")
    if not is_known(high) or low < CALIBRATED[0] or high > CALIBRATED[1]:
        return Verdict(
            question, "Cannot tell", "open", figures, "the interval holds 1, but is too wide to tell"
        )
    slope = judged["model"].get("calibration_slope") or {}
    if is_known(slope.get("low")) and is_known(slope.get("high")) and not slope["low"] <= 1 <= slope["high"]:
        way = "too timid" if slope["low"] > 1 else "too extreme"
        text = f"slope {decimal(slope['value'], 2)} {brackets(slope['low'], slope['high'], 2)}"
        return Verdict(
            question,
            "In total only",
            "open",
            figures,
            f"the interval holds 1, but high and low are {way}: {text}",
        )
    return Verdict(question, "Yes", "good", figures, "the interval holds 1")


def judge_comparison(judged: Mapping[str, Any]) -> Verdict:
    """Whether the model beats the scorecard in ranking or log loss, and is beaten in neither.

    >>> gap = {"value": .04, "low": .01, "high": .07}
    >>> judge_comparison({"model": {}, "scorecard": {}, "difference": {"auc": gap}}).answer
    'Yes'
    """
    question = "Better than the scorecard?"
    if "difference" not in judged:
        return Verdict(question, "No scorecard", "open", "", "none is declared, so nothing was compared")
    signs, said = {}, []
    for name, title, better, digits in (("auc", "AUC", 1, 3), ("log_loss", "log loss", -1, 4)):
        gap = judged["difference"].get(name)
        if gap is None or not is_known(gap["low"]) or not is_known(gap["high"]):
            continue
        said.append(
            f"{title} {decimal(gap['value'], digits, signed=True)} "
            f"{brackets(gap['low'], gap['high'], digits, signed=True)}"
        )
        signs[title] = 0 if gap["low"] <= 0 <= gap["high"] else (1 if better * gap["low"] > 0 else -1)
    figures = "; ".join(said)
    won = [title for title, sign in signs.items() if sign > 0]
    lost = [title for title, sign in signs.items() if sign < 0]
    if not signs:
        return Verdict(question, "Cannot tell", "open", figures, "too few conversions for an interval")
    if won and lost:
        return Verdict(question, "Mixed", "open", figures, f"better in {won[0]}, worse in {lost[0]}")
    if lost:
        return Verdict(question, "No", "bad", figures, f"the scorecard is better in {' and '.join(lost)}")
    if won:
        return Verdict(question, "Yes", "good", figures, f"better in {' and '.join(won)}, worse in neither")
    return Verdict(question, "Not shown", "open", figures, "the intervals hold no difference")


def judge_leakage(leakage: Mapping[str, Any] | None) -> Verdict:
    """Whether hindsight was found in the features.

    >>> judge_leakage({"findings": [{"name": "x", "severity": "severe", "waived": True}]}).answer
    'Waived'
    """
    question = "Leaks?"
    if leakage is None:
        return Verdict(question, "Not looked for", "open", "", "training ran without the leakage gate")
    findings = leakage.get("findings", ())
    severe = [each for each in findings if each.get("severity") == "severe"]
    standing = [each for each in severe if not each.get("waived")]
    warnings = [each for each in findings if each.get("severity") == "warning" and not each.get("waived")]
    figures = f"{len(standing)} severe, {len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'}"
    waived = sum(bool(each.get("waived")) for each in findings)
    if waived:
        figures += f", {waived} waived"
    if standing:
        return Verdict(question, "Yes", "bad", figures, "severe findings stand: do not use this model")
    if severe:
        return Verdict(question, "Waived", "open", figures, "severe findings were waived by name")
    if warnings:
        return Verdict(question, "None severe", "open", figures, "read the warnings below")
    return Verdict(question, "None found", "good", figures, "no check found hindsight")


def key_figures(judged: Mapping[str, Any]) -> list[dict[str, str]]:
    """A few numbers with intervals for the head of the page."""
    model, found = judged["model"], []
    if "auc" in model:
        entry = model["auc"]
        found.append(("AUC", decimal(entry["value"]), brackets(entry["low"], entry["high"])))
    for name, title in (
        ("captured_top_5pct", "Converters in the top 5 %"),
        ("captured_top_10pct", "Converters in the top 10 %"),
    ):
        if name in model:
            entry = model[name]
            found.append(
                (title, percent(entry["value"], 2), percent_brackets(entry["low"], entry["high"], 2))
            )
    if "log_loss" in model:
        entry = model["log_loss"]
        found.append(("Log loss", decimal(entry["value"], 4), brackets(entry["low"], entry["high"], 4)))
    return [{"title": title, "value": value, "interval": ends} for title, value, ends in found]
