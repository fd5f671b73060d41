"""The leakage gate before training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Strict


class LeakageConfig(Strict):
    """Whether hindsight is looked for before training, and which findings are waived, by name and with a reason.

    ``waive: {"late_filled:product": "is set by marketing at creation"}``; waivers are logged.
    See docs/reference/leakage.md for the names.
    """

    enabled: bool = True
    waive: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
