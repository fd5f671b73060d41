"""One run at a time in a folder: a lock that the kernel frees when its owner dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...errors import BusyError, PublishError
from ...files import release

LOCK = "lock"
_LARGEST_BYTES = 4096


@contextmanager
def holding_lock(folder: Path, run_id: str) -> Iterator[Mapping[str, Any] | None]:
    """Hold the lock of a nightly folder for the length of a ``with`` block; whatever changes the folder does so.

    The file ``lock`` tells who holds it (pid, host, run_id, since) and is empty when nobody does. What counts is the
    kernel's lock on the file (``flock``), which goes with the process, also after ``kill -9``; child processes do not
    inherit it. Yields what a dead owner left in the file, None after an orderly end.

    Raises BusyError at once where another process holds it, PublishError where the folder cannot be written to.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with holding_lock(Path(folder), "demo-20250601T000000Z") as left_behind:
    ...         print(left_behind)
    None
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise PublishError(
            f"the nightly folder '{folder}' cannot be written to ({error.strerror}), so nothing was started and "
            "readers keep the scores they have; give this user the right to write there, or mount it writable"
        ) from None
    try:
        _take(descriptor, path)
        former = _owner(descriptor)
        _write(descriptor, describe_owner(run_id))
        try:
            yield former
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        release(descriptor)


def owner_of(folder: Path) -> Mapping[str, Any] | None:
    """Who holds, or held and died, the lock of a folder, as the file tells; None: nobody."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return _owner(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _owner(descriptor) or {}
        told = ", ".join(
            f"{word} {owner[key]}"
            for word, key in (("run", "run_id"), ("process", "pid"), ("on", "host"), ("since", "since"))
            if key in owner
        )
        raise BusyError(
            f"another run is at work in '{path.parent}' ({told or 'its owner has not written its name yet'}), and "
            "two at once would spoil each other's work; wait until it has ended. The lock goes with its process: "
            "there is no file to delete"
        ) from None
    except OSError as error:
        raise PublishError(
            f"'{path}' cannot be locked ({error.strerror}): two runs at once could not be told apart; put "
            "nightly.folder on a file system with locks (a local disk)"
        ) from None


def describe_owner(run_id: str) -> dict[str, Any]:
    """Who is at work on what: pid, host, run_id, since."""
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"pid": os.getpid(), "host": socket.gethostname(), "run_id": run_id, "since": since}


def _owner(descriptor: int) -> dict[str, Any] | None:
    """The content of the file; one that was cut off by its owner's death is told as such."""
    content = os.pread(descriptor, _LARGEST_BYTES, 0)
    if not content.strip():
        return None
    try:
        owner = json.loads(content)
    except ValueError:
        owner = None
    return owner if isinstance(owner, dict) else {"pid": "unknown"}


def _write(descriptor: int, owner: Mapping[str, Any]) -> None:
    """Tell who holds the lock; on a full disk it is held all the same."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(owner) + "\n").encode(), 0)
