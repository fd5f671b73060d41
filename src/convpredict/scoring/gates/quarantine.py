"""The share of rows that were put aside because they break the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...history.validation import NOT_BAD
from ..nightly.facts import GateResult
from .evidence import Evidence, held, is_off, not_judged, off, percent

GATE = "quarantine"
_FEWEST_BAD = 5
_FEWEST_NEW_BAD = 20


def quarantine_counts(validation: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Rows ``read`` and ``bad`` by table, from ``ValidationReport.to_dict()``: what a manifest keeps of it.

    >>> table = {"read": 10, "quarantined": {"unknown lead": 2, "after known_until": 3}}
    >>> quarantine_counts({"tables": {"interactions": table}})
    {'interactions': {'read': 10, 'bad': 2}}
    """
    return {
        name: {
            "read": int(table["read"]),
            "bad": sum(int(count) for reason, count in table["quarantined"].items() if reason not in NOT_BAD),
        }
        for name, table in validation["tables"].items()
    }


def judge_quarantine(evidence: Evidence) -> GateResult:
    """The largest share of bad rows of a table; of rows new since last night it only ever warns.

    Fewer than 5 bad rows (20 among the new ones) do not count.
    """
    facts, limits = evidence.facts, evidence.config.quarantine
    if is_off(limits):
        return off(GATE)
    if not facts.validation.get("tables"):
        return not_judged(GATE, "there is no report of the validation of the data")
    counts = quarantine_counts(facts.validation)
    shares = {
        name: count["bad"] / count["read"] for name, count in counts.items() if count["bad"] >= _FEWEST_BAD
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


def _former(last: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The counts that the last published night kept; empty where it kept none."""
    kept = ((last or {}).get("data") or {}).get("quarantine")
    return kept if isinstance(kept, Mapping) else {}


def _shares_of_new_rows(
    counts: Mapping[str, Mapping[str, int]], former: Mapping[str, Any]
) -> dict[str, float]:
    """The share of bad rows among those that each table gained; only of tables that grew, with enough bad ones."""
    shares = {}
    for name, count in counts.items():
        before = former.get(name)
        if not isinstance(before, Mapping) or not {"read", "bad"} <= before.keys():
            continue
        gained, bad = count["read"] - int(before["read"]), count["bad"] - int(before["bad"])
        if gained > 0 and bad >= _FEWEST_NEW_BAD:
            shares[name] = min(1.0, bad / gained)
    return shares


def _table_text(name: str, count: Mapping[str, int], new: float | None) -> str:
    text = f"{percent(count['bad'] / count['read'])} of {count['read']:,} rows of {name} break the contract"
    return text if new is None else f"{text} ({percent(new)} of the new ones)"
