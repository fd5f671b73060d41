"""What a comparison supports, in plain words: an interval that holds zero is said to hold it."""

from __future__ import annotations

from typing import Any

Entry = dict[str, float | None]

FEW_CONVERTERS = 20
"""With fewer converting leads, intervals from resampling them are too narrow; the first sentence says so."""

CALIBRATED = (0.8, 1.25)
"""Only an interval of predicted over observed inside this tells that a model is calibrated."""


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
        sentences += _value_sentences(metrics["value"]["expected_value"], level)
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


def _value_sentences(expected: dict[str, Any], level: str) -> list[str]:
    ratio, own, same = (
        expected["model"]["total_ratio"],
        expected["model"]["normalised_gini"],
        expected["same_value"]["normalised_gini"],
    )
    if ratio["value"] is None:
        return ["Expected revenue: cannot be judged, because no revenue came."]
    ends = f" [{level} interval]" if ratio["low"] is not None else ", with too few converters for an interval"
    sentences = [f"Expected revenue: {_with_interval(ratio, 2)} times what came{ends}."]
    if own["value"] is None or same["value"] is None:
        return sentences
    first, second = f"{own['value']:.3f}", f"{same['value']:.3f}"
    if first == second:
        text = (
            f"The value model adds nothing: with one value for all, leads rank as well by revenue ({first})."
        )
    else:
        text = (
            f"Ranking by revenue (normalised Gini): {_with_interval(own, 3)} with the value model, "
            f"{_with_interval(same, 3)} with one value for all [{level} intervals]."
        )
    return [*sentences, text]


def _hindsight_sentence(counts: dict[str, int]) -> str:
    severe, warnings = counts.get("severe", 0), counts.get("warning", 0)
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
