"""Why a lead had its score on a night, from the same data and model, and what had moved since the night before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...config.base import Duration
from ...config.reasons import ReasonsConfig
from ...errors import BundleError
from ...features.time_rule import NEVER
from ...history.history import History
from ...models.bundle import Bundle
from ...training.as_of import history_as_of
from ...training.lead_ages import AGE_EXCLUSIONS, LearntAges
from ...training.lead_times import LeadTimes, to_microseconds
from ...training.observations import EXCLUSIONS, reasons_against
from .index import LedgerRun
from .ledger import as_ids
from .reproduce import Reproduced, observations_of, reproduce

Verdict = Literal["reproduced exactly", "data changed", "model computes otherwise", "lead is gone"]
BundleOf = Callable[[LedgerRun], Bundle]
_MOVED = 0.05


@dataclass(frozen=True)
class Move:
    """A concept whose contribution to the logit was another on the night before."""

    concept: str
    before: float
    then: float

    @property
    def change(self) -> float:
        """How far it moved the logit."""
        return self.then - self.before


@dataclass(frozen=True)
class PastScore:
    """A score as it was published, and the attempt to reproduce it.

    ``published`` is the ledger's row, ``p`` the probability in it by which the list was ranked. ``reasons_*`` and
    ``contributions`` come from today's reconstruction: those of the night itself only where ``verdict`` says that it
    was reproduced exactly. ``hash_now`` and ``p_now`` are None or empty where the lead is gone.
    """

    run: LedgerRun
    published: Mapping[str, Any]
    p: float
    verdict: Verdict
    hash_now: int | None = None
    p_now: Mapping[str, float] = field(default_factory=dict)
    reasons_for: tuple[str, ...] = ()
    reasons_against: tuple[str, ...] = ()
    contributions: Mapping[str, float] = field(default_factory=dict)
    base: float | None = None

    @property
    def is_exact(self) -> bool:
        """Whether inputs and probabilities are those of the night, to the bit."""
        return self.verdict == "reproduced exactly"


@dataclass(frozen=True)
class Explanation:
    """The answer to ``convpredict explain``. ``moves``: concepts that moved since ``before``, strongest first.

    ``model_changed``: another model had scored the lead on the night before, so that moves mix both. ``note`` says
    what is special, as that the lead was not on the list of the day asked for.
    """

    lead_id: str
    score: PastScore
    before: PastScore | None = None
    moves: tuple[Move, ...] = ()
    model_changed: bool = False
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For machines: numbers to the bit, hashes as 16 hexadecimal digits."""
        return {
            "lead_id": self.lead_id,
            "note": self.note,
            **_as_dict(self.score),
            "before": None if self.before is None else _as_dict(self.before),
            "model_changed": self.model_changed,
            "moves": [
                {"concept": move.concept, "before": move.before, "then": move.then, "change": move.change}
                for move in self.moves
            ],
        }


def past_score(
    history: History,
    run: LedgerRun,
    published: Mapping[str, Any],
    bundle: Bundle,
    reasons: ReasonsConfig | None,
) -> PastScore:
    """Reproduce one row of the ledger from today's ``history`` as it was known at the row's cutoff.

    Raises BundleError for another model than the one that gave the score.
    """
    check_bundle(run, bundle)
    row = lead_row_of(history, published["lead_id"])
    p = float(published[f"p_convert_{bundle.horizon}"])
    if row is None:
        return PastScore(run, published, p, "lead is gone")
    then = history_as_of(history, run.cutoff)
    cutoff = np.array([to_microseconds(run.cutoff)])
    found = reproduce(then, bundle, observations_of(then, np.array([row]), cutoff), reasons)
    told = found.reasons.to_pylist()[0] if found.reasons is not None else {}
    return PastScore(
        run,
        published,
        p,
        _verdict(found, published, run),
        int(found.features_hash[0]),
        {f"p_convert_{horizon}": float(values[0]) for horizon, values in found.probabilities.items()},
        tuple(told.get("reasons_for", ())),
        tuple(told.get("reasons_against", ())),
        dict(zip(found.concepts.names, map(float, found.concepts.values[0]), strict=True)),
        float(found.concepts.base),
    )


def _verdict(found: Reproduced, published: Mapping[str, Any], run: LedgerRun) -> Verdict:
    """What a reproduction of one row comes to, held against the ledger to the bit."""
    if int(found.features_hash[0]) != published["features_hash"]:
        return "data changed"
    horizons = {name: Duration(name.removeprefix("p_convert_")) for name in run.probability_columns}
    same = all(float(found.probabilities[horizons[name]][0]) == published[name] for name in horizons)
    return "reproduced exactly" if same else "model computes otherwise"


