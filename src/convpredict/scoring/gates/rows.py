"""The number of scored leads against last night's."""

from __future__ import annotations

from math import inf, sqrt

from ..nightly.facts import GateResult
from .evidence import Evidence, held, is_off, not_judged, off, percent

GATE = "rows"
_CHANCE_DEVIATIONS = 4.0
_LOOK_AT = (
    "look at the export of the leads, at the reasons in 'excluded' of the manifest and at observations.max_age; if the "
    f"change is right, publish with a waiver of '{GATE}'"
)


def judge_rows(evidence: Evidence) -> GateResult:
    """The relative change of the number of leads, up or down; no lead at all stops whatever the limits are.

    A change that counts as small as these bring about by chance does not count.
    """
    facts, limits = evidence.facts, evidence.config.rows
    leads = facts.n_leads
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in facts.excluded.items() if count)
    details = {"leads": leads, "excluded": dict(facts.excluded)}
    if not leads:
        found = f"no lead was scored (left out: {left_out or 'none'})"
        return GateResult(
            GATE, "stop", f"{found}: {_LOOK_AT}", 0.0, limits.warn, limits.stop, "share", details
        )
    if is_off(limits):
        return off(GATE)
    if facts.last is None:
        return not_judged(GATE, f"the first night ({leads:,} leads), nothing to compare with", **details)
    before = int(facts.last["leads"])
    change = leads / before - 1 if before else inf
    by_chance = abs(leads - before) <= _CHANCE_DEVIATIONS * sqrt(leads + before)
    value = 0.0 if by_chance else abs(change)
    ago = evidence.since_last
    more = f"{percent(abs(change))} {'more' if change > 0 else 'fewer'} than"
    if leads == before:
        more = "as many as"
    found = f"{leads:,} leads were scored, {more} the {before:,} of the last published night, {ago}"
    if not before:
        found = f"{leads:,} leads were scored, and none on the last published night, {ago}"
    if by_chance and leads != before:
        found += " (no more than numbers like these vary by chance)"
    return held(
        GATE, min(value, 1e9), limits, found=found, look_at=_LOOK_AT, details={**details, "before": before}
    )
