"""SHA-256 of every file of a model directory, in ``checksums.json``; needs nothing but the standard library.

A copy of this module lies beside the script of every model directory, which checks the files with it before it
imports any of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

CHECKSUMS = "checksums.json"
KIND = "convpredict model directory"
FORMAT = 1
TOLERATED = frozenset({"registered_model_meta"})
"""What MLflow adds to its copy of a registered model: the model's name and version, which nothing is read from."""


class AlteredError(ValueError):
    """A file of a model directory is not as it was written, missing, or extra: the message names it."""


def write_checksums(folder: Path) -> None:
    """Write ``checksums.json`` for everything that is in the folder."""
    content = {
        "kind": KIND,
        "format": FORMAT,
        "files": {name: _sha256(folder / name) for name in _list_files(folder)},
    }
    (folder / CHECKSUMS).write_bytes(_text({**content, "digest": _digest(content)}).encode())


def check_files(folder: Path, *, besides: str = "") -> None:
    """Compare every file of the folder with ``checksums.json``.

    ``besides`` is a folder below it, as ``__pycache__``, in which further files do not matter. Raises
    :class:`AlteredError` with the first file, by name, that was altered, is missing or extra, or is a link.
    """
    if not (folder / CHECKSUMS).is_file() or (folder / CHECKSUMS).is_symlink():
        raise AlteredError(f"'{folder}' has no {CHECKSUMS}, so nobody knows whether its files are as written")
    listed = _read_listed(folder)
    found = set(_list_files(folder, besides))
    for name in sorted(found | set(listed)):
        if name in found - set(listed) and name not in TOLERATED:
            raise AlteredError(f"'{name}' of '{folder}' is no part of the model that was written")
        if name in set(listed) - found:
            raise AlteredError(f"'{name}' of '{folder}' is missing")
        if name in listed and _sha256(folder / name) != listed[name]:
            raise AlteredError(
                f"'{name}' of '{folder}' was altered after it was written (its SHA-256 differs)"
            )


def _read_listed(folder: Path) -> dict[str, str]:
    altered = AlteredError(f"'{CHECKSUMS}' of '{folder}' was altered after it was written")
    try:
        text = (folder / CHECKSUMS).read_bytes().decode()
        content = json.loads(text)
        listed = content["files"]
        digest = content.pop("digest")
        whole = text == _text({**content, "digest": digest}) and digest == _digest(content)
        sound = all(isinstance(value, str) for value in listed.values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise altered from None
    if not whole or not sound or content.get("kind") != KIND:
        raise altered
    if content["format"] != FORMAT:
        raise AlteredError(f"'{folder}' has format {content['format']!r}, and this version reads {FORMAT}")
    return dict(listed)


def _list_files(folder: Path, besides: str = "") -> list[str]:
    """Every file below the folder but ``checksums.json`` and those in ``besides``, by its path with slashes, sorted."""
    found = []
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as scanned:
            entries = list(scanned)
        for entry in entries:
            name = Path(entry.path).relative_to(folder).as_posix()
            if entry.is_dir(follow_symlinks=False):
                if name != besides:
                    waiting.append(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                raise AlteredError(
                    f"'{name}' of '{folder}' is a link or no plain file, and could lead anywhere"
                )
            elif name != CHECKSUMS:
                found.append(name)
    return sorted(found)


def _sha256(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise AlteredError(f"'{path}' is no plain file")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AlteredError(f"'{path}' cannot be read ({error.strerror})") from None


def _digest(content: dict[str, object]) -> str:
    return hashlib.sha256(_text(content).encode()).hexdigest()


def _text(content: dict[str, object]) -> str:
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=True) + "\n"
