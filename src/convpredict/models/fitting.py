"""From a training set to a fitted model and scorecard: which rows are used for what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256

import numpy as np
import pandas as pd
import pyarrow as pa

from convpredict.config.base import Duration
from convpredict.config.training import ModelConfig
from convpredict.features.build import build_features
from convpredict.history.history import History
from convpredict.training.training_set import TrainingSet

from .bundle import Bundle
from .completion import EndedRows, OpenRows, microseconds, refit_completed
from .conversion import ConversionModel
from .profile import Profile
from .profile_learning import learn_profile
from .scorecard import Scorecard
from .value import ValueModel

REFERENCE_PARTS = ("test", "recent", "calibrate", "between", "train")
FEWEST_REFERENCE_ROWS, MOST_REFERENCE_ROWS = 500, 200_000


def fit_conversion_model(
    training_set: TrainingSet, config: ModelConfig, *, n_jobs: int | None = None
) -> ConversionModel:
    """Choose capacity on the train part, the calibrator on the later calibrate part, then refit on both.

    The capacity is chosen forward in time inside the train part; the calibrator on rows later than any the
    trees had seen. With ``config.refit`` trees and logistic part are then fitted again on every row whose
    label interval ended before the test part began (train, between and calibrate), keeping the capacity and
    the calibrator's shape, while its level follows the calibrate part: the newest conversions are the most
    like those to come, and some hundred conversions are too few to leave a third of them out.
    """
    horizon = training_set.horizons[0]
    model = ConversionModel.from_config(config, n_jobs=n_jobs).fit(
        training_set.X("train"),
        training_set.y("train"),
        groups=training_set.lead_ids("train").to_numpy(),
        times=training_set.cutoffs("train").to_numpy(),
        horizon_us=horizon.microseconds,
        calibration=(
            training_set.X("calibrate"),
            training_set.y("calibrate"),
            training_set.lead_ids("calibrate").to_numpy(),
        ),
    )
    if not config.refit:
        return model
    if config.immature == "ignore" or not len(training_set.part("recent")):
        return model.refit(
            training_set.X("development"),
            training_set.y("development"),
            recent=(training_set.X("calibrate"), training_set.y("calibrate")),
        )
    return refit_on_completed_rows(model, training_set)


def refit_on_completed_rows(model: ConversionModel, training_set: TrainingSet) -> ConversionModel:
    """Learn again from all rows before the test part, those with an unknown label completed.

    The model was fitted on the train part and calibrated on the calibrate part, so its predictions from there
    on are honest. The level is then set for the time after the test part begins (see ``completion.py``).
    """
    ended, still_open = (training_set.part(part) for part in ("development", "recent"))
    known = training_set.outcomes("recent")
    return refit_completed(
        model,
        EndedRows(
            training_set.X("development"),
            ended["lead_id"].to_numpy(),
            microseconds(ended["cutoff"]),
            training_set.y("development").to_numpy(),
            ended["event_known_after_us"].to_numpy(),
            (ended["split"] != "train").to_numpy(),
        ),
        OpenRows(
            training_set.X("recent"),
            still_open["lead_id"].to_numpy(),
            microseconds(still_open["cutoff"]),
            np.where(known.label == 1, still_open["event_known_after_us"].to_numpy(), -1),
            known.followed_us,
        ),
        horizon_us=training_set.horizons[0].microseconds,
    )


def fit_scorecard(training_set: TrainingSet, scorecard: Scorecard) -> Scorecard:
    """Bind a scorecard to the feature set and learn what its points mean as a probability, before the test part."""
    bound = scorecard.bind(training_set.feature_set)
    return bound.fit(training_set.part("development"), training_set.y("development"))


def fit_profile(training_set: TrainingSet, model: ConversionModel) -> Profile:
    """What the model's inputs and scores look like on the latest rows that it was not trained on.

    Those are the test part. Where it has fewer than 500 rows, the next of the parts recent, calibrate, between and
    train joins it, until there are as many: rows that the model may have learnt from, so :attr:`.Profile.parts` says
    which were used. What came of a row plays no role. Of more than 200,000 rows, as many at equal distances are taken.
    """
    parts: list[str] = []
    rows = pd.Series(False, training_set.frame.index)
    for part in REFERENCE_PARTS:
        own = training_set.frame["split"] == part
        if own.any():
            parts.append(part)
            rows |= own
        if rows.sum() >= FEWEST_REFERENCE_ROWS:
            break
    frame = training_set.frame[rows]
    if len(frame) > MOST_REFERENCE_ROWS:
        frame = frame.iloc[np.linspace(0, len(frame) - 1, MOST_REFERENCE_ROWS).round().astype(np.int64)]
    inputs = frame[list(training_set.feature_set.model_names)]
    cutoffs = frame["cutoff"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    return learn_profile(
        model.encoder_.columns,
        model.encoder_.encode(inputs).astype(np.float32, copy=False),
        model.predict_proba(inputs)[:, 1],
        cutoffs=cutoffs,
        parts=parts,
    )


def fit_night_profile(
    history: History, training_set: TrainingSet, model: ConversionModel, observations: pa.Table
) -> Profile:
    """What the model's inputs and scores look like on nights of the data that are no part of the training.

    ``observations`` are those of :func:`.reference_nights`. Unlike the rows of a training set they lie on every day of
    the week at the hour of the nightly run, so that a Saturday is no drift. With fewer than 500 of them it is
    :func:`fit_profile`.
    """
    if observations.num_rows < FEWEST_REFERENCE_ROWS:
        return fit_profile(training_set, model)
    frame = build_features(history, observations, training_set.feature_set).to_pandas()
    inputs = frame[list(training_set.feature_set.model_names)]
    return learn_profile(
        model.encoder_.columns,
        model.encoder_.encode(inputs).astype(np.float32, copy=False),
        model.predict_proba(inputs)[:, 1],
        cutoffs=frame["cutoff"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(),
        parts=("nights",),
    )


def make_bundle(
    training_set: TrainingSet,
    model: ConversionModel,
    scorecard: Scorecard | None = None,
    further: Mapping[Duration, ConversionModel] | None = None,
    value: ValueModel | None = None,
    *,
    with_profile: bool = True,
) -> Bundle:
    """A fitted model with its feature set and scorecard, named and dated by the training set it came from.

    ``further`` holds the models of further horizons (see :func:`.horizons.fit_further_horizons`),
    ``value`` what a conversion brings (see :func:`.value_fitting.fit_value_model`). Its profile is learnt here
    (:func:`fit_profile`), unless nobody will ask for it.
    """
    manifest = json.dumps(training_set.manifest, sort_keys=True, default=str)
    return Bundle(
        name=str(training_set.manifest["name"]),
        model=model,
        feature_set=training_set.feature_set,
        horizon=training_set.horizons[0],
        scorecard=scorecard,
        created_from=sha256(manifest.encode("utf-8")).hexdigest(),
        further=dict(further or {}),
        outcome=training_set.manifest["outcome"],
        value=value,
        profile=fit_profile(training_set, model) if with_profile else None,
        ages=training_set.learnt_ages,
    )
