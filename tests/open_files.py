"""What this process has open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_HIGHEST = 4_096


def duplicate_of(path: Path) -> int:
    """A duplicate of a descriptor by which this process has a file or folder open; it is the caller's to close."""
    wanted = path.stat()
    for descriptor in range(3, _HIGHEST):
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), wanted):
                return os.dup(descriptor)
    raise LookupError(f"nothing has {path} open")
