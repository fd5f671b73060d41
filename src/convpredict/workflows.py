"""The order of calls: simulate, read, build features, train, compare, score. Decisions are taken below."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config.load import Project, load_project
from .errors import ConfigError, DataError

if TYPE_CHECKING:
    from .evaluation.judgement import Judgement
    from .history.history import History
    from .history.validation import ValidationReport
    from .scoring.scores import Scores
    from .training.training_set import TrainingSet

StepProgress = Callable[[str, float], None]


def _silent(step: str, share: float) -> None:
    """Report to nobody."""


def _part(progress: StepProgress, step: str) -> Callable[[float], None]:
    progress(step, 0.0)
    return lambda share: progress(step, share)


def simulate_data(
    config: Path, *, data: Path | None = None, overrides: Sequence[str] = (), progress: StepProgress = _silent
) -> dict[str, Any]:
    """Simulate the history of the configuration's ``simulator`` section into its data folder.

    Raises :class:`ConfigError` if the configuration has no such section.
    """
    from .history.simulator import simulate

    project = load_project(config, data=data, overrides=overrides)
    if project.config.simulator is None:
        raise ConfigError(
            f"{project.path} has no section 'simulator', so there is nothing to simulate; add one "
            "(for example 'simulator: {leads: 20000}') or use a configuration that has it."
        )
    simulate(project.config.simulator, project.data_dir, progress=_part(progress, "simulating"))
    history = _read(project)
    return {
        "folder": str(project.data_dir),
        "leads": history.n_leads,
        "interactions": history.n_interactions,
        "conversions": history.conversions.num_rows,
    }


def check_data(
    config: Path,
    *,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    quarantine: Path | None = None,
    progress: StepProgress = _silent,
) -> ValidationReport:
    """Read and validate the history that a configuration declares; broken rows go to the folder ``quarantine``."""
    from .config.against_history import check_against_history

    project = load_project(config, data=data, overrides=overrides)
    progress("reading", 0.0)
    history = _read(project, quarantine=quarantine)
    check_against_history(project.config, history)
    return _report(history)


def _report(history: History) -> ValidationReport:
    if history.report is None:
        raise DataError(
            "This history was wrapped without validation, so there is no report on it; load it instead."
        )
    return history.report


def _read(project: Project, *, quarantine: Path | None = None, require: Sequence[str] = ()) -> History:
    from .history.load import load_history

    return load_history(project.config, project.data_dir, quarantine_dir=quarantine, require=require)


def write_feature_table(
    config: Path,
    out: Path,
    *,
    as_of: datetime | None = None,
    observations: Path | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = _silent,
) -> dict[str, Any]:
    """Write the features of every open lead at ``as_of``, or of the observations in a file, to Parquet.

    Vocabularies are learnt from what was known before the first cutoff asked for.
    """
    from .features.build import write_features
    from .features.feature_set import FeatureSet
    from .training.given_observations import observations_from_file
    from .training.lead_times import microseconds_of, to_instant
    from .training.observations import open_observations

    project = load_project(config, data=data, overrides=overrides)
    progress("reading", 0.0)
    history = _read(project)
    settings = project.config
    if observations is not None:
        given = observations_from_file(history, observations, max_age=settings.observations.max_age)
        table, rejected = given.table, given.excluded
    else:
        made = open_observations(history, as_of or history.known_until, settings.observations.max_age)
        table, rejected = made.table, made.excluded
    if table.num_rows == 0:
        reasons = (
            ", ".join(f"{count:,} {reason}" for reason, count in rejected.items() if count) or "none given"
        )
        raise DataError(
            f"No observation is left to compute features for (left out: {reasons}); check the instants asked for."
        )
    first = to_instant(int(microseconds_of(table["cutoff"]).min()))
    feature_set = FeatureSet.fit(history, settings.features, until=first, horizon=settings.labels.horizons[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    statistics = write_features(
        history,
        table,
        feature_set,
        out,
        bucket_events=settings.features.bucket_events,
        progress=_part(progress, "features"),
    )
    return {
        "out": str(out),
        "rows": statistics.rows,
        "columns": statistics.columns,
        "seconds": round(statistics.seconds, 2),
        "rejected": {reason: count for reason, count in rejected.items() if count},
    }


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


def new_run_id(name: str) -> str:
    """An id that sorts by time: name, UTC second, four random characters."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def compare(run: Path) -> tuple[dict[str, Any], list[str]]:
    """The metrics of a finished run and what they support, in sentences.

    Raises :class:`DataError` if the folder holds no ``metrics.json``, or one that cannot be understood.
    """
    from .evaluation.sentences import state_comparison

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
    progress: StepProgress = _silent,
) -> TrainingRun:
    """Read, build the training set, fit and calibrate, judge out of time, and write everything to one folder.

    The folder (default ``runs/<run id>``) then holds ``bundle/``, ``training_set/``, ``metrics.json``,
    ``test_predictions.parquet``, ``calibration_by_month.csv``, ``manifest.json``, ``validation.json``,
    ``plots/`` and, where rows were put aside, ``quarantine/``; with ``track`` an MLflow run holds the same.
    """
    from .config.against_history import check_against_history
    from .evaluation.judgement import judge_test_part
    from .evaluation.sentences import state_comparison
    from .models.bundle import write_bundle
    from .models.fitting import fit_conversion_model, fit_scorecard, make_bundle
    from .models.scorecard import Scorecard
    from .training.training_set import build_training_set

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    run_id = new_run_id(settings.name)
    folder = out if out is not None else Path("runs") / run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    progress("reading", 0.0)
    history = _read(project, quarantine=folder / "quarantine", require=("conversions",))
    check_against_history(settings, history)
    card = Scorecard(settings.scorecard) if settings.scorecard is not None else None
    training_set = build_training_set(
        history,
        project,
        extra_features=card.declarations() if card is not None else (),
        progress=_part(progress, "building features"),
    )
    training_set.save(folder / "training_set")
    progress("learning", 0.0)
    model = fit_conversion_model(training_set, settings.model)
    fitted_card = fit_scorecard(training_set, card) if card is not None else None
    judgement = judge_test_part(
        training_set, model, fitted_card, settings.evaluation, progress=_part(progress, "judging")
    )
    progress("writing", 0.0)
    write_bundle(folder / "bundle", make_bundle(training_set, model, fitted_card))
    _write_results(folder, judgement, training_set, history)
    mlflow_run = _track(project, folder, run_id, judgement) if track else None
    notes = [f"Note: {warning}" for warning in card.warnings(history)] if card is not None else []
    notes += [f"Note: {warning}" for warning in _report(history).warnings]
    sentences = (*state_comparison(judgement.metrics), *notes)
    return TrainingRun(run_id, folder, judgement.metrics, sentences, dict(training_set.manifest), mlflow_run)


