"""Counts with exponential decay."""

from __future__ import annotations

from typing import Any

from numba import njit

from convpredict.features.time_rule import is_visible


@njit(cache=True, nogil=True)
def decayed(
    events: Any, cutoffs: Any, half_lives: Any, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Sum over V(c) of 2 ** (-(c - occurred_at) / h) per group and half-life: column ``target[group, half_life]``.

    The sum is carried from event to event in the order in which they became visible, anchored at the latest
    occurred_at met so far and never at a cutoff, so that a cell does not depend on the other cutoffs.
    """
    for lead in range(len(cutoffs.starts) - 1):
        for group in range(events.n_groups):
            sequence = lead * events.n_groups + group
            begin, n = events.starts[sequence], events.stops[sequence] - events.starts[sequence]
            for h in range(len(half_lives)):
                column = target[group, h]
                if column < 0:
                    continue
                half_life = float(half_lives[h])
                total, anchor, entered = 0.0, 0, 0
                for o in range(cutoffs.starts[lead], cutoffs.starts[lead + 1]):
                    cutoff = cutoffs.at[o]
                    while entered < n:
                        position = events.entry[begin + entered] if events.late else entered
                        if not is_visible(events.visible_at[begin + position], cutoff):
                            break
                        occurred_at = events.occurred_at[begin + position]
                        if entered == 0:
                            total, anchor = 1.0, occurred_at
                        elif occurred_at >= anchor:
                            total = total * 2.0 ** ((anchor - occurred_at) / half_life) + 1.0
                            anchor = occurred_at
                        else:
                            total += 2.0 ** ((occurred_at - anchor) / half_life)
                        entered += 1
                    out[column, o] = total * 2.0 ** ((anchor - cutoff) / half_life) if entered else 0.0
