"""convpredict: learned, calibrated lead scores from histories of lead interactions.

A notebook starts with ``load_project`` and ``load_history`` (or ``history_from_frames``), goes on with
``build_training_set``, fits a ``ConversionModel`` beside a ``Scorecard``, and ends with ``evaluate``. The
names below load on first use, so that importing the package costs nothing.

>>> import convpredict
>>> "load_project" in dir(convpredict)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.load import Project, load_project, parse_project
    from .errors import (
        BundleError,
        ConfigError,
        ConvpredictError,
        DataError,
        LeakageError,
        NotEnoughDataError,
    )
    from .evaluation.calls import replay_calls
    from .evaluation.comparison import evaluate
    from .evaluation.leakage.audit import audit_table, audit_training_set
    from .evaluation.leakage.findings import LeakageReport
    from .evaluation.report.from_run import report_from_run
    from .evaluation.report.render import write_report
    from .features.build import build_features, write_features
    from .features.feature_set import FeatureSet
    from .history.frames import history_from_frames
    from .history.history import History
    from .history.load import load_history
    from .history.simulator.run import simulate
    from .history.simulator.simulation import Simulation
    from .models.bundle import Bundle, load_bundle, write_bundle
    from .models.conversion import ConversionModel
    from .models.fitting import fit_conversion_model
    from .models.reasons import concept_importance, explain_leads
    from .models.scorecard import Scorecard
    from .models.scorecard_learning import learn_scorecard
    from .models.value import ValueModel
    from .models.value_fitting import fit_value_model
    from .scoring.scores import Scores, score_open_leads
    from .training.observations import make_observations, open_observations
    from .training.time_split import TimeSplit
    from .training.training_set import TrainingSet, build_training_set

_HOME = {
    "Bundle": "models.bundle",
    "BundleError": "errors",
    "ConfigError": "errors",
    "ConversionModel": "models.conversion",
    "ConvpredictError": "errors",
    "DataError": "errors",
    "FeatureSet": "features.feature_set",
    "History": "history.history",
    "LeakageError": "errors",
    "LeakageReport": "evaluation.leakage.findings",
    "NotEnoughDataError": "errors",
    "Project": "config.load",
    "Scorecard": "models.scorecard",
    "Scores": "scoring.scores",
    "Simulation": "history.simulator.simulation",
    "TimeSplit": "training.time_split",
    "TrainingSet": "training.training_set",
    "ValueModel": "models.value",
    "audit_table": "evaluation.leakage.audit",
    "audit_training_set": "evaluation.leakage.audit",
    "build_features": "features.build",
    "build_training_set": "training.training_set",
    "concept_importance": "models.reasons",
    "evaluate": "evaluation.comparison",
    "explain_leads": "models.reasons",
    "fit_conversion_model": "models.fitting",
    "fit_value_model": "models.value_fitting",
    "history_from_frames": "history.frames",
    "learn_scorecard": "models.scorecard_learning",
    "load_bundle": "models.bundle",
    "load_history": "history.load",
    "load_project": "config.load",
    "make_observations": "training.observations",
    "open_observations": "training.observations",
    "parse_project": "config.load",
    "replay_calls": "evaluation.calls",
    "report_from_run": "evaluation.report.from_run",
    "score_open_leads": "scoring.scores",
    "simulate": "history.simulator.run",
    "write_bundle": "models.bundle",
    "write_features": "features.build",
    "write_report": "evaluation.report.render",
}

__all__ = [
    "Bundle",
    "BundleError",
    "ConfigError",
    "ConversionModel",
    "ConvpredictError",
    "DataError",
    "FeatureSet",
    "History",
    "LeakageError",
    "LeakageReport",
    "NotEnoughDataError",
    "Project",
    "Scorecard",
    "Scores",
    "Simulation",
    "TimeSplit",
    "TrainingSet",
    "ValueModel",
    "audit_table",
    "audit_training_set",
    "build_features",
    "build_training_set",
    "concept_importance",
    "evaluate",
    "explain_leads",
    "fit_conversion_model",
    "fit_value_model",
    "history_from_frames",
    "learn_scorecard",
    "load_bundle",
    "load_history",
    "load_project",
    "make_observations",
    "open_observations",
    "parse_project",
    "replay_calls",
    "report_from_run",
    "score_open_leads",
    "simulate",
    "write_bundle",
    "write_features",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("convpredict")
    if name not in _HOME:
        raise AttributeError(f"module 'convpredict' has no attribute '{name}'; it has: {', '.join(__all__)}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
