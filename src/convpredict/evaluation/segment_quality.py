"""How well the model ranks and is calibrated in each segment, with intervals that respect leads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .inputs import check_labels, to_series
from .ranking import Ranking
from .resampling import code_leads, interval, resample_leads
from .segments import calibration_by_segment

OTHERS = "(all others)"
MISSING = "(not given)"
DEFAULT_SHARES = np.unique(np.round([*np.geomspace(0.005, 1, 60), 0.01, 0.02, 0.05, 0.1, 0.2, 0.5], 4))
FEWEST_LEADS = 10
"""A value that fewer leads have is told with the others: it would speak of single people."""
FEWEST_POSITIVES = 5
"""With fewer converting leads in a segment its AUC is not told: it would be chance."""


def quality_by_segment(
    label: ArrayLike,
    p: ArrayLike,
    segment: Any,
    lead_ids: Any,
    *,
    largest: int = 8,
    fewest_leads: int = FEWEST_LEADS,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Rows, conversions, AUC and predicted over observed in the largest segments; the rest stand together.

    Parameters
    ----------
    label, p, segment, lead_ids : as for :func:`.segments.calibration_by_segment`; a missing segment is one
    largest : segments told apart, by rows; the others are gathered. 0: all of them, in their own order
    fewest_leads : values of fewer leads are gathered with the others (unless ``largest`` is 0)

    Returns
    -------
    The columns of :func:`.segments.calibration_by_segment`, and ``converting_leads``, ``auc``, ``auc_low``,
    ``auc_high``. The AUC is NaN with fewer than five converting leads, or with one class only.

    >>> source = ["web", "web", None, "fair"]
    >>> table = quality_by_segment([0, 1, 0, 0], [.2, .5, .1, .1], source, list("abcd"), fewest_leads=1)
    >>> table["segment"].tolist(), table["auc"].isna().tolist()
    (['web', '(not given)', 'fair'], [True, True, True])
    """
    y = check_labels(label)
    q = np.asarray(p, np.float64)
    name = to_series(segment).astype("object")
    name = name.where(name.notna(), MISSING).astype(str)
    lead, _ = code_leads(lead_ids)
    counts = name.value_counts()
    if largest:
        leads = pd.Series(lead).groupby(name.to_numpy()).nunique()
        ranked = sorted(counts.index, key=lambda k: (-counts[k], k))
        kept = [each for each in ranked if leads[each] >= fewest_leads][:largest]
        name = name.where(name.isin(kept), OTHERS)
        if len(kept) < len(ranked) and OTHERS not in kept:
            kept.append(OTHERS)
    table = calibration_by_segment(y, q, name, lead_ids, confidence=confidence)
    table = table.set_index("segment").loc[kept].reset_index() if largest else table
    found = []
    for each in table["segment"]:
        here = (name == each).to_numpy()
        found.append(_auc(y[here], q[here], lead[here], resamples, confidence, seed))
    columns = np.array(found)
    for k, column in enumerate(("converting_leads", "auc", "auc_low", "auc_high")):
        table[column] = columns[:, k]
    table["converting_leads"] = table["converting_leads"].astype("int64")
    return table


def _auc(y: Any, q: Any, lead: Any, resamples: int, confidence: float, seed: int) -> list[float]:
    converting = float(len(np.unique(lead[y > 0])))
    if converting < FEWEST_POSITIVES or y.all():
        return [converting, np.nan, np.nan, np.nan]
    ranking = Ranking(y, q)
    drawn = resample_leads(
        lambda weight: np.array([ranking.auc(weight)]), lead, resamples=resamples, seed=seed
    )
    value = float(drawn.value[0])
    return [converting, value, *interval(value, drawn.draws[:, 0], confidence)]


def gain_with_interval(
    label: ArrayLike,
    scores: dict[str, ArrayLike],
    lead_ids: Any,
    *,
    shares: ArrayLike | None = None,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Share of the converters captured at each top share of the list, with intervals, for several scores.

    Returns by name of the score a frame with ``share``, ``captured``, ``captured_low``, ``captured_high``
    and the same for ``lift`` (captured / share). ``shares`` defaults to about 60 from half a percent to 1, among them
    1, 2, 5, 10, 20 and 50 %.

    >>> tables = gain_with_interval([1, 0, 0, 0], {"model": [4, 3, 2, 1]}, list("abcd"), shares=[.25, 1])
    >>> tables["model"][["captured", "lift"]].values.tolist()
    [[1.0, 4.0], [1.0, 1.0]]
    """
    at = np.asarray(DEFAULT_SHARES if shares is None else shares, np.float64)
    wanted = [float(share) for share in at]
    rankings = [Ranking(label, score) for score in scores.values()]
    drawn = resample_leads(
        lambda weight: np.concatenate([ranking.captured(wanted, weight) for ranking in rankings]),
        lead_ids,
        resamples=resamples,
        seed=seed,
    )
    tables = {}
    for k, name in enumerate(scores):
        here = slice(k * len(at), (k + 1) * len(at))
        value, draws = drawn.value[here], drawn.draws[:, here]
        ends = np.array([interval(float(value[j]), draws[:, j], confidence) for j in range(len(at))])
        table = pd.DataFrame({"share": at, "captured": value})
        table["captured_low"], table["captured_high"] = ends[:, 0], ends[:, 1]
        for end in ("", "_low", "_high"):
            table[f"lift{end}"] = table[f"captured{end}"] / at
        tables[name] = table
    return tables
