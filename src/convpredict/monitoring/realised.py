"""What past scores promised beside what came of them: counts of one night, and sums over many with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import entr, ndtri, xlogy
from scipy.stats import chi2

from ..evaluation.metrics import captured_in_top

Floats = NDArray[np.float64]

MOST_VALUES = 30
"""Values of a segment attribute told apart on one night; the others stand together."""

OTHERS = "(others)"
MISSING = "(not given)"


def judge_leads(
    label: Floats, p: Floats, segments: Mapping[str, NDArray[Any]], shares: Sequence[float]
) -> dict[str, Any]:
    """Counts of one night and horizon, one row per lead: plain data whose sums over nights mean something.

    ``leads``, ``expected`` (sum of probabilities), ``observed`` conversions, ``loss`` (sum of log losses, nats),
    ``promised_loss`` and ``promised_variance`` (its mean and variance, were the probabilities true), ``captured``
    (converters in the top shares) and ``segments``: by attribute and value ``[leads, expected, observed]``.

    >>> night = judge_leads(np.array([1., 0.]), np.array([.5, .5]), {"channel": np.array(["web", "fair"])}, [.5])
    >>> night["expected"], night["observed"], night["segments"]["channel"]
    (1.0, 1, {'fair': [1, 0.5, 0], 'web': [1, 0.5, 1]})
    """
    q = np.clip(p, 1e-9, 1 - 1e-9)
    logit = np.log(q / (1 - q))
    observed = int(label.sum())
    return {
        "leads": len(label),
        "expected": float(p.sum()),
        "observed": observed,
        "loss": float(-(xlogy(label, q) + xlogy(1 - label, 1 - q)).sum()),
        "promised_loss": float((entr(q) + entr(1 - q)).sum()),
        "promised_variance": float((q * (1 - q) * logit**2).sum()),
        "captured": {
            f"{share:g}": float(captured_in_top(label, p, share)) * observed if observed else 0.0
            for share in shares
        },
        "segments": {name: _by_value(values, label, p) for name, values in segments.items()},
    }


def _by_value(values: NDArray[Any], label: Floats, p: Floats) -> dict[str, list[float]]:
    names = pd.Series(values, dtype="object")
    names = names.where(names.notna(), MISSING).astype(str)
    counts = names.value_counts()
    if len(counts) > MOST_VALUES:
        kept = sorted(counts.index, key=lambda name: (-counts[name], name))[: MOST_VALUES - 1]
        names = names.where(names.isin(kept), OTHERS)
    codes, found = pd.factorize(names, sort=True)
    rows = np.bincount(codes, minlength=len(found))
    expected = np.bincount(codes, p, minlength=len(found))
    observed = np.bincount(codes, label, minlength=len(found))
    return {
        str(name): [int(rows[k]), round(float(expected[k]), 9), int(observed[k])]
        for k, name in enumerate(found)
    }


def pool(nights: Sequence[Mapping[str, Any]], confidence: float) -> dict[str, Any]:
    """Judged nights of one horizon together, each conversion counted once by the nights' weights.

    ``nights`` are results of :func:`judge_leads` that :func:`.weights.weighted` gave a ``weight``. The intervals take
    the weighted number of conversions for a Poisson count: with overlapping nights a little too wide, never too
    narrow. ``loss`` and ``promised_loss`` are per lead; ``loss_excess`` is how many standard deviations the one lies
    above the other.
    """
    weight = np.array([float(night["weight"]) for night in nights])
    total = {
        name: float(sum(w * night[name] for w, night in zip(weight, nights, strict=True)))
        for name in ("leads", "expected", "observed", "loss", "promised_loss", "promised_variance")
    }
    spread = math.sqrt(total["promised_variance"])
    segments: dict[str, dict[str, list[float]]] = {}
    for w, night in zip(weight, nights, strict=True):
        for attribute, values in night["segments"].items():
            kept = segments.setdefault(attribute, {})
            for value, counts in values.items():
                own = kept.setdefault(value, [0.0, 0.0, 0.0])
                for k, number in enumerate(counts):
                    own[k] += w * number
    leads = total["leads"]
    return {
        "nights": len(nights),
        "first": min(night["cutoff"] for night in nights),
        "last": max(night["cutoff"] for night in nights),
        **ratio(total["expected"], total["observed"], confidence),
        "loss": total["loss"] / leads if leads else None,
        "promised_loss": total["promised_loss"] / leads if leads else None,
        "loss_excess": (total["loss"] - total["promised_loss"]) / spread if spread > 0 else None,
        "captured": {
            share: _share(
                sum(w * n["captured"].get(share, 0.0) for w, n in zip(weight, nights, strict=True)),
                total["observed"],
                confidence,
            )
            for share in nights[-1]["captured"]
        },
        "segments": {
            attribute: {
                value: {"leads": round(n, 3), **ratio(e, o, confidence)}
                for value, (n, e, o) in sorted(values.items(), key=lambda each: (-each[1][1], each[0]))
            }
            for attribute, values in segments.items()
        },
    }


def ratio(expected: float, observed: float, confidence: float) -> dict[str, float | None]:
    """Expected over observed conversions with the exact interval of a Poisson count; None: nothing to divide by.

    Source: Garwood (1936), Fiducial limits for the Poisson distribution, Biometrika 28.

    >>> {name: round(value, 2) for name, value in ratio(20.0, 10.0, .95).items()}
    {'expected': 20.0, 'observed': 10.0, 'ratio': 2.0, 'low': 1.09, 'high': 4.17}
    """
    tail = (1 - confidence) / 2
    least = float(chi2.ppf(tail, 2 * observed)) / 2 if observed > 0 else 0.0
    most = float(chi2.isf(tail, 2 * observed + 2)) / 2
    return {
        "expected": expected,
        "observed": observed,
        "ratio": expected / observed if observed > 0 else None,
        "low": expected / most,
        "high": expected / least if least > 0 else None,
    }


def _share(found: float, of: float, confidence: float) -> dict[str, float | None]:
    """A share of converters with Wilson's interval."""

    if of <= 0:
        return {"found": found, "of": of, "share": None, "low": None, "high": None}
    r, z = min(found / of, 1.0), float(ndtri((1 + confidence) / 2))
    middle = (r + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(r * (1 - r) / of + z**2 / (4 * of**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {"found": found, "of": of, "share": r, "low": low, "high": high}
