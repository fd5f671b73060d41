"""Watching published scores: drift, realised calibration, and when to train again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Duration, PositiveDuration, Strict


class DriftConfig(Strict):
    """A column has drifted where its PSI is at least ``psi`` and beyond what chance and its own past explain."""

    psi: Annotated[float, Field(gt=0)] = 0.2
    false_alarms_per_month: Annotated[float, Field(gt=0, le=1)] = 1.0


class RealisedConfig(Strict):
    """How often the tests of realised quality, of all segments together, may alarm by chance.

    ``least_change``: how far the ratio of observed to expected conversions must have moved before it matters, as a
    share: 0.25 is a quarter down, or as much up (by a third).
    """

    false_alarms_per_year: Annotated[float, Field(gt=0, le=12)] = 4.0
    least_change: Annotated[float, Field(ge=0, lt=1)] = 0.25


class RetrainConfig(Strict):
    """The rule of ``convpredict retrain-if``: any of these; None switches one off.

    ``age`` of the champion; ``drifted_columns``: so many have drifted on the last night; ``realised``: an alarm on
    realised quality stands, or the realised loss is above the promised one. After a training that came to nothing
    (not promoted, failed, interrupted) there is none for ``pause``.
    """

    age: PositiveDuration | None = Duration("90d")
    drifted_columns: Annotated[int, Field(ge=1)] | None = 3
    realised: bool = True
    pause: PositiveDuration = Duration("7d")


class MonitoringConfig(Strict):
    """``nights``: how many nights the page shows. ``segments``: by which lead attributes realised quality is watched
    (default: those of the evaluation, else the first three categories): none that is overwritten later, unless its
    changes are given (``attribute_changes``)."""

    nights: Annotated[int, Field(ge=1, le=1000)] = 90
    segments: tuple[str, ...] | None = None
    drift: DriftConfig = DriftConfig()
    realised: RealisedConfig = RealisedConfig()
    retrain: RetrainConfig = RetrainConfig()
