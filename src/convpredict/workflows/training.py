"""Train, judge out of time, write the results; show a finished run again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.load import Project, load_project
from ..errors import ConvpredictError, DataError, RegistryError
from .common import (
    StepProgress,
    holding_results,
    keeping_forget_out,
    new_run_id,
    note_results,
    part_of,
    read_outcomes,
    report_of,
    silent,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..evaluation.judgement import Judgement
    from ..evaluation.leakage.findings import LeakageReport
    from ..history.history import History
    from ..models.bundle import Bundle
    from ..models.scorecard import Scorecard
    from ..tracking.registry import RegisteredModel
    from ..training.training_set import TrainingSet

EXPLAINED_ROWS = 5_000
"""Test observations from which the importance of concepts is computed."""


@dataclass(frozen=True)
class TrainingRun:
    """What a training run left behind: its id, its folder, its metrics, and a summary for people."""

    run_id: str
    folder: Path
    metrics: dict[str, Any]
    sentences: tuple[str, ...]
    manifest: dict[str, Any] = field(repr=False)
    mlflow_run: str | None = None
    version: str | None = None

    @property
    def summary(self) -> str:
        """The sentences on the comparison and where everything was written."""
        tracked = (
            f"\nMLflow run {self.mlflow_run}, registered as version {self.version}, the challenger"
            if self.mlflow_run
            else ""
        )
        report = f"\nReport: {self.folder / 'report.html'}"
        return "\n".join(self.sentences) + f"{report}\nResults in {self.folder}{tracked}"

    def to_dict(self) -> dict[str, Any]:
        """For machines: run id, folder, metrics and the manifest's digests."""
        return {
            "run_id": self.run_id,
            "folder": str(self.folder),
            "mlflow_run": self.mlflow_run,
            "version": self.version,
            "metrics": self.metrics,
            "sentences": list(self.sentences),
        }


def compare(run: Path) -> tuple[dict[str, Any], list[str]]:
    """The metrics of a finished run and what they support, in sentences.

    Raises :class:`DataError` if the folder holds no ``metrics.json``, or one that cannot be understood.
    """
    path = run / "metrics.json"
    if not path.is_file():
        raise DataError(
            f"{run} holds no metrics.json, so it is not the results folder of a finished training run."
        )
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        sentences = _state(metrics)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged or was not written by 'convpredict train' ({type(error).__name__}); train again, "
            "or name another results folder."
        ) from error
    if (run / "report.html").is_file():
        sentences.append(f"Report: {run / 'report.html'}")
    return metrics, sentences


def _state(metrics: dict[str, Any]) -> list[str]:
    """All that the metrics of a run support, in sentences."""
    from ..evaluation.calls import state_called_revenue, state_calls
    from ..evaluation.sentences import revenue_is_open, state_comparison, state_further

    sentences = state_comparison(metrics)
    calls, test = metrics.get("calls", {}), metrics["test"]
    confidence, leads = test["interval"]["confidence"], test["counts"]["converting_leads"]
    if calls:
        sentences.append(state_calls(calls, confidence=confidence, converting_leads=leads))
    if "amount" in calls:
        so_far = revenue_is_open(metrics.get("value"))
        sentences.append(
            state_called_revenue(calls, so_far=so_far, confidence=confidence, converting_leads=leads)
        )
    return [*sentences, *state_further(metrics)]


@keeping_forget_out("train")
def train(
    config: Path,
    *,
    out: Path | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    track: bool = True,
    progress: StepProgress = silent,
) -> TrainingRun:
    """Read, build the training set, look for hindsight, fit and calibrate, judge out of time, write one folder.

    The folder (default ``runs/<run id>``) then holds ``report.html``, ``bundle/``, ``training_set/``,
    ``metrics.json``, ``test_predictions.parquet``, ``calibration_by_month.csv``, ``leakage.json``,
    ``manifest.json``, ``validation.json``, ``plots/`` and, where rows were put aside, ``quarantine/``; with ``track``
    an MLflow run holds the same, and its ``model/`` is registered as a version of the project's registered model and
    becomes the challenger.

    Raises
    ------
    RegistryError
        The model could not be registered; the results are whole all the same.
    BusyError
        Another training writes into the same folder.
    LeakageError
        The data tells the outcome, and the configuration does not waive the finding; ``leakage.json`` has the whole.
    """
    project = load_project(config, data=data, overrides=overrides)
    run_id = new_run_id(project.config.name)
    folder = out if out is not None else Path("runs") / run_id
    folder.mkdir(parents=True, exist_ok=True)
    with holding_results(folder):
        return _train_into(folder, run_id, project, track, progress)


