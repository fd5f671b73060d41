"""MLflow's pyfunc, imported quietly and without telemetry."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"})
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's advice to authors of models away from those who only use one."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=r"mlflow\b")
        yield


with quiet():
    from mlflow.models import Model, ModelSignature, set_model
    from mlflow.pyfunc import save_model
    from mlflow.pyfunc.model import PythonModel, PythonModelContext
    from mlflow.types.schema import AnyType, ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

__all__ = [
    "AnyType",
    "ColSpec",
    "Model",
    "ModelSignature",
    "ParamSchema",
    "ParamSpec",
    "PythonModel",
    "PythonModelContext",
    "Schema",
    "TensorSpec",
    "quiet",
    "save_model",
    "set_model",
]
