"""The true probability of a conversion: a filter for what is hidden, a transform for what is to come.

Formulas and their derivation are in docs/reference/simulator.md.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from .kernels import NO_TIME, activity_season, hazard_level

STATES = 8
"""fit (low, high) x phase (quiet, warming, hot, faded); state = 4 * fit + phase."""
TRANSFORM_STEP_DAYS, BELIEF_STEP_DAYS = 4.0, 2.0
NODES = np.array([0.06943184420297371, 0.33000947820757187, 0.6699905217924281, 0.9305681557970262])
WEIGHTS = np.array([0.17392742256872692, 0.3260725774312731, 0.3260725774312731, 0.17392742256872692])
"""Gauss and Legendre's rule with four nodes on (0, 1)."""


@njit(cache=True, nogil=True)
def _probe(values: Any, step: float, slope: Any, target: Any) -> None:
    for k in range(len(values)):
        target[k] = values[k] + step * slope[k]


@njit(cache=True, nogil=True)
def _advance(values: Any, step: float, work: Any) -> None:
    for k in range(len(values)):
        values[k] += step / 6.0 * (work[0, k] + 2.0 * work[1, k] + 2.0 * work[2, k] + work[3, k])


@njit(cache=True, nogil=True)
def _filter_slope(time: float, belief: Any, lead: Any, i: int, rates: Any, slope: Any) -> None:
    season = activity_season(time, rates) * lead.activity[i]
    level = hazard_level(time, lead.hazard[i], lead.drifts[i], rates)
    for fit in range(2):
        for phase in range(4):
            leaving = rates.switch[fit, phase].sum()
            exits = (
                season * rates.phase_activity[phase]
                + level * rates.phase_hazard[phase]
                + rates.phase_loss[phase]
            )
            change = -(leaving + exits) * belief[4 * fit + phase]
            for source in range(4):
                change += rates.switch[fit, source, phase] * belief[4 * fit + source]
            slope[4 * fit + phase] = change


@njit(cache=True, nogil=True)
def advance_belief(start: float, end: float, belief: Any, lead: Any, i: int, rates: Any, work: Any) -> None:
    """Carry the belief over hidden states through a time without any event (by Runge and Kutta)."""
    if end <= start:
        return
    fastest = rates.phase_activity.max() * lead.activity[i]
    steps = math.ceil((end - start) / min(BELIEF_STEP_DAYS, 0.3 / fastest))
    step = (end - start) / steps
    for k in range(steps):
        time = start + k * step
        _filter_slope(time, belief, lead, i, rates, work[0])
        _probe(belief, 0.5 * step, work[0], work[4])
        _filter_slope(time + 0.5 * step, work[4], lead, i, rates, work[1])
        _probe(belief, 0.5 * step, work[1], work[4])
        _filter_slope(time + 0.5 * step, work[4], lead, i, rates, work[2])
        _probe(belief, step, work[2], work[4])
        _filter_slope(time + step, work[4], lead, i, rates, work[3])
        _advance(belief, step, work)
        belief /= belief.sum()


@njit(cache=True, nogil=True)
def observe_mark(mark: int, interest: float, belief: Any, lead: Any, i: int, rates: Any) -> None:
    """Update the belief by an interaction: by its intensity in each phase (Bayes)."""
    calls = lead.diligence[i] * (rates.call_base + rates.call_reaction * interest) * rates.call_share[mark]
    common = calls + rates.excitation * interest * rates.excited_share[mark]
    for phase in range(4):
        intensity = common + lead.activity[i] * rates.phase_activity[phase] * rates.mark_share[phase, mark]
        belief[phase] *= intensity
        belief[4 + phase] *= intensity
    belief /= belief.sum()


@njit(cache=True, nogil=True)
def _transform_slope(time: float, x: Any, lead: Any, i: int, rates: Any, hazard: float, slope: Any) -> None:
    season = activity_season(time, rates)
    level = hazard_level(time, hazard, lead.drifts[i], rates)
    excited, call, first, second, third, fourth = -1.0, -1.0, -1.0, -1.0, -1.0, -1.0
    for weight in range(len(rates.weight)):
        growth = math.exp(x[0] * rates.weight[weight, 0] + x[1] * rates.weight[weight, 1])
        excited += growth * rates.excited_weight_share[weight]
        call += growth * rates.call_weight_share[weight]
        first += growth * rates.phase_weight_share[0, weight]
        second += growth * rates.phase_weight_share[1, weight]
        third += growth * rates.phase_weight_share[2, weight]
        fourth += growth * rates.phase_weight_share[3, weight]
    reaction, calls = lead.diligence[i] * rates.call_reaction, lead.diligence[i] * rates.call_base * call
    slope[0] = -rates.interest_decay * x[0] - level * rates.interest_hazard
    slope[0] += season * (rates.excitation * excited + reaction * call)
    slope[1] = -rates.trust_decay * x[1] - level * rates.trust_hazard
    for phase in range(4):
        by_phase = first if phase == 0 else second if phase == 1 else third if phase == 2 else fourth
        growth = season * (lead.activity[i] * rates.phase_activity[phase] * by_phase + calls)
        growth -= level * rates.phase_hazard[phase] + rates.phase_loss[phase]
        for fit in range(2):
            state = 2 + 4 * fit + phase
            change = growth * x[state]
            for target in range(4):
                change += rates.switch[fit, phase, target] * (x[2 + 4 * fit + target] - x[state])
            slope[state] = change