def _train_into(
    folder: Path, run_id: str, project: Project, track: bool, progress: StepProgress
) -> TrainingRun:
    """Train, and write all results into a folder that nobody else writes into."""
    from ..config.against_history import check_against_history
    from ..models.bundle import write_bundle
    from ..models.bundle_files import remove_bundle
    from ..models.scorecard import Scorecard
    from ..models.value_outliers import outlier_note
    from ..training.training_set import build_training_set

    settings = project.config
    for former in ("metrics.json", "report.html", "leakage.json", "tracked.json"):
        (folder / former).unlink(missing_ok=True)
    remove_bundle(folder / "bundle")
    unnoted = note_results(project, folder, tracked=track)
    progress("reading", 0.0)
    history = read_outcomes(project, quarantine=folder / "quarantine")
    check_against_history(settings, history)
    card = Scorecard(settings.scorecard) if settings.scorecard is not None else None
    training_set = build_training_set(
        history,
        project,
        extra_features=card.declarations() if card is not None else (),
        progress=part_of(progress, "building features"),
    )
    training_set.save(folder / "training_set")
    leakage = _look_for_hindsight(project, history, training_set, folder, progress)
    progress("learning", 0.0)
    bundle = _learn(project, history, training_set, card)
    write_bundle(folder / "bundle", bundle)
    judged = _judge(project, training_set, bundle, leakage, progress)
    progress("writing", 0.0)
    notes = [*(card.warnings(history) if card is not None else ()), *report_of(history).warnings]
    if unnoted is not None:
        notes.append(unnoted)
    if (untrained := _ages_not_learnt(project, history, bundle)) is not None:
        notes.append(untrained)
    if settings.labels.value_horizon is not None and bundle.value is None:
        notes.append(_why_no_value(project))
    if bundle.value is not None and (told := outlier_note(bundle.value.outlier_cut_)) is not None:
        notes.append(told)
    notes += leakage.warnings if leakage is not None else ["hindsight was not looked for (leakage.enabled)"]
    _write_results(folder, run_id, project, history, training_set, bundle, judged, leakage, notes)
    registered = _register(project, folder, run_id, history, bundle, training_set) if track else None
    return TrainingRun(
        run_id,
        folder,
        judged.judgement.metrics,
        (*judged.sentences, *(f"Note: {note}" for note in notes)),
        dict(training_set.manifest),
        registered.run_id if registered is not None else None,
        registered.version if registered is not None else None,
    )


def _register(
    project: Project, folder: Path, run_id: str, history: History, bundle: Bundle, training_set: TrainingSet
) -> RegisteredModel:
    """Write the model directory, record the run, register the model. What fails here leaves the results whole."""
    from ..features.cross_lead import snapshot_cross_lead
    from ..tracking.model_directory import write_model_directory
    from .tracked_runs import track_run

    try:
        rates = snapshot_cross_lead(history, bundle.feature_set, history.known_until)
        write_model_directory(folder / "model", bundle, cross_lead=rates)
        return track_run(project, folder, run_id, training_set.X("test"))
    except (ConvpredictError, OSError) as error:
        raise RegistryError(
            f"the model is trained and its results are whole in {folder}, but it was not registered: {error} "
            f"Once this is mended: convpredict register {project.path} {folder}"
        ) from error


def _ages_not_learnt(project: Project, history: History, bundle: Bundle) -> str | None:
    """What to tell of the leads open at the end of the data whose age is that of no training row."""
    from ..scoring.scores import observations_to_score

    settings = project.config.observations
    until = history.known_until
    _, doubt = observations_to_score(history, bundle, until, settings.max_age, settings.untrained_ages)
    return f"At the end of the data, {doubt}" if doubt is not None else None


def _why_no_value(project: Project) -> str:
    if project.config.history.revenue is None:
        return (
            "labels.value_horizon is set, but history.revenue is not declared: scores will have no expected value. "
            "Declare the table, or drop the key."
        )
    return (
        "no value could be learnt: before the test part, no conversion's revenue was followed long enough. Scores "
        "will have no expected value; shorten labels.value_horizon, or give a longer history."
    )


def _look_for_hindsight(
    project: Project, history: History, training_set: TrainingSet, folder: Path, progress: StepProgress
) -> LeakageReport | None:
    """Audit before anything is learnt; what is found is on disk before it stops the run."""
    from ..evaluation.leakage.audit import audit_training_set
    from ..files import write_json

    if not project.config.leakage.enabled:
        return None
    report = audit_training_set(
        history, project, training_set, progress=part_of(progress, "looking for hindsight")
    )
    write_json(report.to_dict(), folder / "leakage.json")
    report.raise_if_severe()
    return report


