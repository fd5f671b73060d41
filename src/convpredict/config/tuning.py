"""Tuning of the conversion model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from .base import Strict


class TuningConfig(Strict):
    """Budget of ``convpredict tune`` and the SQLite file that keeps the study, so that it can be resumed."""

    minutes: Annotated[float, Field(gt=0)] = 10.0
    trials: Annotated[int, Field(gt=0)] | None = None
    study: Path | None = None
    folds: Annotated[int, Field(ge=2, le=20)] = 4
    seed: Annotated[int, Field(ge=0)] = 0
