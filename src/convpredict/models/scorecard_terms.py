"""What each rule of a scorecard needs to know of a lead, and how many points it gives for that."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from convpredict.config.features import (
    AgeFeature,
    AttributeFeature,
    CountFeature,
    DecayedFeature,
    Feature,
    RecencyFeature,
)
from convpredict.config.training import ActivityRule, AttributeRule, ScorecardConfig, TimingRule
from convpredict.errors import BundleError, ConfigError
from convpredict.features.declarations import OTHER, FeatureColumn
from convpredict.features.feature_set import FeatureSet

from .calibration import Floats

Rule = ActivityRule | AttributeRule | TimingRule


@dataclass(frozen=True)
class Term:
    """A rule and the feature column that it reads."""

    rule: Rule
    column: str

    def points(self, values: pd.Series[Any]) -> Floats:
        """Points of each row, from the values of the column."""
        if isinstance(self.rule, AttributeRule) and self.rule.values is not None:
            return np.where(values.isin(self.rule.values).to_numpy(), self.rule.points, 0.0)
        number = values.to_numpy(dtype=np.float64, na_value=np.nan)
        if isinstance(self.rule, ActivityRule):
            points = self.rule.points * np.nan_to_num(number)
            limit = self.rule.at_most
            return np.asarray(points if limit is None else np.clip(points, -limit, limit))
        if isinstance(self.rule, TimingRule) and self.rule.days_since == "last_interaction":
            number = np.where(np.isnan(number), np.inf, number)
        return np.where(_between(number, self.rule.at_least, self.rule.below), self.rule.points, 0.0)


def declaration_of(rule: Rule, card: ScorecardConfig) -> Feature:
    """The feature that a rule reads. Values that a rule names get a place of their own, however rare.

    >>> card = ScorecardConfig(rules=[ActivityRule(kind="call", points=5, within="7d")])
    >>> declaration_of(card.rules[0], card)
    CountFeature(by='kind', values=('call',), family='count', windows=(Duration('7d'),))
    """
    if isinstance(rule, AttributeRule):
        return AttributeFeature(attribute=rule.attribute, values=rule.values or ())
    split: dict[str, Any] = {} if rule.kind is None else {"by": "kind", "values": (rule.kind,)}
    if isinstance(rule, TimingRule):
        return AgeFeature() if rule.days_since == "creation" else RecencyFeature(**split)
    if rule.within is not None:
        return CountFeature(windows=(rule.within,), **split)
    if card.half_life is not None:
        return DecayedFeature(half_lives=(card.half_life,), **split)
    return CountFeature(windows=("all",), **split)


def bind_rule(rule: Rule, card: ScorecardConfig, feature_set: FeatureSet) -> Term:
    """Find the column that a rule reads. Raises ConfigError where the feature set cannot answer the rule."""
    declaration = declaration_of(rule, card)
    try:
        columns = feature_set.columns_for(declaration)
    except ConfigError as error:
        raise ConfigError(f"scorecard '{card.name}', rule {describe_rule(rule)}: {error}") from None
    if len(columns) != 1:
        raise ConfigError(
            f"scorecard '{card.name}', rule {describe_rule(rule)}: the feature set has no column for it, so "
            "its points could not be given; build the feature set with extra=scorecard.declarations()"
        )
    _check_type(rule, columns[0], card)
    return Term(rule, columns[0].name)


def _check_type(rule: Rule, column: FeatureColumn, card: ScorecardConfig) -> None:
    if not isinstance(rule, AttributeRule):
        return
    where = f"scorecard '{card.name}', rule {describe_rule(rule)}"
    if rule.values is None and column.type == "category":
        raise ConfigError(
            f"{where}: '{rule.attribute}' is a category, which has no 'at_least' or 'below'; name 'values'"
        )
    if rule.values is not None and column.type == "number":
        raise ConfigError(
            f"{where}: '{rule.attribute}' is a number; give 'at_least' and 'below' instead of 'values'"
        )
    unknown = [value for value in rule.values or () if value not in column.categories or value == OTHER]
    if unknown:
        raise ConfigError(
            f"{where}: {', '.join(map(repr, unknown))} has no category of its own, so its points could not "
            "be given; build the feature set with extra=scorecard.declarations(), or correct the value"
        )


def describe_rule(rule: Rule) -> str:
    """A rule as it stands in YAML.

    >>> describe_rule(TimingRule(days_since="creation", points=10, below=14))
    '{days_since: creation, points: 10, below: 14}'
    """
    entries = rule_to_dict(rule)
    return "{" + ", ".join(f"{key}: {_plain(value)}" for key, value in entries.items()) + "}"


def rule_to_dict(rule: Rule) -> dict[str, Any]:
    """A rule without what it leaves open, whole numbers written as such, the kind or attribute first."""
    stored = rule.model_dump(mode="json", exclude_none=True)
    first = [key for key in ("kind", "attribute", "days_since") if key in stored]
    return {key: whole(stored[key]) for key in [*first, *(key for key in stored if key not in first)]}


def term_to_dict(term: Term) -> dict[str, Any]:
    """Plain text and numbers, for a bundle."""
    return {"column": term.column, "rule": rule_to_dict(term.rule)}


def terms_from_list(stored: Any, card: ScorecardConfig) -> tuple[Term, ...]:
    """Restore the terms of a card. Raises BundleError where they are not those of its rules."""
    rules = [rule_to_dict(rule) for rule in card.rules]
    sound = isinstance(stored, list) and all(
        isinstance(entry, Mapping) and isinstance(entry.get("column"), str) and len(entry) == 2
        for entry in stored
    )
    if not sound or [entry.get("rule") for entry in stored] != rules:
        raise BundleError("the scorecard's columns are not those of its rules: export the bundle anew")
    return tuple(Term(rule, entry["column"]) for rule, entry in zip(card.rules, stored, strict=True))


def unknown_words(card: ScorecardConfig, known: Mapping[str, set[str]]) -> list[str]:
    """Warnings about values that no lead ever had; ``known`` maps ``kind`` and attributes to their values.

    >>> card = ScorecardConfig(rules=[ActivityRule(kind="cal", points=5)])
    >>> print(*unknown_words(card, {"kind": {"call", "mail"}}))
    rule {kind: cal, points: 5}: no interaction has the kind 'cal', so it gives no points; did you mean 'call'?
    """
    warnings = []
    for rule in card.rules:
        if isinstance(rule, AttributeRule):
            wanted, among, what = (
                rule.values or (),
                known.get(rule.attribute, set()),
                f"lead has the {rule.attribute}",
            )
        else:
            wanted, among, what = (
                (rule.kind,) if rule.kind else (),
                known.get("kind", set()),
                "interaction has the kind",
            )
        for word in wanted:
            if word in among:
                continue
            close = difflib.get_close_matches(word, sorted(among), n=1)
            hint = f"did you mean '{close[0]}'?" if close else "correct or remove the rule"
            warnings.append(f"rule {describe_rule(rule)}: no {what} '{word}', so it gives no points; {hint}")
    return warnings


def _between(number: Floats, at_least: float | None, below: float | None) -> npt.NDArray[np.bool_]:
    inside = ~np.isnan(number)
    if at_least is not None:
        inside &= number >= at_least
    if below is not None:
        inside &= number < below
    return inside


def whole(value: Any) -> Any:
    """A float without fraction as an int, anything else as it is.

    >>> whole(40.0), whole(0.5), whole("hot")
    (40, 0.5, 'hot')
    """
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _plain(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
