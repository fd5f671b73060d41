"""The families of value models: how the mean of a heavy-tailed, zero-inflated amount follows from the features.

Every family gives a mean up to a common factor; the estimator sets the factor afterwards, so that predictions add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from convpredict.errors import BundleError

from .bundle_files import finite_number
from .calibration import Floats
from .encoding import Encoder, Matrix
from .logistic import Logistic, fit_logistic
from .tree_check import BINARY, check_trees
from .trees import TreeEnsemble, booster_text, fit_booster, make_dataset, staged_logits, tree_parameters
from .value_linear import fit_amounts, strongest_columns

Family = Literal["mean", "tweedie", "gamma", "lognormal", "zero_inflated_lognormal"]
FAMILIES: tuple[Family, ...] = ("mean", "lognormal", "gamma", "tweedie", "zero_inflated_lognormal")
"""From the simplest on: ties are settled in favour of the earlier."""

TWEEDIE_POWER = 1.5
FEW_COLUMNS = 10
FEWEST_ZEROS = 20
"""So many leads without revenue (and with) are needed before their share may depend on features."""

_TREES: Mapping[str, Any] = {"learning_rate": 0.04, "min_sum_hessian_in_leaf": 15.0, "lambda_l2": 10.0}
_OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "tweedie": {"objective": "tweedie", "tweedie_variance_power": TWEEDIE_POWER},
    "gamma": {"objective": "gamma"},
    "log": {"objective": "regression"},
    "occurrence": {"objective": "binary", "min_sum_hessian_in_leaf": 3.0, "lambda_l2": 5.0},
}
_WRITTEN: Mapping[str, str] = {
    "tweedie": "tweedie",
    "gamma": "gamma",
    "lognormal": "regression",
    "zero_inflated_lognormal": "regression",
}
_POWERS: Mapping[str, float | None] = {"tweedie": TWEEDIE_POWER, "gamma": 2.0, "log": None}
_SPREAD_BOUNDS, _SPREAD_PRIOR = (0.5, 2.0), 0.1
_OCCURRENCE_ROUNDS, _OCCURRENCE_SHARE = 100, 0.5
_FEW_ROWS = 50_000


@dataclass(frozen=True)
class Size:
    """Trees, share of the linear part, prior deviation of its coefficients, and how many columns both look at.

    ``n_columns`` is the number of columns that are strongest by themselves (0: all).
    """

    n_trees: int = 0
    linear_share: float = 1.0
    prior_deviation: float = 0.2
    n_columns: int = FEW_COLUMNS


def sizes() -> list[Size]:
    """Every size that validation looks at, the simplest first: few columns or all, trees, linear part or both."""
    return [
        Size(0, 1.0, 0.2, FEW_COLUMNS),
        Size(0, 1.0, 0.5, FEW_COLUMNS),
        Size(0, 1.0, 0.05, 0),
        *(Size(rounds, share, 0.2, FEW_COLUMNS) for rounds in (60, 200) for share in (0.0, 0.5)),
        *(Size(rounds, share, 0.05, 0) for rounds in (120, 300) for share in (0.0, 0.5)),
    ]


@dataclass(frozen=True)
class Blend:
    """``(1 - share) * trees + share * linear``: the predictor of one quantity."""

    trees: TreeEnsemble | None
    linear: Logistic | None
    share: float

    def predict(self, matrix: Matrix) -> Floats:
        """The predictor of each row; a row's value does not depend on the rows around it."""
        total = np.zeros(len(matrix))
        if self.trees is not None:
            total += (1.0 - self.share) * self.trees.raw_logit(matrix, n_threads=_threads(len(matrix)))
        if self.linear is not None:
            total += self.share * self.linear.logit(matrix)
        return total


