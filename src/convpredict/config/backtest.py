"""Walking forward through history, night after night."""

from __future__ import annotations

from .base import Duration, Instant, PositiveDuration, Strict


class BacktestConfig(Strict):
    """Nights every ``every`` from ``start`` to ``end``, with a new training every ``retrain_every``.

    ``start`` defaults to the first night on which a model can be learnt, ``end`` to the last one whose outcomes
    are known.
    """

    every: PositiveDuration = Duration("7d")
    retrain_every: PositiveDuration = Duration("28d")
    start: Instant | None = None
    end: Instant | None = None
