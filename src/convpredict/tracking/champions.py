"""Who is and was champion: every change is recorded with the registered model, so that it can be undone and dated."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from convpredict.config.training import TrackingConfig
from convpredict.errors import RegistryError

from .store import store_lock
from .versions import CHAMPION, PROMOTION, WITHDRAWN, Registry, check_verified, open_registry, registry_errors

By = Literal["rule", "first", "force", "rollback", "outside"]
State = Literal["begun", "done", "void"]
CHANGE = "convpredict.change."
_LONGEST_REASON = 500
_LONGEST_TAG = 4_900
_LONGEST_VERSION_TAG = 100_000
"""A registered model's tag holds 5,000 characters in databases other than SQLite."""


@dataclass(frozen=True)
class Change:
    """One change of champion: from ``former`` (None: there was none) to ``version``, ``at`` an instant.

    ``by``: the ``rule`` of the configuration, the ``first`` champion, by ``force``, by ``rollback``, or ``outside``
    of convpredict (then ``at`` is when it was noticed). ``state``: ``begun`` before the alias was moved, ``done``
    after; ``void`` if it never was.
    """

    number: int
    at: datetime
    former: str | None
    version: str
    by: By
    reason: str | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    state: State = "begun"
    key: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "number": self.number,
            "at": self.at.isoformat(),
            "from": self.former,
            "to": self.version,
            "by": self.by,
            "reason": self.reason,
            "figures": dict(self.figures),
            "state": self.state,
        }

    @classmethod
    def from_tag(cls, key: str, text: str) -> Change:
        """Restore what was written as a tag."""
        stored = json.loads(text)
        return cls(
            number=int(stored["number"]),
            at=datetime.fromisoformat(stored["at"]).astimezone(UTC),
            former=stored["from"],
            version=str(stored["to"]),
            by=stored["by"],
            reason=stored["reason"],
            figures=stored["figures"],
            state=stored["state"],
            key=key,
        )


def read_changes(name: str, config: TrackingConfig | None = None) -> list[Change]:
    """All changes of champion that happened, the oldest first, among them one that was made outside of convpredict."""
    registry = open_registry(name, config)
    return happened(*_read(registry), datetime.now(UTC))


def champion_at(name: str, instant: datetime, config: TrackingConfig | None = None) -> str | None:
    """The version that was champion at an instant, or None before there was one.

    A champion that was set outside of convpredict counts from when that was noticed: at the next change.
    """
    changes = [change for change in read_changes(name, config) if change.at <= instant]
    return changes[-1].version if changes else None


def set_champion(
    name: str,
    version: str,
    config: TrackingConfig | None = None,
    *,
    by: By,
    expected: str | None,
    reason: str | None = None,
    figures: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
    withdraw: bool = False,
    now: datetime | None = None,
) -> Change:
    """Move the alias ``champion`` to a version and record why; ``expected`` is the champion that it takes over from.

    ``figures`` are kept with the change as far as there is room, ``details`` with the version. ``withdraw`` marks the
    former champion before the alias moves, so that whatever is cut off, no rule makes it champion again. ``now`` is the
    present instant, if it is not the clock's.

    The record is written before the alias moves and completed after, so that a crash in between leaves either the
    former champion and a record that counts as void, or the new one and a record that counts. Raises RegistryError
    if the champion is not (or, afterwards, not any more) the one that was expected: somebody else changed it.
    """
    registry, at = open_registry(name, config), now or datetime.now(UTC)
    chosen = registry.version(version)
    check_verified(registry, chosen)
    with store_lock(registry.uri), registry_errors(registry, "changing the champion"):
        changes, alias = _settle(registry, at)
        if alias != expected:
            raise RegistryError(
                f"the champion of {registry.where} is {_named(alias)} and not {_named(expected)} any more: it was "
                "changed meanwhile, so nothing was decided about this one. Look at 'convpredict models' and try again"
            )
        change = _next(changes, at, alias, version, by, reason, figures or {})
        _write(registry, change)
        if details:
            text = json.dumps({"at": change.at.isoformat(), **details}, ensure_ascii=False)
            registry.client.set_model_version_tag(name, version, PROMOTION, text[:_LONGEST_VERSION_TAG])
        if withdraw and alias is not None:
            _withdraw(registry, alias, reason, at)
        registry.client.set_registered_model_alias(name, CHAMPION, version)
        if WITHDRAWN in chosen.tags:
            registry.client.delete_model_version_tag(name, version, WITHDRAWN)
        done = replace(change, state="done")
        _write(registry, done)
    if (found := registry.aliases().get(CHAMPION)) != version:
        raise RegistryError(
            f"version {version} was made champion of {registry.where}, but somebody else then set {_named(found)}; "
            "look at 'convpredict models', and promote or roll back again if that is not wanted"
        )
    return done


