"""The model that MLflow's tools serve: rows of features or of raw history in, probabilities and values out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from convpredict.errors import BundleError
from convpredict.models.bundle import Bundle, load_bundle
from convpredict.models.bundle_files import parse_json

from .checksums import AlteredError, check_files
from .feature_rows import batch_of_features
from .lead_scores import LeadScores
from .mlflow_pyfunc import PythonModel, PythonModelContext, set_model

__all__ = ["LeadModel", "set_model"]


class LeadModel(PythonModel):
    """Scores leads; MLflow calls :meth:`load_context` once and then :meth:`predict`."""

    def __init__(self) -> None:
        self._scores: LeadScores | None = None

    def load_context(self, context: PythonModelContext) -> None:
        """Verify every file of the model directory and read the bundle from it.

        Raises BundleError if a file is not as it was written.
        """
        bundle_folder = Path(context.artifacts["bundle"])
        try:
            check_files(bundle_folder.parents[1], besides="__pycache__/")
        except AlteredError as error:
            raise BundleError(
                f"the model is not loaded, because it is not as it was written: {error}. Copy the model directory anew "
                "from where it was registered, or train again"
            ) from None
        self._scores = LeadScores(load_bundle(bundle_folder), _digest_of(bundle_folder))

    @property
    def bundle(self) -> Bundle:
        """The bundle that scores."""
        return self._loaded.bundle

    @property
    def _loaded(self) -> LeadScores:
        if self._scores is None:
            raise BundleError("the model has no bundle yet; load it with mlflow.pyfunc.load_model")
        return self._scores

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of scores per row of the input, in its order: see ``docs/reference/mlflow_model.md``."""
        scores = self._loaded
        return scores.table(batch_of_features(model_input, scores.bundle), params or {})


def _digest_of(bundle_folder: Path) -> str:
    """The digest as it is written, which no installed version has a say in."""
    return str(parse_json((bundle_folder / "bundle.json").read_text("utf-8"), "bundle.json")["digest"])
