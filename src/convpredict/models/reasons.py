"""Reasons for and against: the concepts that moved a lead's probability most, each with the fact behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from convpredict.config.reasons import Locale, Names
from convpredict.features.declarations import FeatureColumn
from convpredict.features.rates import NEVER

from .bundle import Bundle
from .calibration import Floats
from .contributions import Contributions, Explainer, concept_contributions
from .reason_facts import Fact, Row, Subject, Value, fact_of, subject_of
from .reason_phrases import Phrases, shorten

SMALLEST = 0.05
"""Contributions below this on the logit are not told: they change the odds by less than 5 %."""

_HARD_TO_PICTURE = frozenset({"decayed", "trend", "gap", "repeat", "share", "calendar"})
_PICTURED_FROM = 0.5
_CLEAR_RANK_CORRELATION = 0.3
REASON_SCHEMA = pa.schema(
    [
        ("reasons_for", pa.list_(pa.string())),
        ("reasons_against", pa.list_(pa.string())),
        (
            "reason_contributions",
            pa.list_(pa.struct([("concept", pa.string()), ("contribution", pa.float64())])),
        ),
    ]
)


@dataclass(frozen=True)
class _Told:
    """One concept of one lead: its contribution, and the position of the column that tells it."""

    concept: int
    contribution: float
    column: int


def explain_leads(
    model: Bundle | Explainer,
    features: pd.DataFrame,
    *,
    columns: Sequence[FeatureColumn] | None = None,
    locale: Locale = "en",
    top: int = 3,
    names: Names | None = None,
    averages: Mapping[int, float] | None = None,
    n_jobs: int | None = None,
) -> pa.Table:
    """The ``top`` reasons for and against the conversion of each lead, strongest first.

    ``features`` is a feature table of the bundle's feature set; its column ``cutoff``, if it is there, lets
    facts say "yesterday" (days are UTC). An :class:`Explainer` may stand for the bundle, which saves preparing
    its trees again, with ``columns`` = ``bundle.feature_set.model_columns``. ``names`` are the user's words in
    the locale, ``averages`` the conversion rate of all leads by the span of the rate in µs.

    Returns one row per lead: ``reasons_for`` and ``reasons_against`` (list of text, at most 120 characters
    each), and ``reason_contributions`` (list of concept and contribution to the calibrated logit: those for,
    then those against, in the same order). Concepts below :data:`SMALLEST` are left out; of equal ones the
    first in the feature set comes first. Raises BundleError where the features lack a column.
    """
    explainer = Explainer(model) if isinstance(model, Bundle) else model
    known = tuple(model.feature_set.model_columns if isinstance(model, Bundle) else columns or ())
    parts = explainer.contributions(features, n_jobs=n_jobs)
    concepts, concept_of = concept_contributions(parts, known)
    told = _tell(parts, concepts, concept_of, known, top)
    writer = _Writer(features, known, Phrases(locale, names), averages or {})
    rows = [
        {
            "reasons_for": [writer.text(row, entry) for entry in entries if entry.contribution > 0],
            "reasons_against": [writer.text(row, entry) for entry in entries if entry.contribution < 0],
            "reason_contributions": [
                {"concept": concepts.names[entry.concept], "contribution": entry.contribution}
                for entry in entries
            ],
        }
        for row, entries in enumerate(told)
    ]
    return pa.Table.from_pylist(rows, schema=REASON_SCHEMA)


def concept_importance(
    bundle: Bundle, features: pd.DataFrame, *, contributions: Contributions | None = None
) -> pd.DataFrame:
    """How much each concept moves the calibrated logit over the rows of ``features``, strongest first.

    Columns: ``concept``; ``importance``, the mean absolute contribution; ``share`` of all importance;
    ``column`` and ``label`` of its main column, the one with the greatest mean absolute contribution;
    ``direction`` of that: "higher is likelier" or "higher is less likely" where value and contribution have a
    rank correlation of at least 0.3 in size, "mixed" below, and "by value" for a category.
    """
    known = bundle.feature_set.model_columns
    parts = contributions if contributions is not None else Explainer(bundle).contributions(features)
    concepts, concept_of = concept_contributions(parts, known)
    importance = np.abs(concepts.values).mean(axis=0)
    by_column = np.abs(parts.values).mean(axis=0)
    total = float(importance.sum()) or 1.0
    rows = []
    for concept in np.argsort(-importance, kind="stable"):
        members = np.flatnonzero(concept_of == concept)
        main = int(members[np.argmax(by_column[members])])
        rows.append(
            {
                "concept": concepts.names[concept],
                "importance": float(importance[concept]),
                "share": float(importance[concept]) / total,
                "column": known[main].name,
                "label": known[main].label,
                "direction": _direction(features[known[main].name], known[main], parts.values[:, main]),
            }
        )
    return pd.DataFrame(rows, columns=["concept", "importance", "share", "column", "label", "direction"])


def _direction(values: pd.Series, column: FeatureColumn, contribution: Floats) -> str:
    if column.type == "category":
        return "by value"
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    there = ~np.isnan(numbers)
    ranks = [pd.Series(x[there]).rank().to_numpy() for x in (numbers, contribution)]
    if any(len(x) < 2 or x.std() == 0 for x in ranks):
        return "mixed"
    correlation = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    if abs(correlation) < _CLEAR_RANK_CORRELATION:
        return "mixed"
    return "higher is likelier" if correlation > 0 else "higher is less likely"


def _tell(
    parts: Contributions,
    concepts: Contributions,
    concept_of: npt.NDArray[np.intp],
    columns: Sequence[FeatureColumn],
    top: int,
) -> list[list[_Told]]:
    """The concepts to tell of each row, for before against, and the column that tells each.

    That is the column whose contribution in the concept's direction is greatest, where columns that are hard to
    picture (weighted counts, trends, rhythm) count half.
    """
    weight = np.array([_PICTURED_FROM if c.declaration.family in _HARD_TO_PICTURE else 1.0 for c in columns])
    members = [np.flatnonzero(concept_of == concept) for concept in range(len(concepts.names))]
    result: list[list[_Told]] = []
    order_for = np.argsort(-concepts.values, axis=1, kind="stable")[:, :top]
    order_against = np.argsort(concepts.values, axis=1, kind="stable")[:, :top]
    for row, totals in enumerate(concepts.values):
        entries = []
        for order, sign in ((order_for, 1.0), (order_against, -1.0)):
            for concept in order[row]:
                if sign * totals[concept] < SMALLEST:
                    break
                inside = members[concept]
                column = inside[np.argmax(sign * parts.values[row, inside] * weight[inside])]
                entries.append(_Told(int(concept), float(totals[concept]), int(column)))
        result.append(entries)
    return result


class _Writer:
    """Writes the facts of a feature table's rows."""

    def __init__(
        self,
        features: pd.DataFrame,
        columns: Sequence[FeatureColumn],
        phrases: Phrases,
        averages: Mapping[int, float],
    ) -> None:
        self._columns, self._phrases, self._averages = columns, phrases, averages
        self._values = [_plain_values(features[column.name], column) for column in columns]
        self._recency: dict[Subject, int] = {}
        self._counts: dict[Subject, list[int]] = {}
        self._attributes: dict[str, int] = {}
        for position, column in enumerate(columns):
            declaration = column.declaration
            if declaration.family == "recency":
                self._recency[subject_of(column)] = position
            elif declaration.family == "count":
                self._counts.setdefault(subject_of(column), []).append(position)
            elif declaration.family == "attribute" and column.type == "category":
                self._attributes[declaration.attribute] = position
        for positions in self._counts.values():
            positions.sort(key=lambda position: columns[position].window_us or NEVER)
        self._cutoff_us = _microseconds(features["cutoff"]) if "cutoff" in features.columns else None

    def text(self, row: int, entry: _Told) -> str:
        """The fact behind one reason."""
        column = self._columns[entry.column]
        value = self._values[entry.column][row]
        fact = Fact(column, value, entry.contribution > 0, self._row(row, subject_of(column)), self._phrases)
        return shorten(fact_of(fact))

    def _row(self, row: int, subject: Subject) -> Row:
        """What there is to know of a lead beside the column that is told."""
        days = {}
        if subject in self._recency:
            days[subject] = _number(self._values[self._recency[subject]][row])
        counts = {
            self._columns[place].window_us: _number(self._values[place][row]) or 0.0
            for place in self._counts.get(subject, ())
        }
        return Row(
            days_since=days,
            counts={subject: counts},
            attributes={name: self._values[place][row] for name, place in self._attributes.items()},
            cutoff_us=None if self._cutoff_us is None else int(self._cutoff_us[row]),
            average=self._averages,
        )


def _number(value: Value) -> float | None:
    return None if not isinstance(value, float) or np.isnan(value) else value


def _plain_values(values: pd.Series, column: FeatureColumn) -> list[Value]:
    if column.type == "category":
        return [None if pd.isna(value) else str(value) for value in values.tolist()]
    return [float(value) for value in values.to_numpy(dtype=np.float64, na_value=np.nan)]


def _microseconds(cutoffs: pd.Series) -> npt.NDArray[np.int64]:
    instants = pd.to_datetime(cutoffs, utc=True).dt.as_unit("us")
    return np.asarray(instants.astype("int64").to_numpy(), dtype=np.int64)
