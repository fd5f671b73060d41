"""When a challenger becomes champion: what the rule of the configuration says of a comparison, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from convpredict.config.promotion import PromotionConfig, Requirement

from .model_comparison import FEWEST_CONVERTING_LEADS
from .value_comparison import CALLED, GINI, VALUE_FIGURES

Entry = Mapping[str, Any]
_AMOUNT = 10.0
"""A difference as large as this is an amount of money, and shown without decimals."""


@dataclass(frozen=True)
class Check:
    """One requirement: whether it ``holds`` (None: it has no say), and why, in one sentence."""

    name: str
    holds: bool | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, "holds": self.holds, "sentence": self.sentence}


@dataclass(frozen=True)
class PromotionVerdict:
    """What the rule says: ``checks`` in order, and the ``figures`` that they were taken from."""

    checks: tuple[Check, ...]
    figures: Mapping[str, Any] = field(repr=False)

    @property
    def holds(self) -> bool:
        """Whether every requirement holds."""
        return all(check.holds is not False for check in self.checks)


def judge(figures: Mapping[str, Any], config: PromotionConfig) -> PromotionVerdict:
    """What the rule says of a comparison (see :func:`compare_models`).

    ``figures`` may hold ``further`` as well (see :func:`.compare_horizons`), ``lost_columns`` (those that the champion
    gives to readers and the challenger does not) and, where both predict it, ``value`` (see :func:`.compare_values`,
    with its ``value_horizon``, or ``not_compared``: why the values could not be).
    """
    difference = figures["difference"]
    captured = {name: entry for name, entry in difference.items() if name.startswith("captured_")}
    judged = [entry for entry in figures["segments"] if entry["converting_leads"] >= FEWEST_CONVERTING_LEADS]
    losses = {f"{each['segment']} {each['value']}": each["log_loss"] for each in judged}
    checks = [
        _enough(figures["counts"]["converting_leads"], config),
        _required("log_loss", config.log_loss, {"log loss": difference["log_loss"]}, -1, "champion"),
        _required("captured", config.captured, captured, 1, "champion"),
        _required(
            "segments",
            config.segments,
            losses,
            -1,
            "champion",
            none="no segment has enough converting leads",
        ),
        *_further(figures.get("further", {}), config),
        *_kept(figures),
        *_valued(figures.get("value"), config),
        _calibrated(figures["challenger"]["calibration_ratio"], config),
    ]
    return PromotionVerdict(tuple(checks), figures)


def told_apart(figures: Mapping[str, Any]) -> str:
    """How small a difference the comparison could not have shown, in one sentence: half the width of each interval.

    >>> entry = {"value": 0.01, "low": -0.01, "high": 0.03}
    >>> champion = {"log_loss": {"value": 0.2}}
    >>> figures = {"counts": {"converting_leads": 40}, "difference": {"log_loss": entry}, "champion": champion}
    >>> told_apart(figures).partition(" leads ")[2]
    "this data could not have told a difference below 0.0200 in log loss (10 % of the champion's)."
    """
    difference, champion = figures["difference"], figures["champion"]
    reaches = {
        name: (entry["high"] - entry["low"]) / 2
        for name, entry in difference.items()
        if (name == "log_loss" or name.startswith("captured_"))
        and entry["low"] is not None
        and entry["high"] is not None
    }
    if not reaches:
        return "This data could not have told any difference: too few leads converted."

    def told(name: str, reach: float) -> str:
        own = champion.get(name, {}).get("value")
        share = f" ({reach / own:.0%} of the champion's)".replace("%", " %") if own else ""
        return f"{reach:.4f} in {'log loss' if name == 'log_loss' else name}{share}"

    parts = [told(name, reach) for name, reach in reaches.items()]
    count = figures["counts"]["converting_leads"]
    return f"With {count:,} converting leads this data could not have told a difference below {', '.join(parts)}."


def _further(further: Mapping[str, Any], config: PromotionConfig) -> list[Check]:
    """The further horizons that both models predict; which of them have too few converting leads for a say is told."""
    if not further:
        return []
    judged = {
        f"log loss within {name}": entry["log_loss"]
        for name, entry in further.items()
        if entry["converting_leads"] >= FEWEST_CONVERTING_LEADS
    }
    silent = [
        f"{name} ({entry['converting_leads']})"
        for name, entry in further.items()
        if entry["converting_leads"] < FEWEST_CONVERTING_LEADS
    ]
    check = _required(
        "further_horizons",
        config.further_horizons,
        judged,
        -1,
        "champion",
        none="no further horizon has enough converting leads",
    )
    if not silent or config.further_horizons == "any":
        return [check]
    told = f"{check.sentence} Not judged, as too few leads converted: {', '.join(silent)}."
    return [Check(check.name, check.holds, told)]


def _kept(figures: Mapping[str, Any]) -> list[Check]:
    """Readers must not lose columns by a promotion that nobody decided on."""
    if "lost_columns" not in figures:
        return []
    lost = figures["lost_columns"]
    told = (
        f"readers would lose {len(lost)} column{'s' if len(lost) > 1 else ''} that the champion gives them: "
        f"{', '.join(lost)}."
        if lost
        else "readers keep every column that the champion gives them."
    )
    return [Check("columns", not lost, told)]


def _valued(found: Mapping[str, Any] | None, config: PromotionConfig) -> list[Check]:
    """The expected values, where both predict them; without revenue to judge them by they have no say.

    Values that are no finite numbers, and figures that are not defined although there is revenue, do not hold.
    """
    if found is None:
        return []
    if config.value == "any":
        return [_required("value", "any", {}, VALUE_FIGURES, "champion")]
    if "not_compared" in found:
        return [
            Check("value", None, f"value: both predict it, and it is not compared: {found['not_compared']}.")
        ]
    counts, horizon = found["counts"], found["value_horizon"]
    if not counts["rows"]:
        return [Check("value", None, f"value: {_nothing_mature(found)}")]
    seen = (
        f"{counts['rows']:,} observations whose value window of {horizon} has ended, with revenue from "
        f"{counts['converting_leads']:,} leads"
    )
    if "not_finite" in found:
        whose = " and ".join(f"{count:,} of the {side}'s" for side, count in found["not_finite"].items())
        why = f"value: on {seen}, {whose} expected values are no finite numbers, so they cannot be compared."
        return [Check("value", False, why)]
    if not found["judged"]:
        return [Check("value", None, f"value: not judged on {seen}: too little revenue to tell anything by.")]
    check = _required("value", config.value, found["difference"], VALUE_FIGURES, "champion")
    own, other = (found[side] for side in ("challenger", "champion"))
    ratios, ginis = ([_plain(side[name]["value"]) for side in (own, other)] for name in ("total_ratio", GINI))
    told = [
        f"total predicted over actual {' and '.join(ratios)}",
        f"normalised Gini {' and '.join(ginis)}",
        f"revenue called per quarter {own[CALLED]:,.0f} and {other[CALLED]:,.0f}",
    ]
    sentence = f"value, on {seen} (challenger and champion): {', '.join(told)}; {check.sentence}"
    return [Check("value", check.holds, sentence)]


def _nothing_mature(found: Mapping[str, Any]) -> str:
    return (
        "both predict it, but no observation that neither was trained on has a value window "
        f"({found['value_horizon']}) that has ended, so which of them does so better is not judged."
    )


def _plain(number: float | None) -> str:
    return "undefined" if number is None else f"{number:.3f}"


def judge_alone(verdicts: Mapping[str, Any], config: PromotionConfig) -> PromotionVerdict:
    """What the rule says of a model without a champion to compare with, by its own test part.

    ``verdicts`` are those kept with the version (``converting_leads``, ``model``, ``difference`` to the scorecard).
    It must be calibrated and not worse than the scorecard, if there is one.
    """
    difference = verdicts["difference"]
    captured = {name: entry for name, entry in difference.items() if name.startswith("captured_")}
    checks = [_enough(verdicts["converting_leads"], config)]
    if "log_loss" in difference:
        checks.append(
            _required(
                "log_loss", _lenient(config.log_loss), {"log loss": difference["log_loss"]}, -1, "scorecard"
            )
        )
    if captured:
        checks.append(_required("captured", _lenient(config.captured), captured, 1, "scorecard"))
    return PromotionVerdict(
        (*checks, _calibrated(verdicts["model"]["calibration_ratio"], config)), dict(verdicts)
    )


def _lenient(requirement: Requirement) -> Requirement:
    """Beside a scorecard, a first model need not be better: it need not be worse."""
    return "not_worse" if requirement == "better" else requirement


def _enough(converting: int, config: PromotionConfig) -> Check:
    wanted = config.min_converting_leads
    holds = converting >= wanted
    told = f"{converting:,} of the leads converted; the rule asks for {wanted:,} (promotion.min_converting_leads)"
    return Check("converting_leads", holds, f"{told}.")


def _required(
    name: str,
    requirement: Requirement,
    entries: Mapping[str, Entry],
    sign: int | Mapping[str, int],
    other: str,
    *,
    none: str = "there is nothing to compare",
) -> Check:
    """Hold differences to a requirement; ``sign`` (of all, or by entry): 1 where larger is better for the challenger.

    Several entries are better if one is and none is worse, and not worse if none is.
    """
    if requirement == "any":
        return Check(name, None, f"{name} is not asked for.")
    if not entries:
        return Check(name, None if requirement == "not_worse" else False, f"{name}: {none}.")
    undefined = [key for key, entry in entries.items() if entry["low"] is None or entry["high"] is None]
    side = {
        key: _side_of(entry, sign if isinstance(sign, int) else sign[key])
        for key, entry in entries.items()
        if key not in undefined
    }
    better, worse = ([key for key in side if side[key] == wanted] for wanted in (1, -1))
    told = _told(entries, better, worse, other)
    if undefined:
        return Check(name, False, f"{told}; cannot be judged: {', '.join(undefined[:5])}.")
    holds = not worse if requirement == "not_worse" else bool(better) and not worse
    return Check(name, holds, f"{told}; the rule asks for '{requirement}'.")


def _told(entries: Mapping[str, Entry], better: Sequence[str], worse: Sequence[str], other: str) -> str:
    if len(entries) == 1:
        (key,) = entries
        sides = "better" if better else "worse" if worse else "not told apart"
        return f"{key}: {_shown(entries[key])} against the {other}, {sides}"
    parts = [f"{key} {_shown(entries[key])} worse" for key in worse[:5]]
    parts += [f"{key} {_shown(entries[key])} better" for key in better[:5]]
    rest = len(entries) - len(better) - len(worse)
    parts += [f"{rest} of {len(entries)} not told apart"] if rest else []
    return f"against the {other}: {', '.join(parts)}"


def _shown(entry: Entry) -> str:
    if entry["value"] is None:
        return "undefined"
    form = "+,.0f" if abs(entry["value"]) >= _AMOUNT else "+.4f"
    ends = (
        f" [{entry['low']:{form}}, {entry['high']:{form}}]"
        if entry["low"] is not None and entry["high"] is not None
        else ""
    )
    return f"{entry['value']:{form}}{ends}"


def _side_of(entry: Entry, sign: int) -> int:
    """1: the whole interval is on the challenger's side, -1: on the other's, 0: it holds zero."""
    low, high = sorted((sign * entry["low"], sign * entry["high"]))
    return 1 if low > 0 else -1 if high < 0 else 0


def _calibrated(ratio: Entry, config: PromotionConfig) -> Check:
    least, most = config.calibration_ratio
    if ratio["value"] is None or ratio["low"] is None:
        return Check("calibration_ratio", False, "the calibration cannot be judged: too few leads converted.")
    low, high = ratio["low"], ratio["high"] if ratio["high"] is not None else math.inf
    told = f"expected over observed conversions: {ratio['value']:.2f} [{low:.2f}, {high:.2f}]"
    return Check(
        "calibration_ratio", high >= least and low <= most, f"{told}; the rule allows {least:g} to {most:g}."
    )
