"""Everything needed to score, in a folder of text and JSON: no pickle, and loading runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from convpredict.config.base import Duration
from convpredict.config.load import parse_scorecard
from convpredict.errors import BundleError, ConfigError
from convpredict.features.feature_set import FeatureSet
from convpredict.history.notebook_view import facts_html
from convpredict.training.lead_ages import LearntAges

from .bundle_files import INDEX, canonical_json, digest_of, parse_json, read_folder, seal, write_folder
from .calibration import Floats, SigmoidCalibrator, calibrator_from_dict
from .capacity import Capacity
from .conversion import ConversionModel
from .encoding import Encoder
from .horizons import non_decreasing
from .logistic import Logistic
from .profile import Profile
from .scorecard import Scorecard
from .scorecard_terms import term_to_dict, terms_from_list
from .tree_check import check_trees
from .trees import TreeEnsemble
from .value import ValueModel

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

    ``horizon`` is how far after the cutoff a conversion counts; ``further`` the models of further horizons;
    ``outcome`` what is predicted; ``value`` what a conversion brings, where that is learnt; ``profile`` what the
    inputs and scores of reference rows looked like (None in bundles that were made without); ``ages`` how old the
    leads were that were learnt from (None in bundles from before this was kept); ``created_from`` the
    digest of the training set's manifest. Nothing in a bundle tells the time it was made: the same inputs give
    the same bytes.
    """

    name: str
    model: ConversionModel
    feature_set: FeatureSet
    horizon: Duration
    scorecard: Scorecard | None = None
    created_from: str = ""
    further: Mapping[Duration, ConversionModel] = field(default_factory=dict)
    outcome: Literal["conversion", "purchase"] = "conversion"
    value: ValueModel | None = None
    profile: Profile | None = None
    ages: LearntAges | None = None

    @property
    def horizons(self) -> tuple[Duration, ...]:
        """All horizons, from the shortest to the longest."""
        return tuple(sorted((self.horizon, *self.further)))

    def __repr__(self) -> str:
        horizons = ", ".join(map(str, self.horizons))
        return f"Bundle({self.name!r}, horizons {horizons}, {len(self.feature_set)} features)"

    def _repr_html_(self) -> str:
        capacity, value, card = self.model.capacity_, self.value, self.scorecard
        learnt_from = "customers' windows" if self.outcome == "purchase" else "converted leads"
        return facts_html(
            {
                "bundle": self.name,
                "predicts": f"{self.outcome} within {', '.join(map(str, self.horizons))}",
                "ranks by": f"{self.horizon}",
                "learnt from leads of": str(self.ages) if self.ages is not None else None,
                "features": len(self.feature_set),
                "model": f"{capacity.n_estimators} trees of {capacity.num_leaves} leaves, "
                f"logistic part {capacity.logistic_weight:g}, calibrator {self.model.calibrator_.name}",
                "value": None
                if value is None
                else f"{value.candidate_.family}, from {value.n_leads_:,.0f} {learnt_from}",
                "scorecard": card.config.name if card is not None and card.config is not None else None,
                "made from": f"training set {self.created_from[:12]}" if self.created_from else None,
            }
        )

    @cached_property
    def files(self) -> Mapping[str, str]:
        """The text of every file, by its name in the folder: those that were read, if the bundle was.

        So a bundle that another version wrote keeps its digest. Raises BundleError for what text cannot keep.
        """
        return _seal(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 that stands for the whole bundle."""
        return digest_of(parse_json(self.files["bundle.json"], "bundle.json"))

    def predict(self, features: pd.DataFrame) -> Floats:
        """Probability of a conversion within the horizon, for each row of a feature table.

        The table may hold further columns. Raises BundleError where it lacks one that the model reads.
        """
        return np.ascontiguousarray(self.model.predict_proba(self._columns(features))[:, 1])

    def predict_horizons(self, features: pd.DataFrame) -> dict[Duration, Floats]:
        """The probabilities for every horizon, from the shortest to the longest, never falling.

        That of ``horizon`` is the one that :meth:`predict` gives.
        """
        table = self._columns(features)
        probabilities = {self.horizon: np.ascontiguousarray(self.model.predict_proba(table)[:, 1])}
        for horizon, model in self.further.items():
            probabilities[horizon] = np.ascontiguousarray(model.predict_proba(table)[:, 1])
        return non_decreasing(self.horizon, probabilities)

    def predict_value(self, features: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
        """Expected revenue given a conversion, and the ends of its interval, in the currency of the data.

        With ``outcome: purchase`` it is the revenue expected of a customer, who may buy nothing.

        Raises BundleError where the bundle predicts no value.
        """
        if self.value is None:
            raise BundleError(
                "the bundle predicts no value; declare history.revenue and labels.value_horizon, and train again"
            )
        table = self._columns(features)
        value = self.value.predict(table)
        return value, *self.value.interval_.at(value)

    def expected_value(self, probability: Floats, value: Floats) -> Floats:
        """What each row is expected to bring: P times its value; of customers the value itself, not conditioned on P.

        ``value`` may be either end of the interval as well, shape as ``probability``.
        """
        return value if self.outcome == "purchase" else probability * value

    def _columns(self, features: pd.DataFrame) -> pd.DataFrame:
        names = list(self.feature_set.model_names)
        missing = [name for name in names if name not in features.columns]
        if missing:
            raise BundleError(
                f"the feature table lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}, "
                "which the model reads; build it with bundle.feature_set"
            )
        return features[names]


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
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, ConfigError) as error:
        raise BundleError(
            f"the bundle '{path}' cannot be understood ({type(error).__name__}: {error}); use the version of "
            "convpredict that wrote it, or export it anew"
        ) from None
    bundle.__dict__["files"] = {INDEX: canonical_json(index, what=INDEX), **files}
    return bundle


def _seal(bundle: Bundle) -> dict[str, str]:
    model = bundle.model
    _check_columns(model.encoder_, bundle.feature_set)
    files = {
        "features.json": bundle.feature_set.to_json(),
        "schema.json": canonical_json({"columns": model.encoder_.to_list()}, what="the schema"),
        **_model_files(model, "", "trees/"),
    }
    for horizon, further in bundle.further.items():
        _check_columns(further.encoder_, bundle.feature_set)
        folder = f"horizon_{horizon}/"
        files |= _model_files(further, folder, folder)
    if bundle.value is not None:
        _check_columns(bundle.value.encoder_, bundle.feature_set)
        files |= {f"value/{name}": text for name, text in bundle.value.to_files().items()}
    if bundle.profile is not None:
        _check_profile(bundle.profile, model.encoder_)
        files["profile.json"] = canonical_json(bundle.profile.to_dict(), what="the profile")
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
        **_describe_model(model),
    }
    if bundle.further:
        head["further"] = {str(horizon): _describe_model(each) for horizon, each in bundle.further.items()}
    if bundle.outcome != "conversion":
        head["outcome"] = bundle.outcome
    if bundle.ages is not None:
        head["ages"] = bundle.ages.to_dict()
    return seal(head, files)


def _model_files(model: ConversionModel, folder: str, tree_folder: str) -> dict[str, str]:
    files = {f"{folder}calibrator.json": canonical_json(model.calibrator_.to_dict(), what="the calibrator")}
    if model.logistic_ is not None:
        files[f"{folder}logistic.json"] = canonical_json(model.logistic_.to_dict(), what="the logistic part")
    for number, text in enumerate(model.trees_.texts):
        files[f"{tree_folder}seed_{number:02d}.txt"] = text
    return files


def _describe_model(model: ConversionModel) -> dict[str, Any]:
    return {
        "parameters": {name: _plain(getattr(model, name)) for name in _PARAMETERS},
        "selection": model.selection_,
        "calibration_log_loss": model.calibration_log_loss_,
        "logistic_weight": model.logistic_weight_,
    }


def _restore(index: Mapping[str, Any], files: Mapping[str, str]) -> Bundle:
    feature_set = FeatureSet.from_json(files["features.json"])
    encoder = Encoder.from_list(parse_json(files["schema.json"], "schema.json")["columns"])
    _check_columns(encoder, feature_set)
    classes = np.array(index["classes"])
    model = _restore_model(index, files, "", "trees/", encoder, classes)
    entries = index.get("further", {})
    folders = {name.split("/")[0] for name in files if name.startswith("horizon_")}
    if folders != {f"horizon_{horizon}" for horizon in entries}:
        raise BundleError("the models of further horizons do not go with the files; export the bundle anew")
    further = {
        Duration(horizon): _restore_model(
            entry, files, f"horizon_{horizon}/", f"horizon_{horizon}/", encoder, classes
        )
        for horizon, entry in entries.items()
    }
    horizon = Duration(str(index["horizon"]))
    outcome = index.get("outcome", "conversion")
    if outcome not in ("conversion", "purchase") or horizon in further:
        raise BundleError(
            f"the bundle predicts {outcome!r} within {horizon} and further horizons; export it anew"
        )
    return Bundle(
        name=str(index["name"]),
        model=model,
        feature_set=feature_set,
        horizon=horizon,
        scorecard=_restore_scorecard(files, feature_set, classes),
        created_from=str(index["created_from"]),
        further=further,
        outcome=outcome,
        value=_restore_value(files, feature_set),
        profile=_restore_profile(files, encoder),
        ages=LearntAges.from_dict(index["ages"]) if "ages" in index else None,
    )


def _restore_profile(files: Mapping[str, str], encoder: Encoder) -> Profile | None:
    if "profile.json" not in files:
        return None
    profile = Profile.from_dict(parse_json(files["profile.json"], "profile.json"))
    _check_profile(profile, encoder)
    return profile


def _restore_value(files: Mapping[str, str], feature_set: FeatureSet) -> ValueModel | None:
    stored = {name.removeprefix("value/"): text for name, text in files.items() if name.startswith("value/")}
    if not stored:
        return None
    model = ValueModel.from_files(stored)
    _check_columns(model.encoder_, feature_set)
    if set(model.to_files()) != set(stored):
        raise BundleError("the value model has files that do not belong to it; export the bundle anew")
    return model


def _restore_model(
    entry: Mapping[str, Any],
    files: Mapping[str, str],
    folder: str,
    tree_folder: str,
    encoder: Encoder,
    classes: np.ndarray[Any, Any],
) -> ConversionModel:
    n_columns = len(encoder.columns)
    names = sorted(name for name in files if name.startswith(f"{tree_folder}seed_"))
    if not names:
        raise BundleError(f"the bundle has no trees in {tree_folder}; export it anew")
    for name in names:
        check_trees(files[name], n_columns, name=name)
    model = ConversionModel(**{name: entry["parameters"][name] for name in _PARAMETERS})
    model.calibrators = tuple(model.calibrators)
    model.classes_ = classes
    model.encoder_ = encoder
    model.n_features_in_ = n_columns
    model.feature_names_in_ = np.array([column.name for column in encoder.columns], dtype=object)
    model.selection_ = entry["selection"]
    model.capacity_ = Capacity(**{key: model.selection_[key] for key in Capacity.__dataclass_fields__})
    model.trees_ = TreeEnsemble([files[name] for name in names], n_columns)
    model.logistic_weight_ = float(entry["logistic_weight"])
    model.logistic_ = _read_logistic(files, f"{folder}logistic.json", encoder, model.logistic_weight_)
    calibrator = f"{folder}calibrator.json"
    model.calibrator_ = calibrator_from_dict(parse_json(files[calibrator], calibrator))
    model.calibration_log_loss_ = entry["calibration_log_loss"]
    return model


def _read_logistic(files: Mapping[str, str], name: str, encoder: Encoder, weight: float) -> Logistic | None:
    if (weight > 0) != (name in files) or not 0 <= weight <= 1:
        raise BundleError(
            f"the logistic part has weight {weight} and does not go with the files; export anew"
        )
    if weight == 0:
        return None
    logistic = Logistic.from_dict(parse_json(files[name], name))
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


def _check_profile(profile: Profile, encoder: Encoder) -> None:
    described = [(column.name, column.type, column.categories) for column in profile.columns]
    if described != [(column.name, column.type, column.categories) for column in encoder.columns]:
        raise BundleError("the profile is of other columns than the model reads; export the bundle anew")


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
