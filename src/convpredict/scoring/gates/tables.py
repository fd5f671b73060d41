"""The number of accepted rows of each table against the last published night's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...config.gates import Limits
from ..nightly.facts import GateResult
from .evidence import Evidence, held, is_off, not_judged, number_of, off, percent

GATE = "tables"
_FEWEST_LOST = 5
_FEWEST_GAINED = 100
_GROWN = 3
_LOOK_AT = (
    "compare the exports with those of that night (were they cut off, filtered, emptied or sent twice?); if the change "
    f"is right, publish with a waiver of '{GATE}'"
)


def judge_tables(evidence: Evidence) -> GateResult:
    """The largest share of its rows that a table lost since the last published night.

    Counted are the accepted rows of the data as they were read, so all nights of a back-fill count the same. Fewer
    than 5 lost rows do not count; a table that had rows and has none stops whatever the limits are. Growth to three
    times the rows or more, by 100 at least, only ever warns. So does a table without rows that the model must have
    learnt from, where no night before tells that it had any.
    """
    result = _compared(evidence)
    tables = evidence.facts.validation.get("tables") or {}
    before = _former(evidence.facts.last)
    empty = [
        name
        for name in evidence.facts.learnt_from
        if name in tables and not int(tables[name]["accepted"]) and not before.get(name)
    ]
    return _never_filled(result, empty) if empty else result


def _compared(evidence: Evidence) -> GateResult:
    """What the last published night's counts say."""
    facts, limits = evidence.facts, evidence.config.tables
    before = _former(facts.last)
    tables = facts.validation.get("tables") or {}
    now = {name: int(tables[name]["accepted"]) if name in tables else 0 for name in before}
    emptied = [name for name, rows in before.items() if rows and not now[name]]
    if is_off(limits) and not emptied:
        return off(GATE)
    if not any(before.values()):
        why = "the first night" if facts.last is None else "the last published night counted no rows"
        return not_judged(GATE, f"{why}, nothing to compare with")
    details = {"rows": now, "before": before}
    falls = {name: 1 - now[name] / rows for name, rows in before.items() if rows - now[name] >= _FEWEST_LOST}
    falls |= dict.fromkeys(emptied, 1.0)
    largest = max(falls.values(), default=0.0)
    found = "; ".join(
        f"{name} has {number_of(now[name], 'row')}, {percent(falls[name])} fewer than the {before[name]:,} of the last "
        f"published night, {evidence.since_last}" + ("" if name in tables else " (it is no longer declared)")
        for name in sorted(falls, key=lambda name: (-falls[name], name))
    )
    if emptied:
        message = f"{found}; a table without any row left always stops: {_LOOK_AT}"
        return GateResult(GATE, "stop", message, 1.0, limits.warn, limits.stop, "share", details)
    found = found or f"no table lost rows to speak of since the last published night, {evidence.since_last}"
    result = held(GATE, largest, limits, found=found, look_at=_LOOK_AT, details=details)
    return result if result.verdict != "pass" else _grown(evidence, result, now, before)


def _never_filled(result: GateResult, empty: list[str]) -> GateResult:
    """At least a warning: of tables without a row nothing but the model tells that they should have some."""
    told = (
        f"{' and '.join(empty)} {'have' if len(empty) > 1 else 'has'} no row at all, although the model learnt from "
        "such rows, and no published night tells of any: leads may look open or untouched that are not. Look whether "
        "the exports are whole, and the tables mapped as in training"
    )
    details = {**result.details, "empty": empty}
    if result.verdict in ("pass", "not judged"):
        return replace(result, verdict="warn", message=told, value=1.0, unit="share", details=details)
    return replace(result, message=f"{result.message}. Besides, {told}", details=details)


def _grown(
    evidence: Evidence, result: GateResult, now: Mapping[str, int], before: Mapping[str, int]
) -> GateResult:
    """A warning where a table has three times the rows that it had, or more; else what passed."""
    limits: Limits = evidence.config.tables
    grown = {
        name: now[name] / rows - 1
        for name, rows in before.items()
        if now[name] >= _GROWN * rows > 0 and now[name] - rows >= _FEWEST_GAINED
    }
    if not grown or limits.warn is None:
        return result
    told = "; ".join(
        f"{name} has {now[name]:,} rows, at least three times the {before[name]:,} of the last published night, "
        f"{evidence.since_last}"
        for name in grown
    )
    details: dict[str, Any] = {**result.details, "grown": list(grown)}
    return GateResult(
        GATE, "warn", f"{told}: {_LOOK_AT}", max(grown.values()), limits.warn, limits.stop, "share", details
    )


def _former(last: Mapping[str, Any] | None) -> dict[str, int]:
    """The accepted rows by table of the last published night; empty where nothing tells."""
    counts = ((last or {}).get("data") or {}).get("counts") or {}
    return {name: int(rows) for name, rows in counts.items()}
