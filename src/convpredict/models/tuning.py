"""Tuning of the conversion model: few, meaningful settings, judged forward in time, in a study that can be resumed.

The file that imports Optuna.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convpredict.config.training import ModelConfig
from convpredict.config.tuning import TuningConfig
from convpredict.errors import ConfigError, DataError, NotEnoughDataError
from convpredict.training.training_set import TrainingSet

from .calibrator_choice import clustered_standard_error, group_codes, row_log_loss
from .capacity import ROUNDS, VALIDATION_ROWS, thin_negatives
from .encoding import Encoder, Matrix
from .logistic import Logistic, fit_logistic
from .trees import (
    _canonical,
    default_parameters,
    fit_booster,
    make_dataset,
    staged_logits,
    tree_parameters,
)

Floats = npt.NDArray[np.float64]
LOGISTIC_WEIGHTS = (0.0, 0.15, 0.3, 0.5)
_FEWEST_POSITIVES = 10
_NOISE = 2.0
_FEW_ROWS = 50_000

SEARCHED = ("num_leaves", "learning_rate", "lambda_l2", "feature_fraction", "min_sum_hessian_in_leaf")
"""What is tuned: size, speed, shrinkage, share of columns, least leaf.

The number of trees and the weight of the logistic part come with each trial: they are read off the validation.
"""


def default_settings(n_columns: int) -> dict[str, float | int]:
    """Where the first trial starts: the defaults of the model for so many columns."""
    defaults = default_parameters(n_columns)
    return {name: defaults[name] for name in SEARCHED}


@dataclass(frozen=True)
class Tuned:
    """The best settings, how they were found, and whether they beat the defaults where tuning did not look.

    ``model`` is what the configuration's section ``model`` should say. ``confirmation`` compares on the calibrate
    part, later than all rows that tuning saw: mean log loss of both, their difference (tuned less default) and its
    standard error, clustered by lead. ``beats_defaults`` is true if the difference is below minus two of them.
    """

    model: dict[str, Any]
    trials: int
    pruned: int
    validation_log_loss: float
    default_log_loss: float
    confirmation: dict[str, float]
    study: str = field(default="", compare=False)

    @property
    def beats_defaults(self) -> bool:
        """Whether the gain is larger than noise."""
        return self.confirmation["difference"] < -_NOISE * self.confirmation["standard_error"]


def tune_model(
    training_set: TrainingSet,
    config: ModelConfig,
    tuning: TuningConfig,
    study_file: Path,
    *,
    progress: Callable[[int, float, float], None] | None = None,
) -> Tuned:
    """Search settings by validation forward in time inside the train part, and confirm on the calibrate part.

    A study in ``study_file`` (SQLite) that belongs to the same data and configuration is gone on with.
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
    if not any(_is_default(trial) and trial.state.is_finished() for trial in study.trials):
        study.enqueue_trial(default_settings(rows.matrix.shape[1]), user_attrs={"default": True})

    def report(study: Any, trial: Any) -> None:
        if progress is not None:
            seconds = (trial.datetime_complete - started(study)).total_seconds()
            progress(len(study.trials) - done, seconds, _best_value(study))

    def started(study: Any) -> Any:
        return study.trials[done].datetime_start

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
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _is_default(trial: Any) -> bool:
    return bool(trial.user_attrs.get("default"))


def _best_value(study: Any) -> float:
    values = [
        trial.value for trial in study.trials if trial.value is not None and trial.state.name == "COMPLETE"
    ]
    return min(values, default=float("nan"))


