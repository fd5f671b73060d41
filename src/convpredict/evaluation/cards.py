"""A learnt scorecard beside the full model and the hand-set card, on the same test observations."""

from __future__ import annotations

from typing import Any

import numpy as np

from convpredict.config.training import EvaluationConfig
from convpredict.models.conversion import ConversionModel
from convpredict.models.scorecard import Scorecard
from convpredict.training.training_set import TrainingSet

from .comparison import evaluate

_STATED = (("auc", "AUC", 1), ("log_loss", "log loss", -1))


def compare_cards(
    training_set: TrainingSet,
    model: ConversionModel,
    learnt: Scorecard,
    hand_set: Scorecard | None,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Metrics of the test part, by pair.

    ``model``: the full model beside the learnt card; ``hand_set``: the learnt card beside the hand-set one. Both
    as :func:`.comparison.evaluate` gives them for one part: the first of the pair stands under ``model``, the second
    under ``scorecard``, and the difference is the first less the second.
    """
    part = training_set.part("test")
    label = training_set.y("test").to_numpy(np.float64)
    points = learnt.points(part)
    p_learnt = learnt.probability(points)
    leads, cutoffs = part["lead_id"], part["cutoff"]
    p_model = model.predict_proba(training_set.X("test"))[:, 1]
    result = {
        "model": evaluate(label, p_model, points, p_learnt, leads, config, cutoff=cutoffs)["test"],
    }
    if hand_set is not None:
        old = hand_set.points(part)
        p_old = hand_set.probability(old)
        result["hand_set"] = evaluate(label, p_learnt, old, p_old, leads, config, cutoff=cutoffs)["test"]
    return result


def state_cards(metrics: dict[str, Any]) -> list[str]:
    """What the intervals support, in sentences: what points cost against the model, what they gain over old ones."""
    sentences = []
    for pair, first, second in (
        ("model", "the full model", "the learnt points"),
        ("hand_set", "the learnt points", "the hand-set points"),
    ):
        if pair in metrics:
            sentences += [_state(metrics[pair], *entry, first, second) for entry in _STATED]
    return sentences


def _state(found: dict[str, Any], name: str, label: str, sign: int, first: str, second: str) -> str:
    ours, theirs, gap = (found[who][name] for who in ("model", "scorecard", "difference"))
    text = f"{label[0].upper()}{label[1:]}: {first} {ours['value']:.4f}, {second} {theirs['value']:.4f}"
    if gap["low"] is None or gap["high"] is None:
        return f"{text}; too few conversions for an interval."
    level = f"{100 * found['interval']['confidence']:.4g} %"
    text += f"; difference {gap['value']:+.4f}, {level} interval {gap['low']:+.4f} to {gap['high']:+.4f}"
    if gap["low"] <= 0 <= gap["high"]:
        return f"{text}, which includes no difference."
    return f"{text}: {first if sign * gap['low'] > 0 else second} are better.".replace(
        "the full model are", "the full model is"
    )
