"""The value model: revenue after a conversion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Strict


class ValueConfig(Strict):
    """How revenue within ``labels.value_horizon`` after a conversion is learnt.

    ``family`` is the distribution (``auto``: chosen by data), ``coverage`` that of the interval of the value,
    and ``segments`` the lead attributes whose mean small data shrinks to (default: chosen by data).
    """

    family: Literal["auto", "mean", "tweedie", "gamma", "lognormal", "zero_inflated_lognormal"] = "auto"
    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.8
    segments: tuple[str, ...] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31 - 50)] = 0