def explain(
    history: History,
    rows: pa.Table,
    runs: Mapping[str, LedgerRun],
    bundle_of: BundleOf,
    reasons: ReasonsConfig,
    note: str | None = None,
) -> Explanation:
    """Explain the last of a lead's rows of the ledger (ascending), and what moved since the one before.

    Repetitions of the same cutoff do not count as a night before.
    """
    published = rows.to_pylist()
    last = published[-1]
    score = past_score(history, runs[last["run_id"]], last, bundle_of(runs[last["run_id"]]), reasons)
    earlier = [row for row in published if row["cutoff"] < last["cutoff"]]
    before = None
    if earlier:
        run = runs[earlier[-1]["run_id"]]
        try:
            before = past_score(history, run, earlier[-1], bundle_of(run), None)
        except BundleError:
            note = f"{note + ' ' if note else ''}The model of the night before ({run.run_id}) cannot be read any more."
    changed = before is not None and before.run.model.digest != score.run.model.digest
    return Explanation(str(last["lead_id"]), score, before, _moves(before, score), changed, note)


def lead_row_of(history: History, lead_id: Any) -> int | None:
    """The row of a lead in a history; None: it has no such lead."""
    wanted = as_ids([lead_id], history.leads.schema.field("lead_id").type)
    if not len(wanted):
        return None
    row = pc.index(history.leads["lead_id"], wanted[0]).as_py()
    return None if row < 0 else int(row)


def why_not_scored(
    history: History,
    lead_id: Any,
    run: LedgerRun,
    max_age: Duration | None,
    outcome: Any,
    ages: LearntAges | None = None,
) -> str:
    """Why a run has no score of a lead, as today's data tells it; ``ages`` are those that its model learnt from."""
    row = lead_row_of(history, lead_id)
    if row is None:
        return "the data has no such lead (look at how the id is written)"
    then = history_as_of(history, run.cutoff)
    oldest = max_age.microseconds if max_age is not None else NEVER
    rows, cutoff = np.array([row], np.int32), np.array([to_microseconds(run.cutoff)])
    times = LeadTimes.of(then, outcome)
    reason = int(reasons_against(times, rows, cutoff, oldest, NEVER)[0])
    if reason >= 0:
        return list(EXCLUSIONS.values())[reason]
    for name, count in (ages.beyond(cutoff - times.created_at[rows]) if ages is not None else {}).items():
        if count:
            return AGE_EXCLUSIONS[name]
    why = "by today's data it should have been scored, so the data of before that cutoff was changed since"
    return why if ages is not None else f"{why}, or the model of that night scores no leads of its age"


def check_bundle(run: LedgerRun, bundle: Bundle) -> None:
    """Raise BundleError unless a bundle is the one that a run scored with."""
    if bundle.digest != run.model.digest:
        raise BundleError(
            f"the run '{run.run_id}' was scored with the bundle {run.model.digest[:12]}, this one is "
            f"{bundle.digest[:12]}: its reasons would be those of another model; give the bundle of that night"
        )


def _moves(before: PastScore | None, score: PastScore) -> tuple[Move, ...]:
    if before is None or not before.contributions or not score.contributions:
        return ()
    names = list(dict.fromkeys((*score.contributions, *before.contributions)))
    moves = [
        Move(name, before.contributions.get(name, 0.0), score.contributions.get(name, 0.0)) for name in names
    ]
    told = [move for move in moves if abs(move.change) >= _MOVED]
    return tuple(sorted(told, key=lambda move: -abs(move.change)))


def _as_dict(score: PastScore) -> dict[str, Any]:
    published = {
        name: value
        for name, value in score.published.items()
        if name not in ("lead_id", "run_id", "cutoff", "features_hash") and value is not None
    }
    return {
        "run_id": score.run.run_id,
        "cutoff": score.run.cutoff.isoformat(),
        "model": {
            "name": score.run.model.name,
            "version": score.run.model.version,
            "digest": score.run.model.digest,
        },
        "published": published,
        "features_hash": _hex(score.published["features_hash"]),
        "verdict": score.verdict,
        "features_hash_now": _hex(score.hash_now),
        "probabilities_now": dict(score.p_now),
        "reasons_for": list(score.reasons_for),
        "reasons_against": list(score.reasons_against),
        "contributions": dict(score.contributions),
        "base": score.base,
    }


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:016x}"
