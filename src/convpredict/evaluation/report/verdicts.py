"""The badges on top of the report: a claim is made only where its interval supports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

from ..calls import digits_of
from ..sentences import CALIBRATED, FEW_CONVERTERS, value_adds_nothing
from .numbers import brackets, decimal, is_known, percent, percent_brackets

_CALLS = "conversions by calls"


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
    question = "Calibrated?"
    verdict = _judge_ratio(
        question,
        "predicted / observed",
        judged["model"].get("calibration_ratio"),
        judged.get("counts", {}).get("converting_leads", FEW_CONVERTERS),
        ("it promises too few conversions", "it promises too many conversions"),
    )
    if verdict.tone != "good":
        return verdict
    slope = judged["model"].get("calibration_slope") or {}
    if is_known(slope.get("low")) and is_known(slope.get("high")) and not slope["low"] <= 1 <= slope["high"]:
        way = "too timid" if slope["low"] > 1 else "too extreme"
        text = f"slope {decimal(slope['value'], 2)} {brackets(slope['low'], slope['high'], 2)}"
        return Verdict(
            question,
            "In total only",
            "open",
            verdict.figures,
            f"the interval holds 1, but high and low are {way}: {text}",
        )
    return verdict


def judge_value_badge(value: Mapping[str, Any], judged: Mapping[str, Any]) -> Verdict | None:
    """Whether as much revenue came as was expected, and whether the value model ranks; None: nothing was judged.

    >>> entry = {"total_ratio": {"value": 2.79, "low": 1.69, "high": 6.22}}
    >>> judge_value_badge({"expected_value": {"model": entry}}, {}).why
    'it promises too much revenue'
    """
    expected = value.get("expected_value") or {}
    if "total_ratio" not in expected.get("model", {}):
        return None
    verdict = _judge_ratio(
        "Revenue as expected?",
        "expected / came",
        expected["model"]["total_ratio"],
        judged.get("counts", {}).get("converting_leads", FEW_CONVERTERS),
        ("it promises too little revenue", "it promises too much revenue"),
    )
    if not value_adds_nothing(expected):
        return verdict
    why = f"{verdict.why}; one value for all ranks leads as well"
    if verdict.tone == "good":
        return replace(verdict, answer="In total only", tone="open", why=why)
    return replace(verdict, why=why)


def _judge_ratio(
    question: str,
    title: str,
    entry: Mapping[str, Any] | None,
    converting_leads: int,
    off: tuple[str, str],
) -> Verdict:
    """Whether a ratio of predicted to observed is 1; ``off`` says what it means to be below and above."""
    entry = entry or {"value": None, "low": None, "high": None}
    value, low, high = entry["value"], entry["low"], entry["high"]
    figures = f"{title} {decimal(value, 2)} {brackets(low, high, 2)}".rstrip()
    if not is_known(value) or not is_known(low):
        return Verdict(question, "Cannot tell", "open", figures, "too few conversions for an interval")
    if converting_leads < FEW_CONVERTERS:
        return Verdict(question, "Cannot tell", "open", figures, "too few leads convert")
    if is_known(high) and high < 1:
        return Verdict(question, "No", "bad", figures, off[0])
    if low > 1:
        return Verdict(question, "No", "bad", figures, off[1])
    if not is_known(high) or low < CALIBRATED[0] or high > CALIBRATED[1]:
        return Verdict(
            question, "Cannot tell", "open", figures, "the interval holds 1, but is too wide to tell"
        )
    return Verdict(question, "Yes", "good", figures, "the interval holds 1")


def judge_comparison(judged: Mapping[str, Any], calls: Mapping[str, Any] | None = None) -> Verdict:
    """Whether the model beats the scorecard: better somewhere, worse nowhere, and more found by the ``calls``.

    Looked at are AUC, log loss, the conversions that call lists find (:func:`.calls.replay_calls`), and whether
    predicted over observed is further from 1 than the scorecard's.

    >>> gap = {"value": .04, "low": .01, "high": .07}
    >>> judged = {"model": {}, "scorecard": {}, "difference": {"auc": gap}}
    >>> judge_comparison(judged).answer
    'Yes'
    >>> found = {"model": {"value": 28}, "scorecard": {"value": 19}, "difference": {"value": 9, "low": -3, "high": 25}}
    >>> judge_comparison(judged, {"conversions": found}).answer
    'Better ranking'
    """
    question = "Better than the scorecard?"
    if "difference" not in judged:
        return Verdict(question, "No scorecard", "open", "", "none is declared, so nothing was compared")
    found = (calls or {}).get("conversions", {})
    gaps = {"AUC": (judged["difference"].get("auc"), 1, 3)}
    gaps["log loss"] = (judged["difference"].get("log_loss"), -1, 4)
    if "difference" in found:
        gaps[_CALLS] = (found["difference"], 1, digits_of(found))
    signs, said = {}, []
    for title, (gap, sign, digits) in gaps.items():
        if gap is None or not is_known(gap["low"]) or not is_known(gap["high"]):
            continue
        value = gap["value"]
        if title == _CALLS:
            value = round(found["model"]["value"], digits) - round(found["scorecard"]["value"], digits)
        said.append(
            f"{title} {decimal(value, digits, signed=True)} "
            f"{brackets(gap['low'], gap['high'], digits, signed=True)}"
        )
        signs[title] = 0 if gap["low"] <= 0 <= gap["high"] else (1 if sign * gap["low"] > 0 else -1)
    figures = "; ".join(said)
    if not signs:
        return Verdict(question, "Cannot tell", "open", figures, "too few conversions for an interval")
    won = [title for title, sign in signs.items() if sign > 0]
    lost = [title for title, sign in signs.items() if sign < 0]
    if _worse_calibrated(judged):
        lost.append("predicted / observed")
    better, worse = " and ".join(won), " and ".join(lost)
    if won and lost:
        return Verdict(question, "Mixed", "open", figures, f"better in {better}, worse in {worse}")
    if lost:
        return Verdict(question, "No", "bad", figures, f"the scorecard is better in {worse}")
    if won and _CALLS not in won and "difference" in found:
        answer = "Better ranking" if "AUC" in won else "Better probabilities"
        return Verdict(
            question, answer, "open", figures, f"better in {better}; more conversions by calls are not shown"
        )
    if won:
        return Verdict(question, "Yes", "good", figures, f"better in {better}, worse in nothing")
    return Verdict(question, "Not shown", "open", figures, "the intervals hold no difference")


def _worse_calibrated(judged: Mapping[str, Any]) -> bool:
    """Whether the model is off in total, and surely further off than the scorecard.

    >>> ratio = lambda value, low, high: {"calibration_ratio": {"value": value, "low": low, "high": high}}
    >>> model, gap = ratio(1.54, 1.27, 1.92), ratio(.19, .15, .25)
    >>> _worse_calibrated({"model": model, "scorecard": ratio(1.35, 1.11, 1.68), "difference": gap})
    True
    >>> _worse_calibrated({"model": model, "scorecard": ratio(.6, .5, .7), "difference": gap})
    False
    """
    own, card, gap = (
        judged.get(name, {}).get("calibration_ratio") for name in ("model", "scorecard", "difference")
    )
    if own is None or card is None or gap is None:
        return False
    if not all(is_known(each) for each in (own["low"], own["high"], card["value"], gap["low"], gap["high"])):
        return False
    if card["value"] <= 0 or own["low"] <= 0 or own["low"] <= 1 <= own["high"]:
        return False
    nearest = own["low"] if own["low"] > 1 else own["high"]
    away = gap["low"] > 0 if nearest > 1 else gap["high"] < 0
    same_side = (card["value"] >= 1) == (nearest > 1)
    return away and (same_side or abs(log(nearest)) > abs(log(card["value"])))


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
    untold = sum(each.get("severity") == "info" for each in findings)
    if untold:
        why = "no check found hindsight, and of some attributes it cannot be told: ask when they are written"
        return Verdict(question, "None found", "open", f"{figures}, {untold} cannot be told", why)
    why = "no check found hindsight; noisy copies as strong as an honest attribute are not covered"
    return Verdict(question, "None found", "good", figures, why)


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
