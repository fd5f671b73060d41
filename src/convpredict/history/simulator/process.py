"""The rates of the simulated process: phases of interest, kinds of interactions, hazards, seasons, the clock.

Every rate is per day of the business clock, whose average week has seven days (docs/reference/simulator.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convpredict.config.history import SimulatorConfig

from .population import CHANNEL

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PHASES = ("quiet", "warming", "hot", "faded")
DURATIONS = ("none", "page", "zero", "brief", "long", "session")


@dataclass(frozen=True)
class Mark:
    """One sort of interaction: what the files show of it, and what it adds to interest and to trust."""

    kind: str
    topic: str | None
    weight: str
    duration: str = "none"


WEIGHTS: dict[str, tuple[float, float]] = {
    "nothing": (0.0, 0.0),
    "light": (0.4, 0.0),
    "solid": (1.0, 0.0),
    "strong": (2.0, 0.2),
    "talk": (1.5, 1.5),
    "event": (3.0, 1.0),
    "meeting": (2.0, 4.0),
}
"""What an interaction adds to (interest, trust)."""

_MARKS = (
    # mark, then its share in the phases quiet, warming, hot, faded, and among self-excited interactions
    (Mark("page_visit", "home", "light", "page"), 14, 14, 10, 12, 14),
    (Mark("page_visit", "blog", "light", "page"), 18, 14, 5, 14, 10),
    (Mark("page_visit", "product", "solid", "page"), 8, 17, 20, 6, 20),
    (Mark("page_visit", "case_study", "solid", "page"), 3, 8, 10, 2, 9),
    (Mark("page_visit", "pricing", "strong", "page"), 2, 6, 17, 1, 11),
    (Mark("page_visit", "careers", "nothing", "page"), 6, 2, 1, 5, 2),
    (Mark("email_open", "newsletter", "light"), 28, 16, 8, 36, 8),
    (Mark("email_open", "product_news", "light"), 12, 8, 6, 16, 6),
    (Mark("email_click", "newsletter", "light"), 5, 4, 2, 5, 3),
    (Mark("email_click", "product_news", "solid"), 2, 4, 5, 2, 5),
    (Mark("download", "whitepaper", "solid"), 2, 4, 4, 1, 4),
    (Mark("download", "datasheet", "strong"), 0, 2, 5, 0, 4),
    (Mark("webinar", "product", "event", "session"), 0, 0.7, 1.2, 0, 0.8),
    (Mark("demo_request", "product", "event"), 0, 0.3, 2.5, 0, 1.2),
    (Mark("meeting", None, "meeting", "session"), 0, 0, 2.3, 0, 1.0),
    (Mark("call", None, "nothing", "zero"), 0, 0, 0, 0, 0),
    (Mark("call", None, "light", "brief"), 0, 0, 0, 0, 0),
    (Mark("call", None, "talk", "long"), 0, 0, 0, 0, 0),
)
MARKS = tuple(row[0] for row in _MARKS)
CALL_SHARES = {"zero": 0.5, "brief": 0.3, "long": 0.2}

PHASE_ACTIVITY = np.array([0.06, 0.26, 0.75, 0.03])
PHASE_HAZARD = np.array([0.05, 0.3, 1.5, 0.02])
PHASE_LOSS = np.array([0.0015, 0.001, 0.0005, 0.008])
START = {"low": np.array([0.80, 0.18, 0.02, 0.0]), "high": np.array([0.50, 0.40, 0.10, 0.0])}
SWITCH = {
    # rates quiet -> warming, warming -> hot, warming -> faded, hot -> faded, faded -> warming
    "low": (0.002, 0.012, 0.06, 0.07, 0.001),
    "high": (0.007, 0.045, 0.03, 0.05, 0.004),
}
INTEREST_HALF_LIFE, TRUST_HALF_LIFE = 7.0, 30.0
EXCITATION, CALL_BASE, CALL_REACTION = 0.035, 0.006, 0.012
BASE_HAZARD, INTEREST_HAZARD, TRUST_HAZARD = 2.5e-4, 1.0, 0.8
ACTIVITY_SEASON, HAZARD_SEASON, ARRIVAL_SEASON = 0.10, 0.03, 0.15
ACTIVITY_PEAK, HAZARD_PEAK = 75.0, 320.0
"""Day of the year of the peak of the seasons of activity and of conversion."""
LATE_HOURS = 30.0
YEAR = 365.25


class Rates(NamedTuple):
    """All that the compiled kernels need to know of the process, as arrays and numbers."""

    phase_activity: Floats  # [phase]
    phase_hazard: Floats  # [phase]
    phase_loss: Floats  # [phase]
    start: Floats  # [fit, phase]
    switch: Floats  # [fit, from, to]
    mark_share: Floats  # [phase, mark]
    excited_share: Floats  # [mark]
    call_share: Floats  # [mark]
    mark_weight: Integers  # [mark] -> row of weight
    mark_duration: Integers  # [mark]
    weight: Floats  # [weight, 2]
    phase_weight_share: Floats  # [phase, weight]
    excited_weight_share: Floats  # [weight]
    call_weight_share: Floats  # [weight]
    excitation: float
    call_base: float
    call_reaction: float
    interest_decay: float
    trust_decay: float
    base_hazard: float
    interest_hazard: float
    trust_hazard: float
    activity_season: float
    activity_peak: float
    hazard_season: float
    hazard_peak: float
    drift_from: float  # business day
    drift_factor: float
    late_share: float
    late_days: float
    end: float  # business day


def week_clock() -> Floats:
    """Business time (days) that has passed at each of the 169 hour marks of a week from Monday 00:00 UTC on.

    Working hours pass quickly, nights and weekends slowly; a whole week is seven business days.
    """
    hours = np.arange(24)
    day = np.where((hours >= 8) & (hours < 17), 1.0, np.where((hours >= 6) & (hours < 22), 0.3, 0.03))
    week = np.concatenate([day * weight for weight in (1.0, 1.1, 1.1, 1.0, 0.85, 0.2, 0.25)])
    return np.concatenate([[0.0], np.cumsum(week) * (7.0 / week.sum())])


def _shares_by_weight(shares: Floats, mark_weight: Integers) -> Floats:
    result = np.zeros((*shares.shape[:-1], len(WEIGHTS)))
    for mark, weight in enumerate(mark_weight):
        result[..., weight] += shares[..., mark]
    return result


def _switch_matrix(rates: tuple[float, ...]) -> Floats:
    matrix = np.zeros((4, 4))
    for (source, target), rate in zip(((0, 1), (1, 2), (1, 3), (2, 3), (3, 1)), rates, strict=True):
        matrix[source, target] = rate
    return matrix


def make_rates(config: SimulatorConfig, *, intensity: float, end: float, drift_from: float) -> Rates:
    """The rates of a configuration; ``intensity`` scales the number of interactions, not their effect."""
    table = np.array([row[1:] for row in _MARKS], dtype=np.float64)
    shares = table / table.sum(axis=0)
    calls = np.array([CALL_SHARES.get(mark.duration, 0.0) if mark.kind == "call" else 0.0 for mark in MARKS])
    mark_weight = np.array([list(WEIGHTS).index(mark.weight) for mark in MARKS], dtype=np.int64)
    by_phase, excited = np.ascontiguousarray(shares[:, :4].T), np.ascontiguousarray(shares[:, 4])
    start_of_year = config.start.timetuple().tm_yday - 1
    return Rates(
        phase_activity=PHASE_ACTIVITY * intensity,
        phase_hazard=PHASE_HAZARD,
        phase_loss=PHASE_LOSS,
        start=np.stack([START["low"], START["high"]]),
        switch=np.stack([_switch_matrix(SWITCH["low"]), _switch_matrix(SWITCH["high"])]),
        mark_share=by_phase,
        excited_share=excited,
        call_share=calls,
        mark_weight=mark_weight,
        mark_duration=np.array([DURATIONS.index(mark.duration) for mark in MARKS], dtype=np.int64),
        weight=np.array(list(WEIGHTS.values())) / intensity,
        phase_weight_share=_shares_by_weight(by_phase, mark_weight),
        excited_weight_share=_shares_by_weight(excited, mark_weight),
        call_weight_share=_shares_by_weight(calls, mark_weight),
        excitation=EXCITATION * intensity,
        call_base=CALL_BASE * intensity,
        call_reaction=CALL_REACTION * intensity,
        interest_decay=np.log(2.0) / INTEREST_HALF_LIFE,
        trust_decay=np.log(2.0) / TRUST_HALF_LIFE,
        base_hazard=BASE_HAZARD,
        interest_hazard=INTEREST_HAZARD,
        trust_hazard=TRUST_HAZARD,
        activity_season=ACTIVITY_SEASON,
        activity_peak=ACTIVITY_PEAK - start_of_year,
        hazard_season=HAZARD_SEASON,
        hazard_peak=HAZARD_PEAK - start_of_year,
        drift_from=drift_from,
        drift_factor=config.drift.factor if config.drift else 1.0,
        late_share=config.late_share,
        late_days=LATE_HOURS / 24.0,
        end=end,
    )


def arrival_times(position: Floats, end: float, start: datetime) -> Floats:
    """Business days of arrival for positions in [0, 1): evenly spread but for a yearly season."""
    phase = 2.0 * np.pi * (start.timetuple().tm_yday - 1 - ACTIVITY_PEAK) / YEAR
    swing = ARRIVAL_SEASON * YEAR / (2.0 * np.pi)

    def warped(days: Floats | float) -> Floats:
        return np.asarray(
            days - swing * (np.sin(2.0 * np.pi * np.asarray(days) / YEAR + phase) - np.sin(phase))
        )

    return np.asarray(warped(position * end) / float(warped(end)) * end, dtype=np.float64)


def drifting_channels(config: SimulatorConfig) -> list[int]:
    """The codes of the channels whose quality drifts: one, all ("any"), or none."""
    if config.drift is None:
        return []
    if config.drift.channel == "any":
        return list(range(len(CHANNEL.values)))
    return [CHANNEL.values.index(config.drift.channel)]


def known_until(config: SimulatorConfig) -> datetime:
    """The instant at which the simulated history ends."""
    return config.start + timedelta(days=config.days)
