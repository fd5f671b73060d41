"""The order of calls: simulate, read, build features, train, compare, score. Decisions are taken below."""

from .data import check_data, simulate_data, write_feature_table
from .scorecards import ScorecardRun, learn_points
from .scoring import ScoringRun, score
from .training import TrainingRun, compare, train

__all__ = [
    "ScorecardRun",
    "ScoringRun",
    "TrainingRun",
    "check_data",
    "compare",
    "learn_points",
    "score",
    "simulate_data",
    "train",
    "write_feature_table",
]
