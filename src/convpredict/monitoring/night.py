"""Monitor one published night: what moved, what has come of earlier scores, and which alarms stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..config.base import Duration
from ..config.monitoring import MonitoringConfig
from ..history.history import History
from ..models.profile import Profile, ProfileCounts
from ..scoring.ledger.index import LedgerRun
from ..scoring.ledger.ledger import Ledger
from ..scoring.nightly.state import NightFolder
from ..training.as_of import history_as_of
from ..training.lead_times import to_microseconds
from ..training.outcomes import OutcomeKind
from .alarms import standing_alarms
from .changes import judge_changes
from .drift import DAYS_PER_MONTH, ColumnDrift, judge_drift
from .outcomes import DueNight, due_nights, judged_rows, recording_delays
from .realised import judge_leads, pool
from .reports import NightReport, judged_before, parse_instant, read_reports
from .segments import SegmentValues, segment_values
from .weights import weighted

TOP_SHARES = (0.01, 0.05, 0.10, 0.20)
_NIGHTS_LOOKED_AT = 30


@dataclass(frozen=True)
class Watch:
    """What stays the same from night to night: the settings, what is predicted, and how intervals are."""

    config: MonitoringConfig
    segments: tuple[str, ...] = ()
    outcome: OutcomeKind = "conversion"
    top_shares: Sequence[float] = TOP_SHARES
    confidence: float = 0.95


def monitor_night(
    folder: Path,
    manifest: Mapping[str, Any],
    profile: Profile | None,
    history: History,
    ledger: Ledger,
    watch: Watch,
    *,
    shared: Collection[str] = (),
) -> NightReport:
    """Judge what a published night shows and what has become settled since the night before; write its report.

    Everything is judged as it was known at the night's cutoff (or where the data ended before it), whatever
    ``history`` knows beyond: the same night gives the same report at any time, as long as reports of earlier nights
    are there, no earlier night is filled in, and what carries no date in the history stays as it is (attributes
    without a history of changes). Costs about the scores of one past night per horizon.

    Parameters
    ----------
    folder : the nightly folder; the report goes to ``monitoring/<run id>.json`` below it
    manifest : of the night (see docs/reference/nightly.md)
    profile : of the night's model; None: drift stays as a former report of the night has it, or is not judged
    history : with all that was known at the cutoff, or more
    ledger : with the scores of the past nights; those that no manifest calls published were given up, or wait to be
        published: readers have not seen them, and they count nowhere
    watch : settings
    shared : model columns that all leads of a group share (:func:`.drift.shared_columns`): their drift is not judged

    Raises DataError where reports of earlier nights cannot be read.
    """
    cutoff = parse_instant(manifest["cutoff"])
    known_until = (manifest.get("data") or {}).get("known_until")
    ends = [cutoff, history.known_until, *([parse_instant(known_until)] if known_until else [])]
    as_of = min(ends)
    earlier = read_reports(folder, before=cutoff)
    known = history_as_of(history, as_of)
    delays = recording_delays(known, as_of, watch.outcome)
    past = judged_before(earlier)
    runs = _published_runs(folder, manifest, ledger)
    due = due_nights(runs, past.keys(), as_of, delays)
    judge = _Judge(known, ledger, watch, segment_values(known, watch.segments) if due else {})
    fresh = [judge.entry(night) for night in due]
    published = [(run.cutoff, run.probability_columns) for run in runs if not run.model_knew_later]
    judged = weighted([*past.values(), *fresh], published)
    gap = _gap_days(runs, cutoff)
    model = str((manifest.get("model") or {}).get("digest", ""))
    drift = _drift(folder, manifest, profile, watch, gap, shared)
    changes = judge_changes(
        [entry for entry in judged if entry["model"] == model],
        watch.config.realised,
        nights_per_year=365.25 / max(gap, 1e-3),
        confidence=watch.confidence,
    )
    realised = _realised([entry for entry in judged if entry["model"] == model], watch)
    report = NightReport(
        run_id=str(manifest["run_id"]),
        cutoff=cutoff.isoformat(),
        as_of=as_of.astimezone(UTC).isoformat(),
        model=dict(manifest.get("model") or {}),
        judged=fresh,
        realised=realised,
        drift=[column.to_dict() for column in drift],
        changes=[change.to_dict() for change in changes],
        alarms=standing_alarms(
            cutoff.isoformat(),
            [] if manifest.get("model_knew_later") else drift,
            changes,
            realised,
            earlier[-1] if earlier else None,
            watch.config,
        ),
    )
    report.write(folder)
    return report


def judge_by(history: History, *wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The segment attributes: the first of ``wanted`` that is given, else the first three categories of the leads."""
    for names in wanted:
        if names is not None:
            return tuple(name for name in names if name in history.lead_attributes)
    return tuple(name for name, kind in history.lead_attributes.items() if kind == "category")[:3]


