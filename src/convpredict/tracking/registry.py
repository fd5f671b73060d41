"""Registered models: found by alias or version, checked byte by byte, used without running any code of theirs."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convpredict.config.base import Duration
from convpredict.config.training import TrackingConfig
from convpredict.errors import BundleError, RegistryError

from .champions import (
    Change,
    champion_at,
    former_champions,
    happened,
    read_changes,
    set_champion,
)
from .model_directory import directory_digest, verify_model_directory
from .store import local_path
from .versions import (
    CHALLENGER,
    CHAMPION,
    CHECKSUMS,
    DIGEST,
    PREDICTS,
    VERDICTS,
    Registry,
    Version,
    check_verified,
    open_registry,
    registry_errors,
)

if TYPE_CHECKING:
    from convpredict.models.bundle import Bundle

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Change",
    "RegisteredModel",
    "Version",
    "champion_at",
    "champion_version",
    "former_champions",
    "get_model",
    "happened",
    "list_versions",
    "read_changes",
    "rollback",
    "set_champion",
]

MODEL = "model"
"""The folder of the model directory among a run's artifacts, and in the results folder of a training run."""


@dataclass(frozen=True)
class RegisteredModel:
    """A verified version of a registered model: ``folder`` is its model directory on this machine, ``bundle_folder``
    the bundle in it, ``digest`` the bundle's, ``trained_until`` the instant before which all that it learnt was known.
    """

    name: str
    version: str
    run_id: str
    folder: Path
    bundle_folder: Path
    digest: str
    trained_until: datetime | None
    registered_at: datetime
    tags: Mapping[str, str] = field(repr=False)

    @property
    def verdicts(self) -> dict[str, Any]:
        """What its own test part said when it was trained (see :func:`.registration.verdicts_of`)."""
        content: dict[str, Any] = json.loads(self.tags[VERDICTS])
        return content

    @property
    def value_horizon(self) -> Duration | None:
        """How long after a conversion revenue counts in its values; None where it predicts none or does not tell."""
        told = json.loads(self.tags.get(PREDICTS, "{}")).get("value_horizon")
        return Duration(told) if told is not None else None

    def load(self) -> Bundle:
        """The bundle, once more checked as it is read, so that nothing can change between checking and using it.

        Raises BundleError if it is not the one that was registered.
        """
        from convpredict.models.bundle import load_bundle

        bundle = load_bundle(self.bundle_folder)
        if bundle.digest != self.digest:
            raise BundleError(
                f"the bundle of version {self.version} of '{self.name}' is another one than was registered (digest "
                f"{bundle.digest[:12]}, registered {self.digest[:12]}): it was exchanged. Roll back, or train again"
            )
        return bundle


def get_model(
    name: str, wanted: str, config: TrackingConfig | None = None, *, into: Path | None = None
) -> RegisteredModel:
    """A version by its alias (``champion``, ``challenger``) or number, with its files checked and on this machine.

    Artifacts that lie on this machine are used in place; others are downloaded into ``into`` (default: a temporary
    folder that is removed when the process ends). No code of the model runs.

    Raises
    ------
    RegistryError
        There is no such alias or version, it was never verified, or the store cannot be reached.
    BundleError
        Its files are not those that were registered.
    """
    registry = open_registry(name, config)
    version = registry.version(wanted)
    check_verified(registry, version)
    folder = _fetch(registry, version, into)
    if (found := directory_digest(folder)) != version.tags[CHECKSUMS]:
        raise BundleError(
            f"the list of checksums of version {version.version} of {registry.where} is not the one that was "
            f"registered (SHA-256 {found[:12]}, registered {version.tags[CHECKSUMS][:12]}): files were exchanged "
            f"in {folder}. Roll back ('convpredict rollback'), or train again"
        )
    bundle_folder = verify_model_directory(folder)
    return RegisteredModel(
        name=name,
        version=version.version,
        run_id=version.run_id,
        folder=folder,
        bundle_folder=bundle_folder,
        digest=version.tags[DIGEST],
        trained_until=version.trained_until,
        registered_at=version.registered_at,
        tags=version.tags,
    )


def champion_version(name: str, config: TrackingConfig | None = None) -> str | None:
    """The version that is champion now, or None."""
    return open_registry(name, config).aliases().get(CHAMPION)


def list_versions(name: str, config: TrackingConfig | None = None) -> list[Version]:
    """All versions of a registered model, the newest first, verified or not."""
    return open_registry(name, config).versions()


def rollback(
    name: str,
    config: TrackingConfig | None = None,
    *,
    reason: str | None = None,
    now: datetime | None = None,
) -> Change:
    """Make the champion before the present one champion again; repeated, it walks back further.

    Former champions whose version was deleted are passed over: the change's ``figures`` name them (``deleted``). Where
    the alias itself was deleted, the last recorded champion is restored. The one to go back to is checked and
    loaded first. The present one is marked as withdrawn, so that no rule promotes it again. ``now`` is the present
    instant, if it is not the clock's. Raises RegistryError if there is none to go back to, BundleError if its files are
    damaged or cannot be read.
    """
    registry = open_registry(name, config)
    stack = former_champions(read_changes(name, config))
    present = registry.aliases().get(CHAMPION)
    there = {version.version for version in registry.versions()}
    former = stack if present is None else stack[:-1]
    deleted: list[str] = []
    for version in reversed(former):
        if version not in there:
            deleted.append(version)
        elif version != present:
            _check_usable(get_model(name, version, config), registry, present)
            figures = {"deleted": list(dict.fromkeys(deleted))} if deleted else {}
            return set_champion(
                name,
                version,
                config,
                by="rollback",
                expected=present,
                reason=reason,
                figures=figures,
                withdraw=True,
                now=now,
            )
    raise RegistryError(
        f"there is no former champion of {registry.where} to go back to: {_why_none(present, deleted)}. Train another "
        "model and promote it, or name a version: 'convpredict promote --version N --force REASON'"
    )


def _check_usable(model: RegisteredModel, registry: Registry, champion: str | None) -> None:
    """Raise BundleError for a version that the next night could not load."""
    try:
        model.load()
    except BundleError as error:
        stays = f"version {champion} stays champion" if champion else "there is still no champion"
        raise BundleError(
            f"version {model.version} of {registry.where} cannot be used, so nothing was rolled back and {stays}: "
            f"{error}. Mend that, or make another version champion: 'convpredict promote --version N --force REASON'"
        ) from error


def _why_none(present: str | None, deleted: list[str]) -> str:
    gone = ", ".join(dict.fromkeys(deleted))
    if gone:
        return f"of those before{f' version {present}' if present else ''}, the versions {gone} were deleted"
    return f"version {present} is the first champion" if present else "there has been no champion"


def _fetch(registry: Registry, version: Version, into: Path | None) -> Path:
    """The model directory of a version on this machine."""
    local = local_path(version.source)
    if local is not None and local.is_dir() and into is None:
        return local
    target = into
    if target is None:
        target = Path(tempfile.mkdtemp(prefix="convpredict-model-"))
        atexit.register(shutil.rmtree, target, ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    with registry_errors(registry, f"downloading version {version.version}"):
        listed = registry.client.list_artifacts(version.run_id, MODEL)
        if not listed:
            raise RegistryError(
                f"the files of version {version.version} of {registry.where} are gone from the artifacts of the run "
                f"'{version.run_id}'; restore them, roll back ('convpredict rollback'), or train again"
            )
        return Path(registry.client.download_artifacts(version.run_id, MODEL, str(target)))
