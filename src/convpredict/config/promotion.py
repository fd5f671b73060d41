"""When a challenger becomes champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Strict

Requirement = Literal["better", "not_worse", "any"]


class PromotionConfig(Strict):
    """The rule: what must hold on mature observations that neither model was trained on, by paired intervals.

    ``better``: the whole interval is on the challenger's side. ``not_worse``: it is not wholly on the champion's.
    ``calibration_ratio``: bounds that the challenger's own ratio (expected over observed conversions) must not lie
    wholly outside of. ``min_converting_leads``: with fewer, nothing is decided and the champion stays.
    ``further_horizons``: the log loss within each further horizon that both predict. ``value``: where both predict
    it, the expected value against the revenue of observations whose value window has ended (its total, its order, and
    what call lists in that order hold); where there are none, nothing is asked for, and where a value or a figure of
    theirs is not defined, it does not hold. A challenger that lacks columns which the champion gives to readers is
    never promoted by the rule.
    """

    log_loss: Requirement = "not_worse"
    captured: Requirement = "not_worse"
    segments: Requirement = "not_worse"
    further_horizons: Literal["not_worse", "any"] = "not_worse"
    value: Requirement = "not_worse"
    calibration_ratio: tuple[float, float] = (0.8, 1.25)
    min_converting_leads: Annotated[int, Field(ge=1)] = 30
