"""The order of calls: simulate, read, build features, train, compare, score. Decisions are taken below."""

from .backtesting import BacktestRun, backtest
from .data import check_data, simulate_data, write_feature_table
from .forgetting import Forgetting, forget
from .leakage import find_leaks
from .ledger import ExplainedScore, MissesFound, explain, find_mis_scored
from .monitoring import MonitoringRun, RetrainRun, monitor, retrain_if
from .nightly import nightly, nights_text, worst_exit_code
from .promoting import ModelList, PromotionRun, RollbackRun, list_models, promote, rollback
from .scorecards import ScorecardRun, learn_points
from .scoring import ScoringRun, score
from .tracked_runs import register_run
from .training import TrainingRun, compare, train
from .tuning import TuningRun, tune

__all__ = [
    "BacktestRun",
    "ExplainedScore",
    "Forgetting",
    "MissesFound",
    "ModelList",
    "MonitoringRun",
    "PromotionRun",
    "RetrainRun",
    "RollbackRun",
    "ScorecardRun",
    "ScoringRun",
    "TrainingRun",
    "TuningRun",
    "backtest",
    "check_data",
    "compare",
    "explain",
    "find_leaks",
    "find_mis_scored",
    "forget",
    "learn_points",
    "list_models",
    "monitor",
    "nightly",
    "nights_text",
    "promote",
    "register_run",
    "retrain_if",
    "rollback",
    "score",
    "simulate_data",
    "train",
    "tune",
    "worst_exit_code",
    "write_feature_table",
]
