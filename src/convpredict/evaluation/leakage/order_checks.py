"""Ids and the order of rows that carry the outcome; numbers that restate the outcome's own rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from .attribute_checks import Setting
from .columns import Column, score_bins
from .findings import Finding
from .statistics import Floats, stratified_auc

ORDER_SEVERE = 0.75
ORDER_WARNING = 0.60
_BLOCKS = 20
_NEARLY_UNIQUE = 0.9
_LEAST_GROUPS = 5
_LEAST_CONVERSIONS = 50
_TOO_GOOD = 1e-6
_ONE_NUMBER = r"^\D*(\d+)\D*$"
_MOST_DIGITS = 30

_ID_REASON = (
    "Ids and rows come in the order in which things were entered: if that order tells the outcome, leads were added, "
    "sorted or numbered again when it was known, and whatever else was written then is suspect too."
)


def id_numbers(ids: Any) -> Floats | None:
    """The order of ids: integers, or texts with one number in them; None for other texts (hashes), which have none.

    >>> id_numbers(["L-10", "L-9"]).tolist(), id_numbers([7, 5]).tolist(), id_numbers(["7d-8e"])
    ([1.0, 0.0], [7.0, 5.0], None)
    """
    series = ids if isinstance(ids, pd.Series) else pd.Series(ids)
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.to_numpy(np.float64)
    text = series.astype("string").fillna("")
    digits = text.str.extract(_ONE_NUMBER, expand=False)
    if digits.notna().mean() < 0.99 or int(digits.str.len().max()) > _MOST_DIGITS:
        return None
    return pd.factorize(digits.fillna("").str.zfill(_MOST_DIGITS), sort=True)[0].astype(np.float64)


def check_order(
    numbers: Floats, name: str, setting: Setting, stratum: NDArray[np.intp] | None = None
) -> Iterator[Finding]:
    """Whether an order of the leads (ids, rows of the file) tells who converted, inside fine cohorts by creation."""
    view = setting.view
    cohort = view.stratum if stratum is None else stratum
    rank = np.empty(len(numbers))
    for code in np.unique(cohort):
        rows = np.flatnonzero(cohort == code)
        rank[rows] = stats.rankdata(numbers[rows]) / (len(rows) + 1)
    bins = np.minimum((rank * _BLOCKS).astype(np.intp), _BLOCKS - 1)
    score = score_bins(bins, view.outcome, view.expected)
    strength = stratified_auc(score, view.outcome, cohort, setting.z)
    if strength.low < ORDER_WARNING:
        return
    inside = " among leads created at about the same time" if setting.dated else ""
    yield Finding(
        "ordered_by_outcome",
        (name,),
        "severe" if strength.low >= ORDER_SEVERE else "warning",
        f"the order by {name} tells converted from other leads{inside}, with an AUC of {strength.auc:.3f} "
        f"[{strength.low:.3f}, {strength.high:.3f}].",
        _ID_REASON,
        "Find out how the export was put together (converted leads added or renumbered later?), export all leads as "
        f"they were created, and keep '{name}' out of the attributes.",
        {"auc": strength.auc, "auc_low": strength.low, "auc_high": strength.high},
    )


def is_an_id(column: Column) -> bool:
    """Whether a numeric column has almost as many whole values as it has rows."""
    held = column.numbers[column.filled]
    return (
        column.kind == "number"
        and len(held) >= 100
        and bool((held == np.round(held)).all())
        and len(np.unique(held)) >= _NEARLY_UNIQUE * len(held)
        and float(np.ptp(held)) >= len(held) / 2
    )


def check_outcome_rates(columns: Sequence[Column], setting: Setting) -> Iterator[Finding]:
    """Numbers that equal the share of converted leads among those that have the same number.

    A rate that was known before would miss the later conversions by chance; one that fits them better than
    chance allows was computed with them.
    """
    view = setting.view
    for column in columns:
        if column.kind != "number":
            continue
        rows = np.flatnonzero(column.filled)
        distinct, code = np.unique(column.numbers[rows], return_inverse=True)
        if len(distinct) < _LEAST_GROUPS or len(distinct) > len(rows) / 10 or distinct[0] < 0:
            continue
        scale = 100.0 if distinct[-1] > 1 else 1.0
        if distinct[-1] > 100:
            continue
        leads = np.bincount(code)
        hits = np.asarray(np.bincount(code, weights=view.outcome[rows]), np.float64)
        if hits.sum() < _LEAST_CONVERSIONS:
            continue
        fit = _too_good(distinct / scale, leads, hits)
        if fit is None:
            continue
        yield Finding(
            "outcome_rate",
            (column.name,),
            "severe",
            f"'{column.name}' equals the share of converted leads among those that have the same value, for "
            f"{len(distinct)} values, far more closely than a rate from earlier leads could (chance {fit:.1g}).",
            "It was computed with the very conversions that are to be predicted.",
            f"Drop '{column.name}': conversion rates of earlier leads, as of each cutoff, are features already "
            "(family 'rate').",
            {"values": len(distinct), "chance": fit},
        )


def _too_good(rate: Floats, leads: NDArray[np.intp], hits: Floats) -> float | None:
    """The chance that outcomes lie so close to the rates if these are the true ones; None if it is not tiny."""
    used = (rate > 0) & (rate < 1) & (leads * rate * (1 - rate) >= 2)
    if used.sum() < _LEAST_GROUPS:
        return None
    expected = leads[used] * rate[used]
    squares = float(((hits[used] - expected) ** 2 / (expected * (1 - rate[used]))).sum())
    chance = float(stats.chi2.cdf(squares, int(used.sum())))
    spread = float(np.ptp(hits[used] / leads[used]))
    return chance if chance < _TOO_GOOD and spread > 0 else None


def check_row_order(setting: Setting) -> Iterator[Finding]:
    """Whether the order of the rows tells the outcome."""
    yield from check_order(np.arange(len(setting.view), dtype=np.float64), "row order", setting)
