"""The model that MLflow's tools serve: rows of features or of raw history in, probabilities and values out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from convpredict.errors import BundleError, DataError
from convpredict.features.raw_leads import RawFeatures
from convpredict.models.bundle import load_bundle
from convpredict.models.bundle_files import parse_json
from convpredict.training.lead_ages import leaves_out

from .checksums import AlteredError, check_files
from .cross_lead_file import CrossLeadFile
from .feature_rows import batch_of_features
from .lead_scores import LeadScores
from .mlflow_pyfunc import PythonModel, PythonModelContext, set_model
from .raw_rows import RawRows, check_ages, check_not_before, is_raw

__all__ = ["LeadModel", "set_model"]


@dataclass(frozen=True)
class _Loaded:
    """What was read from a model directory."""

    scores: LeadScores
    features: RawFeatures
    rows: RawRows
    cross_lead: CrossLeadFile


class LeadModel(PythonModel):
    """Scores leads; MLflow calls :meth:`load_context` once and then :meth:`predict`, from several threads."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None

    def load_context(self, context: PythonModelContext) -> None:
        """Verify every file of the model directory and read the bundle from it.

        Raises BundleError if a file is not as it was written. Warns where this process had imported another
        version of the package before, which then scores.
        """
        bundle_folder = Path(context.artifacts["bundle"])
        folder = bundle_folder.parents[1]
        try:
            check_files(folder, besides="__pycache__")
        except AlteredError as error:
            raise BundleError(
                f"the model is not loaded, because it is not as it was written: {error}. Copy the model directory anew "
                "from where it was registered, or train again"
            ) from None
        _warn_of_other_code(folder)
        bundle = load_bundle(bundle_folder)
        features = RawFeatures(bundle.feature_set)
        self._loaded = _Loaded(
            LeadScores(bundle, _digest_of(bundle_folder)),
            features,
            RawRows(features, sells_to_customers=bundle.outcome == "purchase"),
            CrossLeadFile(bundle_folder.with_name("cross_lead.json"), bundle.feature_set),
        )

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of scores per row of the input, in its order: see ``docs/reference/mlflow_model.md``.

        The input is a feature table, or leads with their raw history, told by ``created_at``. Raises DataError with
        the row and the column of what cannot be read, for a cutoff before the snapshot of rates that are needed, and
        for a raw lead of an age that the model did not learn from;
        BundleError without one.
        """
        if self._loaded is None:
            raise BundleError("the model has no bundle yet; load it with mlflow.pyfunc.load_model")
        if not isinstance(model_input, pd.DataFrame):
            raise DataError(f"the input must be a table of rows; got a {type(model_input).__name__}")
        loaded, given = self._loaded, params or {}
        if not is_raw(model_input):
            return loaded.scores.table(batch_of_features(model_input, loaded.scores.bundle), given)
        leads = loaded.rows.read(model_input, str(given.get("cutoff") or ""))
        bundle = loaded.scores.bundle
        if leaves_out("score" if given.get("allow_untrained_ages") else "leave_out", bundle.outcome):
            check_ages(leads.created_at, leads.cutoffs, bundle.ages)
        cross_lead = loaded.cross_lead.current() if loaded.features.needs_snapshot else None
        if cross_lead is not None and not given.get("allow_later_rates"):
            check_not_before(leads.cutoffs, cross_lead.at, cross_lead.as_of)
        return loaded.scores.table(
            loaded.features.build(leads, cross_lead),
            given,
            cutoffs=leads.cutoffs,
            cross_lead_as_of=cross_lead.as_of if cross_lead is not None else None,
            averages=cross_lead.averages if cross_lead is not None else None,
        )


def _warn_of_other_code(folder: Path) -> None:
    """Say so where the code that runs is not the code of the directory: a process has one version of a package."""
    running = Path(__file__).resolve().parents[1]
    written = (folder / "code" / running.name).resolve()
    if running == written:
        return
    differing = [
        path.relative_to(written).as_posix()
        for path in sorted(written.rglob("*.py"))
        if not (running / path.relative_to(written)).is_file()
        or (running / path.relative_to(written)).read_bytes() != path.read_bytes()
    ]
    if differing:
        warnings.warn(
            f"this process had imported convpredict from '{running}' before the model was loaded, and "
            f"{len(differing)} of its files ({differing[0]}, for one) differ from the model's own; scores may differ "
            "from those of a process of its own",
            stacklevel=2,
        )


def _digest_of(bundle_folder: Path) -> str:
    """The digest as it is written, which no installed version has a say in."""
    return str(parse_json((bundle_folder / "bundle.json").read_text("utf-8"), "bundle.json")["digest"])
