"""What is missing or unknown in tonight's leads, against the rows that the model was made from."""

from __future__ import annotations

from typing import Any

from ...features.declarations import OTHER
from ...models.profile import ColumnProfile, Profile
from ..nightly.facts import GateResult, NightFacts
from .activity import NO_KIND
from .evidence import Evidence, held, is_off, not_judged, off, percent, share_interval

_ALPHA = 0.001
_RECENT_HOURS = 7 * 24
_SHOWN = 5

Rise = tuple[float, str, float, float]
"""By how much a share has risen beyond chance, the column, the share now and the share before."""


def judge_missing(evidence: Evidence) -> GateResult:
    """The largest rise of the share of rows that lack a model column, beyond what chance explains."""
    gate, facts, limits = "missing", evidence.facts, evidence.config.missing
    if is_off(limits):
        return off(gate)
    if facts.profile is None:
        return _without_profile(gate)
    if not facts.counts.rows:
        return not_judged(gate, "no lead was scored")
    rises = _rises(facts, facts.profile, [(column, -1) for column in facts.profile.columns])
    return held(
        gate,
        max(0.0, rises[0][0]) if rises else 0.0,
        limits,
        found=_told(rises, "are missing", "no column is missing more often than when the model was made"),
        look_at="look at the source of these columns: a renamed field, a join that finds nothing, an export cut short",
        details={"columns": _listed(rises)},
    )


def judge_unknown(evidence: Evidence) -> GateResult:
    """The largest rise of the share of values that the model has no place for.

    Two parts, of which the larger counts: ``(other)`` in a category column against the training profile, and
    interactions of the last 7 days whose kind the feature set does not know.
    """
    gate, facts, limits = "unknown", evidence.facts, evidence.config.unknown
    if is_off(limits):
        return off(gate)
    kinds = _unknown_kinds(evidence)
    if facts.profile is None and kinds is None:
        return _without_profile(gate)
    rises: list[Rise] = []
    if facts.profile is not None and facts.counts.rows:
        with_other = [
            (column, column.categories.index(OTHER))
            for column in facts.profile.columns
            if OTHER in column.categories
        ]
        rises = _rises(facts, facts.profile, with_other)
    told = [
        _told(rises, "are unknown to the model", "no category column has more values unknown to the model")
    ]
    if facts.profile is None:
        told = ["the categories were not judged, as the model has no profile"]
    share, names, text = kinds or (
        0.0,
        [],
        "the kinds of interactions were not judged, as the model reads none",
    )
    return held(
        gate,
        max(0.0, share, rises[0][0] if rises else 0.0),
        limits,
        found="; ".join([*told, text]),
        look_at="look whether values were renamed at the source (map them back) or are new (train again)",
        details={"columns": _listed(rises), "unknown_kinds": names, "unknown_kinds_share": round(share, 6)},
    )


def _unknown_kinds(evidence: Evidence) -> tuple[float, list[str], str] | None:
    """The share of the last week's interactions of unknown kinds beyond chance, these kinds, and a sentence."""
    known = evidence.facts.known_kinds
    if known is None:
        return None
    activity = evidence.activity
    recent = activity.by_hour[:, -_RECENT_HOURS:].sum(axis=1)
    total = int(recent.sum())
    unknown = {
        kind: int(count)
        for kind, count in zip(activity.kinds, recent, strict=True)
        if count and kind not in known and kind != NO_KIND
    }
    count = sum(unknown.values())
    if not count:
        return 0.0, [], "the model knows every kind of interaction of the last 7 days"
    names = sorted(unknown, key=lambda kind: (-unknown[kind], kind))
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    share = percent(count / total)
    text = f"{share} of the interactions of the last 7 days are of kinds unknown to the model ({shown})"
    return share_interval(count, total, _ALPHA)[0], names, text


def _rises(facts: NightFacts, profile: Profile, bins: list[tuple[ColumnProfile, int]]) -> list[Rise]:
    """The rise of the share of one bin of each column, the largest first."""
    alpha = _ALPHA / max(1, len(bins))
    rises = []
    for column, place in bins:
        now, before = facts.counts.columns[column.name], profile.reference.columns[column.name]
        rows, reference_rows = facts.counts.rows, profile.reference.rows
        if not reference_rows:
            continue
        low, _ = share_interval(int(now[place]), rows, alpha)
        _, high = share_interval(int(before[place]), reference_rows, alpha)
        rises.append((low - high, column.name, int(now[place]) / rows, int(before[place]) / reference_rows))
    return sorted(rises, key=lambda rise: (-rise[0], rise[1]))


def _told(rises: list[Rise], what: str, nothing: str) -> str:
    risen = [rise for rise in rises if rise[0] > 0]
    if not risen:
        return nothing
    columns = ", ".join(
        f"{name} ({percent(now)}, {percent(before)} in training)" for _, name, now, before in risen[:_SHOWN]
    )
    more = f" and {len(risen) - _SHOWN} more" if len(risen) > _SHOWN else ""
    return f"more values {what} than when the model was made: {columns}{more}"


def _listed(rises: list[Rise]) -> dict[str, Any]:
    return {
        name: {"share": round(now, 6), "training": round(before, 6), "rise_beyond_chance": round(rise, 6)}
        for rise, name, now, before in rises[:_SHOWN]
        if rise > 0
    }


def _without_profile(gate: str) -> GateResult:
    return not_judged(gate, "the model has no profile of its training data; train it again to get one")
