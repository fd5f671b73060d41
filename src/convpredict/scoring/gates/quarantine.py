"""The share of rows that were put aside because they break the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config.gates import Limits
from ...history.validation import NOT_BAD
from ..nightly.facts import GateResult
from .evidence import Evidence, held, is_off, not_judged, off, percent

GATE = "quarantine"
_FEWEST_BAD = 5
_FEWEST_NEW_BAD = 20


def row_counts(tables: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Rows and ``bad`` rows by table, from the ``tables`` of ``ValidationReport.to_dict()``; copies do not count.

    >>> table = {"accepted": 5, "quarantined": {"unknown lead": 2, "after known_until": 3}}
    >>> row_counts({"interactions": table})
    {'interactions': {'rows': 10, 'bad': 2}}
    """
    return {name: _counted(int(table["accepted"]), table["quarantined"]) for name, table in tables.items()}


def judge_quarantine(evidence: Evidence) -> GateResult:
    """The largest share of bad rows of a table; of rows new since last night it only ever warns.

    Fewer than 5 bad rows (20 among the new ones) do not count. Where ``history.validation.max_bad_share`` tolerates
    more than the limit for a stop, that share is the limit: reading stops beyond it anyway.
    """
    facts, limits = evidence.facts, evidence.config.quarantine
    if is_off(limits):
        return off(GATE)
    if limits.stop is not None:
        limits = Limits(warn=limits.warn, stop=max(limits.stop, facts.max_bad_share))
    if not facts.validation.get("tables"):
        return not_judged(GATE, "there is no report of the validation of the data")
    counts = row_counts(facts.validation["tables"])
    shares = {
        name: count["bad"] / count["rows"] for name, count in counts.items() if count["bad"] >= _FEWEST_BAD
    }
    fresh = _shares_of_new_rows(counts, _former(facts.last))
    worst, share = max(shares.items(), key=lambda item: item[1], default=("", 0.0))
    details = {"tables": counts, "new_rows": {name: round(value, 6) for name, value in fresh.items()}}
    text = "; ".join(
        _table_text(name, counts[name], fresh.get(name)) for name in counts if counts[name]["bad"]
    )
    look_at = "look at the files in quarantine and at their reasons, and correct the export or the mapping"
    found = text or "no row of any table breaks the contract"
    result = held(GATE, share, limits, found=found, look_at=look_at, details={**details, "worst": worst})
    newest, new_share = max(fresh.items(), key=lambda item: item[1], default=("", 0.0))
    if result.verdict == "pass" and limits.warn is not None and new_share >= limits.warn:
        message = (
            f"{found}; of the rows that {newest} gained since the last published night {percent(new_share)} are bad, "
            f"and the limit for a warning is {percent(limits.warn)}: {look_at}"
        )
        return GateResult(GATE, "warn", message, share, limits.warn, limits.stop, "share", result.details)
    return result


def _former(last: Mapping[str, Any] | None) -> dict[str, dict[str, int]]:
    """The same counts of the last published night, by the ``data`` of its manifest; empty where that is no help."""
    data = (last or {}).get("data") or {}
    accepted, quarantined = data.get("counts") or {}, data.get("quarantine") or {}
    return {name: _counted(int(count), quarantined.get(name) or {}) for name, count in accepted.items()}


def _counted(accepted: int, quarantined: Mapping[str, int]) -> dict[str, int]:
    bad = sum(int(count) for reason, count in quarantined.items() if reason not in NOT_BAD)
    return {"rows": accepted + sum(map(int, quarantined.values())), "bad": bad}


def _shares_of_new_rows(
    counts: Mapping[str, Mapping[str, int]], former: Mapping[str, Mapping[str, int]]
) -> dict[str, float]:
    """The share of bad rows among those that each table gained; only of tables that grew, with enough bad ones."""
    shares = {}
    for name, count in counts.items():
        before = former.get(name)
        if before is None:
            continue
        gained, bad = count["rows"] - before["rows"], count["bad"] - before["bad"]
        if gained > 0 and bad >= _FEWEST_NEW_BAD:
            shares[name] = min(1.0, bad / gained)
    return shares


def _table_text(name: str, count: Mapping[str, int], new: float | None) -> str:
    text = f"{percent(count['bad'] / count['rows'])} of {count['rows']:,} rows of {name} break the contract"
    return text if new is None else f"{text} ({percent(new)} of the new ones)"
