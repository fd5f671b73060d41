"""Watching published scores: drift, realised calibration, and when to train again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Duration, PositiveDuration, Strict


class DriftConfig(Strict):
    """A column has drifted where its PSI is at least ``psi`` and beyond what chance and its own past explain."""

    psi: Annotated[float, Field(gt=0)] = 0.2
    false_alarms_per_month: Annotated[float, Field(gt=0, le=1)] = 1.0


class RetrainConfig(Strict):
    """The rule of ``convpredict retrain-if``: any of these; None switches one off."""

    age: PositiveDuration | None = Duration("90d")
    drifted_columns: Annotated[int, Field(ge=1)] | None = 3
    realised: bool = True


class MonitoringConfig(Strict):
    """``nights``: how many nights the page shows. ``segments`` default to those of the evaluation."""

    nights: Annotated[int, Field(ge=1, le=1000)] = 90
    drift: DriftConfig = DriftConfig()
    retrain: RetrainConfig = RetrainConfig()
