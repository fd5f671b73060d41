"""Registered versions as the registry tells them: tags, aliases, errors. Reads no file of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from convpredict.config.training import TrackingConfig
from convpredict.errors import ConfigError, RegistryError

from .store import connect, quiet, shown, tracking_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
CHALLENGER = "challenger"
VERIFIED = "convpredict.verified"
DIGEST = "convpredict.digest"
CHECKSUMS = "convpredict.checksums"
TRAINED_UNTIL = "convpredict.trained_until"
KNOWN_UNTIL = "convpredict.known_until"
FIRST_CUTOFF = "convpredict.first_cutoff"
LAST_CUTOFF = "convpredict.last_cutoff"
MANIFEST = "convpredict.manifest"
CONFIG = "convpredict.config_digest"
PREDICTS = "convpredict.predicts"
VERDICTS = "convpredict.verdicts"
PROMOTION = "convpredict.promotion"
WITHDRAWN = "convpredict.withdrawn"


@dataclass(frozen=True)
class Version:
    """One version of a registered model: ``version`` its number, ``aliases`` what points to it, ``tags`` all it tells.

    ``source`` is where its files lie, ``run_id`` the run that made it.
    """

    name: str
    version: str
    run_id: str
    source: str
    registered_at: datetime
    aliases: tuple[str, ...]
    tags: Mapping[str, str] = field(repr=False)

    @property
    def verified(self) -> bool:
        """Whether it was loaded back and predicted what it should: nothing uses a version that was not."""
        return self.tags.get(VERIFIED) == "true"

    @property
    def trained_until(self) -> datetime | None:
        """The instant before which all that it learnt was known."""
        text = self.tags.get(TRAINED_UNTIL)
        return datetime.fromisoformat(text).astimezone(UTC) if text else None

    @property
    def verdicts(self) -> dict[str, Any]:
        """What its own test part said when it was trained; empty where nothing tells."""
        content: dict[str, Any] = json.loads(self.tags.get(VERDICTS, "{}"))
        return content


@dataclass(frozen=True)
class Registry:
    """The registered model of a name in a store; ``client`` is MLflow's."""

    name: str
    uri: str
    client: MlflowClient = field(repr=False)

    @property
    def where(self) -> str:
        """Its name and the store's address without a password, for messages."""
        return f"'{self.name}' at {shown(self.uri)}"

    def aliases(self) -> dict[str, str]:
        """Version by alias; empty where nothing is registered."""
        model = self.model()
        return {alias: str(version) for alias, version in model.aliases.items()} if model is not None else {}

    def tags(self) -> dict[str, str]:
        """The registered model's own tags; empty where nothing is registered."""
        model = self.model()
        return dict(model.tags) if model is not None else {}

    def model(self) -> Any:
        """MLflow's entry of the registered model, or None."""
        from mlflow.exceptions import MlflowException

        with registry_errors(self, "reading the registered model"):
            try:
                return self.client.get_registered_model(self.name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def versions(self) -> list[Version]:
        """All versions, the newest first."""
        pointing = self.aliases()
        found, token = [], None
        with registry_errors(self, "listing versions"):
            while True:
                page = self.client.search_model_versions(
                    f"name = '{_quotable(self.name)}'", max_results=1000, page_token=token
                )
                found += [_version(entry, pointing) for entry in page]
                token = page.token
                if not token:
                    break
        return sorted(found, key=lambda each: -int(each.version))

    def version(self, wanted: str) -> Version:
        """A version by its number or by an alias. Raises RegistryError where there is none, with what there is."""
        pointing = self.aliases()
        number = wanted if wanted.isdigit() else pointing.get(wanted)
        from mlflow.exceptions import MlflowException

        if number is None:
            raise RegistryError(_no_alias(self, wanted, pointing))
        with registry_errors(self, f"reading version {number}"):
            try:
                return _version(self.client.get_model_version(self.name, number), pointing)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        known = ", ".join(each.version for each in reversed(self.versions())) or "none"
        raise RegistryError(
            f"the registered model {self.where} has no version {number} (versions: {known}); name one of them, or "
            "register one with 'convpredict train'"
        )


def open_registry(name: str, config: TrackingConfig | None = None) -> Registry:
    """The registered model ``name`` in the configured store; it need not exist yet.

    Raises RegistryError for a store that cannot be used or reached.
    """
    uri = tracking_uri(config)
    try:
        return Registry(name, uri, connect(uri))
    except ConfigError as error:
        raise RegistryError(f"the model registry cannot be used: {error}") from error


def check_verified(registry: Registry, version: Version) -> None:
    """Raise RegistryError for a version that was never loaded back: its training was cut off, or it is not ours."""
    if not version.verified:
        raise RegistryError(
            f"version {version.version} of {registry.where} was never verified: its registration was cut off, or "
            "convpredict did not register it. Nothing uses such a version; train again, or register the results "
            "folder again with 'convpredict register'"
        )


@contextmanager
def registry_errors(registry: Registry, doing: str) -> Iterator[None]:
    """What MLflow raises becomes a RegistryError that says what was being done, and where."""
    from mlflow.exceptions import MlflowException

    try:
        with quiet():
            yield
    except MlflowException as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RegistryError(
            f"{doing} of {registry.where} failed: {shown(first)[:300]}; nothing else was changed. Look whether the "
            "store can be reached and written to, and try again"
        ) from error


def _version(entry: Any, pointing: Mapping[str, str]) -> Version:
    number = str(entry.version)
    return Version(
        name=entry.name,
        version=number,
        run_id=entry.run_id or "",
        source=entry.source or "",
        registered_at=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
        aliases=tuple(sorted(alias for alias, version in pointing.items() if version == number)),
        tags=dict(entry.tags),
    )


def _no_alias(registry: Registry, alias: str, pointing: Mapping[str, str]) -> str:
    if not pointing:
        return (
            f"no model is registered as {registry.where}, so there is no '{alias}'; run 'convpredict train', which "
            "registers one, then 'convpredict promote'"
        )
    listed = ", ".join(f"{name} is version {version}" for name, version in sorted(pointing.items()))
    remedy = (
        "run 'convpredict promote', which makes a challenger the champion if the rule holds"
        if alias == CHAMPION
        else "name one of these, or a version number ('convpredict models' lists them)"
    )
    return f"the registered model {registry.where} has no alias '{alias}' ({listed}); {remedy}"


def _quotable(name: str) -> str:
    if "'" in name:
        raise RegistryError(
            f"a registered model's name must hold no quotes; got {name!r}: change the project's 'name'"
        )
    return name
