"""A training set on disk: a Parquet file, the feature set and the manifest, written all or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from convpredict.errors import BundleError, DataError
from convpredict.features.feature_set import FeatureSet
from convpredict.files import replacing_folder

from .lead_times import arrow_column
from .manifest import MANIFEST_FORMAT
from .splits import KEPT

_FRAME, _FEATURES, _MANIFEST = "training_set.parquet", "feature_set.json", "manifest.json"
_FILES = frozenset({_FRAME, _FEATURES, _MANIFEST})


def write_training_set(
    folder: Path, frame: pd.DataFrame, feature_set: FeatureSet, manifest: Mapping[str, Any]
) -> None:
    """Write the three files beside the folder and move them into place; only a training set is replaced."""
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= _FILES):
        raise DataError(
            f"'{folder}' holds something else than a training set, which would be lost if it were replaced; "
            "name a new folder"
        )
    with replacing_folder(folder) as partial:
        parquet.write_table(
            pa.table({str(name): arrow_column(column) for name, column in frame.items()}), partial / _FRAME
        )
        (partial / _FEATURES).write_text(feature_set.to_json(), encoding="utf-8")
        (partial / _MANIFEST).write_text(
            json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def read_training_set(folder: Path) -> tuple[pd.DataFrame, FeatureSet, dict[str, Any]]:
    """The frame, the feature set and the manifest, after checking that they belong together."""
    missing = sorted(name for name in _FILES if not (folder / name).is_file())
    if missing:
        raise DataError(
            f"'{folder}' is no training set: it has no {', '.join(missing)}; name a folder that "
            "TrainingSet.save wrote, or build it again"
        )
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        feature_set = FeatureSet.from_json((folder / _FEATURES).read_text(encoding="utf-8"))
        frame = parquet.read_table(folder / _FRAME).to_pandas()
    except (ValueError, OSError, BundleError) as error:
        raise DataError(f"the training set in '{folder}' is damaged: {error}; build it again") from error
    if manifest.get("format") != MANIFEST_FORMAT:
        raise DataError(
            f"the training set in '{folder}' has format {manifest.get('format')!r}, this version reads "
            f"{MANIFEST_FORMAT}; build it again"
        )
    expected = ["lead_id", "cutoff", "split", *manifest["outcome_columns"], *feature_set.names]
    if manifest["feature_set_digest"] != feature_set.digest or list(frame.columns) != expected:
        raise DataError(
            f"the files in '{folder}' do not belong to one training set, so labels and features may not be "
            "what the manifest says; build it again"
        )
    vocabularies = {
        column.name: column.categories for column in feature_set.columns if column.type == "category"
    }
    for name, categories in {"split": KEPT, **vocabularies}.items():
        frame[name] = frame[name].astype("category").cat.set_categories(list(categories))
    return frame, feature_set, manifest