@dataclass(frozen=True)
class _Judge:
    """Judges due nights against a history; values of the segments are read once."""

    history: History = field(repr=False)
    ledger: Ledger
    watch: Watch
    values: Mapping[str, SegmentValues] = field(repr=False)

    def entry(self, night: DueNight) -> dict[str, Any]:
        """Counts of one night and horizon, for the report."""
        rows = judged_rows(self.history, self.ledger, night, self.watch.outcome)
        cutoff = to_microseconds(night.run.cutoff)
        segments = {name: values.at(rows.lead_row, cutoff) for name, values in self.values.items()}
        return {
            "run_id": night.run.run_id,
            "cutoff": night.run.cutoff.isoformat(),
            "horizon": str(night.horizon),
            "model": night.run.model.digest,
            "unknown": rows.unknown,
            **judge_leads(rows.label, rows.p, segments, self.watch.top_shares),
        }


def _drift(
    folder: Path,
    manifest: Mapping[str, Any],
    profile: Profile | None,
    watch: Watch,
    gap_days: float,
    shared: Collection[str],
) -> list[ColumnDrift]:
    """The night's drift, anew where the profile is at hand, else as a former report tells it."""
    if profile is None:
        former = [each for each in read_reports(folder) if each.run_id == manifest["run_id"]]
        return [ColumnDrift(**column) for each in former for column in each.drift]
    if not manifest.get("counts"):
        return []
    counts = ProfileCounts.from_dict(manifest["counts"])
    return judge_drift(
        profile,
        counts,
        watch.config.drift,
        shared=shared,
        nights_per_month=DAYS_PER_MONTH / max(gap_days, 1e-3),
    )


def _realised(judged: Sequence[Mapping[str, Any]], watch: Watch) -> dict[str, Any]:
    """By horizon, from the shortest: the last judged nights of the page's window together."""
    horizons = sorted(
        {str(entry["horizon"]) for entry in judged}, key=lambda each: Duration(each).microseconds
    )
    return {
        horizon: pool(
            sorted(
                (entry for entry in judged if entry["horizon"] == horizon), key=lambda entry: entry["cutoff"]
            )[-watch.config.nights :],
            watch.confidence,
        )
        for horizon in horizons
    }


def _published_runs(folder: Path, manifest: Mapping[str, Any], ledger: Ledger) -> list[LedgerRun]:
    """The runs of the ledger that readers have seen."""
    nights = NightFolder(folder, str(manifest.get("name", "")))
    return [run for run in ledger.runs() if nights.is_published(run.run_id)]


def _gap_days(runs: Sequence[LedgerRun], cutoff: datetime) -> float:
    """The usual distance of the last nights up to a cutoff, in days; 1 where there is one night only."""
    cutoffs = sorted({run.cutoff for run in runs if run.cutoff <= cutoff})[-_NIGHTS_LOOKED_AT:]
    days = np.diff([each.timestamp() for each in cutoffs]) / 86_400
    return float(np.median(days)) if len(days) else 1.0
