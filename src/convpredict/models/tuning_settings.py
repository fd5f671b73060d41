"""Which settings are tuned, within which ranges, where the search starts, and the section that it ends in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convpredict.config.training import ModelConfig

from .trees import _canonical, default_parameters

SEARCHED = ("num_leaves", "learning_rate", "lambda_l2", "feature_fraction", "min_sum_hessian_in_leaf")
"""What is tuned: size, speed, shrinkage, share of columns, least leaf.

The number of trees and the weight of the logistic part come with each trial: they are read off the validation.
"""


RANGES = {
    "num_leaves": (3, 63),
    "learning_rate": (0.01, 0.1),
    "lambda_l2": (0.1, 100.0),
    "feature_fraction": (0.05, 1.0),
    "min_sum_hessian_in_leaf": (1.0, 100.0),
}
_LEAST = 1e-3


def configured_settings(config: ModelConfig, n_columns: int) -> dict[str, float | int]:
    """The first trial, which tuning has to beat: what the configuration sets, and the model's defaults elsewhere.

    A configured 0 counts as 0.001: the search is on a logarithmic scale.

    >>> configured_settings(ModelConfig(num_leaves=15, lightgbm={"reg_lambda": 9.0}), 150)["lambda_l2"]
    9.0
    """
    leaves = {} if config.num_leaves == "auto" else {"num_leaves": config.num_leaves}
    given = {
        **default_parameters(n_columns),
        "learning_rate": config.learning_rate,
        **leaves,
        **_canonical(config.lightgbm),
    }
    return {name: max(given[name], _LEAST) for name in SEARCHED}


def not_searched(config: ModelConfig) -> dict[str, Any]:
    """What the configuration gives LightGBM beside the settings that are tuned, under whatever name.

    >>> not_searched(ModelConfig(lightgbm={"reg_lambda": 9.0, "max_bin": 15}))
    {'max_bin': 15}
    """
    return {key: value for key, value in _canonical(config.lightgbm).items() if key not in SEARCHED}


def model_section(
    config: ModelConfig, found: Mapping[str, Any], n_estimators: int, logistic_weight: float
) -> dict[str, Any]:
    """The configured section ``model`` with the tuned settings in place of its own."""
    lightgbm = {key: found[key] for key in ("lambda_l2", "feature_fraction", "min_sum_hessian_in_leaf")}
    return {
        **config.model_dump(mode="json", exclude_defaults=True),
        "num_leaves": int(found["num_leaves"]),
        "n_estimators": n_estimators,
        "learning_rate": float(found["learning_rate"]),
        "logistic_weight": logistic_weight,
        "lightgbm": {**not_searched(config), **lightgbm},
    }
