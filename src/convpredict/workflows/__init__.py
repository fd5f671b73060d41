"""The order of calls: simulate, read, build features, train, compare, score. Decisions are taken below."""

from .backtesting import BacktestRun, backtest
from .data import check_data, simulate_data, write_feature_table
from .leakage import find_leaks
from .scorecards import ScorecardRun, learn_points
from .scoring import ScoringRun, score
from .training import TrainingRun, compare, train
from .tuning import TuningRun, tune

__all__ = [
    "BacktestRun",
    "ScorecardRun",
    "ScoringRun",
    "TrainingRun",
    "TuningRun",
    "backtest",
    "check_data",
    "compare",
    "find_leaks",
    "learn_points",
    "score",
    "simulate_data",
    "train",
    "tune",
    "write_feature_table",
]
