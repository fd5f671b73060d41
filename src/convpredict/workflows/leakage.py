"""Look for hindsight in the data of a configuration, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.load import load_project
from .common import StepProgress, part_of, read_outcomes, silent

if TYPE_CHECKING:
    from ..evaluation.leakage.findings import LeakageReport


def find_leaks(
    config: Path, *, data: Path | None = None, overrides: Sequence[str] = (), progress: StepProgress = silent
) -> LeakageReport:
    """Read, build the training set as training would, and look for hindsight in it."""
    from ..config.against_history import check_against_history
    from ..evaluation.leakage.audit import audit_training_set
    from ..training.training_set import build_training_set

    project = load_project(config, data=data, overrides=overrides)
    progress("reading", 0.0)
    history = read_outcomes(project)
    check_against_history(project.config, history)
    training_set = build_training_set(history, project, progress=part_of(progress, "building features"))
    return audit_training_set(history, project, training_set, progress=part_of(progress, "looking for leaks"))
