"""Attributes that were filled or changed after the outcome: filled-ness, values, strength, names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .columns import Column, listed, score_bins
from .findings import Finding, Public, Severity
from .names import tells_of_a_process
from .statistics import Association, Bools, associate, share_bounds, stratified_auc
from .view import HindsightShare, LeadView, hindsight_share

_LEAST_LEADS = 20
_MOST_VALUES = 40
_NEARLY_UNIQUE = 0.5
_YOUNG_SHARE = 0.25
_LEAST_YOUNG = 10
_MOST_DROPPED = 0.05

FILLED_SEVERE = 20.0
EMPTIED_SEVERE = 10.0
FILLED_WARNING_DATED = 4.0
FILLED_WARNING_UNDATED = 3.0
FILLED_CONFIRMED = 3.0
FILLED_LEAST_GAP = 0.15
FILLED_LEAST_GAP_SEVERE = 0.05
VALUE_SEVERE = 20.0
VALUE_WARNING = 10.0
VALUE_CONFIRMED = 8.0
VALUE_LEAST_SHARE = 0.5
STRENGTH_SEVERE = 0.85
STRENGTH_WARNING = 0.80
STRENGTH_CONFIRMED_SEVERE = 0.75
STRENGTH_CONFIRMED = 0.65
STRENGTH_UNTOLD = 0.65
STRENGTH_NAMED = 0.60

_REASON = "At a cutoff before the outcome it is not there yet: the model would learn what it cannot know."
_REMEDY = (
    "Drop '{name}' from the attributes, or give its changes with their dates (attribute_changes) and its value at "
    "creation; if it truly is set at creation, waive the finding with that reason."
)


@dataclass(frozen=True)
class Setting:
    """The leads, the normal quantile for all tests together, and whether cohorts are dated."""

    view: LeadView
    z: float

    @property
    def dated(self) -> bool:
        """Whether the leads have dates of creation."""
        return self.view.created_us is not None


def check_attributes(columns: Sequence[Column], setting: Setting) -> Iterator[Finding]:
    """Findings on each column by itself; what is more general, only where nothing severe was found."""
    found: list[Finding] = []
    for column in columns:
        own = list(check_filled(column, setting))
        if not any(finding.severity == "severe" for finding in own):
            own += check_values(column, setting)
        if not any(finding.severity == "severe" for finding in own):
            own += check_strength(column, setting, skip_warning=bool(own))
        found += own
    yield from found
    yield from check_written_together(
        columns, {name for finding in found if finding.severity != "info" for name in finding.columns}
    )


def check_filled(column: Column, setting: Setting) -> Iterator[Finding]:
    """Whether the column is filled far more often (or more rarely) for converted leads of the same cohort.

    A number that is the same for most leads (an amount of 0) counts as filled where it differs from that.
    """
    found = list(_check_written(column, column.filled, ("is filled", "is filled"), setting))
    usual = _usual_number(column)
    if usual is not None and not found:
        differs = column.filled & (column.numbers != usual)
        words = (f"differs from {usual:g}", "differs from its most frequent number")
        found = list(_check_written(column, differs, words, setting))
    yield from found


def _usual_number(column: Column) -> float | None:
    if column.kind == "category" or not column.filled.any():
        return None
    distinct, counts = np.unique(column.numbers[column.filled], return_counts=True)
    most = int(np.argmax(counts))
    return float(distinct[most]) if counts[most] >= 0.5 * counts.sum() else None


def _check_written(
    column: Column, written: Bools, verbs: tuple[str, str], setting: Setting
) -> Iterator[Finding]:
    """``verbs`` say what ``written`` means: in full, and without values of the data."""
    view = setting.view
    if min(int(written.sum()), int((~written).sum())) < _LEAST_LEADS:
        return
    against = associate(written, view.outcome, view.stratum, setting.z)
    strength = max(against.low, 1.0 / against.high)
    gap = abs(against.converted - against.others)
    aged = hindsight_share(written.astype(np.float64), view)
    emptied = against.converted < against.others and against.others >= 0.5
    least = EMPTIED_SEVERE if emptied else FILLED_SEVERE
    fills_up = aged is not None and aged.lacking and not emptied and _still_written(written, view)
    severity = _filled_severity(strength, gap, aged, (setting.dated, fills_up), least)
    if severity is None:
        return
    evidence, public = (
        f"'{column.name}' {verb} for {against.converted:.0%} of the converted leads and for {against.others:.0%} "
        f"of the others{_of_same_age(setting)} (odds ratio {against.odds_ratio:.3g}, "
        f"[{against.low:.3g}, {against.high:.3g}]){_aged_words(aged)}."
        for verb in verbs
    )
    remedy = _REMEDY.format(name=column.name)
    yield Finding(
        "late_filled",
        (column.name,),
        severity,
        evidence,
        _REASON,
        remedy,
        _figures(against, aged),
        public=Public(column.name, public, remedy),
    )


def _filled_severity(
    strength: float,
    gap: float,
    aged: HindsightShare | None,
    dated_and_fills_up: tuple[bool, bool],
    least_severe: float,
) -> Severity | None:
    dated, fills_up = dated_and_fills_up
    confirmed = fills_up or (aged is not None and aged.confirms)
    contradicted = aged is not None and aged.contradicts
    if strength >= least_severe and gap >= FILLED_LEAST_GAP_SEVERE:
        return "warning" if contradicted else "severe"
    if confirmed and strength >= FILLED_CONFIRMED and gap >= FILLED_LEAST_GAP:
        return "severe"
    least = FILLED_WARNING_DATED if dated else FILLED_WARNING_UNDATED
    if strength >= least and gap >= FILLED_LEAST_GAP and not contradicted:
        return "warning"
    return None


def _still_written(written: Bools, view: LeadView) -> bool:
    """Whether young converted leads have it like older ones: it fills up with age then, and was not dropped."""
    if view.created_us is None:
        return False
    young = view.created_us >= np.quantile(view.created_us, 1 - _YOUNG_SHARE)
    lately, before = (written[view.outcome & part] for part in (young, ~young))
    if min(len(lately), len(before)) < _LEAST_YOUNG:
        return False
    return bool(lately.mean() >= before.mean() - _MOST_DROPPED)


def check_values(column: Column, setting: Setting) -> Iterator[Finding]:
    """Whether single values are seen (almost) only on converted leads."""
    view = setting.view
    worst: Severity | None = None
    pure: list[tuple[str, int, Association]] = []
    confirmed_by: HindsightShare | None = None
    for label, holds in _frequent_values(column):
        expected = float(view.expected[holds].mean())
        share = float(view.outcome[holds].mean())
        if share < max(VALUE_LEAST_SHARE, 1.5 * expected):
            continue
        against = associate(holds, view.outcome, view.stratum, setting.z)
        aged = hindsight_share(holds.astype(np.float64), view)
        surely, _ = share_bounds(int(view.outcome[holds].sum()), int(holds.sum()), setting.z)
        low = max(against.low, surely / max(1 - surely, 1e-12) * (1 - expected) / expected)
        severity = _value_severity(low, aged, setting.dated)
        if severity is None:
            continue
        pure.append((label, int(holds.sum()), replace(against, low=low)))
        confirmed_by = aged if aged is not None and aged.confirms else confirmed_by
        worst = "severe" if "severe" in (worst, severity) else severity
    if worst is None:
        return
    label, count, against = max(pure, key=lambda entry: entry[2].low)
    holders = dict(_frequent_values(column))[label]
    named = listed([name for name, _, _ in sorted(pure, key=lambda entry: -entry[1])])
    evidence, public = (
        f"{view.outcome[holders].mean():.0%} of the {count:,} leads with {holding} converted, and "
        f"{view.outcome[~holders].mean():.1%} of all others (odds ratio {against.odds_ratio:.3g}, at least "
        f"{against.low:.3g}); such values: {values}{_aged_words(confirmed_by)}."
        for holding, values in (
            (f"{column.name} = '{label}'", named),
            (f"one value of '{column.name}'", f"{len(pure):,}"),
        )
    )
    remedy = _REMEDY.format(name=column.name)
    yield Finding(
        "outcome_value",
        (column.name,),
        worst,
        evidence,
        "A value that hardly any other lead has is mostly written because of the conversion, not before it.",
        remedy,
        {**_figures(against, confirmed_by), "value": label, "leads": count, "values": len(pure)},
        public=Public(column.name, public, remedy),
    )


def _value_severity(low: float, aged: HindsightShare | None, dated: bool) -> Severity | None:
    if aged is not None and aged.contradicts:
        return "warning" if low >= VALUE_SEVERE else None
    if low >= VALUE_SEVERE or (low >= VALUE_CONFIRMED and aged is not None and aged.confirms):
        return "severe"
    return "warning" if dated and low >= VALUE_WARNING else None


def _frequent_values(column: Column) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The values that enough leads have, the most frequent first, with who has them."""
    if column.kind == "category":
        held = column.codes[column.codes >= 0]
        counts = np.bincount(held, minlength=len(column.values))
        for code in np.argsort(-counts, kind="stable")[:_MOST_VALUES]:
            if counts[code] >= _LEAST_LEADS:
                yield column.values[code], column.codes == code
        return
    distinct, counts = np.unique(column.numbers[column.filled], return_counts=True)
    for place in np.argsort(-counts, kind="stable")[:_MOST_VALUES]:
        if counts[place] >= _LEAST_LEADS:
            yield f"{distinct[place]:g}", column.numbers == distinct[place]


