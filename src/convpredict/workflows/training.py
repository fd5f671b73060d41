"""Train, judge out of time, write the results; show a finished run again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import Project, load_project
from ..errors import DataError
from .common import StepProgress, new_run_id, part_of, read_history, report_of, silent

if TYPE_CHECKING:
    from ..evaluation.judgement import Judgement
    from ..history.history import History
    from ..training.training_set import TrainingSet


@dataclass(frozen=True)
class TrainingRun:
    """What a training run left behind: its id, its folder, its metrics, and a summary for people."""

    run_id: str
    folder: Path
    metrics: dict[str, Any]
    sentences: tuple[str, ...]
    manifest: dict[str, Any] = field(repr=False)
    mlflow_run: str | None = None

    @property
    def summary(self) -> str:
        """The sentences on the comparison and where everything was written."""
        tracked = f"\nMLflow run {self.mlflow_run}" if self.mlflow_run else ""
        return "\n".join(self.sentences) + f"\nResults in {self.folder}{tracked}"

    def to_dict(self) -> dict[str, Any]:
        """For machines: run id, folder, metrics and the manifest's digests."""
        return {
            "run_id": self.run_id,
            "folder": str(self.folder),
            "mlflow_run": self.mlflow_run,
            "metrics": self.metrics,
            "sentences": list(self.sentences),
        }


def compare(run: Path) -> tuple[dict[str, Any], list[str]]:
    """The metrics of a finished run and what they support, in sentences.

    Raises :class:`DataError` if the folder holds no ``metrics.json``, or one that cannot be understood.
    """
    from ..evaluation.sentences import state_comparison

    path = run / "metrics.json"
    if not path.is_file():
        raise DataError(
            f"{run} holds no metrics.json, so it is not the results folder of a finished training run."
        )
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return metrics, state_comparison(metrics)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged or was not written by 'convpredict train' ({type(error).__name__}); train again, "
            "or name another results folder."
        ) from error


def train(
    config: Path,
    *,
    out: Path | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    track: bool = True,
    progress: StepProgress = silent,
) -> TrainingRun:
    """Read, build the training set, fit and calibrate, judge out of time, and write everything to one folder.

    The folder (default ``runs/<run id>``) then holds ``bundle/``, ``training_set/``, ``metrics.json``,
    ``test_predictions.parquet``, ``calibration_by_month.csv``, ``manifest.json``, ``validation.json``,
    ``plots/`` and, where rows were put aside, ``quarantine/``; with ``track`` an MLflow run holds the same.
    """
    from ..config.against_history import check_against_history
    from ..evaluation.judgement import judge_test_part
    from ..evaluation.sentences import state_comparison
    from ..models.bundle import write_bundle
    from ..models.fitting import fit_conversion_model, fit_scorecard, make_bundle
    from ..models.scorecard import Scorecard
    from ..training.training_set import build_training_set

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    run_id = new_run_id(settings.name)
    folder = out if out is not None else Path("runs") / run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    progress("reading", 0.0)
    history = read_history(project, quarantine=folder / "quarantine", require=("conversions",))
    check_against_history(settings, history)
    card = Scorecard(settings.scorecard) if settings.scorecard is not None else None
    training_set = build_training_set(
        history,
        project,
        extra_features=card.declarations() if card is not None else (),
        progress=part_of(progress, "building features"),
    )
    training_set.save(folder / "training_set")
    progress("learning", 0.0)
    model = fit_conversion_model(training_set, settings.model)
    fitted_card = fit_scorecard(training_set, card) if card is not None else None
    judgement = judge_test_part(
        training_set, model, fitted_card, settings.evaluation, progress=part_of(progress, "judging")
    )
    progress("writing", 0.0)
    write_bundle(folder / "bundle", make_bundle(training_set, model, fitted_card))
    _write_results(folder, judgement, training_set, history)
    mlflow_run = _track(project, folder, run_id, judgement) if track else None
    notes = [f"Note: {warning}" for warning in card.warnings(history)] if card is not None else []
    notes += [f"Note: {warning}" for warning in report_of(history).warnings]
    sentences = (*state_comparison(judgement.metrics), *notes)
    return TrainingRun(run_id, folder, judgement.metrics, sentences, dict(training_set.manifest), mlflow_run)


def _write_results(folder: Path, judgement: Judgement, training_set: TrainingSet, history: History) -> None:
    """Write what people and machines read of a run; ``metrics.json`` comes last and says that the rest is whole."""
    import pyarrow as pa

    from ..scoring.files import write_json, write_table
    from ..training.lead_times import arrow_column

    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    for name, figure in judgement.figures().items():
        figure.savefig(plots / f"{name}.png", dpi=120)
    predictions = {name: arrow_column(judgement.predictions[name]) for name in judgement.predictions}
    write_table(pa.table(predictions), folder / "test_predictions.parquet")
    judgement.by_month.to_csv(folder / "calibration_by_month.csv", index=False)
    write_json(training_set.manifest, folder / "manifest.json")
    write_json(report_of(history).to_dict(), folder / "validation.json")
    write_json(judgement.metrics, folder / "metrics.json")


def _track(project: Project, folder: Path, run_id: str, judgement: Judgement) -> str:
    from ..tracking.items import Artifact, Tag, config_items, metric_items
    from ..tracking.runs import start_run

    settings = project.config
    with start_run(
        run_id, settings.tracking, experiment=settings.name, tags={"convpredict.run_id": run_id}
    ) as run:
        run.log(config_items(settings))
        run.log(metric_items(judgement.metrics))
        run.log(
            [
                Tag("convpredict.config_digest", project.digest),
                Artifact(folder / "bundle", "bundle"),
                Artifact(folder / "plots", "plots"),
                Artifact(folder / "manifest.json"),
                Artifact(folder / "validation.json"),
                Artifact(folder / "test_predictions.parquet"),
            ]
        )
        return run.run_id
