"""Walk forward through history: retrain as time goes on, score every night, judge with what is known today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.base import Duration
from ..config.load import Project, load_project
from ..errors import ConfigError, NotEnoughDataError
from .common import StepProgress, keeping_forget_out, part_of, read_outcomes, silent

if TYPE_CHECKING:
    from ..evaluation.backtest import BacktestJudgement
    from ..history.history import History
    from ..models.bundle import Bundle
    from ..scoring.nights import NightScores, Stretch

_MOST_NIGHTS = 2_000


@dataclass(frozen=True)
class BacktestRun:
    """What a backtest left behind: the folder, what it says, and the notes on models that could not be learnt."""

    folder: Path
    judgement: BacktestJudgement
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For machines: the content of ``summary.json``."""
        return {
            "out": str(self.folder),
            "sentences": list(self.judgement.sentences),
            "notes": list(self.notes),
            **self.judgement.summary,
        }


def train_as_of(history: History, project: Project, instant: datetime) -> tuple[Bundle, Any]:
    """The model that a training run would have made at an instant, and its probabilities on its training rows.

    Nothing that became known at ``instant`` or later has a say. There is no test part: every row whose label was
    known is learnt from. Raises NotEnoughDataError where that was too little.
    """
    from ..models.fitting import fit_conversion_model, fit_scorecard, make_bundle
    from ..models.scorecard import Scorecard
    from ..training.as_of import history_as_of
    from ..training.training_set import build_training_set

    settings = project.config
    card = Scorecard(settings.scorecard) if settings.scorecard is not None else None
    training_set = build_training_set(
        history_as_of(history, instant),
        project,
        extra_features=card.declarations() if card is not None else (),
        judged=False,
    )
    model = fit_conversion_model(training_set, settings.model)
    fitted_card = fit_scorecard(training_set, card) if card is not None else None
    bundle = make_bundle(training_set, model, fitted_card, with_profile=False)
    learnt = bundle.predict(training_set.part("development"))
    return bundle, (learnt, int(training_set.lead_ids("development").nunique()))


@keeping_forget_out("backtest")
def backtest(
    config: Path,
    out: Path,
    *,
    every: str | None = None,
    retrain_every: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    progress: StepProgress = silent,
) -> BacktestRun:
    """Train at each retraining instant with what was known then, score every night, judge, write everything.

    The folder then holds ``nights.csv``, ``nights.parquet``, ``months.csv``, ``nights.png`` and
    ``summary.json``, which comes last.
    """
    from ..evaluation.backtest import NightlyRows, judge_nights
    from ..scoring.nights import Stretch, score_nights

    project = load_project(config, data=data, overrides=overrides)
    settings = project.config
    given = settings.backtest
    step = _duration("--every", every) if every else given.every
    retrain = _duration("--retrain-every", retrain_every) if retrain_every else given.retrain_every
    if retrain.microseconds <= 0:
        raise ConfigError(f"--retrain-every is {retrain}; it must be longer than zero, like 28d")
    progress("reading", 0.0)
    history = read_outcomes(project)
    nights = plan_nights(history, project, step, start or given.start, end or given.end)
    stretches: list[Stretch] = []
    references: list[Any] = []
    notes: list[str] = []
    learn = part_of(progress, "learning")
    plan = plan_retrainings(nights, retrain.microseconds)
    for number, own in enumerate(plan):
        try:
            bundle, reference = train_as_of(history, project, own[0])
        except NotEnoughDataError as error:
            if stretches:
                notes.append(
                    f"On {own[0]:%Y-%m-%d} no new model could be learnt, the last one went on: {error}"
                )
                last = stretches[-1]
                stretches[-1] = Stretch(last.bundle, last.trained_at, (*last.nights, *own))
            else:
                notes.append(
                    f"Before {own[-1] + timedelta(microseconds=1):%Y-%m-%d} there was too little to learn."
                )
                last_error = error
            continue
        finally:
            learn((number + 1) / len(plan))
        stretches.append(Stretch(bundle, own[0], own))
        references.append(reference)
    if not stretches:
        raise NotEnoughDataError(f"no model could be learnt before any of the nights: {last_error}") from None
    scores = score_nights(
        history,
        stretches,
        max_age=settings.observations.max_age,
        untrained_ages=settings.observations.untrained_ages,
        bucket_events=settings.features.bucket_events,
        progress=part_of(progress, "scoring"),
    )
    if scores.left_out:
        share = scores.left_out / (scores.left_out + len(scores.lead_row))
        notes.append(
            f"{scores.left_out:,} scores ({share:.0%}) were not given: the model of the night did not learn from leads "
            "of that age, so that it would not score them (observations.untrained_ages)."
        )
    progress("judging", 0.0)
    of_night = [
        (stretch.trained_at, reference)
        for stretch, reference in zip(stretches, references, strict=True)
        for _ in stretch.nights
    ]
    rows = NightlyRows(
        scores.nights,
        [trained_at for trained_at, _ in of_night],
        [reference for _, reference in of_night],
        scores.night,
        scores.lead_row,
        scores.p,
        scores.points,
        scores.label,
    )
    judgement = judge_nights(rows, settings.evaluation, horizon=str(settings.labels.horizons[0]))
    run = BacktestRun(out, judgement, tuple(notes[-3:]))
    _write(run, scores)
    return run


