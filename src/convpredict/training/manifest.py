"""The account of a training set: what was left out and why, what each part holds, hashes of what went in."""

from __future__ import annotations

import platform
from datetime import datetime
from importlib.metadata import version
from typing import Any

import pandas as pd

from convpredict.config.base import Duration
from convpredict.config.load import Project
from convpredict.features.feature_set import FeatureSet
from convpredict.history.history import History

from .labels import label_column
from .lead_ages import LearntAges
from .lead_times import LeadTimes
from .observations import Observations
from .splits import KEPT, Split

MANIFEST_FORMAT = 2
_LIBRARIES = ("convpredict", "numpy", "pandas", "pyarrow", "duckdb", "numba")


def describe_training_set(
    history: History,
    project: Project,
    observations: Observations,
    split: Split,
    frame: pd.DataFrame,
    feature_set: FeatureSet,
    outcome_columns: tuple[str, ...],
    ages: LearntAges | None,
) -> dict[str, Any]:
    """The manifest: JSON types only, and the same for the same data, configuration and versions.

    ``candidates`` is ``kept`` plus every number under ``excluded`` (not observable) and ``set_aside``
    (observable, but of no use). ``outcome_columns`` are the frame's columns between ``split`` and the features;
    ``ages`` those of the leads in the rows before the test part.
    """
    config = project.config
    horizons = config.labels.horizons
    counts = split.counts
    return {
        "format": MANIFEST_FORMAT,
        "name": config.name,
        "data_fingerprint": history.fingerprint,
        "config_digest": project.digest,
        "feature_set_digest": feature_set.digest,
        "versions": {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "known_until": iso(history.known_until),
        "horizons": [str(horizon) for horizon in horizons],
        "outcome": config.labels.outcome,
        "labels": [label_column(horizon) for horizon in horizons],
        "outcome_columns": list(outcome_columns),
        "leads": {
            "total": history.n_leads,
            "undated_conversion": int(LeadTimes.of(history).undated.sum()),
            "kept": int(frame["lead_id"].nunique()),
        },
        "observations": {
            "candidates": observations.candidates,
            "excluded": observations.excluded,
            "set_aside": {role: counts[role] for role in counts if role not in KEPT},
            "kept": len(frame),
        },
        "split": {
            "by": config.split.by,
            "calibrate_from": iso(split.calibrate_from),
            "test_from": iso(split.test_from),
            "gap": str(split.horizon),
        },
        "parts": {part: _describe_part(frame[frame["split"] == part], horizons) for part in KEPT},
        "learnt_ages": ages.to_dict() if ages is not None else None,
        "features": {"total": len(feature_set), "model": len(feature_set.model_columns)},
    }


def _describe_part(frame: pd.DataFrame, horizons: tuple[Duration, ...]) -> dict[str, Any]:
    return {
        "observations": len(frame),
        "leads": int(frame["lead_id"].nunique()),
        "first_cutoff": iso(frame["cutoff"].min()) if len(frame) else None,
        "last_cutoff": iso(frame["cutoff"].max()) if len(frame) else None,
        "labels": {label_column(horizon): _balance(frame[label_column(horizon)]) for horizon in horizons},
    }


def _balance(label: pd.Series[Any]) -> dict[str, Any]:
    """Positives, known labels, and the share of positives where all labels are known (else it would be biased)."""
    positives, known = int((label == 1).sum()), int((label >= 0).sum())
    return {
        "positives": positives,
        "known": known,
        "share": positives / len(label) if known == len(label) > 0 else None,
    }


def iso(instant: datetime) -> str:
    """ISO 8601 in UTC, as the configuration reads it back.

    >>> iso(pd.Timestamp("2024-03-18", tz="UTC"))
    '2024-03-18T00:00:00Z'
    """
    return instant.isoformat().replace("+00:00", "Z")
