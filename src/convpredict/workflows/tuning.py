"""Tune the model's settings within a budget, and say whether that beat the configured ones by more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import load_project, section_yaml
from .common import StepProgress, keeping_forget_out, part_of, read_outcomes, silent

if TYPE_CHECKING:
    from ..models.tuning import Tuned


@dataclass(frozen=True)
class TuningRun:
    """What tuning found, the study's file, and a summary for people."""

    tuned: Tuned
    study: Path

    @property
    def yaml(self) -> str:
        """The section ``model`` of a configuration, with the best settings."""
        return section_yaml("model", self.tuned.model)

    @property
    def summary(self) -> str:
        """Whether it beat the configured settings, and by how much, in sentences."""
        found, check = self.tuned, self.tuned.confirmation
        trials = "1 trial" if found.trials == 1 else f"{found.trials:,} trials"
        pruned = f" ({found.pruned:,} ended early)" if found.pruned else ""
        head, kept = (
            f"{trials}{pruned}. ",
            f"Study kept in {self.study}; run the command again to go on with it.",
        )
        if not found.found_better:
            return (
                f"{head}No trial beat the configured settings: log loss forward in time "
                f"{found.configured_log_loss:.5f}.\n{kept}"
            )
        verdict = (
            "more than noise: worth using"
            if found.beats_configured
            else "no gain: keep the configured settings"
            if check["difference"] >= 0
            else "no more than noise: the configured settings are as good"
        )
        return (
            f"{head}Log loss forward in time: best {found.validation_log_loss:.5f}, configured settings "
            f"{found.configured_log_loss:.5f} (the best of many looks better than it is).\n"
            f"On {check['rows']:,} later observations that no trial saw ({check['positives']:,} positive): tuned "
            f"{check['tuned']:.5f}, configured {check['configured']:.5f}, difference {check['difference']:+.5f} with a "
            f"standard error of {check['standard_error']:.5f}, which is {verdict}.\n{kept}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            **asdict(self.tuned),
            "beats_configured": self.tuned.beats_configured,
            "study_file": str(self.study),
            "summary": self.summary,
        }


@keeping_forget_out("tune")
def tune(
    config: Path,
    *,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> TuningRun:
    """Search the model's settings as the section ``tuning`` says; the test part is not looked at.

    Raises
    ------
    NotEnoughDataError
        There is too little data to validate forward in time, or no trial ended within the budget.
    """
    from ..models.tuning import tune_model
    from ..training.training_set import build_training_set

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    progress("reading", 0.0)
    history = read_outcomes(project)
    training_set = build_training_set(history, project, progress=part_of(progress, "building features"))
    study = settings.tuning.study or Path("runs") / f"{settings.name}_tuning.db"
    progress("tuning", 0.0)

    def report(trials: int, seconds: float, best: float) -> None:
        by_time = seconds / (60 * settings.tuning.minutes)
        by_count = trials / settings.tuning.trials if settings.tuning.trials else 0.0
        progress(f"trial {trials}, best log loss {best:.5f}", min(1.0, max(by_time, by_count)))

    return TuningRun(tune_model(training_set, settings.model, settings.tuning, study, progress=report), study)
