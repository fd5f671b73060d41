"""What converted leads spend (heavy tails, repeat purchases), its expected value, and what campaigns cost."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from convpredict.config.history import SimulatorConfig

from .kernels import MICROSECONDS_PER_DAY, next_normal, next_uniform
from .population import (
    CHANNEL,
    CHANNEL_COST_PER_LEAD,
    campaign_channel,
    campaign_names,
    campaign_share,
    dictionary,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LOG_AMOUNT, CUSTOMER_DEVIATION, PURCHASE_DEVIATION = 7.6, 0.6, 0.5
TAIL_SHARE, TAIL_FACTOR, TAIL_INDEX = 0.05, 2.0, 2.5
FIRST_DELAY_DAYS, REPEAT_DAYS, LIFETIME_DAYS = 2.0, 60.0, 240.0
SPEND_DEVIATION = 0.3
WEEKDAY_SPEND = np.array([1.15, 1.15, 1.15, 1.1, 1.0, 0.7, 0.75])


@njit(cache=True, nogil=True)
def _purchase(level: float, state: Any) -> float:
    log_amount = level + PURCHASE_DEVIATION * next_normal(state)
    if next_uniform(state) < TAIL_SHARE:
        log_amount += math.log(TAIL_FACTOR) - math.log(next_uniform(state)) / TAIL_INDEX
    return math.floor(100.0 * math.exp(log_amount) + 0.5) / 100.0


@njit(cache=True, nogil=True)
def simulate_revenue(streams: Any, converted: Any, log_amount: Any, end: int) -> tuple[Any, Any, Any]:
    """Purchases of converted leads, in order of time per lead: (position among them, instant µs, euros)."""
    position, instant, amount = [], [], []
    state = np.empty(1, np.uint64)
    for i in range(len(streams)):
        state[0] = streams[i]
        level = LOG_AMOUNT + log_amount[i] + CUSTOMER_DEVIATION * next_normal(state)
        first = -FIRST_DELAY_DAYS * math.log(next_uniform(state))
        lifetime = -LIFETIME_DAYS * math.log(next_uniform(state))
        first_amount, first_due, day = _purchase(level, state), True, 0.0
        while True:
            day -= REPEAT_DAYS * math.log(next_uniform(state))
            if first_due and (first < day or day >= lifetime):
                at = converted[i] + np.int64(first * MICROSECONDS_PER_DAY)
                if at < end:
                    position.append(i)
                    instant.append(at)
                    amount.append(first_amount)
                first_due = False
            at = converted[i] + np.int64(day * MICROSECONDS_PER_DAY)
            if day >= lifetime or at >= end:
                break
            position.append(i)
            instant.append(at)
            amount.append(_purchase(level, state))
    return np.array(position, np.int64), np.array(instant, np.int64), np.array(amount, np.float64)


def mean_revenue(log_amount: Floats, value_horizon_days: float) -> Floats:
    """E[revenue within the value horizon after the conversion | conversion], in euros.

    E[amount] * (1 - exp(-V / first delay) + (1 - exp(-V / lifetime)) * lifetime / repeat gap), because
    purchases repeat at a constant rate while an exponential lifetime lasts; E[amount] is that of a log-normal
    amount, which with probability TAIL_SHARE is multiplied by a Pareto factor of mean TAIL_FACTOR * a / (a -
    1), a = TAIL_INDEX.

    >>> bool(mean_revenue(np.zeros(1), 365.0)[0] > mean_revenue(np.zeros(1), 30.0)[0] > 0)
    True
    """
    tail = 1.0 - TAIL_SHARE + TAIL_SHARE * TAIL_FACTOR * TAIL_INDEX / (TAIL_INDEX - 1.0)
    spread = math.exp((CUSTOMER_DEVIATION**2 + PURCHASE_DEVIATION**2) / 2.0)
    first = 1.0 - math.exp(-value_horizon_days / FIRST_DELAY_DAYS)
    repeats = (1.0 - math.exp(-value_horizon_days / LIFETIME_DAYS)) * LIFETIME_DAYS / REPEAT_DAYS
    return np.asarray(np.exp(LOG_AMOUNT + log_amount) * spread * tail * (first + repeats), dtype=np.float64)


def simulate_spend(config: SimulatorConfig, start: datetime, instants: pa.DataType) -> pa.Table:
    """What each campaign costs each day: its expected leads times the channel's cost per lead, with noise."""
    channels = [CHANNEL.values.index(channel) for channel in campaign_channel()]
    share = CHANNEL.share[channels] * campaign_share()
    daily = config.leads / config.days * share * CHANNEL_COST_PER_LEAD[channels]
    generator = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(3,)))
    noise = generator.standard_normal((config.days, len(share))) * SPEND_DEVIATION - SPEND_DEVIATION**2 / 2.0
    weekday = WEEKDAY_SPEND[(start.weekday() + np.arange(config.days)) % 7]
    amount = np.round(daily * weekday[:, None] * np.exp(noise), 2)
    first = int(start.timestamp()) * 1_000_000
    days = first + np.repeat(np.arange(config.days, dtype=np.int64), len(share)) * MICROSECONDS_PER_DAY
    codes = np.tile(np.arange(len(share)), config.days)
    return pa.table(
        {
            "occurred_at": pa.array(days).cast(instants),
            "amount": amount.ravel(),
            "channel": dictionary(np.array(channels)[codes], CHANNEL.values),
            "campaign": dictionary(codes, campaign_names()),
        }
    )