@njit(cache=True, nogil=True)
def transform(
    start: float, end: float, x: Any, lead: Any, i: int, rates: Any, hazard: float, work: Any
) -> None:
    """Carry (interest and trust coefficients, value per hidden state) from ``end`` back to ``start``."""
    steps = max(1, math.ceil((end - start) / TRANSFORM_STEP_DAYS))
    step = (end - start) / steps
    for k in range(steps):
        time = end - k * step
        _transform_slope(time, x, lead, i, rates, hazard, work[0])
        _probe(x, 0.5 * step, work[0], work[4])
        _transform_slope(time - 0.5 * step, work[4], lead, i, rates, hazard, work[1])
        _probe(x, 0.5 * step, work[1], work[4])
        _transform_slope(time - 0.5 * step, work[4], lead, i, rates, hazard, work[2])
        _probe(x, step, work[2], work[4])
        _transform_slope(time - step, work[4], lead, i, rates, hazard, work[3])
        _advance(x, step, work)


@njit(cache=True, nogil=True)
def conversion_probability(
    time: float,
    end: float,
    interest: float,
    trust: float,
    belief: Any,
    lead: Any,
    i: int,
    rates: Any,
    hazard: float,
) -> Any:
    """P(conversion in [time, end)) = 1 - P(still open at end) - P(lost before)."""
    work = np.empty((5, 2 + STATES))
    x = np.empty(2 + STATES)
    x[:2], x[2:] = 0.0, 1.0
    transform(time, end, x, lead, i, rates, hazard, work)
    probability = 1.0 - math.exp(x[0] * interest + x[1] * trust) * (belief * x[2:]).sum()
    for node in range(len(NODES)):
        x[:2] = 0.0
        x[2:6] = rates.phase_loss
        x[6:] = rates.phase_loss
        transform(time, time + NODES[node] * (end - time), x, lead, i, rates, hazard, work)
        open_loss = math.exp(x[0] * interest + x[1] * trust) * (belief * x[2:]).sum()
        probability -= WEIGHTS[node] * (end - time) * open_loss
    return max(probability, 0.0)


@njit(cache=True, nogil=True)
def _is_over(converted: Any, lost: Any, cutoff: Any) -> Any:
    return (converted != NO_TIME and converted < cutoff) or (lost != NO_TIME and lost < cutoff)


@njit(cache=True, nogil=True)
def true_probabilities(
    row: Any,
    cutoff: Any,
    cutoff_business: Any,
    end_business: Any,
    hazard: Any,
    lead: Any,
    rates: Any,
    out: Any,
) -> Any:
    """For observations sorted by (row, cutoff): P(conversion within the horizon | history before the cutoff).

    NaN where the lead did not exist yet, or had converted or been lost before the cutoff. ``hazard`` is the
    base hazard per lead from the cutoff on (the lead's own, or that of the other arm of the split test).
    """
    result = np.full(len(row), np.nan)
    work = np.empty((5, STATES))
    belief = np.empty(STATES)
    current, time, interest, trust, event, stop = -1, 0.0, 0.0, 0.0, 0, 0
    for k in range(len(row)):
        i = row[k]
        if i != current:
            current, time, interest, trust = i, lead.created[i], 0.0, 0.0
            belief[:4] = (1.0 - lead.fit_probability[i]) * rates.start[0]
            belief[4:] = lead.fit_probability[i] * rates.start[1]
            event, stop = (out.stop[i - 1] if i > 0 else 0), out.stop[i]
        now = cutoff_business[k]
        if cutoff[k] < lead.created_at[i] or _is_over(out.converted[i], out.lost[i], cutoff[k]):
            continue
        while event < stop and out.occurred[event] < cutoff[k]:
            wait = out.business[event] - time
            advance_belief(time, out.business[event], belief, lead, i, rates, work)
            interest *= math.exp(-rates.interest_decay * wait)
            trust *= math.exp(-rates.trust_decay * wait)
            mark = out.mark[event]
            observe_mark(mark, interest, belief, lead, i, rates)
            interest += rates.weight[rates.mark_weight[mark], 0]
            trust += rates.weight[rates.mark_weight[mark], 1]
            time = out.business[event]
            event += 1
        if now > time:
            advance_belief(time, now, belief, lead, i, rates, work)
            interest *= math.exp(-rates.interest_decay * (now - time))
            trust *= math.exp(-rates.trust_decay * (now - time))
            time = now
        result[k] = conversion_probability(
            now, end_business[k], interest, trust, belief, lead, i, rates, hazard[i]
        )
    return result