def _duration(option: str, text: str) -> Duration:
    """An option's duration; raises ConfigError that names the option."""
    try:
        return Duration(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def plan_nights(
    history: History, project: Project, every: Duration, start: datetime | None, end: datetime | None
) -> tuple[datetime, ...]:
    """The nights from ``start`` in steps of ``every``, up to ``end`` (both ends may be nights).

    ``end`` defaults to the last instant whose outcomes are known, ``start`` to the middle of the history, counted
    from the first lead. Raises ConfigError where there is no night, more than 2,000,
    or no distance between them.
    """
    from ..training.lead_times import LeadTimes, to_instant, to_microseconds

    if every.microseconds <= 0:
        raise ConfigError(
            f"--every is {every}, so the second night would be the first again; give a longer one, like 7d"
        )
    horizon = project.config.labels.horizons[0].microseconds
    last = to_microseconds(end) if end else to_microseconds(history.known_until) - horizon
    if end is None and last <= 0:
        raise ConfigError("the history is shorter than the horizon; give --end, or a shorter labels.horizons")
    created = LeadTimes.of(history).created_at
    day = 86_400_000_000
    first = to_microseconds(start) if start else (int(created.min()) + last) // 2 // day * day + day
    nights = range(first, last + 1, every.microseconds)
    if not nights or len(nights) > _MOST_NIGHTS:
        raise ConfigError(
            f"the backtest would have {len(nights):,} nights from {to_instant(first):%Y-%m-%d} to "
            f"{to_instant(last):%Y-%m-%d}, every {every}; it needs 1 to {_MOST_NIGHTS:,}: change --start, --end or "
            "--every (a night's outcomes are known one horizon later)"
        )
    return tuple(to_instant(night).astimezone(UTC) for night in nights)


def plan_retrainings(nights: Sequence[datetime], retrain_us: int) -> list[tuple[datetime, ...]]:
    """The nights divided into stretches of one model each, which is learnt on the first of them.

    >>> from datetime import datetime, timedelta
    >>> nights = [datetime(2024, 1, 1) + timedelta(days=7 * week) for week in range(5)]
    >>> [len(own) for own in plan_retrainings(nights, 14 * 86_400_000_000)]
    [2, 2, 1]
    """
    stretches: list[list[datetime]] = []
    for night in nights:
        if not stretches or night - stretches[-1][0] >= timedelta(microseconds=retrain_us):
            stretches.append([])
        stretches[-1].append(night)
    return [tuple(own) for own in stretches]


def _write(run: BacktestRun, scores: NightScores) -> None:
    import pyarrow as pa

    from ..files import write_json
    from ..scoring.files import write_table
    from ..training.lead_times import arrow_column

    folder, judgement = run.folder, run.judgement
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").unlink(missing_ok=True)
    judgement.nights.to_csv(folder / "nights.csv", index=False)
    judgement.months.to_csv(folder / "months.csv", index=False)
    columns = {name: arrow_column(judgement.nights[name]) for name in judgement.nights}
    write_table(pa.table(columns), folder / "nights.parquet")
    judgement.figure().savefig(folder / "nights.png", dpi=120)
    write_json(run.to_dict(), folder / "summary.json")
