"""One night up to the decision: plan, score, explain, put together, judge. Readers see none of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import DataError, GateError
from ...features.cross_lead import snapshot_cross_lead
from ...files import write_json
from ...history.history import History
from ...models.batch_scoring import ScoredRows
from ...models.profile import ProfileCounts
from ...training.as_of import history_as_of
from ..content_hash import content_hash
from ..forget.forgotten import FILE as FORGOTTEN
from ..forget.forgotten import read_forgotten, without_forgotten
from ..gates.judge import judge_gates, stopping
from ..run_log import Level
from .buckets import Bucket, BucketStore
from .checks import SOUND, check_scores
from .facts import GateResult, NightFacts
from .finish import decide
from .model import NightModel
from .plan import Plan, settings_digest
from .score import Observed, explain_buckets, observe, published_rows, score_buckets
from .session import Session
from .state import CROSS_LEAD, PLAN, read_json
from .steps import Steps
from .targets import check_free

FORMAT = 1


class StoppedError(GateError):
    """A gate stopped a night."""


class Night:
    """One night's run of a session. ``draft`` is its manifest as far as it is known, also where the night fails."""

    def __init__(self, session: Session, run_id: str, cutoff: datetime) -> None:
        self._session, self.run_id, self.cutoff = session, run_id, cutoff
        self.steps = Steps()
        self.draft = new_draft(session, run_id, cutoff)
        self.draft["steps"] = self.steps.done

    def run(self) -> pa.Table:
        """Take the night to the decision that it will be published; gives the rows that were decided on.

        Raises StoppedError where a gate stops it: the work is kept, and doing it again costs little.
        """
        session, config = self._session, self._session.project.config
        with self.steps.measure("read") as step:
            whole = session.read(session.folder.root / "quarantine" / self.run_id)
            forgotten = read_forgotten(session.folder.root)
            history = history_as_of(without_forgotten(whole, forgotten), self.cutoff)
            step.rows = whole.n_interactions
        self._check_unchanged(whole)
        with self.steps.measure("model"):
            model = session.choose_model(self.cutoff, session.afterwards)
        self._note_inputs(whole, model)
        work = session.folder.work(self.run_id)
        self._prepare(whole, model)
        observed = observe(history_as_of(whole, self.cutoff), model.bundle, config, self.cutoff, forgotten)
        n = observed.table.num_rows
        with self.steps.measure("score") as step:
            store = BucketStore(work / "buckets")
            scored = score_buckets(history, observed.table, model.bundle, config, store, self._scored(n))
            step.rows = n
        with self.steps.measure("explain") as step:
            store = BucketStore(work / "reasons")
            reasons, explained = explain_buckets(
                history, observed.table, scored, model.bundle, config, self.cutoff, store, self._explained
            )
            step.rows = explained
        with self.steps.measure("assemble") as step:
            rows = published_rows(model, observed.table, scored, self.run_id, reasons)
            step.rows = rows.num_rows
        self._note_scores(rows, scored, observed, model, explained)
        with self.steps.measure("gates"):
            self._judge(history, whole, model, rows, scored, observed)
        with self.steps.measure("decide"):
            self._check_unchanged(whole)
            check_free(session, self.draft, rows.num_rows)
            session.ledger.check(self.draft, rows)
            write_json(snapshot_cross_lead(history, model.bundle.feature_set, self.cutoff), work / CROSS_LEAD)
            decide(session, self.draft, rows)
        return rows

    def _check_unchanged(self, history: History) -> None:
        """Tables are read when they are needed, and the plan tells the data by what they were at first."""
        changed = history.sources_unchanged()
        if changed:
            self._session.folder.drop_work(self.run_id)
            raise DataError(
                f"the data changed while it was read ({', '.join(changed)}), so that scores could mix two exports; "
                "nothing was published and the work is thrown away. Run again, after the exports have arrived"
            )

    def _prepare(self, history: History, model: NightModel) -> None:
        """Take up unfinished work of the same plan; other work is thrown away."""
        session, work = self._session, self._session.folder.work(self.run_id)
        plan = Plan(
            run_id=self.run_id,
            cutoff=self.cutoff,
            bundle=model.bundle.digest,
            data=history.fingerprint,
            settings=settings_digest(session.project.config),
            forgotten=_file_digest(session),
        )
        if work.is_dir():
            differs = plan.difference(read_json(work / PLAN)) if (work / PLAN).is_file() else ["plan"]
            if not differs:
                session.event("resumed", self.run_id)
                return
            session.event("begun_anew", self.run_id, differs=differs)
            session.folder.drop_work(self.run_id)
        write_json(plan.to_dict(), work / PLAN)
        session.event("begun", self.run_id, key=plan.key)

    def _note_inputs(self, history: History, model: NightModel) -> None:
        tables = history.counts.get("tables") or {}
        interactions = tables.get("interactions") or {}
        now = self._session.clock()
        self.draft |= {
            "data": {
                "fingerprint": history.fingerprint,
                "known_until": history.known_until.isoformat(),
                "window": [interactions.get("first"), interactions.get("last")],
                "counts": {name: table["accepted"] for name, table in tables.items()},
                "quarantine": {
                    name: dict(table["quarantined"]) for name, table in tables.items() if table["quarantined"]
                },
                "quarantine_folder": _folder_of(tables),
            },
            "model": {name: _plain(value) for name, value in asdict(model.identity).items()},
            "model_knew_later": model.knew_later(self.cutoff, now),
        }
        identity = model.identity
        self._session.event(
            "model", self.run_id, model_version=identity.version, model_digest=identity.digest
        )
        for doubt in model.doubts(self.cutoff, now):
            self.draft["warnings"].append(doubt)
            self._session.event("doubt", self.run_id, level="warning", message=doubt)

    def _note_scores(
        self, rows: pa.Table, scored: ScoredRows, observed: Observed, model: NightModel, explained: int
    ) -> None:
        columns = [f"p_convert_{horizon}" for horizon in model.bundle.horizons]
        expected = float(np.sum(scored.probabilities[model.bundle.horizon]))
        if observed.age_doubt is not None:
            self.draft["warnings"].append(observed.age_doubt)
            self._session.event("doubt", self.run_id, level="warning", message=observed.age_doubt)
        self.draft |= {
            "leads": rows.num_rows,
            "excluded": {reason: count for reason, count in observed.excluded.items() if count},
            "explained": explained,
            "forgotten": observed.forgotten,
            "expected_conversions": expected,
            "probability_columns": columns,
            "counts": scored.counts.to_dict() if scored.counts is not None else None,
            "scores_hash": content_hash(rows.drop_columns(["features_hash"])),
        }

    def _judge(
        self,
        history: History,
        whole: History,
        model: NightModel,
        rows: pa.Table,
        scored: ScoredRows,
        observed: Observed,
    ) -> None:
        session = self._session
        bundle = model.bundle
        last = next(session.folder.published(before=self.cutoff), None)
        facts = NightFacts(
            run_id=self.run_id,
            cutoff=self.cutoff,
            model=model.identity,
            history=history,
            scores=rows,
            counts=scored.counts or ProfileCounts(rows.num_rows, {}, np.zeros(0, np.int64)),
            profile=bundle.profile,
            validation=whole.counts,
            excluded=observed.excluded,
            last=last,
            known_kinds=bundle.feature_set.vocabularies.get(("interactions", "kind")),
            probability_column=f"p_convert_{bundle.horizon}",
            learnt_from=model.learnt_from,
            max_bad_share=session.project.config.history.validation.max_bad_share,
        )
        sound = check_scores(rows, self.draft["probability_columns"], observed.table.num_rows)
        results = [sound, *judge_gates(facts, session.settings.gates)]
        session.check_interrupted()
        stops = stopping(results, session.waived)
        stopped_anyway = {result.gate for result in stopping(results)}
        waived = {gate: reason for gate, reason in session.waived.items() if gate in stopped_anyway}
        self.draft |= {"gates": [asdict(result) for result in results], "waived": waived}
        for result in results:
            level: Level = "info" if result.verdict in ("pass", "not judged") else "warning"
            verdict = result.verdict.replace(" ", "_")
            session.event(
                "gate", self.run_id, level=level, gate=result.gate, verdict=verdict, message=result.message
            )
        if stops:
            raise self._stopped(stops)

    def _stopped(self, stops: list[GateResult]) -> StoppedError:
        session = self._session
        latest = next(session.folder.published(), None)
        readers = (
            f"readers keep the scores of {latest['run_id']}" if latest else "no scores were published so far"
        )
        told = " ".join(f"[{result.gate}] {result.message}." for result in stops)
        ways = "Mend the data or the model and run again (finished work is kept)"
        if not any(result.gate == SOUND for result in stops):
            waivers = " ".join(f"--waive '{result.gate}=REASON'" for result in stops)
            ways += f", or let this night pass with {waivers}"
        return StoppedError(f"{self.run_id} was stopped; {readers}. {told} {ways}")

    def _scored(self, total: int) -> Callable[[Bucket], None]:
        def told(bucket: Bucket) -> None:
            self._session.event("bucket", self.run_id, bucket=bucket.number, rows=bucket.end, of=total)

        return told

    def _explained(self, bucket: Bucket) -> None:
        self._session.event("reasons", self.run_id, bucket=bucket.number, rows=bucket.end)


def _file_digest(session: Session) -> str:
    path = session.folder.root / FORGOTTEN
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _folder_of(tables: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The folder below ``quarantine`` with the rows put aside, named after the first night of a call."""
    files = (table.get("file") for table in tables.values())
    return next((Path(file).parent.name for file in files if file), None)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _is_latest(session: Session, cutoff: datetime) -> bool:
    """Whether no later night is published; where a damaged manifest keeps that hidden, the night is told of."""
    try:
        return session.folder.is_latest(cutoff)
    except DataError:
        return True


def new_draft(session: Session, run_id: str, cutoff: datetime) -> dict[str, Any]:
    """The manifest of a night of which nothing is known yet but when it is."""
    return {
        "format": FORMAT,
        "run_id": run_id,
        "name": session.project.config.name,
        "status": "failed",
        "cutoff": cutoff.isoformat(),
        "started_at": session.now(),
        "finished_at": None,
        "afterwards": session.afterwards,
        "again": session.again,
        "current": _is_latest(session, cutoff),
        "warnings": [],
        "config_digest": session.project.digest,
        "steps": [],
        "error": None,
    }