@dataclass(frozen=True)
class FamilyModel:
    """Mean up to a factor: P(revenue > 0) x exp(predictor) [x exp(variance / 2)].

    ``occurrence`` is None where the share of zeros is taken as constant, ``spread`` (the log of the variance of
    the log amount, with the mean of it) where that is. ``level`` makes the predictions add up in the sample.
    """

    name: str
    severity: Blend
    occurrence: Blend | None = None
    spread: Logistic | None = None
    spread_level: float = 1.0
    level: float = 1.0

    def predict(self, matrix: Matrix) -> Floats:
        """The mean of each row."""
        mean = self.level * np.exp(np.clip(self.severity.predict(matrix), -30.0, 30.0))
        if self.occurrence is not None:
            mean = mean * expit(self.occurrence.predict(matrix))
        if self.spread is not None:
            mean = mean * np.exp(0.5 * _variance(self.spread, self.spread_level, matrix))
        return np.asarray(mean, np.float64)


@dataclass
class FamilyFitter:
    """Fits families on rows of one matrix; what families share is fitted once per set of rows.

    ``y`` is the completed revenue in units of its mean, ``weight`` what each row counts.
    """

    encoder: Encoder
    matrix: Matrix
    y: Floats
    weight: Floats
    seed: int = 0
    n_seeds: int = 2
    _occurrence: dict[bytes, Blend | None] = field(default_factory=dict)
    _strongest: dict[tuple[bytes, bytes, int], tuple[int, ...]] = field(default_factory=dict)

    def fit(self, name: str, rows: npt.NDArray[np.intp], size: Size) -> FamilyModel:
        """One family of one size."""
        return self._assembled(name, rows, lambda kind, used, target: self._blend(kind, used, target, size))

    def fit_all(
        self,
        name: str,
        rows: npt.NDArray[np.intp],
        held_out: npt.NDArray[np.intp],
        candidates: Sequence[Size],
    ) -> list[Floats]:
        """Predictions for the held-out rows by the family in each size, fitted on ``rows``."""
        kind, used, target = self._severity(name, rows)
        both = np.concatenate([rows, held_out])
        linear = {
            (prior, n_columns): self._linear(kind, used, target, prior, n_columns).logit(self.matrix[both])
            for prior, n_columns in sorted(
                {(size.prior_deviation, size.n_columns) for size in candidates if size.linear_share > 0}
            )
        }
        trees = {
            n_columns: self._staged(kind, used, target, both, n_columns, rounds)
            for n_columns in sorted({size.n_columns for size in candidates})
            if (rounds := sorted({s.n_trees for s in candidates if s.n_columns == n_columns} - {0}))
        }
        occurrence = self._occurs(name, rows)
        factor = np.ones(len(both)) if occurrence is None else expit(occurrence.predict(self.matrix[both]))
        predictions, variance = [], None
        for size in candidates:
            score = np.zeros(len(both))
            if size.linear_share < 1:
                score += (1.0 - size.linear_share) * trees[size.n_columns][size.n_trees]
            if size.linear_share > 0:
                score += size.linear_share * linear[size.prior_deviation, size.n_columns]
            mean = factor * np.exp(np.clip(score, -30.0, 30.0))
            if name == "zero_inflated_lognormal":
                if variance is None:
                    position = np.searchsorted(rows, used)
                    spread, level = self._spread(used, target, score[: len(rows)][position])
                    variance = _variance(spread, level, self.matrix[both])
                mean *= np.exp(0.5 * variance)
            level = self._level(rows, mean[: len(rows)])
            predictions.append(level * mean[len(rows) :])
        return predictions

    def _assembled(self, name: str, rows: npt.NDArray[np.intp], blend: Any) -> FamilyModel:
        kind, used, target = self._severity(name, rows)
        severity = blend(kind, used, target)
        occurrence = self._occurs(name, rows)
        spread, spread_level = None, 1.0
        if name == "zero_inflated_lognormal":
            spread, spread_level = self._spread(used, target, severity.predict(self.matrix[used]))
        model = FamilyModel(name, severity, occurrence, spread, spread_level)
        level = self._level(rows, model.predict(self.matrix[rows]))
        return FamilyModel(name, severity, occurrence, spread, spread_level, level)

    def _severity(self, name: str, rows: npt.NDArray[np.intp]) -> tuple[str, npt.NDArray[np.intp], Floats]:
        """The kind of regression, the rows that it sees, and their targets."""
        if name == "tweedie":
            return "tweedie", rows, np.maximum(self.y[rows], 0.0)
        used = rows[self.y[rows] > 0]
        if name == "gamma":
            return "gamma", used, self.y[used]
        return "log", used, np.log(self.y[used])

    def _occurs(self, name: str, rows: npt.NDArray[np.intp]) -> Blend | None:
        if name in ("tweedie", "lognormal"):
            return None
        key = rows.tobytes()
        if key not in self._occurrence:
            positive = self.y[rows] > 0
            if min(int(positive.sum()), int((~positive).sum())) < FEWEST_ZEROS:
                self._occurrence[key] = None
            else:
                size = Size(_OCCURRENCE_ROUNDS, _OCCURRENCE_SHARE, n_columns=0)
                self._occurrence[key] = self._blend("occurrence", rows, positive.astype(np.float64), size)
        return self._occurrence[key]

    def _spread(self, used: npt.NDArray[np.intp], target: Floats, score: Floats) -> tuple[Logistic, float]:
        """Log variance of the log amount, linear in the features, and the variance of all."""
        squared = (target - score) ** 2
        level = max(float(np.average(squared, weights=self.weight[used])), 1e-9)
        capped = np.clip(squared / level, 1e-3, np.quantile(squared, 0.99) / level + 1e-3)
        fit = fit_amounts(
            self.matrix[used],
            capped,
            self.weight[used],
            n_categories=self._n_categories(),
            prior_deviation=_SPREAD_PRIOR,
            power=2.0,
            columns=self._columns(used, np.log(capped), FEW_COLUMNS),
        )
        return fit, level

    def _level(self, rows: npt.NDArray[np.intp], mean: Floats) -> float:
        total = float(self.weight[rows] @ mean)
        return float(self.weight[rows] @ self.y[rows]) / total if total > 0 else 1.0

    def _blend(self, kind: str, used: npt.NDArray[np.intp], target: Floats, size: Size) -> Blend:
        linear = trees = None
        if size.linear_share > 0:
            linear = self._linear(kind, used, target, size.prior_deviation, size.n_columns)
        if size.linear_share < 1:
            texts = []
            for seed in range(self.seed, self.seed + self.n_seeds):
                parameters = self._parameters(kind, seed, len(used), size.n_columns)
                dataset = self._dataset(used, target, size.n_columns, parameters)
                texts.append(booster_text(fit_booster(dataset, parameters, size.n_trees)))
            trees = TreeEnsemble(texts, self.matrix.shape[1])
        return Blend(trees, linear, size.linear_share)

    def _staged(
        self,
        kind: str,
        used: npt.NDArray[np.intp],
        target: Floats,
        both: npt.NDArray[np.intp],
        n_columns: int,
        rounds: Sequence[int],
    ) -> dict[int, Floats]:
        """The predictor after each of the ascending numbers of trees."""
        parameters = self._parameters(kind, self.seed, len(used), n_columns)
        dataset = self._dataset(used, target, n_columns, parameters)
        booster = fit_booster(dataset, parameters, rounds[-1])
        stages = staged_logits(booster, self.matrix[both], rounds, n_threads=_threads(len(both)))
        return {n_trees: stage.copy() for n_trees, stage in zip(rounds, stages, strict=True)}

    def _dataset(
        self,
        used: npt.NDArray[np.intp],
        target: Floats,
        n_columns: int,
        parameters: Mapping[str, Any],
    ) -> Any:
        """The rows for LightGBM; columns that are not looked at are constant, so that no tree splits on them."""
        matrix, columns = self.matrix[used], self._columns(used, target, n_columns)
        if columns is not None:
            matrix[:, np.setdiff1d(np.arange(matrix.shape[1]), columns)] = 0.0
        return make_dataset(matrix, target, self.weight[used], self.encoder.categorical, parameters)

    def _columns(self, used: npt.NDArray[np.intp], target: Floats, n_columns: int) -> tuple[int, ...] | None:
        """The columns looked at: those strongest for the target, on a scale without extremes (None: all)."""
        if n_columns == 0:
            return None
        key = (used.tobytes(), target.tobytes(), n_columns)
        if key not in self._strongest:
            tamed = np.log1p(target) if target.min() >= 0 else target
            self._strongest[key] = strongest_columns(
                self.matrix[used], tamed, self.weight[used], self._n_categories(), n_columns
            )
        return self._strongest[key]

    def _linear(
        self,
        kind: str,
        used: npt.NDArray[np.intp],
        target: Floats,
        prior_deviation: float,
        n_columns: int,
    ) -> Logistic:
        if kind == "occurrence":
            return fit_logistic(
                self.matrix[used], target, self.weight[used], n_categories=self._n_categories()
            )
        return fit_amounts(
            self.matrix[used],
            target,
            self.weight[used],
            n_categories=self._n_categories(),
            prior_deviation=prior_deviation,
            power=_POWERS[kind],
            columns=self._columns(used, target, n_columns),
        )

    def _parameters(self, kind: str, seed: int, n_rows: int, n_columns: int) -> dict[str, Any]:
        parameters = tree_parameters({}, (), seed=seed, n_threads=_threads(n_rows))
        fraction = {"feature_fraction": 0.5} if n_columns else {}
        return {**parameters, **_TREES, **fraction, **_OBJECTIVES[kind]}

    def _n_categories(self) -> list[int | None]:
        return [len(c.categories) if c.type == "category" else None for c in self.encoder.columns]


