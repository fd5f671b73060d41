"""Predicted against observed by segment, month and score, and the gain of a list: tables for figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from .calibration import equal_mass_bins
from .inputs import check_labels, check_probabilities, to_instants, to_series
from .ranking import Ranking
from .resampling import code_leads

Floats = NDArray[np.float64]


def calibration_by_segment(
    label: ArrayLike, p: ArrayLike, segment: Any, lead_ids: Any, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Predicted against observed conversions in each segment, with intervals that respect leads.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1]
    segment : values of shape (rows,), text, numbers or categories; rows without one are left out
    lead_ids : ids of shape (rows,), text or integers
    confidence : of the intervals

    Returns
    -------
    Frame sorted by ``segment``: ``rows``, ``leads``, ``positives``, ``predicted`` and ``observed`` (mean
    probability and conversion rate per row), ``observed_low``, ``observed_high``, ``ratio`` (predicted /
    observed, infinity without conversions), ``ratio_low``, ``ratio_high``.

    Notes
    -----
    Wilson's interval of the observed rate, with the number of rows divided by the design effect: the
    variance of the rate over leads relative to independent rows, at least 1; without conversions, rows per
    lead. The ratio's interval is the prediction over the ends of that interval. Unlike resampling it also
    speaks for segments without conversions. Source: Korn & Graubard (1998), Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data, Survey Methodology
    24.

    Examples
    --------
    >>> source = ["web", "web", "fair", "fair"]
    >>> table = calibration_by_segment([0, 1, 0, 0], [.25, .5, .1, .1], source, list("abcd"))
    >>> table[["segment", "rows", "positives", "predicted", "observed"]].values.tolist()
    [['fair', 2, 0, 0.1, 0.0], ['web', 2, 1, 0.375, 0.5]]
    """
    y = check_labels(label)
    q = check_probabilities(p, len(y))
    lead, _ = code_leads(lead_ids)
    segments = to_series(segment)
    if not len(segments) == len(lead) == len(y):
        raise ValueError(
            f"'segment' has {len(segments)} rows, 'lead_ids' {len(lead)} and 'label' {len(y)}; "
            "they must describe the same observations"
        )
    codes, names = pd.factorize(segments, sort=True)
    frame = pd.DataFrame({"segment": codes, "lead": lead, "label": y, "p": q})[codes >= 0]
    table = frame.groupby("segment").agg(
        rows=("label", "size"), leads=("lead", "nunique"), positives=("label", "sum"), predicted=("p", "mean")
    )
    table["observed"] = table["positives"] / table["rows"]
    table["positives"] = table["positives"].astype("int64")
    low, high = _wilson(table["observed"], table["rows"] / _design_effect(frame, table), confidence)
    table["observed_low"], table["observed_high"] = low, high
    for column, rate in (
        ("ratio", "observed"),
        ("ratio_low", "observed_high"),
        ("ratio_high", "observed_low"),
    ):
        table[column] = _divide(table["predicted"], table[rate])
    table.insert(0, "segment", np.asarray(names)[table.index.to_numpy()])
    return table.reset_index(drop=True)


def calibration_by_month(
    label: ArrayLike, p: ArrayLike, cutoff: Any, lead_ids: Any, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Predicted against observed conversions by the month (UTC) of the cutoff.

    The columns are those of :func:`calibration_by_segment`, with ``month`` (like ``2024-03``) for
    ``segment``.

    >>> cutoff = pd.to_datetime(["2024-03-18", "2024-04-01"])
    >>> table = calibration_by_month([0, 1], [.2, .4], cutoff, ["a", "b"])
    >>> table["month"].tolist(), table["ratio"].tolist()
    (['2024-03', '2024-04'], [inf, 0.4])
    """
    month = to_instants(cutoff).dt.strftime("%Y-%m")
    table = calibration_by_segment(label, p, month, lead_ids, confidence=confidence)
    return table.rename(columns={"segment": "month"})


def calibration_by_score(
    label: ArrayLike, p: ArrayLike, lead_ids: Any, *, bins: int = 10, confidence: float = 0.95
) -> pd.DataFrame:
    """Predicted against observed conversions in bins of equal mass of the probability: the calibration curve.

    The columns are those of :func:`calibration_by_segment`, with ``bin`` (0 holds the lowest) for
    ``segment``. Equal probabilities share a bin, so bins may be missing.

    >>> calibration_by_score([0, 0, 1, 1], [.1, .2, .7, .8], list("abcd"), bins=2)["observed"].tolist()
    [0.0, 1.0]
    """
    q = check_probabilities(p, len(check_labels(label)))
    table = calibration_by_segment(label, q, equal_mass_bins(q, bins), lead_ids, confidence=confidence)
    return table.rename(columns={"segment": "bin"})


def gain_by_share(label: ArrayLike, score: ArrayLike, *, shares: ArrayLike | None = None) -> pd.DataFrame:
    """Share of the converters captured, and lift, at each top share of the list.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    score : array of shape (rows,), any finite numbers
    shares : top shares in (0, 1]; by default 200 from a thousandth to 1, closer together at the top

    Returns
    -------
    Frame with ``share``, ``captured`` (see :func:`.metrics.captured_in_top`) and ``lift`` (captured / share).

    >>> gain_by_share([1, 0, 0, 0], [4, 3, 2, 1], shares=[.25, .5])["lift"].tolist()
    [4.0, 2.0]
    """
    at = np.geomspace(0.001, 1, 200) if shares is None else np.asarray(shares, np.float64)
    captured = Ranking(label, score).captured([float(share) for share in at])
    return pd.DataFrame({"share": at, "captured": captured, "lift": captured / at})


def _design_effect(frame: pd.DataFrame, table: pd.DataFrame) -> Floats:
    rate = table["observed"].to_numpy()
    rows, leads = table["rows"].to_numpy(), table["leads"].to_numpy()
    residual = frame["label"].to_numpy() - table["observed"].reindex(frame["segment"]).to_numpy()
    of_lead = pd.Series(residual).groupby([frame["segment"].to_numpy(), frame["lead"].to_numpy()]).sum()
    clustered = (of_lead**2).groupby(level=0).sum().to_numpy()
    independent = rows * rate * (1 - rate)
    known = independent > 0
    effect = np.where(known, clustered / np.where(known, independent, 1.0), rows / leads)
    return np.asarray(np.maximum(effect, 1.0), np.float64)


def _wilson(rate: pd.Series, rows: pd.Series, confidence: float) -> tuple[Floats, Floats]:
    r, n = rate.to_numpy(np.float64), rows.to_numpy(np.float64)
    z = float(ndtri((1 + confidence) / 2))
    center = (r + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(r * (1 - r) / n + z**2 / (4 * n**2))
    return np.where(r == 0, 0.0, center - half), np.where(r == 1, 1.0, center + half)


def _divide(predicted: pd.Series, rate: pd.Series) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(predicted.to_numpy(np.float64) / rate.to_numpy(np.float64))
