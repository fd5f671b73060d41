"""The gates before publishing: each looks at one thing and passes, warns or stops the night."""

from __future__ import annotations

from .judge import GATES, judge_gates, stopping

__all__ = ["GATES", "judge_gates", "stopping"]
