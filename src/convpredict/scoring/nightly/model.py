"""The model of a night: the registry's champion, or a bundle that is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ...config.root import Config
from ...errors import BundleError
from ...models.bundle import Bundle, load_bundle
from .facts import ModelIdentity

CHAMPION = "champion"
_RECENT = timedelta(days=2)


@dataclass(frozen=True)
class NightModel:
    """A bundle and who it is. ``warning`` says what is doubtful about its choice."""

    bundle: Bundle = field(repr=False)
    identity: ModelIdentity
    warning: str | None = None

    @property
    def learnt_from(self) -> tuple[str, ...]:
        """The tables that must have had rows when the model learnt: outcomes, values, kinds of interactions."""
        bundle = self.bundle
        outcomes = "revenue" if bundle.outcome == "purchase" else "conversions"
        found = [outcomes, *(["revenue"] if bundle.value is not None else [])]
        if bundle.feature_set.vocabularies.get(("interactions", "kind")):
            found.append("interactions")
        return tuple(dict.fromkeys(found))

    def knew_later(self, cutoff: datetime, now: datetime) -> bool:
        """Whether it learnt from what was known only after a cutoff: such a night tells nothing of its quality.

        Where nothing tells until when it learnt, it may have, unless the cutoff is about ``now`` (two days).
        """
        until = self.identity.trained_until
        return cutoff < now - _RECENT if until is None else until > cutoff

    def doubts(self, cutoff: datetime, now: datetime) -> list[str]:
        """What is doubtful about the model for a night, in sentences that name no night."""
        told = [self.warning] if self.warning is not None else []
        if self.bundle.profile is None:
            told.append(
                "the model's bundle has no profile of what it was made with, so that nobody can tell missing features, "
                "unknown values, shifted scores or drift; train and promote a new one"
            )
        if self.knew_later(cutoff, now):
            until = self.identity.trained_until
            learnt = (
                "nothing tells until when the model learnt, and it may have learnt from what came after the cutoff"
                if until is None
                else f"the model learnt from what was known until {until:%Y-%m-%d}, which is after the cutoff"
            )
            told.append(f"{learnt}: the night tells nothing of the model's quality, and is never judged")
        return told


ModelChooser = Callable[[datetime, bool], NightModel]
"""The model of a cutoff; the flag says that the night is filled in afterwards."""


def choose_bundle(folder: Path, trained_until: datetime | None = None) -> ModelChooser:
    """The same bundle for every night."""
    bundle = load_bundle(folder)
    model = NightModel(bundle, ModelIdentity(bundle.name, "", bundle.digest, trained_until))
    return lambda cutoff, afterwards: model


def choose_run(folder: Path) -> ModelChooser:
    """The bundle of a results folder, for every night.

    Raises BundleError unless the training run finished: ``metrics.json`` is what it writes last.
    """
    if not (folder / "metrics.json").is_file():
        raise BundleError(
            f"'{folder}' holds no metrics.json, so the training run that wrote it did not finish, or it is no results "
            "folder; nothing was scored. Train again, or name the folder of a finished run"
        )
    return choose_bundle(folder / "bundle", _trained_until(folder / "manifest.json"))


def choose_champion(config: Config) -> ModelChooser:
    """The registry's champion; for a night that is filled in, the version that was champion at its cutoff.

    Where the records tell of none at that time, the present champion scores it, with a warning.
    """
    kept: dict[str, NightModel] = {}

    def choose(cutoff: datetime, afterwards: bool) -> NightModel:
        from ...tracking.champions import champion_at
        from ...tracking.store import waiting_briefly

        with waiting_briefly():
            then = champion_at(config.name, cutoff, config.tracking) if afterwards else None
            wanted = then or CHAMPION
            if wanted not in kept:
                kept[wanted] = _registered(config, wanted)
        found = kept[wanted]
        if not afterwards or then is not None:
            return found
        warning = (
            "nothing tells which version was champion at the cutoff, so the present one "
            f"({found.identity.version}) scored the night"
        )
        return NightModel(found.bundle, found.identity, warning)

    return choose


def _registered(config: Config, wanted: str) -> NightModel:
    from ...tracking.registry import get_model

    found = get_model(config.name, wanted, config.tracking)
    bundle = found.load()
    identity = ModelIdentity(
        found.name, str(found.version), bundle.digest, found.trained_until, found.registered_at
    )
    return NightModel(bundle, identity)


def _trained_until(manifest: Path) -> datetime | None:
    """The start of the test part, as the results folder's manifest tells; None: it does not."""
    try:
        told = json.loads(manifest.read_text(encoding="utf-8"))["split"]["test_from"]
        return datetime.fromisoformat(told.replace("Z", "+00:00")).astimezone(UTC)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
