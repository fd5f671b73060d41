"""From a training set to a fitted model and scorecard: which rows are used for what."""

from __future__ import annotations

import json
from hashlib import sha256

from convpredict.config.training import ModelConfig
from convpredict.training.training_set import TrainingSet

from .bundle import Bundle
from .conversion import ConversionModel
from .scorecard import Scorecard


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
    if config.refit:
        model.refit(
            training_set.X("development"),
            training_set.y("development"),
            recent=(training_set.X("calibrate"), training_set.y("calibrate")),
        )
    return model


def fit_scorecard(training_set: TrainingSet, scorecard: Scorecard) -> Scorecard:
    """Bind a scorecard to the feature set and learn what its points mean as a probability, before the test part."""
    bound = scorecard.bind(training_set.feature_set)
    return bound.fit(training_set.part("development"), training_set.y("development"))


def make_bundle(
    training_set: TrainingSet, model: ConversionModel, scorecard: Scorecard | None = None
) -> Bundle:
    """A fitted model with its feature set and scorecard, named and dated by the training set it came from."""
    manifest = json.dumps(training_set.manifest, sort_keys=True, default=str)
    return Bundle(
        name=str(training_set.manifest["name"]),
        model=model,
        feature_set=training_set.feature_set,
        horizon=training_set.horizons[0],
        scorecard=scorecard,
        created_from=sha256(manifest.encode("utf-8")).hexdigest(),
    )
