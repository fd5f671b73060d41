"""Files and folders that appear whole or not at all: written beside their place, synced, then renamed; their locks."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write a file to; at the end of the block it is synced and takes ``path``'s place.

    A reader sees the old file or the new one, never a part. After an exception the old one stays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as partial:
    ...         _ = partial.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_file(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file with a function that is given the open binary file."""
    with replacing(path) as partial, open(partial, "wb") as file:
        write(file)


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text."""
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a mapping as indented JSON, in the order of its keys; instants in ISO 8601."""
    write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", path)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` to fill; at the end of the block it is synced and takes ``folder``'s place.

    A folder that is there is moved aside first, and back where the last step fails: between the two renames there
    is an instant without any. Who may be replaced is the caller's to decide.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    former = folder.with_name(f".{folder.name}.{os.getpid()}.former")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        for path in sorted(partial.rglob("*"), reverse=True):
            sync(path)
        sync(partial)
        if folder.exists():
            os.replace(folder, former)
        os.replace(partial, folder)
        sync(folder.parent)
    except BaseException:
        if former.exists() and not folder.exists():
            os.replace(former, folder)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(former, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until the disk holds a file, or a folder's list of files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def release(descriptor: int) -> None:
    """Give up the kernel's lock (``flock``) on an open file or folder, if it has one, and close it.

    Closing alone would leave the lock with a child that was forked meanwhile.
    """
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
