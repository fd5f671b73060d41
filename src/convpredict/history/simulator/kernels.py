"""The compiled process: each lead is simulated by itself, from its own random stream, by thinning."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from .process import YEAR

MICROSECONDS_PER_HOUR = 3_600_000_000
MICROSECONDS_PER_DAY = 24 * MICROSECONDS_PER_HOUR
FIRST_MONDAY = 4 * MICROSECONDS_PER_DAY
HOURS_PER_WEEK = 168
NO_TIME = np.iinfo(np.int64).min


@njit(cache=True, nogil=True)
def to_business(microseconds: Any, clock: Any) -> Any:
    """Business days from Monday 1970-01-05 to a UTC instant (µs)."""
    since = microseconds - FIRST_MONDAY
    week = since // (HOURS_PER_WEEK * MICROSECONDS_PER_HOUR)
    rest = since - week * HOURS_PER_WEEK * MICROSECONDS_PER_HOUR
    hour = rest // MICROSECONDS_PER_HOUR
    part = (rest - hour * MICROSECONDS_PER_HOUR) / MICROSECONDS_PER_HOUR
    return week * 7.0 + clock[hour] + part * (clock[hour + 1] - clock[hour])


@njit(cache=True, nogil=True)
def to_business_all(microseconds: Any, clock: Any, origin: float) -> Any:
    """Business days since ``origin`` of many UTC instants (µs)."""
    result = np.empty(len(microseconds), np.float64)
    for i in range(len(microseconds)):
        result[i] = to_business(microseconds[i], clock) - origin
    return result


@njit(cache=True, nogil=True)
def to_instant(business: Any, clock: Any) -> Any:
    """The UTC instant (µs) at which this business time is reached."""
    week = math.floor(business / 7.0)
    rest = business - week * 7.0
    hour: Any = min(np.searchsorted(clock, rest, side="right") - 1, HOURS_PER_WEEK - 1)
    part = (rest - clock[hour]) / (clock[hour + 1] - clock[hour])
    hours = week * HOURS_PER_WEEK + hour
    return FIRST_MONDAY + np.int64(hours) * MICROSECONDS_PER_HOUR + np.int64(part * MICROSECONDS_PER_HOUR)


@njit(cache=True, nogil=True)
def to_instants(business: Any, clock: Any, origin: float) -> Any:
    """The UTC instants (µs) of many business days since ``origin``; NO_TIME where they are NaN."""
    result = np.full(len(business), NO_TIME)
    for i in range(len(business)):
        if not math.isnan(business[i]):
            result[i] = to_instant(business[i] + origin, clock)
    return result


@njit(cache=True, nogil=True)
def next_uniform(state: Any) -> float:
    """The next number in (0, 1) of the SplitMix64 stream whose state is ``state[0]``."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (float(z >> np.uint64(11)) + 0.5) * 2.0**-53


@njit(cache=True, nogil=True)
def next_normal(state: Any) -> float:
    """A standard normal number (Box and Muller)."""
    radius = math.sqrt(-2.0 * math.log(next_uniform(state)))
    return radius * math.cos(2.0 * math.pi * next_uniform(state))


@njit(cache=True, nogil=True)
def _pick(shares: Any, uniform: float) -> Any:
    for i in range(len(shares)):
        uniform -= shares[i]
        if uniform < 0.0:
            return i
    last = len(shares) - 1
    while shares[last] <= 0.0:
        last -= 1
    return last


@njit(cache=True, nogil=True)
def activity_season(time: float, rates: Any) -> float:
    """Factor on the intensity of interactions at a business day since the start."""
    return math.exp(rates.activity_season * math.cos(2.0 * math.pi * (time - rates.activity_peak) / YEAR))


@njit(cache=True, nogil=True)
def hazard_level(time: float, hazard: float, drifts: bool, rates: Any) -> float:
    """The lead's base hazard at a business day since the start: season and drift applied."""
    season = math.exp(rates.hazard_season * math.cos(2.0 * math.pi * (time - rates.hazard_peak) / YEAR))
    return hazard * season * (rates.drift_factor if drifts and time >= rates.drift_from else 1.0)


@njit(cache=True, nogil=True)
def _draw_duration(sort: int, state: Any) -> float:
    if sort == 1:
        return math.floor(1.0 + math.exp(3.7 + 1.0 * next_normal(state)))
    if sort == 2:
        return 0.0
    if sort == 3:
        return math.floor(8.0 + 110.0 * next_uniform(state))
    if sort == 4:
        return math.floor(120.0 - 420.0 * math.log(next_uniform(state)))
    if sort == 5:
        return math.floor(900.0 + 2700.0 * next_uniform(state))
    return math.nan