def former_champions(changes: Sequence[Change]) -> list[str]:
    """The champions that a rollback can walk back to, the last one is the present champion.

    A rollback takes off all that came after the one it goes back to; whatever else changes puts one on.

    >>> at = datetime(2024, 1, 1, tzinfo=UTC)
    >>> steps = [("1", "first"), ("2", "rule"), ("3", "force"), ("2", "rollback")]
    >>> changes = [Change(k, at, None, version, by, state="done") for k, (version, by) in enumerate(steps)]
    >>> former_champions(changes)
    ['1', '2']
    """
    stack: list[str] = []
    for change in changes:
        if change.by == "rollback" and change.version in stack:
            while stack[-1] != change.version:
                stack.pop()
        elif not stack or stack[-1] != change.version:
            stack.append(change.version)
    return stack


def happened(changes: Sequence[Change], alias: str | None, now: datetime) -> list[Change]:
    """What of the records took place, given where the alias points.

    Only the last one can have been cut off before it was completed: it took place if the alias points to its
    version. An alias that points to what no record says was moved outside of convpredict, noticed now.
    """
    done = [
        replace(change, state="done")
        for change in changes
        if change.state == "done"
        or (change.state == "begun" and change is changes[-1] and change.version == alias)
    ]
    present = done[-1].version if done else None
    if alias is not None and alias != present:
        number = changes[-1].number + 1 if changes else 1
        done.append(Change(number, _after(changes, now), present, alias, "outside", state="done"))
    return done


def _settle(registry: Registry, now: datetime) -> tuple[list[Change], str | None]:
    """Write down what a crash or another hand left open; returns all records that happened, and the champion."""
    stored, alias = _read(registry)
    changes = happened(stored, alias, now)
    kept = {change.key for change in changes}
    for change in stored:
        if change.state == "begun" and change.key not in kept:
            _write(registry, replace(change, state="void"))
    known = {change.key: change.state for change in stored}
    settled = []
    for change in changes:
        written = change if known.get(change.key) == "done" else _write(registry, change)
        settled.append(written)
    return settled, alias


def _read(registry: Registry) -> tuple[list[Change], str | None]:
    model = registry.model()
    if model is None:
        return [], None
    changes = [Change.from_tag(key, text) for key, text in dict(model.tags).items() if key.startswith(CHANGE)]
    alias = model.aliases.get(CHAMPION)
    return sorted(changes, key=lambda each: (each.at, each.number, each.key)), (
        str(alias) if alias is not None else None
    )


def _next(
    changes: Sequence[Change],
    now: datetime,
    alias: str | None,
    version: str,
    by: By,
    reason: str | None,
    figures: Mapping[str, Any],
) -> Change:
    at = _after(changes, now.astimezone(UTC))
    number = changes[-1].number + 1 if changes else 1
    key = f"{CHANGE}{number:06d}-{secrets.token_hex(3)}"
    shortened = reason[:_LONGEST_REASON] if reason is not None else None
    return Change(number, at, alias, version, by, shortened, figures, key=key)


def _after(changes: Sequence[Change], now: datetime) -> datetime:
    """Now, or just after the last change where the clock was set back: the order of changes must stay."""
    return max(now, changes[-1].at + timedelta(microseconds=1)) if changes else now


def _write(registry: Registry, change: Change) -> Change:
    if not change.key:
        change = replace(change, key=f"{CHANGE}{change.number:06d}-{secrets.token_hex(3)}")
    content = change.to_dict()
    text = json.dumps(content, ensure_ascii=False)
    if len(text.encode()) > _LONGEST_TAG:
        text = json.dumps({**content, "figures": {}}, ensure_ascii=False)
    registry.client.set_registered_model_tag(registry.name, change.key, text)
    return change


def _withdraw(registry: Registry, version: str, reason: str | None, now: datetime) -> None:
    """Mark a version that is rolled back: no rule makes it champion again, only force."""
    content = {"at": now.astimezone(UTC).isoformat(), "reason": (reason or "")[:_LONGEST_REASON]}
    text = json.dumps(content, ensure_ascii=False)
    registry.client.set_model_version_tag(registry.name, version, WITHDRAWN, text)


def _named(version: str | None) -> str:
    return f"version {version}" if version is not None else "none"