def family_to_files(model: FamilyModel) -> tuple[dict[str, Any], dict[str, str]]:
    """Plain numbers of a family, and the text of its trees by name."""
    texts: dict[str, str] = {}

    def keep(part: Blend | None, name: str) -> dict[str, Any] | None:
        if part is None:
            return None
        trees = part.trees.texts if part.trees is not None else ()
        texts.update({f"{name}_{i:02d}.txt": text for i, text in enumerate(trees)})
        linear = part.linear.to_dict() if part.linear is not None else None
        return {"share": part.share, "linear": linear, "trees": len(trees)}

    head = {
        "name": model.name,
        "severity": keep(model.severity, "severity"),
        "occurrence": keep(model.occurrence, "occurrence"),
        "spread": model.spread.to_dict() if model.spread is not None else None,
        "spread_level": model.spread_level,
        "level": model.level,
    }
    return head, texts


def family_from_files(head: Mapping[str, Any], files: Mapping[str, str], encoder: Encoder) -> FamilyModel:
    """Restore what :func:`family_to_files` gave. Raises BundleError for anything else."""

    def restore(stored: Mapping[str, Any] | None, name: str) -> Blend | None:
        if stored is None:
            return None
        names = [f"{name}_{i:02d}.txt" for i in range(int(stored["trees"]))]
        texts = [files[each] for each in names]
        objective = BINARY if name == "occurrence" else _WRITTEN[str(head["name"])]
        for each, text in zip(names, texts, strict=True):
            check_trees(text, len(encoder.columns), name=f"value/{each}", objective=objective)
        linear = Logistic.from_dict(stored["linear"]) if stored["linear"] is not None else None
        if linear is not None:
            linear.check(encoder)
        trees = TreeEnsemble(texts, len(encoder.columns)) if texts else None
        return Blend(trees, linear, finite_number(stored["share"]))

    try:
        spread = Logistic.from_dict(head["spread"]) if head["spread"] is not None else None
        if spread is not None:
            spread.check(encoder)
        severity = restore(head["severity"], "severity")
        if severity is None or head["name"] not in FAMILIES:
            raise ValueError("no severity")
        return FamilyModel(
            str(head["name"]),
            severity,
            restore(head["occurrence"], "occurrence"),
            spread,
            finite_number(head["spread_level"]),
            finite_number(head["level"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"the value model cannot be read ({error!r}); export the bundle anew") from None


def _variance(spread: Logistic, level: float, matrix: Matrix) -> Floats:
    relative = np.clip(np.exp(np.clip(spread.logit(matrix), -10.0, 10.0)), *_SPREAD_BOUNDS)
    return np.asarray(level * relative, np.float64)


def _threads(n_rows: int) -> int:
    return 1 if n_rows < _FEW_ROWS else 0
