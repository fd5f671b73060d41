"""Counts with exponential decay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_SPAN = 256


@njit(cache=True, nogil=True)
def weigh(times: Any, half_life: int) -> Any:  # pragma: no cover - compiled
    """Weights 2 ** (time / half_life) as (weight, era): the weight times 2 ** (256 * era) is the true one.

    An era is 256 half-lives, counted from 1970: a grid that does not depend on the data.
    """
    weights = np.empty(len(times), np.float64)
    eras = np.empty(len(times), np.int32)
    for i in range(len(times)):
        era = times[i] // (_SPAN * half_life)
        eras[i] = era
        weights[i] = np.exp2((times[i] - era * _SPAN * half_life) / half_life)
    return weights, eras


@njit(cache=True, nogil=True)
def decayed(
    timeline: Any, groups: Any, n_groups: int, weights: Any, eras: Any, half_life: int, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Sum over V(c) of 2 ** (-(c - occurred_at) / h) per group: row ``target[group]`` of ``out``.

    ``weights`` and ``eras`` are those of the events. Weights are added in the order in which the events
    became visible, in units of the latest era so far, and never depend on a cutoff: a cell is the same
    whatever the others are.
    """
    total = np.empty(n_groups, np.float64)
    for lead in range(len(timeline.begins)):
        total[:] = 0.0
        entered, era = timeline.begins[lead], 0
        for o in range(timeline.starts[lead], timeline.starts[lead + 1]):
            while entered < timeline.ends[lead]:
                i = timeline.order[entered] if timeline.late else entered
                if timeline.enter[i] > o:
                    break
                if entered == timeline.begins[lead]:
                    era = eras[i]
                entered += 1
                if eras[i] > era:
                    for group in range(n_groups):
                        total[group] *= np.exp2(float(_SPAN * (era - eras[i])))
                    era = eras[i]
                if groups[i] >= 0:
                    older = era - eras[i]
                    total[groups[i]] += (
                        weights[i] if older == 0 else weights[i] * np.exp2(-float(_SPAN * older))
                    )
            factor = 0.0
            if entered > timeline.begins[lead]:
                factor = np.exp2((era * _SPAN * half_life - timeline.at[o]) / half_life)
            for group in range(n_groups):
                if target[group] >= 0:
                    out[target[group], o] = total[group] * factor
