"""The leakage gate before training."""

from __future__ import annotations

from pydantic import Field

from .base import Strict


class LeakageConfig(Strict):
    """Whether hindsight is looked for before training, and which findings are waived, by name and with a reason.

    ``waive: {"late_filled:product": "is set by marketing at creation"}``; waivers are logged.
    """

    enabled: bool = True
    waive: dict[str, str] = Field(default_factory=dict)