def _fingerprint(training_set: TrainingSet, config: ModelConfig, tuning: TuningConfig) -> str:
    """Digest of all that decides a trial's loss: a study never mixes data sets or settings."""
    kept = {
        key: training_set.manifest.get(key)
        for key in ("data_fingerprint", "config_digest", "feature_set_digest", "horizons", "split")
    }
    settings = [kept, config.model_dump(mode="json"), tuning.folds, tuning.seed, len(training_set.frame)]
    return sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


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
    seed: int

    @classmethod
    def of(cls, training_set: TrainingSet, config: ModelConfig, tuning: TuningConfig) -> _TuningRows:
        label = training_set.y("train").to_numpy(np.float64)
        X = training_set.X("train")
        encoder = Encoder.learn(X)
        matrix = encoder.encode(X)
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
        logistic = [_logistic_logits(encoder, matrix, label, fold, tuning.seed) for fold in folds]
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
            tuning.seed,
        )

    def loss(self, trial: Any, optuna: Any) -> float:
        """Mean log loss over the folds, at the best number of trees and logistic weight; may be pruned."""
        settings = {
            "num_leaves": trial.suggest_int("num_leaves", 3, 63, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
            "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.05, 1.0),
            "min_sum_hessian_in_leaf": trial.suggest_float("min_sum_hessian_in_leaf", 1.0, 100.0, log=True),
        }
        total = np.zeros((len(ROUNDS), len(LOGISTIC_WEIGHTS)))
        for number, (train, held_out) in enumerate(self.folds):
            staged = self._staged(settings, train, self.matrix[held_out])
            total += _grid_loss(staged, self.logistic[number], self.label[held_out])
            trial.report(float(total.min() / (number + 1)), number)
            if trial.should_prune():
                raise optuna.TrialPruned()
        place = np.unravel_index(int(total.argmin()), total.shape)
        trial.set_user_attr("n_estimators", ROUNDS[place[0]])
        trial.set_user_attr("logistic_weight", LOGISTIC_WEIGHTS[place[1]])
        return float(total.min() / len(self.folds))

    def late_losses(self, settings: Mapping[str, Any], n_estimators: int, logistic_weight: float) -> Floats:
        """Log loss of each calibrate row, of a model with these settings learnt from the whole train part."""
        every = np.arange(len(self.label))
        place = ROUNDS.index(n_estimators)
        trees = self._staged(settings, every, self.late)[place]
        fitted = _fit_logistic(self.encoder, self.matrix, self.label, self.seed)
        logit = (1 - logistic_weight) * trees + logistic_weight * fitted.logit(self.late)
        return row_log_loss(logit, self.late_label)

    def _staged(self, settings: Mapping[str, Any], train: npt.NDArray[np.intp], rows: Matrix) -> list[Floats]:
        overrides = {**_not_searched(self.config), **settings}
        n_threads = 1 if len(train) < _FEW_ROWS else 0
        parameters = tree_parameters(
            overrides, [0] * self.matrix.shape[1], seed=self.seed, n_threads=n_threads
        )
        kept, factor = thin_negatives(self.label[train], VALIDATION_ROWS, self.seed)
        train = train[kept]
        dataset = make_dataset(
            self.matrix[train], self.label[train], factor, self.encoder.categorical, parameters
        )
        booster = fit_booster(dataset, parameters, ROUNDS[-1])
        return list(staged_logits(booster, rows, ROUNDS, n_threads=n_threads))


def _not_searched(config: ModelConfig) -> dict[str, Any]:
    """What the configuration gives LightGBM beside the settings that are tuned, under whatever name.

    >>> _not_searched(ModelConfig(lightgbm={"reg_lambda": 9.0, "max_bin": 15}))
    {'max_bin': 15}
    """
    return {key: value for key, value in _canonical(config.lightgbm).items() if key not in SEARCHED}


def _grid_loss(staged: Sequence[Floats], logistic: Floats, label: Floats) -> Floats:
    """Mean log loss per number of trees and weight of the logistic part."""
    return np.array(
        [
            [row_log_loss((1 - share) * trees + share * logistic, label).mean() for share in LOGISTIC_WEIGHTS]
            for trees in staged
        ]
    )


def _logistic_logits(
    encoder: Encoder,
    matrix: Matrix,
    label: Floats,
    fold: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    seed: int,
) -> Floats:
    train, held_out = fold
    return _fit_logistic(encoder, matrix[train], label[train], seed).logit(matrix[held_out])


def _fit_logistic(encoder: Encoder, matrix: Matrix, label: Floats, seed: int) -> Logistic:
    rows, factor = thin_negatives(label, VALIDATION_ROWS, seed)
    sizes = [len(c.categories) if c.type == "category" else None for c in encoder.columns]
    return fit_logistic(
        matrix[rows], label[rows], factor, n_categories=sizes, directions=[0] * matrix.shape[1]
    )


def _conclude(study: Any, rows: _TuningRows, name: str, optuna: Any) -> Tuned:
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    first = next((trial for trial in complete if _is_default(trial)), None)
    if first is None:
        raise NotEnoughDataError(
            "not even the defaults were tried within the budget; give more minutes (tuning.minutes), or fewer "
            "tuning.folds"
        )
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    tuned = rows.late_losses(best.params, best.user_attrs["n_estimators"], best.user_attrs["logistic_weight"])
    default = rows.late_losses(
        default_settings(rows.matrix.shape[1]),
        first.user_attrs["n_estimators"],
        first.user_attrs["logistic_weight"],
    )
    gap = tuned - default
    lightgbm = {
        key: float(f"{best.params[key]:.3g}")
        for key in ("lambda_l2", "feature_fraction", "min_sum_hessian_in_leaf")
    }
    return Tuned(
        model={
            "num_leaves": int(best.params["num_leaves"]),
            "n_estimators": int(best.user_attrs["n_estimators"]),
            "learning_rate": float(f"{best.params['learning_rate']:.3g}"),
            "logistic_weight": float(best.user_attrs["logistic_weight"]),
            "lightgbm": {**_not_searched(rows.config), **lightgbm},
        },
        trials=len(study.trials),
        pruned=sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials),
        validation_log_loss=float(best.value),
        default_log_loss=float(first.value),
        confirmation={
            "tuned": float(tuned.mean()),
            "default": float(default.mean()),
            "difference": float(gap.mean()),
            "standard_error": clustered_standard_error(gap, np.ones(len(gap)), rows.late_lead),
            "rows": len(gap),
            "positives": int(rows.late_label.sum()),
        },
        study=name,
    )
