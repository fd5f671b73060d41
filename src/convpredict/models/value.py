"""The value model: revenue within the value horizon, given a conversion, as a scikit-learn regressor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import (
    _assert_all_finite,
    check_is_fitted,
    column_or_1d,
)

from convpredict.errors import BundleError, ConfigError, NotEnoughDataError

from .bundle_files import finite_number, parse_json
from .calibration import Floats
from .encoding import Encoder, Matrix
from .inputs import (
    Table,
    check_groups,
    check_random_state,
    check_rows,
    check_times,
    check_weights,
    is_number,
    require,
)
from .value_development import LEAST_DEVELOPMENT, DevelopmentCurve
from .value_families import FAMILIES, FamilyFitter, family_from_files, family_to_files
from .value_intervals import ConformalInterval, fit_interval
from .value_level import tail_factor
from .value_outliers import hold_decisive_lead
from .value_segments import SegmentMeans, segment_candidates
from .value_selection import (
    DEFAULT_SIZE,
    Candidate,
    Choice,
    Fold,
    choose,
    cross_folds,
    forward_folds,
    late_rows,
    predict_held_out,
)

if TYPE_CHECKING:
    from convpredict.config.value import ValueConfig

FEWEST_FOR_SEGMENTS = 30
FEWEST_FOR_FAMILIES = 50
FEWEST_FOR_CHOICE = 200
_INTERVAL_LEADS = 300
_LEVEL_LEADS = 200.0
_PARAMETERS = ("family", "coverage", "segments", "random_state")


class ValueModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """E[revenue within the value horizon | conversion], with an interval of one lead's revenue.

    Parameters
    ----------
    family
        How revenue is distributed given the features: ``mean`` (segment means, shrunken by their
        credibility), ``lognormal`` (trees and a ridge regression for log revenue; smearing brings it back),
        ``gamma``, ``tweedie`` (log link; the latter with zeros), ``zero_inflated_lognormal`` (P(revenue > 0) times
        the mean of a lognormal whose variance depends on the features; Wang, Liu and Miao, 2019). ``auto``: chosen
        by validation forward in time, the simplest within one standard error.
    coverage
        Of the interval: this share of the converted leads shall lie within.
    segments
        Category columns whose cells are the segments of ``mean`` (None: the column that validation prefers, or
        none).
    random_state
        Seed, an integer (None: 0). Equal data, parameters and versions give equal models.

    Notes
    -----
    Leads count, not rows. What little data does not support is not tried: below 30 leads everybody gets the mean,
    below 200 ``auto`` is segment means, below 50 any family is. A lead that brought more than all others together
    counts in part (:func:`.value_outliers.hold_decisive_lead`), so that one outlier does not decide the level.

    Attributes
    ----------
    encoder_, model_, level_ : columns, the family's model, and the factor (in the currency) that it is scaled by
    development_ : share of the revenue that comes by each age, or None where all windows were complete
    interval_ : factors of the interval
    candidate_, selection_ : what was chosen, and a JSON-able account of why
    n_leads_ : converted leads that were learnt from
    outlier_cut_ : share of the revenue that is left out because one lead outweighed all others; mostly 0
    tail_factor_ : what the level was multiplied by because a few large amounts say less about the mean than all
        amounts do (:func:`.value_level.tail_factor`); 1 where they contradict that. Predictions of the leads that
        were learnt from add up to their revenue times this

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> size = rng.choice(["large", "small"], 500)
    >>> X = pd.DataFrame({"size": pd.Categorical(size), "calls": rng.poisson(3.0, 500)})
    >>> y = np.exp(rng.normal(np.where(size == "large", 8.0, 6.0), 0.5))
    >>> model = ValueModel(family="lognormal").fit(X, y)
    >>> low, high = model.predict_interval(X)
    >>> bool(0.75 < np.mean((low <= y) & (y <= high)) < 0.85)
    True
    """

    def __init__(
        self,
        *,
        family: str = "auto",
        coverage: float = 0.8,
        segments: Sequence[str] | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.family = family
        self.coverage = coverage
        self.segments = segments
        self.random_state = random_state

    @classmethod
    def from_config(cls, config: ValueConfig) -> Self:
        """The model that ``value:`` of a configuration describes."""
        return cls(
            family=config.family,
            coverage=config.coverage,
            segments=config.segments,
            random_state=config.seed,
        )

    def fit(
        self,
        X: Table,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        followed_share: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
        times: npt.ArrayLike | None = None,
        development: DevelopmentCurve | None = None,
    ) -> Self:
        """Choose and fit a family on converted leads, then level and interval on rows it had not seen.

        Parameters
        ----------
        X : features before the conversion: numbers (NaN: missing) and pandas Categoricals, one row per
            observation
        y : revenue in the value window so far; refunds may make it negative
        sample_weight : what each row counts; default: each lead (of ``groups``) counts one in all
        followed_share : how much of each value window was observed, from 0 to 1 (default: all of it). Open
            windows count by the share D of the revenue that is expected by then, and are completed as y / D;
            those with D below 0.25 are left out
        groups : lead ids, kept whole in every fold
        times : cutoffs (instants, or integers in µs): validation then goes forward in time
        development : D, learnt from the course of each customer's revenue (default: from ``y`` and
            ``followed_share``, which is noisier)

        Raises ValueError for unusable arrays (all must be known, weights not negative) and ConfigError for unknown
        families or segments and parameters out of range.
        """
        self._check_parameters()
        checked = check_rows(self, X, y, reset=True)
        groups, times = check_groups(groups, len(checked)), check_times(times, len(checked))
        amount, weight = self._amounts(checked, y, sample_weight, groups)
        if self.family not in ("auto", *FAMILIES):
            known = ", ".join(("auto", *FAMILIES))
            raise ConfigError(f"value.family must be one of {known}; got {self.family!r}")
        share = self._developed(amount, weight, followed_share, development)
        used = np.flatnonzero((weight > 0) & (share >= LEAST_DEVELOPMENT))
        if len(used) == 0:
            raise NotEnoughDataError(
                "no converted lead was followed long enough to learn its value from; take a shorter "
                "labels.value_horizon or more history"
            )
        self.encoder_ = Encoder.learn(checked)
        matrix = self.encoder_.encode(checked)[used]
        lead = np.arange(len(amount))[used] if groups is None else np.asarray(groups)[used]
        completed, share = amount[used] / share[used], share[used]
        self.n_leads_ = float(weight[used].sum())
        counts = weight[used] * share
        completed, self.outlier_cut_ = hold_decisive_lead(completed, counts, lead)
        mean = float(np.average(completed, weights=counts))
        unit = mean if mean > 0 else 1.0
        fitter = FamilyFitter(self.encoder_, matrix, completed / unit, counts, self._seed())
        folds = self._folds(None if times is None else np.asarray(times)[used], lead, counts)
        choice = self._choose(fitter, folds, lead, positive=mean > 0)
        self.candidate_, self.selection_ = choice.candidate, dict(choice.account)
        self.model_ = self.candidate_.fit(fitter, np.arange(len(used)))
        unseen = self._unseen(fitter, lead)
        self.tail_factor_ = self._tail_factor(fitter, unseen, lead)
        self.level_ = unit * self._level(fitter, unseen) * self.tail_factor_
        late = late_rows(folds, len(used))
        held_out = (self.level_ * np.where(late, choice.held_out, np.nan), self.level_ * unseen)
        self.interval_ = self._interval(held_out, unit * fitter.y, weight[used], share)
        return self

    def predict(self, X: Table) -> Floats:
        """Expected revenue within the value horizon, given a conversion, in the currency of ``y``."""
        check_is_fitted(self)
        checked = check_rows(self, X)
        if self.encoder_.categorical and not isinstance(X, pd.DataFrame):
            raise ValueError("the model was fitted on a frame with categories; give it a frame, not an array")
        return self.predict_encoded(self.encoder_.encode(checked))

    def predict_encoded(self, matrix: Matrix) -> Floats:
        """What :meth:`predict` gives for rows as ``encoder_.encode`` encodes them."""
        return np.asarray(self.level_ * self.model_.predict(matrix), np.float64)

    def predict_interval(self, X: Table) -> tuple[Floats, Floats]:
        """Lower and upper ends of the interval of one converted lead's revenue, in the currency of ``y``."""
        check_is_fitted(self)
        return self.interval_.at(self.predict(X))

    def to_files(self) -> dict[str, str]:
        """The fitted model as text files by name: ``value.json`` and the trees. It holds no row of the data."""
        check_is_fitted(self)
        texts: dict[str, str] = {}
        if isinstance(self.model_, SegmentMeans):
            model: dict[str, Any] = {"segment_means": self.model_.to_dict()}
        else:
            head, texts = family_to_files(self.model_)
            model = {"family": head}
        stored = {
            "columns": self.encoder_.to_list(),
            "parameters": {name: getattr(self, name) for name in _PARAMETERS},
            "candidate": self.candidate_.to_dict(),
            "development": self.development_.to_dict() if self.development_ is not None else None,
            "interval": self.interval_.to_dict(),
            "leads": self.n_leads_,
            "level": self.level_,
            "model": model,
            "outlier_cut": self.outlier_cut_,
            "selection": self.selection_,
            "tail_factor": self.tail_factor_,
        }
        text = json.dumps(stored, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        return {"value.json": text + "\n", **texts}

    @classmethod
    def from_files(cls, files: Mapping[str, str]) -> Self:
        """Restore what :meth:`to_files` gave: predictions are equal to the bit. Raises BundleError otherwise."""
        try:
            stored = parse_json(files["value.json"], "value/value.json")
            model = cls(**{name: stored["parameters"][name] for name in _PARAMETERS})
            model.encoder_ = Encoder.from_list(stored["columns"])
            model.n_features_in_ = len(model.encoder_.columns)
            names = [column.name for column in model.encoder_.columns]
            model.feature_names_in_ = np.array(names, dtype=object)
            model.candidate_ = Candidate.from_dict(stored["candidate"])
            development = stored["development"]
            model.development_ = None if development is None else DevelopmentCurve.from_dict(development)
            model.interval_ = ConformalInterval.from_dict(stored["interval"])
            model.n_leads_, model.level_ = finite_number(stored["leads"]), finite_number(stored["level"])
            model.outlier_cut_ = finite_number(stored.get("outlier_cut", 0.0))
            model.tail_factor_ = finite_number(stored.get("tail_factor", 1.0))
            model.selection_ = stored["selection"]
            kind = stored["model"]
            model.model_ = (
                SegmentMeans.from_dict(kind["segment_means"], model.encoder_)
                if "segment_means" in kind
                else family_from_files(kind["family"], files, model.encoder_)
            )
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise BundleError(
                f"the value model cannot be read ({type(error).__name__}: {error}); export the bundle anew"
            ) from None
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # made for thousands of skewed amounts, not for 20 tidy rows
        tags.input_tags.allow_nan = True
        return tags

    def _check_parameters(self) -> None:
        require(
            is_number(self.coverage) and 0 < self.coverage < 1,
            "coverage",
            self.coverage,
            "a number above 0, below 1",
            "it is the share of the converted leads that the interval shall hold; the default is 0.8",
        )
        require(
            self.segments is None
            or (isinstance(self.segments, Sequence) and not isinstance(self.segments, str)),
            "segments",
            self.segments,
            "a list of column names, or None",
            "a list of one name for one column, or leave it out to have the column chosen",
        )
        check_random_state(self.random_state)

    def _seed(self) -> int:
        return 0 if self.random_state is None else int(self.random_state)

    def _amounts(
        self,
        X: Table,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None,
        groups: npt.ArrayLike | None,
    ) -> tuple[Floats, Floats]:
        """Revenue and weight of each row."""
        if y is None:
            raise ValueError("fit requires y to be passed, but the target y is None; give the revenue")
        amount = np.asarray(column_or_1d(np.asarray(y), warn=True), np.float64)
        _assert_all_finite(amount, input_name="y")
        if len(amount) != len(X):
            raise ValueError(
                f"X has {len(X)} rows and y {len(amount)}; they must be of the same observations"
            )
        if sample_weight is None and groups is not None:
            _, code, count = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
            return amount, 1.0 / count[code]
        return amount, check_weights(X, sample_weight)

    def _developed(
        self,
        amount: Floats,
        weight: Floats,
        followed_share: npt.ArrayLike | None,
        development: DevelopmentCurve | None,
    ) -> Floats:
        """The share D of each row's revenue that is expected by now."""
        self.development_: DevelopmentCurve | None = None
        if followed_share is None:
            return np.ones(len(amount))
        followed = np.asarray(followed_share, np.float64)
        if followed.shape != amount.shape or not np.isfinite(followed).all():
            raise ValueError("'followed_share' must hold a number from 0 to 1 for every row")
        if (followed >= 1.0).all():
            return np.ones(len(amount))
        used = weight > 0
        self.development_ = development or DevelopmentCurve.of_totals(
            amount[used], followed[used], weight[used]
        )
        return self.development_.at(followed)

    def _folds(self, times: npt.NDArray[Any] | None, lead: npt.NDArray[Any], counts: Floats) -> list[Fold]:
        if self.n_leads_ < FEWEST_FOR_SEGMENTS:
            return []
        return cross_folds(lead, self._seed()) if times is None else forward_folds(times, lead, counts)

    def _choose(
        self, fitter: FamilyFitter, folds: list[Fold], lead: npt.NDArray[Any], *, positive: bool
    ) -> Choice:
        nothing = np.full(len(fitter.y), np.nan)
        if self.n_leads_ < FEWEST_FOR_SEGMENTS or not folds or not positive:
            why = "the mean of all" if positive else "the mean of all: revenue adds up to nothing"
            return Choice(Candidate("mean"), {"chosen": "mean", "how": f"too few leads: {why}"}, nothing)
        families: Sequence[str] = FAMILIES if self.family == "auto" else (self.family,)
        if self.n_leads_ < (FEWEST_FOR_CHOICE if self.family == "auto" else FEWEST_FOR_FAMILIES):
            families = ("mean",)
        one_size = [DEFAULT_SIZE] if self.n_leads_ < FEWEST_FOR_CHOICE else None
        return choose(
            fitter,
            folds,
            lead,
            families=families,
            segments=self._segment_sets(fitter),
            candidate_sizes=one_size,
        )

    def _segment_sets(self, fitter: FamilyFitter) -> list[tuple[int, ...]]:
        """The sets of segment columns to choose from: the configured one, or none and each category."""
        if self.segments is None:
            return [(), *((column,) for column in segment_candidates(self.encoder_, fitter.matrix))]
        positions = {c.name: i for i, c in enumerate(self.encoder_.columns) if c.type == "category"}
        unknown = [name for name in self.segments if name not in positions]
        if unknown:
            raise ConfigError(
                f"value.segments names {', '.join(unknown)}, which is no category among the model's columns; the "
                f"categories are: {', '.join(positions) or 'none'}"
            )
        return [tuple(positions[name] for name in self.segments)]

    def _unseen(self, fitter: FamilyFitter, lead: npt.NDArray[Any]) -> Floats:
        if len(np.unique(lead)) < 2:
            return self.model_.predict(fitter.matrix)
        return predict_held_out(fitter, cross_folds(lead, self._seed()), self.candidate_)

    def _level(self, fitter: FamilyFitter, unseen: Floats) -> float:
        """The factor by which predictions of unseen leads add up to their revenue, shrunken to 1."""
        predicted, actual = float(fitter.weight @ unseen), float(fitter.weight @ fitter.y)
        if isinstance(self.model_, SegmentMeans) or predicted <= 0 or actual <= 0:
            seen = float(fitter.weight @ self.model_.predict(fitter.matrix))
            return actual / seen if seen * actual > 0 else 1.0
        trust = self.n_leads_ / (self.n_leads_ + _LEVEL_LEADS)
        return float((actual / predicted) ** trust)

    def _tail_factor(self, fitter: FamilyFitter, unseen: Floats, lead: npt.NDArray[Any]) -> float:
        """Of revenue over prediction, so that what the features explain does not look like a tail."""
        used = np.isfinite(unseen) & (fitter.weight > 0)
        if not (unseen[used] > 0).all():
            return 1.0
        predicted = unseen[used]
        return tail_factor(fitter.y[used] / predicted, fitter.weight[used] * predicted, lead[used])

    def _interval(
        self, held_out: tuple[Floats, Floats], revenue: Floats, weight: Floats, share: Floats
    ) -> ConformalInterval:
        """From complete windows, forward in time where that leaves enough; else from what there is.

        Forward in time, only predictions learnt from at least half of the leads count: those learnt from fewer
        are worse than the model's, and would make its interval too wide.
        """
        forward, unseen = held_out
        complete = share >= 1.0
        pools = [
            (forward, complete, _INTERVAL_LEADS),
            (unseen, complete, FEWEST_FOR_SEGMENTS),
            (unseen, share >= 0.5, FEWEST_FOR_SEGMENTS),
            (unseen, share > 0, 0),
        ]
        for prediction, rows, fewest in pools:
            used = rows & np.isfinite(prediction)
            if weight[used].sum() >= fewest:
                break
        return fit_interval(prediction[used], revenue[used], weight[used], coverage=self.coverage)
