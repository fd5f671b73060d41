"""What a comparison supports, in plain words: an interval that holds zero is said to hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Entry = dict[str, float | None]

FEW_CONVERTERS = 20
"""With fewer converting leads, intervals from resampling them are too narrow; the first sentence says so."""

CALIBRATED = (0.8, 1.25)
"""Only an interval of predicted over observed inside this tells that a model is calibrated."""

MANY_MEANS_ABOVE = 0.05
"""Where more of the leads have a mean above their own interval, it is said."""


def state_comparison(metrics: dict[str, Any], *, part: str = "test", share: float = 0.05) -> list[str]:
    """Sentences on captured converters, ranking, log loss and calibration of one evaluated part.

    Parameters
    ----------
    metrics : result of :func:`.comparison.evaluate`, or ``metrics.json`` read back
    part : which part of it
    share : top share to speak of; the nearest one that was evaluated is taken

    >>> entry = lambda value, low, high: {"value": value, "low": low, "high": high}
    >>> metrics = {"test": {
    ...     "model": {"captured_top_5pct": entry(.52, .45, .59)},
    ...     "scorecard": {"captured_top_5pct": entry(.47, .40, .53)},
    ...     "difference": {"captured_top_5pct": entry(.05, -.03, .13)},
    ...     "counts": {"rows": 9000, "leads": 999, "converting_leads": 60, "base_rate": .01},
    ...     "interval": {"confidence": .95}}}
    >>> state_comparison(metrics)[1]
    'In the top 5 % the model finds 52 % of the converters, the scorecard 47 %: +5 points, \
95 % interval -3 to +13, which includes no difference.'
    """
    if part not in metrics:
        raise KeyError(f"the metrics have no part '{part}'; they have: {', '.join(metrics)}")
    found = metrics[part]
    counts = found["counts"]
    level = f"{100 * found['interval']['confidence']:.4g} %"
    sentences = [
        f"Judged on {counts['rows']:,} observations of {counts['leads']:,} leads, of which "
        f"{counts['converting_leads']:,} convert ({100 * counts['base_rate']:.3g} % of the observations)."
    ]
    if 0 < counts["converting_leads"] < FEW_CONVERTERS:
        sentences[0] += " So few decide little: the intervals below are narrower than what is not known."
    captured = _nearest_captured(found["model"], share)
    if captured is not None:
        sentences.append(_captured_sentence(found, captured, level))
    for name, label, sign in (("auc", "AUC", 1), ("log_loss", "Log loss (smaller is better)", -1)):
        if name in found["model"]:
            sentences.append(_metric_sentence(found, name, label, sign, level))
    if "calibration_ratio" in found["model"]:
        sentences.append(
            _calibration_sentence(found["model"]["calibration_ratio"], level, counts["converting_leads"])
        )
    return sentences


def _nearest_captured(model: dict[str, Entry], share: float) -> str | None:
    names = [name for name in model if name.startswith("captured_top_")]
    return min(names, key=lambda name: abs(percent_of_name(name) - 100 * share), default=None)


def percent_of_name(name: str) -> float:
    """The top share, in percent, that the name of a captured share speaks of.

    >>> percent_of_name("captured_top_0_5pct")
    0.5
    """
    return float(name.removeprefix("captured_top_").removesuffix("pct").replace("_", "."))


def _captured_sentence(found: dict[str, Any], name: str, level: str) -> str:
    model = found["model"][name]["value"]
    top = f"In the top {percent_of_name(name):.10g} %"
    if model is None:
        return f"{top} there is nothing to find: no observation converted."
    if "scorecard" not in found:
        own = found["model"][name]
        text = f"{top} the model finds {100 * model:.0f} % of the converters"
        if own["low"] is None or own["high"] is None:
            return f"{text}; there are too few of them for an interval."
        return f"{text}, {level} interval {100 * own['low']:.0f} to {100 * own['high']:.0f} %."
    scorecard, gap = found["scorecard"][name]["value"], found["difference"][name]
    text = (
        f"{top} the model finds {100 * model:.0f} % of the converters, "
        f"the scorecard {100 * scorecard:.0f} %: {_signed(100 * gap['value'], 0)} points"
    )
    if gap["low"] is None or gap["high"] is None:
        return f"{text}, with too few converters for an interval."
    return (
        f"{text}, {level} interval {_signed(100 * gap['low'], 0)} to {_signed(100 * gap['high'], 0)}"
        + _verdict(gap, 1, "finds more")
    )


def _metric_sentence(found: dict[str, Any], name: str, label: str, sign: int, level: str) -> str:
    own = found["model"][name]
    if own["value"] is None:
        return f"{label}: undefined, because only one class is present."
    if name not in found.get("scorecard", {}):
        if own["low"] is None or own["high"] is None:
            return f"{label}: model {own['value']:.4f}, with too few converters for an interval."
        return f"{label}: model {own['value']:.4f}, {level} interval {own['low']:.4f} to {own['high']:.4f}."
    gap = found["difference"][name]
    text = f"{label}: model {own['value']:.4f}, scorecard {found['scorecard'][name]['value']:.4f}: "
    text += _signed(gap["value"], 4)
    if gap["low"] is None or gap["high"] is None:
        return f"{text}, with too few converters for an interval."
    return f"{text}, {level} interval {_signed(gap['low'], 4)} to {_signed(gap['high'], 4)}" + _verdict(
        gap, sign, "is better"
    )


def state_further(metrics: dict[str, Any]) -> list[str]:
    """Sentences on what stands beside the first horizon: further horizons, expected revenue, hindsight.

    ``metrics`` are those of a training run, ``metrics.json`` read back; what is not in there is not spoken of.

    >>> state_further({"test": {"interval": {"confidence": .95}}, "leakage": {"severe": 0, "warning": 0}})
    ['No hindsight was found.']
    """
    level = f"{100 * metrics['test']['interval']['confidence']:.4g} %"
    sentences = []
    horizons = metrics.get("horizons") or {}
    if len(horizons) > 1:
        sentences += [_horizon_sentence(name, found, level) for name, found in horizons.items()]
    if metrics.get("value"):
        sentences += state_value(metrics["value"], confidence=metrics["test"]["interval"]["confidence"])
    if "leakage" in metrics:
        sentences.append(_hindsight_sentence(metrics["leakage"]))
    return sentences


def _horizon_sentence(name: str, found: dict[str, Any] | None, level: str) -> str:
    if found is None:
        return f"Within {name}: cannot be judged, because only one class is known."
    shown = [
        f"{title} {_with_interval(found[metric], digits)}"
        for metric, title, digits in (("auc", "AUC", 3), ("calibration_ratio", "predicted / observed", 2))
    ]
    leads = found["counts"]["converting_leads"]
    return f"Within {name}, {leads:,} convert: {', '.join(shown)}, {level} intervals."


def state_value(value: dict[str, Any], *, confidence: float = 0.95) -> list[str]:
    """Sentences on expected revenue: its total, its ranking, and means that lie above their own interval.

    ``value`` is the result of :func:`.value_judgement.judge_value`.

    >>> entry = lambda value, low, high: {"value": value, "low": low, "high": high}
    >>> gini = {"normalised_gini": entry(.2, -.2, .6)}
    >>> print(*state_value({"mean_above_interval": 1.0, "expected_value": {
    ...     "model": {"total_ratio": entry(2.79, 1.69, 6.22), **gini}, "same_value": gini}}), sep="\\n")
    Expected revenue: 2.79 (1.69 to 6.22) times what came [95 % interval].
    The value model adds nothing: with one value for all, leads rank as well by revenue (0.200).
    A few customers bring most of the revenue: for 100 % of the leads the mean lies above the interval that most \