def _write_results(folder: Path, judgement: Judgement, training_set: TrainingSet, history: History) -> None:
    """Write what people and machines read of a run; ``metrics.json`` comes last and says that the rest is whole."""
    import pyarrow as pa

    from .scoring.files import write_json, write_table
    from .training.lead_times import arrow_column

    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    for name, figure in judgement.figures().items():
        figure.savefig(plots / f"{name}.png", dpi=120)
    predictions = {name: arrow_column(judgement.predictions[name]) for name in judgement.predictions}
    write_table(pa.table(predictions), folder / "test_predictions.parquet")
    judgement.by_month.to_csv(folder / "calibration_by_month.csv", index=False)
    write_json(training_set.manifest, folder / "manifest.json")
    write_json(_report(history).to_dict(), folder / "validation.json")
    write_json(judgement.metrics, folder / "metrics.json")


def _track(project: Project, folder: Path, run_id: str, judgement: Judgement) -> str:
    from .tracking.items import Artifact, Tag, config_items, metric_items
    from .tracking.runs import start_run

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


@dataclass(frozen=True)
class ScoringRun:
    """A scored lead list, where it was written, and a summary for people and machines."""

    scores: Scores
    summary: dict[str, Any]

    @property
    def text(self) -> str:
        """One paragraph: how many were scored, how many conversions to expect, who was left out, where it is."""
        from .training.observations import EXCLUSIONS

        left_out = "".join(
            f"\n  {count:>9,} {EXCLUSIONS.get(reason, reason)}"
            for reason, count in self.summary["left_out"].items()
        )
        doubts = "".join(f"! {doubt}\n" for doubt in self.summary["warnings"])
        return (
            f"{self.summary['leads']:,} open leads scored as of {self.summary['as_of']}; "
            f"{self.summary['expected_conversions']:.1f} conversions expected within {self.summary['horizon']}.\n"
            f"Left out: {left_out or 'none'}\n{doubts}Written to {self.summary['out']}"
        )


def score(
    config: Path,
    out: Path,
    *,
    bundle: Path | None = None,
    run: str | None = None,
    as_of: datetime | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = _silent,
) -> ScoringRun:
    """Score every open lead with a bundle folder, the bundle of a results folder, or that of an MLflow run.

    Raises :class:`BundleError` if there is no usable bundle.
    """
    from .models.bundle import load_bundle
    from .scoring.files import write_table
    from .scoring.scores import score_open_leads

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    loaded = load_bundle(bundle if bundle is not None else _bundle_folder(str(run), project))
    progress("reading", 0.0)
    history = _read(project)
    scores = score_open_leads(
        history,
        loaded,
        as_of=as_of,
        max_age=settings.observations.max_age,
        run_id=new_run_id(settings.name),
        bucket_events=settings.features.bucket_events,
        progress=_part(progress, "scoring"),
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
            "model_version": loaded.digest,
            "warnings": _doubts(project, history, as_of),
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
    if project.config.history.conversions is None:
        doubts.append(
            "No conversions are declared, so leads that have converted are scored as if they were open."
        )
    return doubts


def _bundle_folder(run: str, project: Project) -> Path:
    """The bundle of a results folder if there is such a folder, else of the MLflow run of that id."""
    if Path(run).is_dir():
        return Path(run) / "bundle"
    from .tracking.runs import fetch_bundle

    return fetch_bundle(run, project.config.tracking)
