"""Tuning of the conversion model: few, meaningful settings, judged forward in time, in a study that can be resumed.

The file that imports Optuna.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pandas.util import hash_pandas_object

from convpredict.config.training import ModelConfig
from convpredict.config.tuning import TuningConfig
from convpredict.errors import ConfigError, DataError, NotEnoughDataError
from convpredict.training.training_set import TrainingSet

from .calibrator_choice import clustered_standard_error, group_codes, row_log_loss
from .capacity import ROUNDS, VALIDATION_ROWS, thin_negatives
from .conversion import ConversionModel
from .encoding import Encoder, Matrix
from .logistic import Logistic, fit_logistic
from .trees import (
    fit_booster,
    make_dataset,
    staged_logits,
    tree_parameters,
)
from .tuning_settings import RANGES, configured_settings, model_section, not_searched

Floats = npt.NDArray[np.float64]
LOGISTIC_WEIGHTS: tuple[float, ...] = (0.0, 0.15, 0.3, 0.5)
_FEWEST_POSITIVES = 10
_NOISE = 2.0
_FEW_ROWS = 50_000


@dataclass(frozen=True)
class Tuned:
    """The best settings, how they were found, and whether they beat the configured ones where tuning did not look.

    ``model`` is what the configuration's section ``model`` should say. ``confirmation`` compares on the calibrate
    part, later than all rows that tuning saw: mean log loss of both, their difference (tuned less configured) and its
    standard error, clustered by lead. ``beats_configured`` is true if the difference is below minus two of them.
    """

    model: dict[str, Any]
    trials: int
    pruned: int
    validation_log_loss: float
    configured_log_loss: float
    confirmation: dict[str, float]
    study: str = field(default="", compare=False)

    @property
    def beats_configured(self) -> bool:
        """Whether the gain is larger than noise."""
        return self.confirmation["difference"] < -_NOISE * self.confirmation["standard_error"]

    @property
    def found_better(self) -> bool:
        """Whether any trial did better than the configured settings forward in time."""
        return self.validation_log_loss < self.configured_log_loss


def tune_model(
    training_set: TrainingSet,
    config: ModelConfig,
    tuning: TuningConfig,
    study_file: Path,
    *,
    progress: Callable[[int, float, float], None] | None = None,
) -> Tuned:
    """Search settings by validation forward in time inside the train part, and confirm on the calibrate part.

    A study in ``study_file`` (SQLite) is gone on with if it belongs to the same rows, features and model settings,
    whatever its budget was. The first trial is what the configuration says.
    ``progress`` is called after each trial with its number, the seconds spent and the best log loss so far.
    A trial is pruned after a fold if it does worse than the median of the others there.

    Raises
    ------
    NotEnoughDataError
        No fold has ten positive rows on both sides.
    ConfigError
        Optuna is not installed.
    DataError
        The study file cannot be read.
    """
    optuna = _optuna()
    rows = _TuningRows.of(training_set, config, tuning)
    name = f"convpredict {_fingerprint(training_set, config, tuning)}"
    study_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{study_file}",
            study_name=name,
            direction="minimize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0),
        )
    except Exception as error:
        raise DataError(
            f"{study_file} cannot be used as a study ({type(error).__name__}); name another file in tuning.study, "
            "or remove this one"
        ) from error
    done = len(study.trials)
    study.sampler = optuna.samplers.TPESampler(
        seed=tuning.seed + done, n_startup_trials=10, multivariate=False
    )
    if not any(_is_first(trial) and trial.state.name in ("COMPLETE", "WAITING") for trial in study.trials):
        study.enqueue_trial(rows.first, user_attrs={"configured": True})
    started = time.monotonic()

    def report(study: Any, trial: Any) -> None:
        if progress is not None:
            progress(len(study.trials) - done, time.monotonic() - started, _best_value(study))

    study.optimize(
        lambda trial: rows.loss(trial, optuna),
        timeout=60 * tuning.minutes,
        n_trials=tuning.trials,
        callbacks=[report],
    )
    return _conclude(study, rows, name, optuna)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "tuning needs Optuna, which is not installed; install it with: pip install 'convpredict[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _is_first(trial: Any) -> bool:
    return bool(trial.user_attrs.get("configured"))


def _best_value(study: Any) -> float:
    values = [
        trial.value for trial in study.trials if trial.value is not None and trial.state.name == "COMPLETE"
    ]
    return min(values, default=float("nan"))


def _fingerprint(training_set: TrainingSet, config: ModelConfig, tuning: TuningConfig) -> str:
    """Digest of all that decides a trial's loss, and of nothing else: not of the budget, nor of how reasons read."""
    kept = {
        key: training_set.manifest.get(key) for key in ("data_fingerprint", "feature_set_digest", "horizons")
    }
    rows = [
        part.to_numpy().tobytes()
        for name in ("train", "calibrate")
        for part in (
            training_set.cutoffs(name).astype("int64"),
            training_set.y(name).astype("float64"),
            hash_pandas_object(training_set.lead_ids(name), index=False),
        )
    ]
    settings = [kept, config.model_dump(mode="json"), tuning.folds, tuning.seed]
    known = json.dumps(settings, sort_keys=True, default=str).encode()
    return sha256(b"".join([known, *rows])).hexdigest()[:16]