single customers stay in. Add up means for a total; of one customer expect what the interval says.
    """
    level = f"{100 * confidence:.4g} %"
    expected = value.get("expected_value") or {}
    sentences = []
    if "total_ratio" in expected.get("model", {}):
        sentences.append(_revenue_sentence(expected["model"]["total_ratio"], level))
        if expected["model"]["total_ratio"]["value"] is None:
            return sentences
    ranking = _revenue_ranking(expected, level)
    above = value.get("mean_above_interval") or 0.0
    if above > MANY_MEANS_ABOVE:
        ranking.append(
            f"A few customers bring most of the revenue: for {100 * above:.0f} % of the leads the mean lies above the "
            "interval that most single customers stay in. Add up means for a total; of one customer expect what the "
            "interval says."
        )
    return sentences + ranking


def value_adds_nothing(expected: dict[str, Any]) -> bool:
    """Whether one value for all ranks leads by revenue as well as the value model, to three decimals."""
    own, same = (
        expected.get(name, {}).get("normalised_gini", {}).get("value") for name in ("model", "same_value")
    )
    return own is not None and same is not None and f"{own:.3f}" == f"{same:.3f}"


def revenue_is_open(value: Mapping[str, Any] | None) -> bool:
    """Whether some value windows had not ended at the end of the data, or nothing is known of them.

    >>> revenue_is_open({"value": {"complete_share": 1.0}}), revenue_is_open(None)
    (False, True)
    """
    parts = ((value or {}).get(name) or {} for name in ("value", "expected_value"))
    known = [part["complete_share"] for part in parts if part.get("complete_share") is not None]
    return not known or known[0] < 1


def _revenue_sentence(ratio: Entry, level: str) -> str:
    if ratio["value"] is None:
        return "Expected revenue: cannot be judged, because no revenue came."
    ends = f" [{level} interval]" if ratio["low"] is not None else ", with too few converters for an interval"
    return f"Expected revenue: {_with_interval(ratio, 2)} times what came{ends}."


def _revenue_ranking(expected: dict[str, Any], level: str) -> list[str]:
    own, same = (expected.get(name, {}).get("normalised_gini") for name in ("model", "same_value"))
    if own is None or same is None or own["value"] is None or same["value"] is None:
        return []
    if value_adds_nothing(expected):
        return [
            "The value model adds nothing: with one value for all, leads rank as well by revenue "
            f"({own['value']:.3f})."
        ]
    return [
        f"Ranking by revenue (normalised Gini): {_with_interval(own, 3)} with the value model, "
        f"{_with_interval(same, 3)} with one value for all [{level} intervals]."
    ]


def _hindsight_sentence(counts: dict[str, int]) -> str:
    severe, warnings = counts.get("severe", 0), counts.get("warning", 0)
    if not severe and not warnings and counts.get("info", 0):
        return f"No hindsight was found, but of {counts['info']} strong columns it cannot be told: see leakage.json."
    if not severe and not warnings:
        return "No hindsight was found."
    parts = [f"{severe} severe, waived"] if severe else []
    parts += [f"{warnings} warning{'s' if warnings > 1 else ''}"] if warnings else []
    return f"Hindsight: {'; '.join(parts)}: see leakage.json."


def _with_interval(entry: Entry, digits: int) -> str:
    value, low, high = (entry[end] for end in ("value", "low", "high"))
    if value is None:
        return "undefined"
    if low is None:
        return f"{value:.{digits}f}"
    return (
        f"{value:.{digits}f} ({low:.{digits}f} {f'to {high:.{digits}f}' if high is not None else 'or more'})"
    )


def _calibration_sentence(ratio: Entry, level: str, converting_leads: int) -> str:
    value, low, high = ratio["value"], ratio["low"], ratio["high"]
    if value is None:
        return "Calibration: undefined, because no observation converted."
    text = f"Calibration: the model predicts {value:.2f} times the conversions that came"
    if low is None:
        return f"{text}; there are too few of them for an interval."
    text += (
        f", {level} interval {low:.2f} to {high:.2f}"
        if high is not None
        else f", {level} interval {low:.2f} or more"
    )
    if converting_leads < FEW_CONVERTERS:
        return f"{text}; too few convert to tell whether it is calibrated."
    if low <= 1 and (high is None or high >= 1):
        wide = high is None or low < CALIBRATED[0] or high > CALIBRATED[1]
        return (
            f"{text}, which includes 1{', but is too wide to tell whether it is calibrated' if wide else ''}."
        )
    return f"{text}: it promises too {'many' if low > 1 else 'few'}."


def _verdict(gap: Entry, sign: int, claim: str) -> str:
    low, high = gap["low"] or 0.0, gap["high"] or 0.0
    if low <= 0 <= high:
        return ", which includes no difference."
    return f": the {'model' if sign * low > 0 else 'scorecard'} {claim}."


def _signed(number: float, digits: int) -> str:
    """A number with its sign; a rounded zero carries none."""
    text = f"{number:+.{digits}f}"
    return text[1:] if float(text) == 0 else text