def check_strength(column: Column, setting: Setting, *, skip_warning: bool = False) -> Iterator[Finding]:
    """Whether the column alone ranks the converted leads first, more than an honest attribute does."""
    view = setting.view
    if column.kind == "category" and len(column.values) > _NEARLY_UNIQUE * max(int(column.filled.sum()), 1):
        return
    bins = column.bins()
    score = score_bins(bins, view.outcome, view.expected)
    strength = stratified_auc(score, view.outcome, view.stratum, setting.z)
    named = tells_of_a_process(column.name)
    aged = hindsight_share(score, view, bins=bins) if strength.low >= STRENGTH_NAMED else None
    confirmed = aged is not None and aged.confirms
    contradicted = aged is not None and aged.contradicts
    severity: Severity | None = None
    if strength.low >= STRENGTH_SEVERE or (confirmed and strength.low >= STRENGTH_CONFIRMED_SEVERE):
        severity = "warning" if contradicted else "severe"
    elif not contradicted and (
        strength.low >= STRENGTH_WARNING
        or (confirmed and strength.low >= STRENGTH_CONFIRMED)
        or (named and strength.low >= STRENGTH_NAMED)
    ):
        severity = "warning"
    elif aged is not None and not contradicted and strength.low >= STRENGTH_UNTOLD:
        severity = "info"
    if severity is None or (severity != "severe" and skip_warning):
        return
    hint = ", and its name tells of the process rather than of the lead" if named else ""
    yield Finding(
        "tells_outcome",
        (column.name,),
        severity,
        f"'{column.name}' alone ranks converted before other leads{_of_same_age(setting)} with an AUC of "
        f"{strength.auc:.3f} [{strength.low:.3f}, {strength.high:.3f}]{hint}{_aged_words(aged)}"
        f"{_untold_words(aged, view) if severity == 'info' else ''}.",
        "An honest attribute may be as strong, and so may a noisy copy of the outcome: only its dates tell."
        if severity == "info"
        else "One honest attribute hardly ever tells so much; one that is overwritten as a lead moves on does.",
        _REMEDY.format(name=column.name),
        {
            "auc": strength.auc,
            "auc_low": strength.low,
            "auc_high": strength.high,
            "written_with_outcome": aged.value if aged is not None else None,
        },
    )


