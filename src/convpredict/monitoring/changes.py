"""The sequential test of every segment, and of all leads together, after the nights judged so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..config.base import Duration
from ..config.monitoring import RealisedConfig
from .realised import MISSING, OTHERS
from .sequential import PRIOR_OVERALL, PRIOR_SEGMENT, judge_change

FEWEST_EXPECTED = 1.0
"""A segment is tested once this many conversions were expected of it."""


@dataclass(frozen=True)
class SegmentChange:
    """The test of one segment; ``attribute`` and ``value`` are empty for all leads together.

    ``began``: cutoff of the first night that the likeliest change concerns. ``factor`` (with ends): by what the ratio
    of observed to expected conversions was multiplied then; ``before`` and ``after`` are that ratio. ``evidence``
    and ``limit`` are logarithms; ``changed``: above the limit, and enough to matter.
    """

    attribute: str
    value: str
    horizon: str
    began: str
    evidence: float
    limit: float
    factor: float
    low: float
    high: float
    before: float
    after: float
    expected: float
    observed: float
    changed: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            name: round(value, 6) if isinstance(value, float) and math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def judge_changes(
    judged: Sequence[Mapping[str, Any]],
    config: RealisedConfig,
    *,
    nights_per_year: float,
    confidence: float = 0.95,
) -> list[SegmentChange]:
    """Test all leads together and every segment over the judged nights of one model, the shortest horizon only.

    All tests together are to alarm by chance no more often than configured. Each attribute, and all leads together,
    have an equal part of that; within an attribute a segment's part is its share of the expected conversions, so
    that the segments which matter most are seen soonest.
    """
    if not judged:
        return []
    shortest = min({str(entry["horizon"]) for entry in judged}, key=lambda each: Duration(each).microseconds)
    nights = sorted((e for e in judged if e["horizon"] == shortest), key=lambda entry: entry["cutoff"])
    weight = np.array([float(night["weight"]) for night in nights])
    cutoffs = [str(night["cutoff"]) for night in nights]
    budget = nights_per_year / config.false_alarms_per_year
    attributes = list(dict.fromkeys(name for night in nights for name in night["segments"]))
    part = 1 / (1 + len(attributes))
    overall = (
        np.array([[night["expected"], night["observed"]] for night in nights], np.float64) * weight[:, None]
    )
    found = []
    series: list[tuple[str, str, Any, float]] = [("", "", overall, part)]
    for attribute in attributes:
        series += [
            (attribute, value, own, part * own[:, 0].sum() / max(overall[:, 0].sum(), 1e-12))
            for value, own in _by_value(nights, attribute, weight).items()
        ]
    for attribute, value, own, share in series:
        expected, observed = own.T
        if expected.sum() < FEWEST_EXPECTED:
            continue
        change = judge_change(
            observed,
            expected,
            nights_per_alarm=max(budget, 1.0) / share,
            prior=PRIOR_SEGMENT if attribute else PRIOR_OVERALL,
            confidence=confidence,
        )
        if change is None:
            continue
        found.append(
            SegmentChange(
                attribute,
                value,
                shortest,
                cutoffs[change.since],
                change.evidence,
                change.limit,
                change.ratio,
                change.low,
                change.high,
                change.before,
                change.after,
                float(expected[change.since :].sum()),
                float(observed[change.since :].sum()),
                change.exceeds and change.matters(config.least_change),
            )
        )
    return found


def _by_value(nights: Sequence[Mapping[str, Any]], attribute: str, weight: Any) -> dict[str, Any]:
    """For each value of an attribute, expected and observed conversions by night: shape (nights, 2)."""
    found: dict[str, Any] = {}
    for k, night in enumerate(nights):
        for value, (_, expected, observed) in night["segments"].get(attribute, {}).items():
            own = found.setdefault(value, np.zeros((len(nights), 2)))
            own[k] = weight[k] * expected, weight[k] * observed
    return {
        value: found[value] for value in sorted(found) if value not in (OTHERS, MISSING) or len(found) > 1
    }
