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
    from .errors import BundleError, ConfigError, ConvpredictError, DataError, NotEnoughDataError
    from .evaluation.comparison import evaluate
    from .features.build import build_features, write_features
    from .features.feature_set import FeatureSet
    from .history.frames import history_from_frames
    from .history.history import History
    from .history.load import load_history
    from .history.simulator.run import simulate
    from .history.simulator.simulation import Simulation
    from .models.bundle import Bundle, load_bundle, write_bundle
    from .models.conversion import ConversionModel
    from .models.scorecard import Scorecard
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
    "NotEnoughDataError": "errors",
    "Project": "config.load",
    "Scorecard": "models.scorecard",
    "Scores": "scoring.scores",
    "Simulation": "history.simulator.simulation",
    "TimeSplit": "training.time_split",
    "TrainingSet": "training.training_set",
    "build_features": "features.build",
    "build_training_set": "training.training_set",
    "evaluate": "evaluation.comparison",
    "history_from_frames": "history.frames",
    "load_bundle": "models.bundle",
    "load_history": "history.load",
    "load_project": "config.load",
    "make_observations": "training.observations",
    "open_observations": "training.observations",
    "parse_project": "config.load",
    "score_open_leads": "scoring.scores",
    "simulate": "history.simulator.run",
    "write_bundle": "models.bundle",
    "write_features": "features.build",
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
    "NotEnoughDataError",
    "Project",
    "Scorecard",
    "Scores",
    "Simulation",
    "TimeSplit",
    "TrainingSet",
    "build_features",
    "build_training_set",
    "evaluate",
    "history_from_frames",
    "load_bundle",
    "load_history",
    "load_project",
    "make_observations",
    "open_observations",
    "parse_project",
    "score_open_leads",
    "simulate",
    "write_bundle",
    "write_features",
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
