"""A fitted model and scorecard judged on the test part of their training set: metrics, predictions, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convpredict.config.base import Duration
from convpredict.config.training import EvaluationConfig
from convpredict.history.notebook_view import list_html, table_html
from convpredict.models.conversion import ConversionModel
from convpredict.models.horizons import non_decreasing
from convpredict.models.scorecard import Scorecard
from convpredict.training.training_set import TrainingSet

from .comparison import evaluate
from .segments import calibration_by_month
from .sentences import state_comparison
from .tables import horizon_cells, metric_cells, value_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Judgement:
    """What the test part says.

    ``metrics``
        the content of ``metrics.json`` (see :func:`.comparison.evaluate`).
    ``predictions``
        one row per test observation: lead_id, cutoff, label (0 or 1), p, scorecard_points (NaN without a
        scorecard).
    ``by_month``
        predicted against observed by month of the cutoff (see :func:`.segments.calibration_by_month`).
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame = field(repr=False)
    by_month: pd.DataFrame = field(repr=False)
    confidence: float = 0.95

    def __repr__(self) -> str:
        return "\n".join(state_comparison(self.metrics))

    def _repr_html_(self) -> str:
        told = list_html(state_comparison(self.metrics)) + table_html(*metric_cells(self.metrics["test"]))
        horizons, value = self.metrics.get("horizons"), self.metrics.get("value")
        told += table_html(*horizon_cells(horizons)) if horizons else ""
        return told + (table_html(*value_cells(value)) if value else "")

    def figures(self) -> dict[str, Figure]:
        """Calibration, gain, score distribution and calibration by month, as Matplotlib figures by name."""
        from .plots import draw_evaluation

        frame = self.predictions
        points = frame["scorecard_points"].to_numpy()
        return draw_evaluation(
            frame["label"].to_numpy(),
            frame["p"].to_numpy(),
            None if np.isnan(points).all() else points,
            frame["lead_id"],
            cutoff=frame["cutoff"],
            confidence=self.confidence,
        )


def judge_test_part(
    training_set: TrainingSet,
    model: ConversionModel,
    scorecard: Scorecard | None,
    config: EvaluationConfig,
    *,
    further: Mapping[Duration, ConversionModel] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Judgement:
    """Judge model and scorecard on the same test observations, with intervals from resampling leads.

    With models of ``further`` horizons, ``metrics["horizons"]`` holds the metrics and counts of every horizon, each
    on the test rows whose own horizon has ended.
    """
    part = training_set.part("test")
    label = training_set.y("test").to_numpy().astype(np.float64)
    p = model.predict_proba(training_set.X("test"))[:, 1]
    points = p_scorecard = None
    if scorecard is not None:
        points = scorecard.points(part)
        p_scorecard = scorecard.probability(points)
    metrics = evaluate(
        label,
        p,
        points,
        p_scorecard,
        part["lead_id"],
        config,
        cutoff=part["cutoff"],
        part="test",
        progress=progress,
    )
    if further:
        metrics["horizons"] = _judge_horizons(training_set, p, further, config)
    predictions = pd.DataFrame(
        {
            "lead_id": part["lead_id"].to_numpy(),
            "cutoff": part["cutoff"].array,
            "label": label.astype(np.int8),
            "p": p,
            "scorecard_points": points if points is not None else np.full(len(p), np.nan),
        }
    )
    by_month = calibration_by_month(label, p, part["cutoff"], part["lead_id"], confidence=config.confidence)
    return Judgement(metrics, predictions, by_month, config.confidence)


def _judge_horizons(
    training_set: TrainingSet,
    p: NDArray[np.float64],
    further: Mapping[Duration, ConversionModel],
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Per horizon, the metrics of its probabilities as they are exported; null where only one class is known."""
    part, X = training_set.part("test"), training_set.X("test")
    primary = training_set.horizons[0]
    probabilities = {horizon: model.predict_proba(X)[:, 1] for horizon, model in further.items()}
    result: dict[str, Any] = {}
    for horizon, values in non_decreasing(primary, {primary: p, **probabilities}).items():
        known = training_set.outcomes("test", horizon)
        ended = known.followed_us >= horizon.microseconds
        label = known.label[ended]
        if not len(label) or label.min() == label.max():
            result[str(horizon)] = None
            continue
        judged = evaluate(label, values[ended], None, None, part["lead_id"][ended], config)["test"]
        result[str(horizon)] = {**judged["model"], "counts": judged["counts"]}
    return result
