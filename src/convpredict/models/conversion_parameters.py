"""The ranges of the parameters of a conversion model, those that a configuration may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .calibration import CALIBRATOR_NAMES
from .inputs import check_random_state, is_auto, is_number, is_whole, require

if TYPE_CHECKING:
    from .conversion import ConversionModel

_MOST_SEEDS = 50


def check_parameters(model: ConversionModel) -> None:
    """Raise ParameterError for a parameter of a wrong type or out of its range, with what it is for."""
    trees, leaves, seeds, weight = model.n_estimators, model.num_leaves, model.seeds, model.logistic_weight
    require(
        is_auto(trees) or is_whole(trees, 1),
        "n_estimators",
        trees,
        "a whole number from 1 on, or 'auto'",
        "it is the number of trees; 150 do for little data",
    )
    require(
        is_auto(leaves) or is_whole(leaves, 2),
        "num_leaves",
        leaves,
        "a whole number from 2 on, or 'auto'",
        "a tree of one leaf tells no two leads apart; 7 do for little data",
    )
    require(
        is_auto(weight) or (is_number(weight) and 0 <= float(weight) <= 1),
        "logistic_weight",
        weight,
        "a number from 0 to 1, or 'auto'",
        "it is the logistic part's share of the logit, and the trees have the rest; take 0 for trees alone",
    )
    require(
        is_number(model.learning_rate) and 0 < model.learning_rate <= 1,
        "learning_rate",
        model.learning_rate,
        "a number above 0, at most 1",
        "it is how much of its correction each tree makes; the default is 0.03",
    )
    require(
        is_auto(seeds) or is_whole(seeds, 1, _MOST_SEEDS),
        "seeds",
        seeds,
        f"a whole number from 1 to {_MOST_SEEDS}, or 'auto'",
        "it is how many models are averaged, and without one there are no predictions; 5 do",
    )
    names = () if isinstance(model.calibrators, str) else model.calibrators
    require(
        isinstance(names, Sequence) and len(names) > 0 and all(name in CALIBRATOR_NAMES for name in names),
        "calibrators",
        model.calibrators,
        f"a list of some of {', '.join(CALIBRATOR_NAMES)}",
        "one of them is chosen; give ['none'] to leave the probabilities as they are",
    )
    for option in ("monotone", "lightgbm"):
        given = getattr(model, option)
        require(
            given is None or isinstance(given, Mapping),
            option,
            given,
            "a dict, or None",
            "correct it, or leave it out",
        )
    require(
        model.n_jobs is None or (isinstance(model.n_jobs, int | np.integer) and model.n_jobs != 0),
        "n_jobs",
        model.n_jobs,
        "a whole number but 0, or None",
        "it is the number of threads; -1 takes all processors",
    )
    check_random_state(model.random_state)
