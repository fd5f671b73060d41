"""From a results folder to a registered version: logged, tagged, loaded back, scored, and only then in use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convpredict.config.training import TrackingConfig
from convpredict.errors import RegistryError

from .load_back import load_back
from .model_directory import directory_digest, verify_model_directory
from .registry import MODEL, RegisteredModel, get_model
from .runs import BUNDLE
from .versions import (
    CHALLENGER,
    CHECKSUMS,
    CONFIG,
    DIGEST,
    FIRST_CUTOFF,
    KNOWN_UNTIL,
    LAST_CUTOFF,
    MANIFEST,
    PREDICTS,
    TRAINED_UNTIL,
    VERDICTS,
    VERIFIED,
    Registry,
    open_registry,
    registry_errors,
)

if TYPE_CHECKING:
    import pandas as pd

    from convpredict.models.bundle import Bundle


def register(
    folder: Path,
    config: TrackingConfig | None,
    name: str,
    *,
    run_id: str,
    rows: pd.DataFrame,
    config_digest: str = "",
    value_horizon: str | None = None,
) -> RegisteredModel:
    """Register the model of a training run's results folder as a new version, which becomes the challenger.

    The run must hold the folder's ``model`` among its artifacts. The version is first tagged with what the folder
    tells of it; then a process of its own loads it from the registry and scores ``rows`` (a table of features) with
    the code that lies in it. Only if the scores are those of the bundle to the bit is it marked as verified and made
    the challenger: whatever fails or crashes before leaves a version that nothing uses.

    Raises
    ------
    RegistryError
        The registry cannot be written to, or what was loaded back scores otherwise.
    """
    from convpredict.models.bundle import load_bundle

    bundle = load_bundle(verify_model_directory(folder / MODEL))
    if load_bundle(folder / BUNDLE).digest != bundle.digest:
        raise RegistryError(
            f"the model directory in '{folder}' is of another training than its bundle, so its metrics are not the "
            "model's; train again, without --no-track"
        )
    registry = open_registry(name, config)
    tags = describe(folder, bundle, config_digest, value_horizon)
    version = _create(registry, run_id, tags)
    load_back(registry, version, folder / MODEL, rows)
    with registry_errors(registry, f"marking version {version} as verified"):
        registry.client.set_model_version_tag(name, version, VERIFIED, "true")
        settle_challenger(registry)
    return get_model(name, version, config)


def describe(
    folder: Path, bundle: Bundle, config_digest: str, value_horizon: str | None = None
) -> dict[str, str]:
    """The tags of a version: where its data ended, what it predicts, its verdicts, digests of what it is made of.

    ``value_horizon``, the configuration's, is noted where the bundle predicts values and that configuration made it.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    parts = manifest["parts"].values()
    predicts: dict[str, Any] = {
        "outcome": bundle.outcome,
        "horizons": [str(bundle.horizon), *map(str, bundle.further)],
    }
    if bundle.value is not None and value_horizon is not None and manifest["config_digest"] == config_digest:
        predicts["value_horizon"] = value_horizon
    return {
        DIGEST: bundle.digest,
        CHECKSUMS: directory_digest(folder / MODEL),
        TRAINED_UNTIL: manifest["split"]["test_from"],
        KNOWN_UNTIL: manifest["known_until"],
        FIRST_CUTOFF: min(part["first_cutoff"] for part in parts if part["first_cutoff"]),
        LAST_CUTOFF: max(part["last_cutoff"] for part in parts if part["last_cutoff"]),
        MANIFEST: bundle.created_from,
        CONFIG: config_digest,
        PREDICTS: json.dumps(predicts),
        VERDICTS: json.dumps(verdicts_of(metrics)),
    }


def verdicts_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a training run's ``metrics.json`` says of the model, in short.

    ``leakage``: counts by severity (None: not looked for); ``converting_leads`` of the test part; ``model``: log loss,
    captured converters and calibration ratio with their intervals; ``difference``: the same minus the scorecard's
    (empty without one).
    """
    test = metrics["test"]

    def some(entries: Mapping[str, Any]) -> dict[str, Any]:
        wanted = ("auc", "log_loss", "calibration_ratio")
        return {key: entry for key, entry in entries.items() if key in wanted or key.startswith("captured_")}

    return {
        "leakage": metrics.get("leakage"),
        "observations": test["counts"]["rows"],
        "converting_leads": test["counts"]["converting_leads"],
        "confidence": test["interval"]["confidence"],
        "model": some(test["model"]),
        "difference": some(test.get("difference", {})),
    }


def _create(registry: Registry, run_id: str, tags: Mapping[str, str]) -> str:
    """A new version of the registered model, which is made if need be; two processes may do both at once."""
    from mlflow.exceptions import MlflowException

    with registry_errors(registry, "registering a version"):
        try:
            registry.client.create_registered_model(registry.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = registry.client.get_run(run_id).info.artifact_uri.rstrip("/") + f"/{MODEL}"
        created = registry.client.create_model_version(registry.name, source, run_id, tags=dict(tags))
    return str(created.version)


def settle_challenger(registry: Registry) -> None:
    """Let the alias ``challenger`` point to the newest verified version, whoever else is registering.

    Every process looks again after it has written, so the last one to write has seen all that were verified before.
    """
    while True:
        newest = next(each.version for each in registry.versions() if each.verified)
        if registry.aliases().get(CHALLENGER) == newest:
            return
        registry.client.set_registered_model_alias(registry.name, CHALLENGER, newest)
