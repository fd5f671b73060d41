"""Alarms in plain sentences: what, since when, how sure, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.monitoring import MonitoringConfig
from .changes import SegmentChange
from .drift import ColumnDrift
from .reports import NightReport

Alarm = dict[str, Any]

CALIBRATED = (0.8, 1.25)
"""Promised over observed conversions of all leads: an alarm where the whole interval lies outside."""

LOSS_EXCESS = 3.1
"""How many standard deviations the realised loss may lie above the promised one (one in a thousand by chance)."""

LOSS_FACTOR = 1.1
"""By how much it must lie above for that to matter."""

_SHOWN = 5
_HOLD = 1.0


def standing_alarms(
    cutoff: str,
    drift: Sequence[ColumnDrift],
    changes: Sequence[SegmentChange],
    realised: Mapping[str, Any],
    last: NightReport | None,
    config: MonitoringConfig,
) -> list[Alarm]:
    """The alarms of a night; one that stood on the night before keeps the night on which it was raised.

    Each has ``kind`` (scores, columns, quality, level, loss), ``subject`` (what of), ``since`` (cutoff of the night on
    which it was raised), ``sentence`` and ``action``. An alarm of quality that stands goes away only when the evidence
    has clearly fallen below its limit.
    """
    before = {(alarm["kind"], alarm["subject"]): alarm for alarm in (last.alarms if last else ())}
    standing = {subject for kind, subject in before if kind == "quality"}
    raised = [*_drift_alarms(drift), *_quality_alarms(changes, standing, config), *_level_alarms(realised)]
    alarms = []
    for alarm in raised:
        former = before.get((alarm["kind"], alarm["subject"]))
        since = former["since"] if former is not None else cutoff
        alarms.append({"kind": alarm["kind"], "subject": alarm["subject"], "since": since, **alarm})
    return alarms


def _drift_alarms(drift: Sequence[ColumnDrift]) -> list[Alarm]:
    alarms: list[Alarm] = []
    moved = [column for column in drift if column.drifted]
    columns = sorted((column for column in moved if column.column != "score"), key=lambda each: -each.psi)
    if any(column.column == "score" for column in moved):
        own = next(column for column in moved if column.column == "score")
        alarms.append(
            {
                "kind": "scores",
                "subject": "scores",
                "sentence": f"The scores are distributed otherwise than when the model was made: {_sizes(own)}.",
                "action": "Look at the columns that have drifted, if any: a source may have changed. If the leads "
                "themselves are others than they were, train again (convpredict retrain-if).",
            }
        )
    if columns:
        named = "; ".join(f"{column.column} ({_sizes(column)})" for column in columns[:_SHOWN])
        more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
        one = len(columns) == 1
        alarms.append(
            {
                "kind": "columns",
                "subject": "columns",
                "columns": [column.column for column in columns],
                "sentence": f"{len(columns)} of the model's {len(drift) - 1} columns {'has' if one else 'have'} "
                f"drifted: {named}{more}.",
                "action": "Ask whether what feeds these columns has changed: an export, a form, a tracking code. If it "
                "has not, the leads behave otherwise; train again (convpredict retrain-if).",
            }
        )
    return alarms


def _sizes(column: ColumnDrift) -> str:
    return f"PSI {column.psi:.2f}, chance gives {column.chance:.2f}, its own past {column.natural:.2f}"


def _quality_alarms(
    changes: Sequence[SegmentChange], standing: set[str], config: MonitoringConfig
) -> list[Alarm]:
    alarms = []
    for change in changes:
        subject = f"{change.attribute}={change.value}" if change.attribute else "all leads"
        held = subject in standing and change.evidence >= change.limit - _HOLD
        if not change.changed and not held:
            continue
        who = f"Leads of {change.attribute} '{change.value}'" if change.attribute else "All leads together"
        rate = config.realised.false_alarms_per_year
        chance = "once a year" if rate == 1 else f"{rate:g} times a year"
        where = (
            f"this {change.attribute}" if change.attribute else "the market, the product or the sales team"
        )
        alarms.append(
            {
                "kind": "quality",
                "subject": subject,
                "attribute": change.attribute,
                "value": change.value,
                "began": change.began,
                "factor": round(change.factor, 4),
                "sentence": f"{who} convert {change.factor:.2f} times as often as by their scores before, "
                f"since about {change.began[:10]} (95 % interval {change.low:.2f} to {change.high:.2f}): "
                f"{change.observed:.0f} conversions within {change.horizon} where "
                f"{change.expected * change.before:.0f} were to be expected. All segments "
                f"together alarm by chance at most {chance}, on average.",
                "action": f"Ask what changed for {where} at that time. Until the model has learnt it, take "
                "these probabilities times that factor; train again (convpredict retrain-if).",
            }
        )
    return alarms


def _level_alarms(realised: Mapping[str, Any]) -> list[Alarm]:
    alarms = []
    for horizon, pooled in realised.items():
        low, high = pooled["low"], pooled["high"]
        many = low is not None and low > CALIBRATED[1]
        few = high is not None and high < CALIBRATED[0]
        if many or few:
            alarms.append(
                {
                    "kind": "level",
                    "subject": f"within {horizon}",
                    "sentence": f"The scores promise too {'many' if many else 'few'} conversions within {horizon}: "
                    f"{pooled['expected']:.0f} were promised and {pooled['observed']:.0f} came, on {pooled['nights']} "
                    f"nights since {pooled['first'][:10]} (ratio "
                    f"{pooled['expected'] / max(pooled['observed'], 1):.2f}, interval outside 0.8 to 1.25).",
                    "action": "Check that conversions arrive in full; if they do, train again (convpredict "
                    "retrain-if).",
                }
            )
        if has_excess_loss(pooled):
            alarms.append(
                {
                    "kind": "loss",
                    "subject": f"within {horizon}",
                    "sentence": f"The realised log loss within {horizon} is {pooled['loss']:.5f} per lead, "
                    f"{pooled['loss'] / pooled['promised_loss'] - 1:.0%} above what the probabilities promise "
                    f"({pooled['loss_excess']:.1f} standard deviations).",
                    "action": "The probabilities no longer fit; train again (convpredict retrain-if).",
                }
            )
    return alarms


def has_excess_loss(pooled: Mapping[str, Any]) -> bool:
    """Whether the realised loss of pooled nights is above the promised one, beyond chance and enough to matter.

    >>> has_excess_loss({"loss": .06, "promised_loss": .05, "loss_excess": 4.0})
    True
    """
    loss, promised, excess = pooled["loss"], pooled["promised_loss"], pooled["loss_excess"]
    return bool(
        loss is not None
        and promised
        and excess is not None
        and excess > LOSS_EXCESS
        and loss > LOSS_FACTOR * promised
    )
