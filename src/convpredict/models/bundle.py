"""Everything needed to score, in a folder of text and JSON: no pickle, and loading runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from convpredict.config.base import Duration
from convpredict.config.load import parse_scorecard
from convpredict.errors import BundleError, ConfigError
from convpredict.features.feature_set import FeatureSet

from .bundle_files import canonical_json, digest_of, parse_json, read_folder, seal, write_folder
from .calibration import Floats, SigmoidCalibrator, calibrator_from_dict
from .capacity import Capacity
from .conversion import ConversionModel
from .encoding import Encoder
from .logistic import Logistic
from .scorecard import Scorecard
from .scorecard_terms import term_to_dict, terms_from_list
from .tree_check import check_trees
from .trees import TreeEnsemble

_PARAMETERS = (
    "n_estimators",
    "num_leaves",
    "logistic_weight",
    "learning_rate",
    "seeds",
    "calibrators",
    "monotone",
    "lightgbm",
    "random_state",
)


@dataclass(frozen=True)
class Bundle:
    """A fitted model with the feature set that it reads, and the scorecard that it is compared with.

    ``horizon`` is how far after the cutoff a conversion counts; ``created_from`` the digest of the training
    set's manifest. Nothing in a bundle tells the time it was made: the same inputs give the same bytes.
    """

    name: str
    model: ConversionModel
    feature_set: FeatureSet
    horizon: Duration
    scorecard: Scorecard | None = None
    created_from: str = ""

    @cached_property
    def files(self) -> Mapping[str, str]:
        """The text of every file, by its name in the folder. Raises BundleError for what text cannot keep."""
        return _seal(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 that stands for the whole bundle."""
        return digest_of(parse_json(self.files["bundle.json"], "bundle.json"))

    def predict(self, features: pd.DataFrame) -> Floats:
        """Probability of a conversion within the horizon, for each row of a feature table.

        The table may hold further columns. Raises BundleError where it lacks one that the model reads.
        """
        names = list(self.feature_set.model_names)
        missing = [name for name in names if name not in features.columns]
        if missing:
            raise BundleError(
                f"the feature table lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}, "
                "which the model reads; build it with bundle.feature_set"
            )
        return np.ascontiguousarray(self.model.predict_proba(features[names])[:, 1])


def write_bundle(path: Path | str, bundle: Bundle) -> None:
    """Write a bundle into a folder, whole or not at all; a bundle that is there is replaced.

    Raises BundleError where the folder holds something else, or the model holds what text cannot keep.
    """
    write_folder(Path(path), bundle.files)


def load_bundle(path: Path | str) -> Bundle:
    """Read a bundle. The model predicts to the bit what the one that was written did.

    Raises BundleError for anything that is not exactly as it was written, or that this version does not know.
    """
    index, files = read_folder(Path(path))
    try:
        bundle = _restore(index, files)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise BundleError(
            f"the bundle '{path}' cannot be understood ({type(error).__name__}: {error}); use the version of "
            "convpredict that wrote it, or export it anew"
        ) from None
    return bundle


def _seal(bundle: Bundle) -> dict[str, str]:
    model = bundle.model
    _check_columns(model.encoder_, bundle.feature_set)
    files = {
        "features.json": bundle.feature_set.to_json(),
        "schema.json": canonical_json({"columns": model.encoder_.to_list()}, what="the schema"),
        "calibrator.json": canonical_json(model.calibrator_.to_dict(), what="the calibrator"),
    }
    if model.logistic_ is not None:
        files["logistic.json"] = canonical_json(model.logistic_.to_dict(), what="the logistic part")
    for number, text in enumerate(model.trees_.texts):
        files[f"trees/seed_{number:02d}.txt"] = text
    card = bundle.scorecard
    if card is not None:
        files["scorecard.yaml"] = card.to_yaml()
        files["scorecard.json"] = canonical_json(_scorecard_to_dict(card), what="the scorecard")
    head = {
        "kind": "convpredict bundle",
        "name": bundle.name,
        "horizon": str(bundle.horizon),
        "created_from": bundle.created_from,
        "versions": {package: version(package) for package in ("convpredict", "lightgbm")},
        "classes": _plain_classes(model.classes_),
        "parameters": {name: _plain(getattr(model, name)) for name in _PARAMETERS},
        "selection": model.selection_,
        "calibration_log_loss": model.calibration_log_loss_,
        "logistic_weight": model.logistic_weight_,
    }
    return seal(head, files)


