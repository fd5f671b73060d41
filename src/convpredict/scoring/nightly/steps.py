"""How long each step of a night took, how many rows it had, and the most memory it needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass
class Step:
    """A step under way; ``rows`` is set by who runs it."""

    name: str
    rows: int | None = None


@dataclass
class Steps:
    """The steps of a night so far, as the manifest lists them: step, seconds, peak_memory_bytes, rows.

    The peak is that of the whole process while the step ran, where the system lets it be reset (Linux), else that up
    to the step's end; None where nothing tells.
    """

    done: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def measure(self, name: str) -> Iterator[Step]:
        """Add what runs in the ``with`` block as a step, also if it fails.

        >>> steps = Steps()
        >>> with steps.measure("reading") as step:
        ...     step.rows = 3
        >>> steps.done[0]["step"], steps.done[0]["rows"]
        ('reading', 3)
        """
        step = Step(name)
        _reset_peak()
        begin = time.perf_counter()
        try:
            yield step
        finally:
            seconds = round(time.perf_counter() - begin, 3)
            self.done.append(
                {"step": name, "seconds": seconds, "peak_memory_bytes": peak_memory(), "rows": step.rows}
            )


def peak_memory() -> int | None:
    """The most memory this process held (bytes) since the last reset; None where the system does not tell."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _reset_peak() -> None:
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)
