"""What the steps of a night tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from ...history.history import History
from ...models.profile import Profile, ProfileCounts

Status = Literal["published", "stopped", "failed"]
Verdict = Literal["pass", "warn", "stop", "not judged"]


@dataclass(frozen=True)
class ModelIdentity:
    """The model of a night: ``version`` is its number in the registry ("" for a bundle folder).

    ``digest`` is the bundle's. ``trained_until`` is the instant by which all that it learnt from was known: the
    start of its test part. ``registered_at``: None where nothing tells.
    """

    name: str
    version: str
    digest: str
    trained_until: datetime | None = None
    registered_at: datetime | None = None


@dataclass(frozen=True)
class GateResult:
    """What one gate says: ``value`` beside the limits it is held to, in ``unit``; ``message`` is one sentence for the
    operator, and names no lead."""

    gate: str
    verdict: Verdict
    message: str
    value: float | None = None
    warn: float | None = None
    stop: float | None = None
    unit: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NightFacts:
    """All that the gates may look at.

    ``history`` is the history as it was known at the cutoff. ``scores`` is the table to be published. ``last`` is the
    manifest of the last published night before this cutoff (None on the first), whose ``counts`` is a
    ``ProfileCounts.to_dict()``. ``validation`` is ``ValidationReport.to_dict()``. ``known_kinds``: the kinds of
    interactions that the model's feature set has a place for (None where it reads no kinds). ``probability_column``:
    that of the bundle's horizon, by which leads are ranked and which profiles count. ``learnt_from``: tables without
    whose rows the model could not have learnt what it predicts. ``max_bad_share`` is what the
    validation of the history tolerates.
    """

    run_id: str
    cutoff: datetime
    model: ModelIdentity
    history: History = field(repr=False)
    scores: pa.Table = field(repr=False)
    counts: ProfileCounts = field(repr=False)
    profile: Profile | None = field(repr=False)
    validation: Mapping[str, Any] = field(repr=False)
    excluded: Mapping[str, int] = field(repr=False)
    last: Mapping[str, Any] | None = field(repr=False, default=None)
    known_kinds: tuple[str, ...] | None = None
    probability_column: str | None = None
    learnt_from: tuple[str, ...] = ()
    max_bad_share: float = 0.0

    @property
    def n_leads(self) -> int:
        """How many leads were scored."""
        return int(self.scores.num_rows)
