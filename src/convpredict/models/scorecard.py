"""Hand-set points per activity, attribute and timing.

What the models replace, and what they are compared with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from convpredict.config.features import Feature
from convpredict.config.load import parse_scorecard
from convpredict.config.training import ScorecardConfig
from convpredict.errors import ConfigError
from convpredict.features.feature_set import FeatureSet
from convpredict.history.history import History

from .calibration import Floats, SigmoidCalibrator
from .inputs import Table, check_labels, check_rows
from .scorecard_terms import Term, bind_rule, declaration_of, rule_to_dict, unknown_words, whole

NO_GRADE = "none"
"""The grade of points below all thresholds."""


class Scorecard(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Points by hand-set rules, replayed point-in-time by the same features as the model, and a probability.

    The order of use: ``declarations()`` says which features the rules read, ``bind(feature_set)`` gives a
    card that knows their columns, ``points(X)`` adds up. ``fit`` learns only how points translate into a
    probability: a rising logistic curve of the points, so that log loss can be compared honestly.

    Parameters
    ----------
    config
        The rules. Without any, every column of ``X`` gives its value in points.
    terms
        The columns that the rules read: set by :meth:`bind`.

    Examples
    --------
    >>> card = Scorecard.from_yaml('''
    ... half_life: 14d
    ... rules:
    ...   - {kind: call, points: 5, at_most: 30}
    ...   - {days_since: last_interaction, points: -10, at_least: 21}
    ... thresholds: {hot: 20, warm: 5}
    ... ''')
    >>> [feature.family for feature in card.declarations()]
    ['decayed', 'recency']
    >>> card.grade([25.0, 5.0, -10.0]).tolist()
    ['hot', 'warm', 'none']
    """

    def __init__(self, config: ScorecardConfig | None = None, terms: tuple[Term, ...] | None = None) -> None:
        self.config = config
        self.terms = terms

    @classmethod
    def from_yaml(cls, source: Path | str) -> Self:
        """Read rules from a YAML file (a Path) or from YAML text (a str). Raises ConfigError."""
        return cls(parse_scorecard(source))

    def to_yaml(self) -> str:
        """The rules as YAML, one line each: :meth:`from_yaml` reads them back.

        >>> print(Scorecard(ScorecardConfig(rules=[{"kind": "call", "points": 5}])).to_yaml(), end="")
        name: scorecard
        rules:
          - {kind: call, points: 5}
        """
        card = self._rules()
        lines = [f"name: {_flow(card.name)}"]
        if card.half_life is not None:
            lines.append(f"half_life: {card.half_life}")
        lines.append("rules:")
        lines.extend(f"  - {_flow(rule_to_dict(rule))}" for rule in card.rules)
        if card.thresholds:
            lines.append(
                f"thresholds: {_flow({name: whole(least) for name, least in card.thresholds.items()})}"
            )
        return "\n".join(lines) + "\n"

    def declarations(self) -> tuple[Feature, ...]:
        """The features that the rules read; pass them to ``FeatureSet.fit(..., extra=...)``."""
        card = self._rules()
        return tuple(dict.fromkeys(declaration_of(rule, card) for rule in card.rules))

    def bind(self, feature_set: FeatureSet) -> Self:
        """A card whose rules know their columns.

        Raises ConfigError where the feature set cannot answer a rule.
        """
        card = self._rules()
        return type(self)(card, tuple(bind_rule(rule, card, feature_set) for rule in card.rules))

    def warnings(self, history: History) -> list[str]:
        """Sentences on kinds and values that no lead of the history ever had: mostly typing errors."""
        known = {"kind": set(history.query("SELECT DISTINCT kind FROM interactions")["kind"].to_pylist())}
        for name, type_ in history.lead_attributes.items():
            if type_ == "category":
                known[name] = set(history.leads[name].unique().to_pylist())
        for attribute, value in zip(
            *(history.attribute_changes[name].to_pylist() for name in ("attribute", "value")), strict=True
        ):
            known.setdefault(attribute, set()).add(value)
        return unknown_words(self._rules(), {name: words - {None} for name, words in known.items()})

    def points(self, X: Table) -> Floats:
        """Points of each row of a feature table (or of a plain array: its row sums)."""
        if self.config is None:
            return np.asarray(np.nan_to_num(np.asarray(X, dtype=np.float64)).sum(axis=1))
        terms, frame = self._read(X)
        total = np.zeros(len(frame))
        for term in terms:
            total += term.points(frame[term.column])
        return total

    def points_by_rule(self, X: Table) -> pd.DataFrame:
        """Points that each rule gives each row: one column per rule, named by the column that it reads."""
        terms, frame = self._read(X)
        result = pd.DataFrame(
            {i: term.points(frame[term.column]) for i, term in enumerate(terms)}, index=frame.index
        )
        result.columns = pd.Index([term.column for term in terms])
        return result

    def grade(self, points: npt.ArrayLike) -> npt.NDArray[np.object_]:
        """The highest grade whose threshold the points reach; ``none`` below all of them."""
        value = np.asarray(points, dtype=np.float64)
        grades = np.full(value.shape, NO_GRADE, dtype=object)
        thresholds = {} if self.config is None else self.config.thresholds
        for name, least in sorted(thresholds.items(), key=lambda item: item[1]):
            grades[value >= least] = name
        return grades

    def fit(self, X: Table, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Learn how points translate into a probability. Raises OneClassError where all labels are equal."""
        checked = self._checked(X, y, reset=True)
        self.classes_, label, weight = check_labels(checked, y, sample_weight)
        points = self.points(checked)
        self.center_ = float(np.average(points, weights=weight))
        scale = float(np.sqrt(np.average((points - self.center_) ** 2, weights=weight)))
        self.scale_ = scale if scale > 0 else 1.0
        self.calibrator_ = SigmoidCalibrator().fit(expit(self._standardised(points)), label, weight)
        return self

    def decision_function(self, X: Table) -> Floats:
        """Logit of the second class."""
        check_is_fitted(self)
        points = self.points(self._checked(X))
        return np.asarray(self.calibrator_.transform_logit(self._standardised(points)))

    def probability(self, points: npt.ArrayLike) -> Floats:
        """Probability of the second class for given points."""
        check_is_fitted(self)
        standardised = self._standardised(np.asarray(points, dtype=np.float64))
        return np.asarray(expit(self.calibrator_.transform_logit(standardised)))

    def predict_proba(self, X: Table) -> Floats:
        """Probabilities of the two classes; shape (rows, 2)."""
        logit = self.decision_function(X)
        return np.column_stack([expit(-logit), expit(logit)])

    def predict(self, X: Table) -> npt.NDArray[Any]:
        """The likelier class."""
        likelier = (self.decision_function(X) > 0).astype(np.intp)
        return np.asarray(self.classes_[likelier])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.poor_score = True
        tags.input_tags.allow_nan = True
        return tags

    def _standardised(self, points: Floats) -> Floats:
        return (points - self.center_) / self.scale_

    def _rules(self) -> ScorecardConfig:
        if self.config is None:
            raise ConfigError(
                "this scorecard has no rules; give it a ScorecardConfig, or read one with from_yaml"
            )
        return self.config

    def _read(self, X: Table) -> tuple[tuple[Term, ...], pd.DataFrame]:
        """The terms and the table, once it is known to have the columns that they read."""
        terms = self._bound()
        if not isinstance(X, pd.DataFrame):
            raise ValueError(
                "a scorecard with rules reads columns by name; give it the feature table as a DataFrame"
            )
        missing = sorted({term.column for term in terms} - set(X.columns))
        if missing:
            raise ValueError(
                f"the feature table has no column {', '.join(missing)}, which scorecard "
                f"'{self._rules().name}' reads; build it with the feature set that the card was bound to"
            )
        return terms, X

    def _bound(self) -> tuple[Term, ...]:
        if self.terms is None:
            raise ConfigError(
                f"scorecard '{self._rules().name}' does not know its columns yet; use "
                "scorecard.bind(feature_set)"
            )
        return self.terms

    def _checked(self, X: Table, y: npt.ArrayLike | None = None, *, reset: bool = False) -> Table:
        if self.config is None:
            return check_rows(self, X, y, reset=reset)
        read = list(dict.fromkeys(term.column for term in self._bound()))
        if reset:
            self.feature_names_in_, self.n_features_in_ = np.array(read, dtype=object), len(read)
        return X


def _flow(value: Any) -> str:
    """YAML on one line; text that does not come back as it was is escaped."""
    for allow_unicode in (True, False):
        text = yaml.safe_dump(
            value, default_flow_style=True, sort_keys=False, allow_unicode=allow_unicode, width=10_000
        )
        text = text.removesuffix("\n").removesuffix("\n...")
        if "\n" not in text and yaml.safe_load(text) == value:
            break
    return text
