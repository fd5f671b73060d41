"""Repeated activity: how often a lead came back, how long it has been silent for its own rhythm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

COUNT, RATE, SPAN, SILENCE, EXPECTED = range(5)
"""Rows of ``target``."""


@njit(cache=True, nogil=True)
def repeats(
    n: int, facts: Any, prior_repeats: float, prior_days: float, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Repeat activity from three facts per observation, into the rows ``target[function]`` of ``out``.

    ``facts`` (float64) holds the number of active days, the days since the last and the days since the first
    of V(c), missing without any event. With k repeats over an age T, the last interaction at age S, r and a
    the prior repeats and days: rate (k + r) / (T + a), span S / T, silence (k + r) ln((T + a) / (S + a)), and
    expected, the rate times the chance 1 / (1 + exp(silence) / (k + 1)) that the lead is still active. That is
    the BG/NBD model with the dropout prior Beta(1, 2) (Fader, Hardie and Lee 2005, equation 10), its exception
    for leads without a repeat left out.
    """
    for o in range(n):
        active_days, since_last, age = facts[0, o], facts[1, o], facts[2, o]
        count, rate, span, silence, expected = np.nan, np.nan, np.nan, np.nan, np.nan
        if active_days > 0:
            count = active_days - 1
            last_age = age - since_last
            rate = (count + prior_repeats) / (age + prior_days)
            span = last_age / age
            silence = (count + prior_repeats) * np.log1p(since_last / (last_age + prior_days))
            expected = rate / (1 + np.exp(silence) / (count + 1))
        if target[COUNT] >= 0:
            out[target[COUNT], o] = count
        if target[RATE] >= 0:
            out[target[RATE], o] = rate
        if target[SPAN] >= 0:
            out[target[SPAN], o] = span
        if target[SILENCE] >= 0:
            out[target[SILENCE], o] = silence
        if target[EXPECTED] >= 0:
            out[target[EXPECTED], o] = expected
