"""What the gates look at, and the sentences and verdicts that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from math import sqrt
from typing import Any

from scipy.stats import norm

from ...config.gates import GatesConfig, Limits
from ..nightly.facts import GateResult, NightFacts, Verdict
from .activity import Activity, read_activity

LOOK_BACK_DAYS = 14
"""How far back holes are looked for, at most."""


@dataclass(frozen=True)
class Evidence:
    """The facts of a night, the limits, and what is counted from the history once for several gates."""

    facts: NightFacts = field(repr=False)
    config: GatesConfig

    @cached_property
    def activity(self) -> Activity:
        """Interactions by kind and hour, as they were visible at the cutoff, for the reference and the look-back."""
        days = LOOK_BACK_DAYS + max(1, round(self.config.freshness.reference.days))
        return read_activity(self.facts.history, self.facts.cutoff, days)

    @cached_property
    def days_since_last(self) -> float | None:
        """Days since the cutoff of the last published night; None: there is none."""
        last = self.facts.last
        if last is None:
            return None
        cutoff = last["cutoff"]
        instant = datetime.fromisoformat(cutoff) if isinstance(cutoff, str) else cutoff
        return float((self.facts.cutoff - instant).total_seconds() / 86_400)

    @property
    def since_last(self) -> str:
        """How long before this cutoff the last published night's was."""
        days = self.days_since_last
        return "" if days is None else f"{number_of(float(f'{days:.3g}'), 'day')} before"


def verdict_of(value: float, limits: Limits) -> Verdict:
    """Which limit a value has reached."""
    if limits.stop is not None and value >= limits.stop:
        return "stop"
    return "warn" if limits.warn is not None and value >= limits.warn else "pass"


def is_off(limits: Any) -> bool:
    """Whether neither limit is set."""
    return limits.warn is None and limits.stop is None


def not_judged(gate: str, why: str, **details: Any) -> GateResult:
    """The result of a gate that has nothing to go by."""
    return GateResult(gate, "not judged", f"not judged: {why}", details=details)


def off(gate: str, key: str = "") -> GateResult:
    """The result of a gate without limits."""
    return not_judged(gate, f"switched off, as nightly.gates.{key or gate} has neither 'warn' nor 'stop'")


def held(
    gate: str,
    value: float,
    limits: Limits,
    *,
    found: str,
    look_at: str,
    unit: str = "share",
    details: Mapping[str, Any] | None = None,
) -> GateResult:
    """A value held against its limits: ``found`` says what was seen, ``look_at`` what to do where it is too much."""
    verdict = verdict_of(value, limits)
    message = found if verdict == "pass" else f"{found}; {_limit_text(verdict, limits, unit)}: {look_at}"
    return GateResult(
        gate, verdict, message, float(value), limits.warn, limits.stop, unit, dict(details or {})
    )


def _limit_text(verdict: Verdict, limits: Limits, unit: str) -> str:
    limit = limits.stop if verdict == "stop" else limits.warn
    assert limit is not None
    text = f"{limit:.4g}" if unit != "share" else percent(limit)
    return f"the limit for a {'stop' if verdict == 'stop' else 'warning'} is {text}"


def number_of(count: float, noun: str) -> str:
    """A count with its noun in the right number.

    >>> number_of(1, "hour"), number_of(1200, "hour"), number_of(0.5, "day")
    ('1 hour', '1,200 hours', '0.5 days')
    """
    return f"{count:,.4g} {noun}" + ("" if count == 1 else "s") if count < 1000 else f"{count:,.0f} {noun}s"


def percent(share: float) -> str:
    """A share in percent with three figures at most.

    >>> percent(0.25), percent(0.0123), percent(0.00042), percent(1.5)
    ('25%', '1.23%', '0.042%', '150%')
    """
    return f"{share * 100:.3g}%" if abs(share) < 10 else f"{share * 100:,.0f}%"


def instant_text(instant: datetime) -> str:
    """A UTC instant with its weekday; midnight is left out.

    >>> instant_text(datetime(2025, 3, 4, tzinfo=UTC)), instant_text(datetime(2025, 3, 4, 14, tzinfo=UTC))
    ('Tuesday 2025-03-04', 'Tuesday 2025-03-04 14:00 UTC')
    """
    utc = instant.astimezone(UTC)
    return f"{utc:%A %Y-%m-%d}" if (utc.hour, utc.minute) == (0, 0) else f"{utc:%A %Y-%m-%d %H:%M} UTC"


def share_interval(count: int, rows: int, alpha: float) -> tuple[float, float]:
    """A share's lower and upper limit by Wilson's interval, each passed by chance with ``alpha``; (0, 1) for no rows.

    >>> [round(limit, 2) for limit in share_interval(2, 5, 0.001)], share_interval(0, 0, 0.001)
    ([0.06, 0.87], (0.0, 1.0))
    """
    if not rows:
        return 0.0, 1.0
    z = float(norm.isf(alpha))
    share = count / rows
    middle = share + z * z / (2 * rows)
    spread = z * sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
