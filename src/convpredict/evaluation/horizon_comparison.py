"""Two models on the further horizons that both predict: the log loss of each, paired, by resampling leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convpredict.config.training import EvaluationConfig

from .calibration import Calibration
from .inputs import to_series
from .model_comparison import FEWEST_CONVERTING_LEADS, entry_of, losses_of, simultaneous_intervals
from .resampling import resample_leads

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HorizonPair:
    """The observations whose outcome within one horizon is known: ``label`` (0 or 1), both models' probabilities and
    ``lead_ids``, each of shape (rows,)."""

    label: Floats = field(repr=False)
    p_challenger: Floats = field(repr=False)
    p_champion: Floats = field(repr=False)
    lead_ids: Any = field(repr=False)


def compare_horizons(
    pairs: Mapping[str, HorizonPair],
    config: EvaluationConfig | None = None,
    *,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """The difference in log loss (challenger minus champion) within each horizon, on the same resamples of the leads.

    Returns, by horizon and safe for JSON, ``rows``, ``leads``, ``converting_leads``, ``log_loss`` (``value``, ``low``,
    ``high``) and the ``champion``'s own. The intervals hold together, all at once with the stated confidence. Where
    fewer than ten leads converted there is none.

    Examples
    --------
    >>> pair = HorizonPair(np.tile([0., 1], 30), np.tile([.1, .8], 30), np.full(60, .5), np.arange(60))
    >>> compare_horizons({"90d": pair})["90d"]["log_loss"]["high"] < 0
    True
    """
    config = config or EvaluationConfig()
    filled = {name: pair for name, pair in pairs.items() if len(pair.label)}
    if not filled:
        return {name: _nothing() for name in pairs}
    leads = [to_series(pair.lead_ids).to_numpy() for pair in filled.values()]
    coded, known = pd.factorize(np.concatenate(leads))
    codes = np.split(coded, np.cumsum([len(each) for each in leads])[:-1])
    sides = [
        [Calibration(pair.label, p) for p in (pair.p_challenger, pair.p_champion)] for pair in filled.values()
    ]
    gaps = [losses_of(one) - losses_of(other) for one, other in sides]
    count = len(known)
    gap = np.column_stack([np.bincount(c, g, count) for c, g in zip(codes, gaps, strict=True)])
    rows = np.column_stack([np.bincount(c, minlength=count) for c in codes]).astype(np.float64)

    def statistic(weight: Floats | None) -> Floats:
        times = np.ones(count) if weight is None else weight
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((times @ gap) / (times @ rows))

    drawn = resample_leads(
        statistic, np.arange(count), resamples=config.resamples, seed=config.seed, progress=progress
    )
    converting = [len(np.unique(c[pair.label > 0])) for c, pair in zip(codes, filled.values(), strict=True)]
    judged = [k for k, number in enumerate(converting) if number >= FEWEST_CONVERTING_LEADS]
    together = simultaneous_intervals(drawn.value[judged], drawn.draws[:, judged], config.confidence)
    ends = dict(zip(judged, together, strict=True))
    nan = float("nan")
    found = {
        name: {
            "rows": len(filled[name].label),
            "leads": len(np.unique(codes[k])),
            "converting_leads": converting[k],
            "champion": float(losses_of(sides[k][1]).mean()),
            "log_loss": entry_of(drawn.value[k], *ends.get(k, (nan, nan))),
        }
        for k, name in enumerate(filled)
    }
    return {name: found.get(name, _nothing()) for name in pairs}


def _nothing() -> dict[str, Any]:
    nan = float("nan")
    entry = entry_of(nan, nan, nan)
    return {"rows": 0, "leads": 0, "converting_leads": 0, "champion": None, "log_loss": entry}