def check_written_together(columns: Sequence[Column], flagged: set[str]) -> Iterator[Finding]:
    """Columns named like a process that are filled on exactly the rows on which a flagged column is."""
    masks: dict[bytes, list[Column]] = {}
    for column in columns:
        if 0.05 <= column.filled.mean() <= 0.95:
            masks.setdefault(np.packbits(column.filled).tobytes(), []).append(column)
    for group in masks.values():
        sources = [column.name for column in group if column.name in flagged]
        for column in group:
            if not sources or column.name in flagged or not tells_of_a_process(column.name):
                continue
            yield Finding(
                "written_together",
                (column.name,),
                "warning",
                f"'{column.name}' is filled on exactly the same {column.filled.mean():.0%} of the rows as "
                f"{listed(sources)}, where hindsight was found, and its name tells of the same process.",
                "What one process writes at one time is known at one time: not before the outcome, then.",
                _REMEDY.format(name=column.name),
                {"filled": float(column.filled.mean())},
            )


def _of_same_age(setting: Setting) -> str:
    return " of the same age" if setting.dated else ""


def _aged_words(aged: HindsightShare | None) -> str:
    if aged is None or not (aged.confirms or aged.contradicts):
        return ""
    if aged.confirms:
        return (
            "; young open leads do not have it more often, though some will convert: it came with the outcome"
        )
    return "; yet young open leads have it more often, as it is with what is known from the start"


def _untold_words(aged: HindsightShare | None, view: LeadView) -> str:
    """What keeps the open leads from telling: a change over the years, or their number."""
    if aged is None:
        return ""
    if aged.changed:
        return "; whether it was there from the start cannot be told: the values of open leads change with their age"
    needed = float(f"{max(aged.times_more_leads, 1.0) * len(view):.1g}")
    return (
        f"; whether it was there from the start cannot be told from {len(view):,} leads (from about {needed:,.0f} "
        "it can, one time in two)"
    )


def _figures(against: Association, aged: HindsightShare | None) -> dict[str, float | int | str | None]:
    return {
        "converted": against.converted,
        "others": against.others,
        "odds_ratio": against.odds_ratio,
        "odds_ratio_low": against.low,
        "odds_ratio_high": against.high,
        "written_with_outcome": aged.value if aged is not None else None,
    }