@dataclass(frozen=True)
class _TuningRows:
    """Encoded rows, folds from the latest to the earliest, and the logistic part's logits of each fold."""

    encoder: Encoder
    matrix: Matrix
    label: Floats
    folds: Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
    logistic: Sequence[Floats]
    late: Matrix
    late_label: Floats
    late_lead: npt.NDArray[np.intp]
    config: ModelConfig
    directions: list[int]
    seed: int

    @property
    def first(self) -> dict[str, float | int]:
        """The settings of the first trial."""
        return configured_settings(self.config, self.matrix.shape[1])

    @property
    def rounds(self) -> tuple[int, ...]:
        """Numbers of trees that each trial is read at, the configured one among them."""
        return (
            ROUNDS
            if self.config.n_estimators == "auto"
            else tuple(sorted({*ROUNDS, self.config.n_estimators}))
        )

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the logistic part that each trial is read at, the configured one among them."""
        given = self.config.logistic_weight
        return LOGISTIC_WEIGHTS if given == "auto" else tuple(sorted({*LOGISTIC_WEIGHTS, given}))

    @classmethod
    def of(cls, training_set: TrainingSet, config: ModelConfig, tuning: TuningConfig) -> _TuningRows:
        label = training_set.y("train").to_numpy(np.float64)
        X = training_set.X("train")
        encoder = Encoder.learn(X)
        matrix = encoder.encode(X)
        directions = _directions(config, encoder)
        splitter = training_set.time_split(tuning.folds)
        folds = [
            fold
            for fold in splitter.split(X)
            if min(label[fold[0]].sum(), label[fold[1]].sum()) >= _FEWEST_POSITIVES
        ][::-1]
        if not folds:
            raise NotEnoughDataError(
                f"none of the {tuning.folds} folds forward in time has {_FEWEST_POSITIVES} conversions to learn from "
                "and to validate on, so settings cannot be compared; keep the defaults, or set fewer tuning.folds"
            )
        logistic = [_logistic_logits(encoder, matrix, label, fold, directions, tuning.seed) for fold in folds]
        late = training_set.X("calibrate")
        return cls(
            encoder,
            matrix,
            label,
            folds,
            logistic,
            encoder.encode(late),
            training_set.y("calibrate").to_numpy(np.float64),
            group_codes(training_set.lead_ids("calibrate").to_numpy(), len(late)),
            config,
            directions,
            tuning.seed,
        )

    def loss(self, trial: Any, optuna: Any) -> float:
        """Mean log loss over the folds, at the best number of trees and logistic weight; may be pruned."""
        first = _is_first(trial)
        settings = self._suggest(trial)
        total = np.where(self._configured() | (not first), 0.0, np.inf)
        for number, (train, held_out) in enumerate(self.folds):
            staged = self._staged(settings, train, self.matrix[held_out])
            total += _grid_loss(staged, self.logistic[number], self.label[held_out], self.weights)
            trial.report(float(total.min() / (number + 1)), number)
            if not first and trial.should_prune():
                raise optuna.TrialPruned()
        place = np.unravel_index(int(total.argmin()), total.shape)
        trial.set_user_attr("n_estimators", self.rounds[place[0]])
        trial.set_user_attr("logistic_weight", self.weights[place[1]])
        return float(total.min() / len(self.folds))

    def _suggest(self, trial: Any) -> dict[str, float | int]:
        """Settings of a trial, within ranges that hold the configured ones."""
        settings: dict[str, float | int] = {}
        for name, (low, high) in RANGES.items():
            low, high = min(low, self.first[name]), max(high, self.first[name])
            if name == "num_leaves":
                settings[name] = trial.suggest_int(name, low, high, log=True)
            else:
                settings[name] = trial.suggest_float(name, low, high, log=name != "feature_fraction")
        return settings

    def _configured(self) -> npt.NDArray[np.bool_]:
        """Which numbers of trees and weights the configuration allows."""
        trees, weight = self.config.n_estimators, self.config.logistic_weight
        allowed = [
            [trees in ("auto", n) and weight in ("auto", w) for w in self.weights] for n in self.rounds
        ]
        return np.array(allowed)

    def late_losses(self, settings: Mapping[str, Any], n_estimators: int, logistic_weight: float) -> Floats:
        """Log loss of each calibrate row, of a model with these settings learnt from the whole train part."""
        every = np.arange(len(self.label))
        place = self.rounds.index(n_estimators)
        trees = self._staged(settings, every, self.late)[place]
        fitted = _fit_logistic(self.encoder, self.matrix, self.label, self.directions, self.seed)
        logit = (1 - logistic_weight) * trees + logistic_weight * fitted.logit(self.late)
        return row_log_loss(logit, self.late_label)

    def _staged(self, settings: Mapping[str, Any], train: npt.NDArray[np.intp], rows: Matrix) -> list[Floats]:
        overrides = {**not_searched(self.config), **settings}
        n_threads = 1 if len(train) < _FEW_ROWS else 0
        parameters = tree_parameters(overrides, self.directions, seed=self.seed, n_threads=n_threads)
        kept, factor = thin_negatives(self.label[train], VALIDATION_ROWS, self.seed)
        train = train[kept]
        dataset = make_dataset(
            self.matrix[train], self.label[train], factor, self.encoder.categorical, parameters
        )
        booster = fit_booster(dataset, parameters, self.rounds[-1])
        return list(staged_logits(booster, rows, self.rounds, n_threads=n_threads))


def _directions(config: ModelConfig, encoder: Encoder) -> list[int]:
    """Direction of each column under ``model.monotone``; raises ConfigError for a pattern that fits none."""
    model = ConversionModel.from_config(config)
    model.encoder_ = encoder
    return model._directions()


def _grid_loss(staged: Sequence[Floats], logistic: Floats, label: Floats, weights: Sequence[float]) -> Floats:
    """Mean log loss per number of trees and weight of the logistic part."""
    return np.array(
        [
            [row_log_loss((1 - share) * trees + share * logistic, label).mean() for share in weights]
            for trees in staged
        ]
    )


def _logistic_logits(
    encoder: Encoder,
    matrix: Matrix,
    label: Floats,
    fold: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    directions: list[int],
    seed: int,
) -> Floats:
    train, held_out = fold
    return _fit_logistic(encoder, matrix[train], label[train], directions, seed).logit(matrix[held_out])


def _fit_logistic(
    encoder: Encoder, matrix: Matrix, label: Floats, directions: list[int], seed: int
) -> Logistic:
    rows, factor = thin_negatives(label, VALIDATION_ROWS, seed)
    sizes = [len(c.categories) if c.type == "category" else None for c in encoder.columns]
    return fit_logistic(matrix[rows], label[rows], factor, n_categories=sizes, directions=directions)


def _conclude(study: Any, rows: _TuningRows, name: str, optuna: Any) -> Tuned:
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    first = next((trial for trial in complete if _is_first(trial)), None)
    if first is None:
        raise NotEnoughDataError(
            "not even the configured settings were tried within the budget; give more minutes (tuning.minutes), "
            "or fewer tuning.folds"
        )
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    tuned = rows.late_losses(best.params, best.user_attrs["n_estimators"], best.user_attrs["logistic_weight"])
    configured = rows.late_losses(
        first.params,
        first.user_attrs["n_estimators"],
        first.user_attrs["logistic_weight"],
    )
    gap = tuned - configured
    return Tuned(
        model=model_section(
            rows.config,
            best.params if best is first else {k: float(f"{v:.3g}") for k, v in best.params.items()},
            int(best.user_attrs["n_estimators"]),
            float(best.user_attrs["logistic_weight"]),
        ),
        trials=len(study.trials),
        pruned=sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials),
        validation_log_loss=float(best.value),
        configured_log_loss=float(first.value),
        confirmation={
            "tuned": float(tuned.mean()),
            "configured": float(configured.mean()),
            "difference": float(gap.mean()),
            "standard_error": clustered_standard_error(gap, np.ones(len(gap)), rows.late_lead),
            "rows": len(gap),
            "positives": int(rows.late_label.sum()),
        },
        study=name,
    )
