"""The rule of ``convpredict retrain-if``: is there a reason to train a challenger?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ..config.monitoring import MonitoringConfig, RetrainConfig
from ..errors import MonitoringError
from .reports import parse_instant, read_reports

REALISED = ("quality", "level", "loss")
"""The kinds of alarms that speak of what came of past scores."""


def retrain_reasons(
    folder: Path, manifest: Mapping[str, Any], config: MonitoringConfig, now: datetime
) -> list[str]:
    """Sentences on why to train again, as of ``now``; none: no reason.

    ``manifest`` is that of the last published night, whose model is the one that is judged. Raises MonitoringError
    where that night has no report although the rule asks for what it would tell.
    """
    rule = config.retrain
    reasons = age_reasons(manifest.get("model") or {}, rule, now)
    if not needs_report(rule):
        return reasons
    last = next((r for r in reversed(read_reports(folder)) if r.run_id == manifest["run_id"]), None)
    if last is None:
        raise MonitoringError(
            f"the last published night ({manifest['run_id']}) has no report, so nothing tells whether its data drifted "
            "or its model's scores came true; run 'convpredict monitor', which writes it, then try again"
        )
    drifted = [column["column"] for column in last.drift if column["drifted"]]
    if rule.drifted_columns is not None and len(drifted) >= rule.drifted_columns:
        number = f"{len(drifted)} columns have" if len(drifted) > 1 else "1 column has"
        named = ", ".join(drifted[:5]) + (f" and {len(drifted) - 5} more" if len(drifted) > 5 else "")
        reasons.append(
            f"drift: {number} drifted on the night of {last.cutoff[:10]} ({named}), and the rule "
            f"allows fewer than {rule.drifted_columns} (monitoring.retrain.drifted_columns)."
        )
    if rule.realised:
        reasons += [f"realised: {alarm['sentence']}" for alarm in last.alarms if alarm["kind"] in REALISED]
    return reasons


def age_reasons(model: Mapping[str, Any], rule: RetrainConfig, now: datetime) -> list[str]:
    """The sentence on a model that is too old; none where it is not, or where nothing tells.

    Its age counts from ``registered_at``, where ``model`` has it, else from ``trained_until``, the end of what it
    learnt from.
    """
    made = model.get("registered_at") or model.get("trained_until")
    if rule.age is None or made is None:
        return []
    age = (now - parse_instant(made)).total_seconds() / 86_400
    if age < rule.age.days:
        return []
    return [
        f"age: the model is {age:.0f} days old, and the rule allows {rule.age.days:g} (monitoring.retrain.age)."
    ]


def needs_report(rule: RetrainConfig) -> bool:
    """Whether the rule asks for what only the report of a night tells."""
    return rule.drifted_columns is not None or rule.realised
