"""Days since the last and since the first visible interaction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from convpredict.features.time_rule import MICROSECONDS_PER_DAY, is_visible


@njit(cache=True, nogil=True)
def recency(
    events: Any, cutoffs: Any, of_first: bool, target: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Days from the last (or first) of V(c) to c per group, NaN without any: column ``target[group]`` of ``out``."""
    for lead in range(len(cutoffs.starts) - 1):
        for group in range(events.n_groups):
            column = target[group]
            if column < 0:
                continue
            sequence = lead * events.n_groups + group
            begin, n = events.starts[sequence], events.stops[sequence] - events.starts[sequence]
            entered, earliest, latest = 0, n, -1
            for o in range(cutoffs.starts[lead], cutoffs.starts[lead + 1]):
                cutoff = cutoffs.at[o]
                while entered < n:
                    position = events.entry[begin + entered] if events.late else entered
                    if not is_visible(events.visible_at[begin + position], cutoff):
                        break
                    earliest = min(earliest, position)
                    latest = max(latest, position)
                    entered += 1
                if entered == 0:
                    out[column, o] = np.nan
                else:
                    position = earliest if of_first else latest
                    out[column, o] = (cutoff - events.occurred_at[begin + position]) / MICROSECONDS_PER_DAY
