"""A bundle over every feature family, a history, and its leads as the rows that the MLflow model takes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from convpredict.config.base import Duration
from convpredict.features.build import build_features
from convpredict.history.history import History
from convpredict.models.bundle import Bundle
from convpredict.models.conversion import ConversionModel
from convpredict.models.profile_learning import learn_profile
from convpredict.models.scorecard import Scorecard
from convpredict.models.value import ValueModel
from convpredict.training.observations import open_observations
from every_family import every_family_set
from factories import day
from oracle import Rows
from strategies import from_seed, history_of, make_rows

CARD = "{half_life: 7d, rules: [{kind: call, points: 5, within: 7d}, {attribute: source, values: [ads], points: 3}]}"
CUTOFF = day(21.3)


def served_rows() -> Rows:
    return make_rows(from_seed(8), most_leads=300, most_events=10)


def served_bundle(history: History) -> Bundle:
    """Three horizons, a value model, a scorecard and a profile, from labels that follow the features."""
    wanted = every_family_set()
    observed = open_observations(history, CUTOFF).table
    frame = build_features(history, observed, wanted).to_pandas()
    X = frame[list(wanted.model_names)]
    rng = np.random.default_rng(0)
    score = frame["count_7d"] + frame["count_all__kind_call"] + rng.normal(size=len(X))
    models = []
    for number, share in enumerate((0.35, 0.2, 0.5)):
        y = (score > np.quantile(score, 1 - share)).astype(np.int8).to_numpy()
        model = ConversionModel(
            seeds=2,
            n_estimators=10,
            num_leaves=4,
            logistic_weight=0.2 * number,
            random_state=number,
            n_jobs=1,
        )
        models.append(model.fit(X, y, calibration=(X, y, None)))
    amount = np.exp(rng.normal(5, 0.6, len(X)) + score / 8)
    first = models[0]
    profile = learn_profile(first.encoder_.columns, first.encoder_.encode(X), first.predict_proba(X)[:, 1])
    return Bundle(
        "served",
        first,
        wanted,
        Duration("30d"),
        Scorecard.from_yaml(CARD).bind(wanted).fit(X, (score > np.median(score)).astype(np.int8)),
        further={Duration("7d"): models[1], Duration("90d"): models[2]},
        value=ValueModel(family="lognormal").fit(X, amount),
        profile=profile,
    )


def raw_frame(rows: Rows, cutoff: datetime = CUTOFF) -> pd.DataFrame:
    """Every lead that may be observed at the cutoff, one row each, with all that will ever be known of it."""
    observed = open_observations(history_of(rows), cutoff).table["lead_id"].to_pylist()
    by_id = {row[0]: row for row in rows.leads}
    return pd.DataFrame([raw_row(rows, by_id[lead_id], cutoff) for lead_id in observed])


def raw_row(rows: Rows, lead: tuple[Any, ...], cutoff: datetime) -> dict[str, Any]:
    lead_id, created_at, _, attributes = lead
    return {
        "lead_id": lead_id,
        "created_at": created_at.isoformat(),
        "cutoff": cutoff.isoformat(),
        **{name: told(value) for name, value in attributes.items()},
        "interactions": [
            {"kind": kind, "occurred_at": told(occurred_at), "recorded_at": told(recorded_at), **given}
            for owner, occurred_at, kind, recorded_at, given in rows.interactions
            if owner == lead_id
        ],
        "attribute_changes": [
            {
                "attribute": name,
                "value": zoned(name, value),
                "valid_from": told(start),
                "recorded_at": told(late),
            }
            for owner, name, value, start, late in rows.attribute_changes
            if owner == lead_id
        ],
    }


def told(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def zoned(name: str, value: str | None) -> str | None:
    """A change's value; a time without an offset is UTC in a loaded history, and must say so in a raw row."""
    if name != "renewal" or value is None or "+" in value:
        return value
    return f"{value}T00:00:00Z"


def feature_frame(history: History, bundle: Bundle, cutoff: datetime = CUTOFF) -> pd.DataFrame:
    """The feature table of the same leads."""
    observed = open_observations(history, cutoff).table
    return build_features(history, observed, bundle.feature_set).to_pandas()


def served_history() -> tuple[Rows, History]:
    rows = served_rows()
    return rows, history_of(rows)