def _restore(index: Mapping[str, Any], files: Mapping[str, str]) -> Bundle:
    feature_set = FeatureSet.from_json(files["features.json"])
    encoder = Encoder.from_list(parse_json(files["schema.json"], "schema.json")["columns"])
    _check_columns(encoder, feature_set)
    n_columns = len(encoder.columns)
    texts = [files[name] for name in sorted(files) if name.startswith("trees/")]
    if not texts:
        raise BundleError("the bundle has no trees; export it anew")
    for number, text in enumerate(texts):
        check_trees(text, n_columns, name=f"trees/seed_{number:02d}.txt")
    model = ConversionModel(**{name: index["parameters"][name] for name in _PARAMETERS})
    model.calibrators = tuple(model.calibrators)
    model.classes_ = np.array(index["classes"])
    model.encoder_ = encoder
    model.n_features_in_ = n_columns
    model.feature_names_in_ = np.array([column.name for column in encoder.columns], dtype=object)
    model.selection_ = index["selection"]
    model.capacity_ = Capacity(**{key: model.selection_[key] for key in Capacity.__dataclass_fields__})
    model.trees_ = TreeEnsemble(texts, n_columns)
    model.logistic_weight_ = float(index["logistic_weight"])
    model.logistic_ = _read_logistic(files, encoder, model.logistic_weight_)
    model.calibrator_ = calibrator_from_dict(parse_json(files["calibrator.json"], "calibrator.json"))
    model.calibration_log_loss_ = index["calibration_log_loss"]
    return Bundle(
        name=str(index["name"]),
        model=model,
        feature_set=feature_set,
        horizon=Duration(str(index["horizon"])),
        scorecard=_restore_scorecard(files, feature_set, model.classes_),
        created_from=str(index["created_from"]),
    )


def _read_logistic(files: Mapping[str, str], encoder: Encoder, weight: float) -> Logistic | None:
    if (weight > 0) != ("logistic.json" in files) or not 0 <= weight <= 1:
        raise BundleError(
            f"the logistic part has weight {weight} and does not go with the files; export anew"
        )
    if weight == 0:
        return None
    logistic = Logistic.from_dict(parse_json(files["logistic.json"], "logistic.json"))
    logistic.check(encoder)
    return logistic


def _check_columns(encoder: Encoder, feature_set: FeatureSet) -> None:
    reads = [(column.name, column.type, column.categories) for column in encoder.columns]
    builds = [(column.name, column.type, column.categories) for column in feature_set.model_columns]
    if reads != builds:
        differing = [left[0] for left, right in zip(reads, builds, strict=False) if left != right]
        raise BundleError(
            f"the model reads {len(reads)} columns and the feature set builds {len(builds)} for it"
            f"{f', different from {differing[0]} on' if differing else ''}; fit the model on TrainingSet.X "
            "of this feature set, or export the bundle anew"
        )


def _scorecard_to_dict(card: Scorecard) -> dict[str, Any]:
    if card.terms is None or not hasattr(card, "calibrator_"):
        raise BundleError(
            "the scorecard is not bound and fitted; use scorecard.bind(feature_set).fit(X, y) first"
        )
    return {
        "terms": [term_to_dict(term) for term in card.terms],
        "center": card.center_,
        "scale": card.scale_,
        "calibrator": card.calibrator_.to_dict(),
    }


def _restore_scorecard(
    files: Mapping[str, str], feature_set: FeatureSet, classes: np.ndarray[Any, Any]
) -> Scorecard | None:
    if ("scorecard.yaml" in files) != ("scorecard.json" in files):
        raise BundleError("the bundle has half a scorecard; export it anew")
    if "scorecard.yaml" not in files:
        return None
    rules = parse_scorecard(files["scorecard.yaml"])
    stored = parse_json(files["scorecard.json"], "scorecard.json")
    card = Scorecard(rules, terms_from_list(stored["terms"], rules))
    if card.terms != card.bind(feature_set).terms:
        raise BundleError("the scorecard reads other columns than the feature set builds for it; export anew")
    card.center_, card.scale_ = float(stored["center"]), float(stored["scale"])
    card.calibrator_ = SigmoidCalibrator.from_dict(stored["calibrator"])
    card.classes_ = classes
    return card


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _plain_classes(classes: np.ndarray[Any, Any]) -> list[Any]:
    plain = classes.tolist()
    if not all(isinstance(entry, bool | int | str) for entry in plain):
        raise BundleError(
            f"the classes {plain} are neither numbers nor text; fit the model on labels 0 and 1"
        )
    return list(plain)
