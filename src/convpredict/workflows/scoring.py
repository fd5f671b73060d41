"""Score every open lead at one instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import Project, load_project
from ..errors import BundleError
from .common import (
    StepProgress,
    keeping_forget_out,
    leave_out_forgotten,
    new_run_id,
    part_of,
    read_history,
    silent,
)

if TYPE_CHECKING:
    from ..history.history import History
    from ..scoring.scores import Scores


@dataclass(frozen=True)
class ScoringRun:
    """A scored lead list, where it was written, and a summary for people and machines."""

    scores: Scores
    summary: dict[str, Any]

    @property
    def text(self) -> str:
        """One paragraph: how many were scored, how many conversions to expect, who was left out, where it is."""
        from ..training.lead_ages import AGE_EXCLUSIONS
        from ..training.observations import EXCLUSIONS

        told = {**EXCLUSIONS, **AGE_EXCLUSIONS}
        left_out = "".join(
            f"\n  {count:>9,} {told.get(reason, reason)}"
            for reason, count in self.summary["left_out"].items()
        )
        doubts = "".join(f"! {doubt}\n" for doubt in self.summary["warnings"])
        doubts += "".join(f"Note: {note}\n" for note in self.summary["notes"])
        return (
            f"{self.summary['leads']:,} open leads scored as of {self.summary['as_of']}; "
            f"{self.summary['expected_conversions']:.1f} conversions expected within {self.summary['horizon']}.\n"
            f"Left out: {left_out or 'none'}\n{doubts}Written to {self.summary['out']}"
        )


@keeping_forget_out("score")
def score(
    config: Path,
    out: Path,
    *,
    bundle: Path | None = None,
    run: str | None = None,
    as_of: datetime | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> ScoringRun:
    """Score every open lead with a bundle folder, the bundle of a results folder, or that of an MLflow run.

    Raises :class:`BundleError` if there is no usable bundle, or the results folder is of an unfinished training.
    """
    from ..models.bundle import load_bundle
    from ..scoring.files import write_table
    from ..scoring.scores import score_open_leads

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    loaded = load_bundle(bundle if bundle is not None else _bundle_folder(str(run), project))
    progress("reading", 0.0)
    history = leave_out_forgotten(project, read_history(project))
    scores = score_open_leads(
        history,
        loaded,
        as_of=as_of,
        max_age=settings.observations.max_age,
        run_id=new_run_id(settings.name),
        bucket_events=settings.features.bucket_events,
        progress=part_of(progress, "scoring"),
        reasons=settings.reasons,
        untrained_ages=settings.observations.untrained_ages,
    )
    write_table(scores.table, out)
    return ScoringRun(
        scores,
        {
            "out": str(out),
            "as_of": (as_of or history.known_until).isoformat(),
            "horizon": str(loaded.horizon),
            "leads": scores.table.num_rows,
            "expected_conversions": float(scores.table[scores.probability_column].to_numpy().sum()),
            "left_out": {reason: count for reason, count in scores.excluded.items() if count},
            "model_version": "",
            "model_digest": loaded.digest,
            "warnings": _doubts(project, history, as_of) + ([scores.age_doubt] if scores.age_doubt else []),
            "notes": [settings.reasons.unnamed] if settings.reasons.unnamed else [],
        },
    )


def _doubts(project: Project, history: History, as_of: datetime | None) -> list[str]:
    """What makes a scored list doubtful though nothing failed: stale data, unknown outcomes."""
    doubts = []
    if as_of is not None and as_of > history.known_until:
        doubts.append(
            f"The data ends at {history.known_until:%Y-%m-%d %H:%M} UTC, before the instant asked for: whatever leads "
            "did since is unknown to these scores. Give a newer export, or leave --as-of out."
        )
    if project.config.history.conversions is None and project.config.labels.outcome == "conversion":
        doubts.append(
            "No conversions are declared, so leads that have converted are scored as if they were open."
        )
    return doubts


def _bundle_folder(run: str, project: Project) -> Path:
    """The bundle of a results folder if there is such a folder, else of the MLflow run of that id.

    A folder without metrics.json, which training writes last, is of a run that did not finish: its bundle was never
    judged, or was altered by half.
    """
    folder = Path(run)
    if folder.is_dir():
        if not (folder / "metrics.json").is_file():
            raise BundleError(
                f"'{run}' holds no metrics.json, so its training has not finished, or failed: a model that was not "
                "judged is not used to score. Train again, or name a finished run; a bundle folder is named by --bundle"
            )
        return folder / "bundle"
    from ..tracking.runs import fetch_bundle

    return fetch_bundle(run, project.config.tracking)