def _learn(project: Project, history: History, training_set: TrainingSet, card: Scorecard | None) -> Bundle:
    """Fit all that is scored with on what was known before the test part; profile it on nights after that."""
    from dataclasses import replace

    from ..models.fitting import fit_conversion_model, fit_night_profile, fit_scorecard, make_bundle
    from ..models.horizons import fit_further_horizons
    from ..models.value_fitting import fit_value_model
    from ..training.lead_ages import leaves_out
    from ..training.reference_nights import reference_nights

    settings = project.config
    model = fit_conversion_model(training_set, settings.model)
    further = fit_further_horizons(training_set, settings.model, model)
    value = fit_value_model(training_set, settings.value, settings.labels, history=history)
    fitted_card = fit_scorecard(training_set, card) if card is not None else None
    nights = reference_nights(
        history,
        begin=training_set.test_from,
        at=settings.nightly.at,
        max_age=settings.observations.max_age,
        outcome=settings.labels.outcome,
        ages=training_set.learnt_ages
        if leaves_out(settings.observations.untrained_ages, settings.labels.outcome)
        else None,
    )
    profile = fit_night_profile(history, training_set, model, nights)
    bundle = make_bundle(training_set, model, fitted_card, further, value, with_profile=False)
    return replace(bundle, profile=profile)


@dataclass(frozen=True)
class _Judged:
    """The judgement, the expected value of each test row (None: no value was learnt), and what to say of both."""

    judgement: Judgement
    expected_value: Any
    sentences: tuple[str, ...]


def _judge(
    project: Project,
    training_set: TrainingSet,
    bundle: Bundle,
    leakage: LeakageReport | None,
    progress: StepProgress,
) -> _Judged:
    """Judge the test part; what is known beside ``test`` joins the same metrics."""
    from ..evaluation.calls import replay_calls
    from ..evaluation.judgement import judge_test_part
    from ..evaluation.value_judgement import judge_value

    settings = project.config
    judgement = judge_test_part(
        training_set,
        bundle.model,
        bundle.scorecard,
        settings.evaluation,
        further=bundle.further,
        progress=part_of(progress, "judging"),
    )
    seen = judgement.predictions
    points = seen["scorecard_points"].to_numpy()
    calls = replay_calls(
        seen["label"].to_numpy(),
        seen["p"].to_numpy(),
        points if bundle.scorecard is not None else None,
        seen["lead_id"],
        seen["cutoff"],
        horizon_days=training_set.horizons[0].days,
        calls_per_week=settings.evaluation.calls_per_week,
        amount=training_set.part("test")["revenue"] if bundle.value is not None else None,
        resamples=settings.evaluation.resamples,
        confidence=settings.evaluation.confidence,
        seed=settings.evaluation.seed,
    )
    judgement.metrics["calls"] = calls
    expected_value = None
    if bundle.value is not None:
        p = seen["p"].to_numpy()
        expected_value = bundle.expected_value(p, bundle.value.predict(training_set.X("test")))
        judgement.metrics["value"] = judge_value(
            training_set, bundle.value, p, settings.labels, settings.evaluation
        )
    if leakage is not None:
        judgement.metrics["leakage"] = leakage.to_dict()["counts"]
    return _Judged(judgement, expected_value, tuple(_state(judgement.metrics)))


def _write_results(
    folder: Path,
    run_id: str,
    project: Project,
    history: History,
    training_set: TrainingSet,
    bundle: Bundle,
    judged: _Judged,
    leakage: LeakageReport | None,
    notes: Sequence[str],
) -> None:
    """Write what people and machines read of a run; ``metrics.json`` comes last and says that the rest is whole."""
    import pyarrow as pa

    from ..evaluation.report.from_run import report_from_run
    from ..evaluation.report.render import write_report
    from ..files import write_json
    from ..models.reasons import concept_importance
    from ..scoring.files import write_table
    from ..training.lead_times import arrow_column

    judgement = judged.judgement
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    for name, figure in judgement.figures().items():
        figure.savefig(plots / f"{name}.png", dpi=120)
    predictions = {name: arrow_column(judgement.predictions[name]) for name in judgement.predictions}
    write_table(pa.table(predictions), folder / "test_predictions.parquet")
    judgement.by_month.to_csv(folder / "calibration_by_month.csv", index=False)
    importance = concept_importance(bundle, evenly_spaced(training_set.part("test"), EXPLAINED_ROWS))
    importance.to_csv(folder / "importance.csv", index=False)
    write_json(training_set.manifest, folder / "manifest.json")
    validation = report_of(history).to_dict()
    write_json(validation, folder / "validation.json")
    inputs = report_from_run(
        run_id,
        training_set,
        judgement,
        config=project.config.evaluation,
        model=bundle.model,
        validation=validation,
        importance=importance,
        leakage=leakage.to_dict() if leakage is not None else None,
        expected_value=judged.expected_value,
        notes=tuple(notes),
    )
    write_report(folder / "report.html", inputs)
    write_json(judgement.metrics, folder / "metrics.json")


def evenly_spaced(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows of a frame, at equal distances.

    >>> import pandas as pd
    >>> evenly_spaced(pd.DataFrame({"x": range(10)}), 3)["x"].tolist()
    [0, 4, 8]
    """
    step = -(-len(frame) // most) if len(frame) else 1
    return frame.iloc[::step]
