"""From what a training run has at hand to the inputs of its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from convpredict.features.labels import slug

from .inputs import ReportInputs

if TYPE_CHECKING:
    from convpredict.config.training import EvaluationConfig
    from convpredict.models.conversion import ConversionModel
    from convpredict.training.training_set import TrainingSet

    from ..judgement import Judgement

MOST_SEGMENTS = 3


def report_from_run(
    run_id: str,
    training_set: TrainingSet,
    judgement: Judgement,
    *,
    config: EvaluationConfig,
    model: ConversionModel | None = None,
    validation: Mapping[str, Any] | None = None,
    importance: pd.DataFrame | None = None,
    leakage: Mapping[str, Any] | None = None,
    value: Mapping[str, Any] | None = None,
    expected_value: ArrayLike | None = None,
    currency: str = "",
    notes: tuple[str, ...] = (),
    test_looks: int | None = None,
) -> ReportInputs:
    """The inputs of a run's report.

    Parameters
    ----------
    training_set, judgement : of the run; the blocks ``calls``, ``horizons`` and ``value`` of the metrics are
        used where they are there
    config : ``evaluation`` of the configuration: segments, calls a week, resamples
    model : for the model card
    validation, leakage : ``to_dict()`` of the reports on the history and on leaks
    importance : frame with concept, mean_abs and direction
    value : deciles and metrics of the value model (default: the metrics' block)
    expected_value : array of shape (test rows,), p times value
    """
    predictions = judgement.predictions.copy()
    part = training_set.part("test")
    if expected_value is not None:
        predictions["expected_value"] = np.asarray(expected_value, np.float64)
    if "revenue" in part:
        predictions["revenue"] = part["revenue"].to_numpy(np.float64)
    metrics = judgement.metrics
    return ReportInputs(
        name=str(training_set.manifest["name"]),
        run_id=run_id,
        horizon=str(training_set.horizons[0]),
        metrics=metrics,
        predictions=predictions,
        segments=choose_segments(training_set, config.segments),
        manifest=training_set.manifest,
        validation=validation,
        model_card=describe_model(model) if model is not None else None,
        importance=importance,
        leakage=leakage,
        value=value if value is not None else metrics.get("value"),
        horizons=metrics.get("horizons"),
        calls=metrics.get("calls"),
        calls_per_week=config.calls_per_week,
        currency=currency,
        notes=notes,
        test_looks=test_looks,
        resamples=min(config.resamples, 200),
        seed=config.seed,
    )


def choose_segments(training_set: TrainingSet, wanted: tuple[str, ...] | None) -> pd.DataFrame | None:
    """The test rows' lead attributes to show results by, as they were visible at the cutoff.

    Without ``wanted`` the first three categories; where leads have none, the newest categories of their
    interactions. Attributes that are no feature are left out. None: there is nothing to show.
    """
    part = training_set.part("test")
    categories = [
        str(name) for name in part if isinstance(part[name].dtype, pd.CategoricalDtype) and name != "split"
    ]
    attributes = {
        name.removeprefix("attribute_"): name for name in categories if name.startswith("attribute_")
    }
    if wanted is not None:
        chosen = {name: attributes[slug(name)] for name in wanted if slug(name) in attributes}
    else:
        if not attributes:
            attributes = {
                name.removesuffix("_1").replace("_", " "): name
                for name in categories
                if name.startswith("last_") and name.endswith("_1")
            }
        chosen = dict(list(attributes.items())[:MOST_SEGMENTS])
    if not chosen:
        return None
    frame = pd.DataFrame({title: part[name].array for title, name in chosen.items()})
    return frame.reset_index(drop=True)


def describe_model(model: ConversionModel) -> dict[str, Any]:
    """The model card's facts: capacity, calibrator, and on what grounds they were chosen."""
    selection = dict(model.selection_)
    capacity = model.capacity_
    card: dict[str, Any] = {
        "kind": "gradient-boosted trees and a logistic part, added on the logit, then calibrated",
        "trees": int(capacity.n_estimators),
        "leaves_per_tree": int(capacity.num_leaves),
        "weight_of_the_logistic_part": float(capacity.logistic_weight),
        "learning_rate": float(model.learning_rate),
        "size_was": {
            "validated": "chosen by validation forward in time and by lead, inside the training part",
        }.get(str(selection.get("reason")), str(selection.get("reason", "set by hand"))),
    }
    if selection.get("validation_rows"):
        card["validated_on"] = (
            f"{selection['validation_rows']:,} observations, {selection['validation_positives']:,} of them converting"
        )
    losses = dict(model.calibration_log_loss_)
    card["calibrator"] = str(getattr(model.calibrator_, "name", type(model.calibrator_).__name__))
    if losses:
        card["log_loss_of_the_calibrators"] = {name: float(loss) for name, loss in losses.items()}
        card["calibrator_was"] = (
            "the simplest within one standard error of the best, cross-validated in the calibrate part"
        )
    if hasattr(model, "n_features_in_"):
        card["features"] = int(model.n_features_in_)
    return card
