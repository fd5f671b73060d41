"""The conversion model: trees, blended with a logistic regression and calibrated, as a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from joblib import Parallel, delayed, effective_n_jobs
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from convpredict.errors import ConfigError, NotEnoughDataError

from .calibration import (
    CALIBRATOR_NAMES,
    Calibrator,
    CalibratorName,
    Floats,
    NoCalibrator,
    clip_logit,
    level_shift,
)
from .calibrator_choice import choose_calibrator
from .capacity import (
    SOME_POSITIVES,
    VALIDATION_ROWS,
    CapacityChoice,
    Fold,
    choose_capacity,
    default_of,
    describe,
    ladder,
    thin_negatives,
    validation_folds,
)
from .conversion_parameters import check_parameters
from .encoding import Encoder, Matrix
from .inputs import (
    Table,
    check_groups,
    check_labels,
    check_rows,
    check_times,
    check_two_classes,
    check_weights,
    is_whole,
    require,
)
from .logistic import Logistic, fit_logistic
from .trees import TreeEnsemble, booster_text, fit_booster, make_dataset, staged_logits, tree_parameters

if TYPE_CHECKING:
    from convpredict.config.training import ModelConfig

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_CHUNK_ROWS = 65_536
_FEW_ROWS = 50_000
_LOGISTIC_ROWS = 150_000


class ConversionModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Probability that a lead converts within the horizon.

    The raw logit is ``(1 - w) * mean tree logit over seeds + w * logistic logit``: everything adds up on the
    logit, so that contributions of features do too. A calibrator maps it to the final logit.

    Parameters
    ----------
    n_estimators, num_leaves, logistic_weight
        Number of trees, leaves per tree, and the weight w. ``"auto"``: chosen at ``fit`` by validation
        forward in time and by lead where the cutoffs are given as ``times``, by lead (``groups``) or row where
        they are not (a static table), and 150 trees of 7 leaves with w = 0.3 where there is too little data.
    learning_rate
        Shrinkage of each tree.
    seeds
        How many models with different seeds are averaged (on the logit), at most 50. ``"auto"``: 5, and 2 from
        1,000 positive rows on.
    calibrators
        Candidates that :meth:`calibrate` chooses from.
    monotone
        Directions (1 rising, -1 falling) by column name or glob, ``{"count_*": 1}``; holds for trees and
        logistic part.
    lightgbm
        Further LightGBM parameters that win over the defaults (see ``trees.SMALL_DATA``).
    random_state
        First seed, an integer (None: 0), no generator. Equal data, parameters and versions give equal models.
    n_jobs
        Threads (None: one for small data, else all); without effect on the result.

    Attributes
    ----------
    classes_ : the two classes; probabilities are about the second
    capacity_, selection_ : leaves, trees and logistic weight that were chosen, and a JSON-able account of why
    encoder_, trees_, logistic_, calibrator_ : the parts of the model
    calibration_log_loss_ : cross-validated log loss of each calibrator that was considered

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sources = pd.Categorical(rng.choice(["ads", "fair"], 400))
    >>> X = pd.DataFrame({"calls": rng.poisson(3.0, 400), "source": sources})
    >>> y = rng.random(400) < expit(X["calls"] - 4.0)
    >>> model = ConversionModel(seeds=1).fit(X, y)
    >>> model.predict_proba(X).shape
    (400, 2)
    """

    def __init__(
        self,
        *,
        n_estimators: int | Literal["auto"] = "auto",
        num_leaves: int | Literal["auto"] = "auto",
        logistic_weight: float | Literal["auto"] = "auto",
        learning_rate: float = 0.03,
        seeds: int | Literal["auto"] = "auto",
        calibrators: Sequence[CalibratorName] = CALIBRATOR_NAMES,
        monotone: Mapping[str, int] | None = None,
        lightgbm: Mapping[str, Any] | None = None,
        random_state: int | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.num_leaves = num_leaves
        self.logistic_weight = logistic_weight
        self.learning_rate = learning_rate
        self.seeds = seeds
        self.calibrators = calibrators
        self.monotone = monotone
        self.lightgbm = lightgbm
        self.random_state = random_state
        self.n_jobs = n_jobs

    @classmethod
    def from_config(cls, config: ModelConfig, *, n_jobs: int | None = None) -> Self:
        """The model that ``model:`` of a configuration describes."""
        return cls(
            n_estimators=config.n_estimators,
            num_leaves=config.num_leaves,
            logistic_weight=config.logistic_weight,
            learning_rate=config.learning_rate,
            seeds=config.seeds,
            calibrators=config.calibrators,
            monotone=dict(config.monotone) or None,
            lightgbm=dict(config.lightgbm) or None,
            random_state=config.seed,
            n_jobs=n_jobs,
        )

    def fit(
        self,
        X: Table,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        groups: npt.ArrayLike | None = None,
        times: npt.ArrayLike | None = None,
        horizon_us: int = 0,
        calibration: tuple[Table, npt.ArrayLike, npt.ArrayLike | None] | None = None,
    ) -> Self:
        """Choose the capacity and fit trees and logistic part.

        ``X`` holds numbers (NaN: missing) and pandas Categoricals, one row per observation; ``groups`` the
        lead ids, ``times`` the cutoffs (instants, or integers in µs), ``horizon_us`` how long after its
        cutoff a label is known. ``calibration`` is (X, y, lead ids) of a later slice for :meth:`calibrate`.

        ``sample_weight`` is how often each row counts, as scikit-learn has it: 2 is the row twice, 0 is without
        it. So their size matters, not only their ratios: both parts are held to small effects as far as there
        are few rows, and with a weight of 0.001 for each row there are hardly any. Divide weights that are
        importances and no counts by their mean.

        Raises OneClassError (a ValueError) where all labels are equal, ParameterError (a ValueError too) for a
        parameter out of range, and ValueError where rows, labels, weights, groups or times cannot be used: all
        must be known, weights not negative.
        """
        check_parameters(self)
        require(
            is_whole(horizon_us, 0),
            "horizon_us",
            horizon_us,
            "a whole number of µs from 0 on",
            "labels are known that long after their cutoff; give for instance 30 days as 30 * 86_400_000_000",
        )
        checked = check_rows(self, X, y, reset=True)
        self.classes_, label, weight = check_labels(checked, y, sample_weight)
        used = weight > 0
        self.encoder_ = Encoder.learn(checked)
        matrix, label, weight = self.encoder_.encode(checked)[used], label[used], weight[used]
        lead, cutoff = check_groups(groups, len(used)), check_times(times, len(used))
        lead = None if lead is None else lead[used]
        cutoff = None if cutoff is None else cutoff[used]
        choice = self._choose_capacity(matrix, label, weight, lead, cutoff, horizon_us)
        self.capacity_, self.selection_ = choice.capacity, describe(choice)
        self._fit_parts(matrix, label, weight)
        self.calibrator_: Calibrator = NoCalibrator()
        self.calibration_log_loss_: dict[str, float] = {}
        if calibration is not None:
            self.calibrate(calibration[0], calibration[1], calibration[2])
        return self

    def calibrate(
        self,
        X: Table,
        y: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Choose a calibrator on a slice that is later than what :meth:`fit` saw, and fit it there.

        The choice is by cross-validated log loss inside the slice, leads (``groups``) kept whole; the
        simplest within one standard error of the best wins, and ``none`` is a candidate.
        """
        check_is_fitted(self)
        label = self._known_label(y)
        choice = choose_calibrator(
            expit(self.raw_logit(X)),
            label,
            groups=check_groups(groups, len(label)),
            sample_weight=check_weights(label, sample_weight),
            names=self.calibrators,
            seed=self._seed(),
        )
        self.calibrator_ = choice.calibrator
        self.calibration_log_loss_ = {str(name): loss for name, loss in choice.log_loss.items()}
        return self

    def refit(
        self,
        X: Table,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        recent: tuple[Table, npt.ArrayLike] | None = None,
        level: tuple[Table, float] | None = None,
    ) -> Self:
        """Fit trees and logistic part again, on more rows, with the capacity and calibrator that were chosen.

        For use after :meth:`calibrate`, with all rows whose label is known: the newest data is the most like
        the data to come, and a few hundred conversions are too few to leave a third of them out. A calibrator
        had corrected what the first fit, on older rows, had missed; the second fit has learnt a change of
        level itself, and correcting it twice would overshoot. So the calibrator keeps its shape, and a constant
        on the logit makes the predictions add up to the conversions of the ``recent`` rows, (X, y), again.
        ``level`` is for rows that were completed (see ``completion.py``): (X, the number of conversions to add up
        to), whatever the calibrator. A row whose label is not yet known enters X twice: as a positive with
        its probability for weight, and as a negative with the rest.
        """
        check_is_fitted(self)
        matrix = self._encode(X)
        label = self._known_label(y)
        weight = check_weights(matrix, sample_weight)
        check_two_classes(label, weight)
        used = weight > 0
        self._fit_parts(matrix[used], label[used], weight[used])
        if level is not None and 0 < level[1] < len(level[0]):
            self.calibrator_ = self.calibrator_.shifted(
                level_shift(self.decision_function(level[0]), level[1])
            )
        elif recent is not None and not isinstance(self.calibrator_, NoCalibrator):
            logit, hits = self.decision_function(recent[0]), self._known_label(recent[1]).sum()
            if 0 < hits < len(logit):
                self.calibrator_ = self.calibrator_.shifted(level_shift(logit, float(hits)))
        return self

    def raw_logit(self, X: Table) -> Floats:
        """Logit before calibration."""
        check_is_fitted(self)
        checked = self._check_columns(X)
        result = np.empty(len(checked))
        for start in range(0, len(checked), _CHUNK_ROWS):
            matrix = self.encoder_.encode(checked, slice(start, start + _CHUNK_ROWS))
            result[start : start + len(matrix)] = self._blend(matrix)
        return result

    def decision_function(self, X: Table) -> Floats:
        """Calibrated logit of the second class."""
        check_is_fitted(self)
        return self.calibrator_.transform_logit(clip_logit(self.raw_logit(X)))

    def predict_proba(self, X: Table) -> Floats:
        """Probabilities of the two classes, strictly between 0 and 1; shape (rows, 2)."""
        logit = self.decision_function(X)
        return np.column_stack([expit(-logit), expit(logit)])

    def predict(self, X: Table) -> npt.NDArray[Any]:
        """The likelier class: mostly the first, as conversions are rare; rank by probability instead."""
        likelier = (self.decision_function(X) > 0).astype(np.intp)
        return self.classes_[likelier]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

    def _seed(self) -> int:
        return 0 if self.random_state is None else int(self.random_state)

    def _threads(self, n_rows: int, n_parallel: int = 1) -> int:
        """Threads for one LightGBM call; trees of few rows wait for each other more than they work."""
        return 1 if n_rows < _FEW_ROWS else max(1, effective_n_jobs(self.n_jobs or -1) // n_parallel)

    def _each(self, call: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Results in order, computed in threads (LightGBM and BLAS release the interpreter)."""
        parallel = Parallel(n_jobs=self.n_jobs or -1, prefer="threads")
        return list(parallel(delayed(call)(item) for item in items))

    def _check_columns(self, X: Table) -> Table:
        checked = check_rows(self, X)
        if self.encoder_.categorical and not isinstance(X, pd.DataFrame):
            raise ValueError("the model was fitted on a frame with categories; give it a frame, not an array")
        return checked

    def _encode(self, X: Table) -> Matrix:
        return self.encoder_.encode(self._check_columns(X))

    def _known_label(self, y: npt.ArrayLike) -> Floats:
        label = np.asarray(y)
        if not np.isin(label, self.classes_).all():
            raise ValueError(f"y must hold the classes {self.classes_.tolist()} that the model was fitted on")
        return np.asarray(label == self.classes_[1], dtype=np.float64)

    def _directions(self) -> list[int]:
        directions = [0] * len(self.encoder_.columns)
        for pattern, direction in (self.monotone or {}).items():
            found = [i for i, c in enumerate(self.encoder_.columns) if fnmatchcase(c.name, pattern)]
            categories = [self.encoder_.columns[i].name for i in found if i in self.encoder_.categorical]
            if not found or categories or direction not in (-1, 1):
                raise ConfigError(
                    f"monotone: {{{pattern!r}: {direction!r}}} must name columns of numbers and a direction, "
                    "1 or -1; "
                    + (
                        f"{', '.join(categories)} is a category"
                        if categories
                        else f"{len(found)} columns match"
                    )
                    + "; correct the pattern"
                )
            for i in found:
                directions[i] = int(direction)
        return directions

    def _n_categories(self) -> list[int | None]:
        return [len(c.categories) if c.type == "category" else None for c in self.encoder_.columns]

    def _tree_parameters(self, num_leaves: int, seed: int, n_rows: int, *, n_parallel: int) -> dict[str, Any]:
        overrides = {"learning_rate": self.learning_rate, "num_leaves": num_leaves, **(self.lightgbm or {})}
        return tree_parameters(
            overrides, self._directions(), seed=seed, n_threads=self._threads(n_rows, n_parallel)
        )

    def _choose_capacity(
        self,
        matrix: Matrix,
        label: Floats,
        weight: Floats,
        lead: npt.NDArray[Any] | None,
        cutoff: npt.NDArray[Any] | None,
        horizon_us: int,
    ) -> CapacityChoice:
        many = bool(label.sum() >= SOME_POSITIVES)
        leaves, rounds, weights = ladder(self.n_estimators, self.num_leaves, self.logistic_weight, many=many)
        default = default_of(leaves, rounds, weights)
        if len(leaves) == len(rounds) == len(weights) == 1:
            return CapacityChoice(default, "set by hand")
        try:
            folds = validation_folds(label, cutoff, lead, horizon_us, self._seed())
        except NotEnoughDataError as error:
            return CapacityChoice(default, f"default: too little data to validate on ({error})")

        def validate_trees(fold: Fold, num_leaves: int) -> list[Floats]:
            train, held_out = fold
            rows, factor = thin_negatives(label[train], VALIDATION_ROWS, self._seed())
            train = train[rows]
            parameters = self._tree_parameters(num_leaves, self._seed(), len(train), n_parallel=len(folds))
            dataset = self._dataset(matrix[train], label[train], weight[train] * factor, parameters)
            booster = fit_booster(dataset, parameters, rounds[-1])
            return list(staged_logits(booster, matrix[held_out], rounds, n_threads=parameters["num_threads"]))

        def validate_logistic(fold: Fold) -> Floats:
            train, held_out = fold
            return self._fit_logistic(matrix[train], label[train], weight[train]).logit(matrix[held_out])

        return choose_capacity(
            folds,
            label,
            weight,
            lead,
            leaves=leaves,
            rounds=rounds,
            weights=weights,
            fit_trees=lambda size: self._each(lambda fold: validate_trees(fold, size), folds),
            fit_logistic=lambda: self._each(validate_logistic, folds),
        )

    def _dataset(self, matrix: Matrix, label: Floats, weight: Floats, parameters: Mapping[str, Any]) -> Any:
        return make_dataset(matrix, label, weight, self.encoder_.categorical, parameters)

    def _fit_parts(self, matrix: Matrix, label: Floats, weight: Floats) -> None:
        chosen = self.capacity_
        n_seeds = (2 if weight @ label >= SOME_POSITIVES else 5) if self.seeds == "auto" else self.seeds
        seeds = range(self._seed(), self._seed() + n_seeds)

        def fit_seed(seed: int) -> str:
            parameters = self._tree_parameters(chosen.num_leaves, seed, len(label), n_parallel=n_seeds)
            dataset = self._dataset(matrix, label, weight, parameters)
            return booster_text(fit_booster(dataset, parameters, chosen.n_estimators))

        texts = self._each(fit_seed, seeds)
        self.trees_ = TreeEnsemble(texts, matrix.shape[1])
        self.logistic_weight_ = float(chosen.logistic_weight)
        self.logistic_ = self._fit_logistic(matrix, label, weight) if self.logistic_weight_ > 0 else None

    def _fit_logistic(self, matrix: Matrix, label: Floats, weight: Floats) -> Logistic:
        rows, factor = thin_negatives(label, _LOGISTIC_ROWS, self._seed())
        return fit_logistic(
            matrix[rows],
            label[rows],
            weight[rows] * factor,
            n_categories=self._n_categories(),
            directions=self._directions(),
        )

    def _blend(self, matrix: Matrix) -> Floats:
        trees = self.trees_.raw_logit(matrix, n_threads=self._threads(len(matrix)))
        if self.logistic_ is None:
            return trees
        share = self.logistic_weight_
        return (1 - share) * trees + share * self.logistic_.logit(matrix)
