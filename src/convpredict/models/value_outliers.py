"""The one lead that would decide the level alone: how much of its revenue is learnt from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .calibration import Floats

LEAST_MULTIPLE = 10.0


def hold_decisive_lead(amount: Floats, weight: Floats, lead: npt.NDArray[Any]) -> tuple[Floats, float]:
    """Amounts with the lead held back that outweighs all others together, and the share of revenue that this cuts.

    Let x be what the largest lead brings (its rows' weight times amount, refunds by their size), S what all others
    bring, and m the mean of the n - 1 others that brought anything. Where x <= S nothing is changed, however heavy
    the tail is: the total stays what it was. Otherwise the lead counts ``max(S * S / x, max(10, sqrt(n)) * m)``, at
    most x: half of the total where it just outweighs the others, and less the more absurd it is. One pass, one
    lead, so nothing can shrink round after round. A lead beside which nobody brought anything stays as it is.

    >>> amount, cut = hold_decisive_lead(np.array([500.0] * 199 + [1e9]), np.ones(200), np.arange(200))
    >>> round(float(amount.mean())), round(cut, 3)
    (533, 1.0)
    >>> tail = np.array([500.0] * 95 + [200_000.0] * 5)
    >>> float(hold_decisive_lead(tail, np.ones(100), np.arange(100))[0].mean())
    10475.0
    """
    _, code = np.unique(lead, return_inverse=True)
    brought = np.abs(np.bincount(code, weight * amount))
    largest = int(np.argmax(brought))
    most, total = float(brought[largest]), float(brought.sum())
    others = float(np.delete(brought, largest).sum())
    if others <= 0 or most <= others:
        return amount, 0.0
    payers = int((brought > 0).sum())
    scale = max(LEAST_MULTIPLE, float(np.sqrt(payers))) * others / (payers - 1)
    held = min(most, max(others * (others / most), scale))
    return np.where(code == largest, amount * (held / most), amount), (most - held) / total


def outlier_note(cut: float) -> str | None:
    """A sentence on what was cut, or None where nothing was."""
    if cut <= 0:
        return None
    return (
        f"one lead brought more revenue than all others together; the value model learns from it in part, which "
        f"leaves {100 * cut:.3g} % of the revenue out. Check that amount, and correct it if it is wrong; if it is "
        "right, expected values are lower than the revenue of the past"
    )
