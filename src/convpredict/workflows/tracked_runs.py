"""Record a training run in MLflow and register its model, from its results folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import Project, load_project
from ..errors import DataError
from .common import holding_results, keeping_forget_out, note_results

if TYPE_CHECKING:
    import pandas as pd

    from ..tracking.registry import RegisteredModel

SCORED_BACK = 200
"""Test observations that a registered version is scored with before it counts."""
_TRACKED = "tracked.json"


def track_run(
    project: Project, folder: Path, run_id: str, rows: pd.DataFrame | None = None
) -> RegisteredModel:
    """Record the results folder of a finished training run as an MLflow run, and register its ``model``.

    ``rows`` are the features of test observations, of which some are scored with what was registered (default: those
    of the folder's training set). A folder that was recorded before is not recorded twice. The folder stays as it is
    whatever happens.

    Raises RegistryError if the model cannot be registered, or does not score as it did.
    """
    from ..models.bundle_files import parse_json
    from ..tracking.registration import register

    if rows is None:
        from ..training.training_set import TrainingSet

        rows = TrainingSet.load(folder / "training_set").X("test")
    tracked = folder / _TRACKED
    recorded = parse_json(tracked.read_text(encoding="utf-8"), str(tracked)) if tracked.is_file() else {}
    run = str(recorded.get("mlflow_run", "")) or _record(project, folder, run_id)
    settings = project.config
    return register(
        folder,
        settings.tracking,
        settings.name,
        run_id=run,
        rows=rows.iloc[:: -(-len(rows) // SCORED_BACK)],
        config_digest=project.digest,
        value_horizon=str(settings.labels.value_horizon) if settings.labels.value_horizon else None,
    )


@keeping_forget_out("register")
def register_run(
    config: Path, folder: Path, *, data: Path | None = None, overrides: Sequence[str] = ()
) -> RegisteredModel:
    """Register the model of a results folder, as ``train`` does at its end: for a registration that failed.

    Raises DataError for a folder that is not that of a finished, tracked run; BusyError while a training or another
    registration is at work in it; RegistryError as :func:`track_run`.
    """
    project = load_project(config, data=data, overrides=overrides)
    with holding_results(folder) if folder.is_dir() else nullcontext():
        _check_finished(folder)
        note_results(project, folder, tracked=True)
        return track_run(project, folder, folder.name)


def _check_finished(folder: Path) -> None:
    missing = [
        name
        for name in ("metrics.json", "manifest.json", "model", "training_set")
        if not (folder / name).exists()
    ]
    if missing:
        raise DataError(
            f"'{folder}' holds no {missing[0]}, so it is not the results folder of a finished training run that was to "
            "be registered; train again, without --no-track"
        )


def _record(project: Project, folder: Path, run_id: str) -> str:
    """Write the MLflow run of a results folder, and its id into the folder."""
    from ..files import write_json
    from ..tracking.items import Artifact, Item, Tag, config_items, metric_items
    from ..tracking.runs import start_run

    settings = project.config
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    files: list[Item] = [Artifact(folder / name, name) for name in ("bundle", "plots", "model")]
    names = ("report.html", "importance.csv", "manifest.json", "validation.json", "test_predictions.parquet")
    files += [Artifact(folder / name) for name in (*names, "leakage.json") if (folder / name).is_file()]
    with start_run(
        run_id, settings.tracking, experiment=settings.name, tags={"convpredict.run_id": run_id}
    ) as run:
        run.log(config_items(settings))
        run.log(metric_items(metrics))
        run.log([Tag("convpredict.config_digest", project.digest), *files])
    write_json({"run_id": run_id, "mlflow_run": run.run_id}, folder / _TRACKED)
    return run.run_id