@njit(cache=True, nogil=True)
def _draw_delay(state: Any, rates: Any) -> Any:
    if next_uniform(state) >= rates.late_share:
        return 0
    return np.int64(-rates.late_days * math.log(next_uniform(state)) * MICROSECONDS_PER_DAY) + 1


@njit(cache=True, nogil=True)
def _draw_mark(
    draw: float, season: float, interest: float, phase: int, lead: Any, i: int, rates: Any, state: Any
) -> Any:
    """The mark of a candidate ``draw`` into the summed intensities of all sources; -1: there is none."""
    draw -= season * lead.activity[i] * rates.phase_activity[phase]
    if draw < 0.0:
        return _pick(rates.mark_share[phase], next_uniform(state))
    draw -= season * rates.excitation * interest
    if draw < 0.0:
        return _pick(rates.excited_share, next_uniform(state))
    draw -= season * lead.diligence[i] * (rates.call_base + rates.call_reaction * interest)
    if draw < 0.0:
        return _pick(rates.call_share, next_uniform(state))
    return -1


@njit(cache=True, nogil=True)
def _propensity(phase: int, interest: float, trust: float, rates: Any) -> Any:
    return rates.phase_hazard[phase] + rates.interest_hazard * interest + rates.trust_hazard * trust


@njit(cache=True, nogil=True)
def _write_interaction(
    n: int, time: float, mark: int, state: Any, rates: Any, clock: Any, origin: float, out: Any
) -> None:
    out.mark[n], out.business[n] = mark, time
    out.occurred[n] = to_instant(time + origin, clock)
    out.duration[n] = _draw_duration(rates.mark_duration[mark], state)
    out.delay[n] = _draw_delay(state, rates)


@njit(cache=True, nogil=True)
def simulate_one(
    lead: Any, i: int, n: int, state: Any, rates: Any, clock: Any, origin: float, out: Any
) -> int:
    """Simulate lead ``i`` by thinning, writing its interactions from row ``n`` on.

    Returns the row after its last interaction, or -1 when ``out`` is too short.
    """
    fit = 1 if next_uniform(state) < lead.fit_probability[i] else 0
    phase = _pick(rates.start[fit], next_uniform(state))
    time, interest, trust, hazard = lead.created[i], 0.0, 0.0, lead.hazard[i]
    season_max = math.exp(rates.activity_season)
    hazard_max = hazard * math.exp(rates.hazard_season) * max(1.0, rates.drift_factor)
    out.fit[i], out.peak[i], out.converted[i], out.lost[i] = fit, math.nan, NO_TIME, NO_TIME
    while True:
        if phase == 2 and math.isnan(out.peak[i]):
            out.peak[i] = time
        excited = (rates.excitation + lead.diligence[i] * rates.call_reaction) * interest
        base = lead.activity[i] * rates.phase_activity[phase] + lead.diligence[i] * rates.call_base
        switching = rates.switch[fit, phase].sum()
        total = season_max * (base + excited) + hazard_max * _propensity(phase, interest, trust, rates)
        total += rates.phase_loss[phase] + switching
        wait = -math.log(next_uniform(state)) / total
        time += wait
        if time >= rates.end:
            return n
        interest *= math.exp(-rates.interest_decay * wait)
        trust *= math.exp(-rates.trust_decay * wait)
        draw = next_uniform(state) * total - switching
        if draw < 0.0:
            phase = _pick(rates.switch[fit, phase] / switching, next_uniform(state))
            continue
        draw -= rates.phase_loss[phase]
        if draw < 0.0:
            out.lost[i] = to_instant(time + origin, clock)
            return n
        draw -= hazard_level(time, hazard, lead.drifts[i], rates) * _propensity(phase, interest, trust, rates)
        if draw < 0.0:
            out.converted[i] = to_instant(time + origin, clock)
            out.converted_delay[i] = _draw_delay(state, rates)
            return n
        mark = _draw_mark(draw, activity_season(time, rates), interest, phase, lead, i, rates, state)
        if mark < 0:
            continue
        if n >= len(out.mark):
            return -1
        interest += rates.weight[rates.mark_weight[mark], 0]
        trust += rates.weight[rates.mark_weight[mark], 1]
        _write_interaction(n, time, mark, state, rates, clock, origin, out)
        n += 1


@njit(cache=True, nogil=True)
def simulate_leads(
    lead: Any, first: int, n: int, rates: Any, clock: Any, origin: float, out: Any
) -> tuple[int, int]:
    """Simulate the leads from position ``first`` on until done or full: (leads, interactions) done."""
    state = np.empty(1, np.uint64)
    for i in range(first, len(lead.created)):
        state[0] = lead.stream[i]
        after = simulate_one(lead, i, n, state, rates, clock, origin, out)
        if after < 0:
            return i, n
        n = after
        out.stop[i] = n
    return len(lead.created), n
