"""Who writes rows of leads, and who erases them: a lock that the former share and the latter has alone."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...errors import BusyError, DataError
from ...files import release
from ..nightly.lock import describe_owner
from .forgotten import FILE as FORGOTTEN

FILE = "at_work.lock"
_PATIENCE_SECONDS = 0.5
_POLL_SECONDS = 0.02
_LARGEST_BYTES = 65_536


@contextmanager
def sharing(folder: Path, command: str, *, create: bool = True) -> Iterator[None]:
    """Keep ``convpredict forget`` out of a nightly folder for the length of a ``with`` block that writes rows of leads.

    Any number of commands share the lock (``flock``, which goes with the process); the file tells who they are.
    Where the folder cannot be written to or has no locks, or is not there and not to be made (``create``), the list of
    the forgotten is compared at the end instead.

    Raises BusyError while leads are being erased, DataError where they were and nothing could keep that off.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, sharing(Path(folder), "train"):
    ...     with alone(Path(folder)):
    ...         pass
    Traceback (most recent call last):
    ...
    convpredict.errors.BusyError: ...
    """
    descriptor = _open(folder, create=create)
    if descriptor is None or not _take(descriptor, fcntl.LOCK_SH):
        with _comparing(folder, command):
            yield
        return
    try:
        with suppress(OSError):
            os.write(descriptor, (json.dumps(describe_owner(command)) + "\n").encode())
        yield
    finally:
        with suppress(OSError):  # the last one to leave clears the file
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
        release(descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have a nightly folder without any command that writes rows of leads. Raises BusyError with those at work."""
    descriptor = _open(folder, create=True)
    if descriptor is None or not _take(descriptor, fcntl.LOCK_EX):
        raise DataError(
            f"'{folder / FILE}' cannot be written or locked, so a training that runs could write what is being erased; "
            "give this user the right to write there, and put nightly.folder on a file system with locks (a local disk)"
        )
    try:
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, (json.dumps(describe_owner("forget")) + "\n").encode())
        yield
    finally:
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
        release(descriptor)


def _open(folder: Path, *, create: bool) -> int | None:
    """The lock's file, for reading alone where it may not be written; None: it cannot be had."""
    for flags in (os.O_RDWR | os.O_CREAT | os.O_APPEND, os.O_RDONLY):
        with suppress(OSError):
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            return os.open(folder / FILE, flags | os.O_CLOEXEC, 0o644)
    return None


def _take(descriptor: int, kind: int) -> bool:
    """Take the lock; False where there are none. Raises BusyError where others keep it for longer than an instant."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(_POLL_SECONDS)
                continue
            told = "; ".join(_owners(descriptor)) or "who it is cannot be told"
            os.close(descriptor)
            why = (
                "leads are being erased, and what is written now could hold them"
                if kind == fcntl.LOCK_SH
                else "commands are at work that write rows of leads, and could write after the erasure what it erased"
            )
            raise BusyError(f"{why} ({told}); wait until that has ended, and run this again") from None
        except OSError:
            os.close(descriptor)
            return False
        return True


def _owners(descriptor: int) -> Iterator[str]:
    """Who has the lock, as the file tells, without those who died on this machine."""
    here = describe_owner("")["host"]
    for line in os.pread(descriptor, _LARGEST_BYTES, 0).splitlines():
        try:
            owner = json.loads(line)
            if owner["host"] == here and not _lives(owner["pid"]):
                continue
            yield f"{owner['run_id']}, process {owner['pid']} on {owner['host']} since {owner['since']}"
        except (ValueError, LookupError, TypeError):
            continue


def _lives(pid: Any) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _comparing(folder: Path, command: str) -> Iterator[None]:
    before = _listed(folder, command)
    yield
    if _listed(folder, command) != before:
        raise DataError(
            f"leads were forgotten while '{command}' was at work, and '{folder}' cannot be locked by this user or was "
            "not there yet, so that nothing kept the two apart: what was written may hold these leads. Run "
            "'convpredict forget' again with what was written under --also, or delete it and run this again"
        )


def _listed(folder: Path, command: str) -> bytes | tuple[int, int, int] | None:
    """The list of the forgotten; where it may not be read, which file it is, of when and how large; None: no list."""
    path = folder / FORGOTTEN
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        pass  # it is readable by its owner alone
    try:
        known = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"'{path}' can be neither read nor looked at ({error.strerror}), and '{folder}' cannot be locked by this "
            f"user, so that nobody can tell whether leads are forgotten while '{command}' is at work, and what it "
            "writes may hold them. Give this user the right to enter the folder and to read the lock "
            f"'{FILE}' in it, and run this again"
        ) from None
    return known.st_ino, known.st_mtime_ns, known.st_size
