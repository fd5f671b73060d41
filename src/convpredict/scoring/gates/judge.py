"""Ask every gate, so that none is ever silently absent, and tell which of them stop the night."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping, Sequence

from ...config.gates import GatesConfig
from ...errors import ConvpredictError
from ..nightly.facts import GateResult, NightFacts
from .age import judge_model_age
from .evidence import Evidence
from .freshness import judge_data, judge_kinds
from .freshness_tables import judge_freshness_of_tables
from .hours import judge_hours
from .quarantine import judge_quarantine
from .rows import judge_rows
from .score_shift import judge_against_last_night, judge_against_training
from .shares import judge_missing, judge_unknown
from .tables import judge_tables
from .volume import judge_volume

_JUDGES: Mapping[str, Callable[[Evidence], GateResult]] = {
    "rows": judge_rows,
    "tables": judge_tables,
    "missing": judge_missing,
    "scores_training": judge_against_training,
    "scores_last_night": judge_against_last_night,
    "unknown": judge_unknown,
    "freshness_data": judge_data,
    "freshness_kinds": judge_kinds,
    "freshness_tables": judge_freshness_of_tables,
    "volume": judge_volume,
    "hours": judge_hours,
    "model_age": judge_model_age,
    "quarantine": judge_quarantine,
}

GATES: tuple[str, ...] = tuple(_JUDGES)
"""The gates, in the order in which they are told: the names that a waiver uses."""


def judge_gates(facts: NightFacts, config: GatesConfig) -> list[GateResult]:
    """What every gate says of a night, in the order of ``GATES``; docs/reference/gates.md says what each measures.

    A gate that fails itself stops the night: what it guards was not looked at. What cannot be judged (a first night,
    no profile, limits that are switched off) is a result too, with the reason.
    """
    evidence = Evidence(facts, config)
    return [_judged(gate, judge, evidence) for gate, judge in _JUDGES.items()]


def stopping(results: Sequence[GateResult], waived: Collection[str] = ()) -> list[GateResult]:
    """The results that stop the night: ``stop``, and not among the gates ``waived`` (names, or a mapping from them).

    >>> few = GateResult("rows", "stop", "no lead was scored")
    >>> [result.gate for result in stopping([few])], stopping([few], {"rows": "the CRM was emptied on purpose"})
    (['rows'], [])
    """
    return [result for result in results if result.verdict == "stop" and result.gate not in waived]


def _judged(gate: str, judge: Callable[[Evidence], GateResult], evidence: Evidence) -> GateResult:
    try:
        return judge(evidence)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        # Another library's message may hold values of the data: only our own are passed on.
        why = str(error) if isinstance(error, ConvpredictError) else type(error).__name__
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        return GateResult(
            gate,
            "stop",
            f"the gate '{gate}' failed itself ({why} at {where}), so what it guards was not looked at; report this, "
            f"and waive '{gate}' for this night if you have looked yourself",
            details={"failed": True, "error": type(error).__name__, "at": where},
        )
