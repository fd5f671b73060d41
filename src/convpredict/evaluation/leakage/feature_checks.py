"""Features that are too good: by themselves, or only in the last day before the outcome."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convpredict.features.build import build_features
from convpredict.history.history import History
from convpredict.training.lead_times import LeadTimes
from convpredict.training.observations import observation_table
from convpredict.training.training_set import TrainingSet

from .columns import column_of, score_bins
from .findings import Finding, Public
from .statistics import Bools, Floats, auc_influence, critical_value, stratified_auc
from .view import DAY_US, sampled_rows

FEATURE_SEVERE = 0.95
FEATURE_WARNING = 0.90
COLLAPSE_LEAST_AUC = 0.80
COLLAPSE_SEVERE = 0.20
COLLAPSE_WARNING = 0.10
_MOST_ROWS = 20_000
_MOST_REBUILT = 8_000
_LEAST_POSITIVES = 30


def check_features(training_set: TrainingSet, known: frozenset[str]) -> Iterator[Finding]:
    """Features that alone rank the observations of the train part almost perfectly; ``known`` are found already."""
    rows, label, lead = _sample(training_set, _MOST_ROWS)
    if label.sum() < _LEAST_POSITIVES:
        return
    columns = training_set.feature_set.model_columns
    z = critical_value(len(columns))
    expected = np.full(len(label), label.mean())
    stratum = np.zeros(len(label), np.intp)
    for feature in columns:
        source = feature.declaration
        read = {
            getattr(source, "attribute", None),
            getattr(source, "key", None),
            *getattr(source, "keys", ()),
        }
        if known & read or feature.concept in known:
            continue
        column = column_of(
            feature.name, rows[feature.name], "number" if feature.type == "number" else "category"
        )
        score = score_bins(column.bins(), label, expected, lead)
        strength = stratified_auc(score, label, stratum, z, lead)
        if strength.low < FEATURE_WARNING:
            continue
        evidence, public = (
            f"{named} alone ranks the observations that convert first with an AUC of "
            f"{strength.auc:.3f} [{strength.low:.3f}, {strength.high:.3f}]."
            for named in (f"'{feature.name}' ({feature.label})", f"'{feature.name}'")
        )
        remedy = (
            f"Look at where '{feature.name}' comes from and when it is written; leave it out (features.exclude) or "
            "date it (recorded_at, attribute_changes)."
        )
        yield Finding(
            "strong_feature",
            (feature.name,),
            "severe" if strength.low >= FEATURE_SEVERE else "warning",
            evidence,
            "No honest feature is that good by itself; one that is written with the outcome is.",
            remedy,
            {"auc": strength.auc, "auc_low": strength.low, "auc_high": strength.high},
            public=Public(feature.name, public, remedy),
        )


def check_collapse(history: History, training_set: TrainingSet) -> Iterator[Finding]:
    """Whether a quick model loses most of its skill when features are cut one day earlier.

    Half of the leads teach, the other half judges: once with the features as they are, once with those of
    the day before, the same rows and the same model.
    """
    rows, label, lead = _sample(training_set, _MOST_REBUILT)
    lead_row = _lead_rows(history, rows)
    cutoff = rows["cutoff"].dt.as_unit("us").to_numpy("datetime64[us]").astype(np.int64)
    old_enough = cutoff - DAY_US > LeadTimes.of(history).created_at[lead_row]
    if (label & old_enough).sum() < _LEAST_POSITIVES:
        return
    rows, label, lead = rows[old_enough], label[old_enough], lead[old_enough]
    lead_row, cutoff = lead_row[old_enough], cutoff[old_enough]
    earlier = build_features(
        history,
        observation_table(history, lead_row.astype(np.int32), cutoff - DAY_US),
        training_set.feature_set,
    ).to_pandas()
    names = list(training_set.feature_set.model_names)
    judged = np.random.default_rng(0).permutation(int(lead.max()) + 1)[lead] % 2 == 1
    if min(label[judged].sum(), label[~judged].sum()) < _LEAST_POSITIVES / 2:
        return
    now, before = _quick_scores(rows[names], earlier[names], label, judged)
    now_auc, before_auc, drop, error = _difference(now, before, label[judged], lead[judged])
    lost = drop - critical_value(1) * error
    if now_auc < COLLAPSE_LEAST_AUC or lost < COLLAPSE_WARNING or before_auc - 0.5 > 0.6 * (now_auc - 0.5):
        return
    yield Finding(
        "collapse",
        ("cutoff",),
        "severe" if lost >= COLLAPSE_SEVERE and now_auc >= FEATURE_WARNING else "warning",
        f"a quick model's AUC falls from {now_auc:.3f} to {before_auc:.3f} when the features are cut one day earlier "
        f"({int(label[judged].sum()):,} positives).",
        "What is known only on the last day is mostly part of the outcome, and no lead list can act on it.",
        "Look for interactions that are logged with the conversion (findings outcome_event), or observe leads on a "
        "calendar grid (observations.cutoffs) instead of right after interactions.",
        {"auc": now_auc, "auc_day_before": before_auc, "drop": drop, "drop_low": lost},
    )


def _sample(training_set: TrainingSet, most_rows: int) -> tuple[pd.DataFrame, Bools, NDArray[np.intp]]:
    """Train rows of a fixed sample of leads, their labels, and the number of each row's lead."""
    part = training_set.part("train")
    lead, ids = pd.factorize(part["lead_id"])
    kept = sampled_rows(len(ids), max(1, int(len(ids) * min(1.0, most_rows / max(len(part), 1)))))
    chosen = np.isin(lead, kept)
    rows = part[chosen].reset_index(drop=True)
    label = training_set.y("train")[chosen].to_numpy() == 1
    return rows, label, np.unique(lead[chosen], return_inverse=True)[1]


def _lead_rows(history: History, rows: pd.DataFrame) -> NDArray[np.int64]:
    position = pd.Index(history.leads["lead_id"].to_pandas())
    return np.asarray(position.get_indexer(rows["lead_id"]), np.int64)


def _quick_scores(
    now: pd.DataFrame, before: pd.DataFrame, label: Bools, judged: Bools
) -> tuple[Floats, Floats]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    coded = [_coded(frame) for frame in (now, before)]
    low, high = (
        np.nanmin(np.nan_to_num(coded[0][~judged]), axis=0),
        np.nanmax(np.nan_to_num(coded[0][~judged]), axis=0),
    )
    varies = (low < high) & ~np.isnan(coded[0][~judged]).all(axis=0)
    coded = [matrix[:, varies] for matrix in coded]
    model = HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=8, learning_rate=0.15, early_stopping=False, random_state=0
    )
    model.fit(coded[0][~judged], label[~judged])
    first, second = (model.predict_proba(matrix[judged])[:, 1] for matrix in coded)
    return first, second


def _coded(frame: pd.DataFrame) -> Floats:
    columns = [
        frame[name].cat.codes.to_numpy(np.float64)
        if isinstance(frame[name].dtype, pd.CategoricalDtype)
        else frame[name].to_numpy(np.float64)
        for name in frame
    ]
    return np.column_stack(columns)


def _difference(
    now: Floats, before: Floats, label: Bools, lead: NDArray[np.intp]
) -> tuple[float, float, float, float]:
    stratum = np.zeros(len(label), np.intp)
    first, error_first = auc_influence(now, label, stratum, lead)
    second, error_second = auc_influence(before, label, stratum, lead)
    if error_first is None or error_second is None:
        return first, second, 0.0, 1.0
    return first, second, first - second, float(np.sqrt(((error_first - error_second) ** 2).sum()))
