"""A folder of text files with checksums.

Written all or nothing, refused if anything about it is not as written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from convpredict.errors import BundleError
from convpredict.files import replacing_folder

INDEX = "bundle.json"
FORMAT = 1
_NAMES = re.compile(
    r"(features|schema|logistic|calibrator|scorecard|profile)\.json|scorecard\.yaml|trees/seed_\d\d\.txt"
    r"|horizon_\d+[dhm]/((logistic|calibrator)\.json|seed_\d\d\.txt)"
    r"|value/(value\.json|(severity|occurrence)_\d\d\.txt)"
)
_FOLDERS = re.compile(r"trees|value|horizon_\d+[dhm]")
_LARGEST_BYTES = 2**30
LARGEST_NUMBER = 1.7e308
"""Below the largest float, so that whole numbers up to it become floats without overflow."""


def canonical_json(content: Any, *, what: str) -> str:
    """JSON with sorted keys and exact floats (``repr``), ending in a newline; the same content, the same text.

    >>> canonical_json({"b": 0.1, "a": [1]}, what="an example")
    '{\\n "a": [\\n  1\\n ],\\n "b": 0.1\\n}\\n'
    """
    try:
        return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"{what} holds something that is not plain text or a finite number ({error}), which a bundle "
            "cannot keep; remove it from the model's parameters"
        ) from None


def parse_json(text: str, name: str) -> dict[str, Any]:
    """A JSON object; NaN, infinities (1e999, too), repeated keys and anything else than an object are refused."""

    def refuse(token: str) -> Any:
        raise ValueError(f"{token} is not JSON")

    def finite(token: str) -> float:
        number = float(token)
        return number if isfinite(number) else refuse(token)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key is repeated")
        return dict(pairs)

    try:
        content = json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name} is not JSON ({error}): copy the bundle again, or export it anew") from None
    if not isinstance(content, dict):
        raise BundleError(f"{name} holds no JSON object: copy the bundle again, or export it anew")
    return content


def finite_number(value: Any) -> float:
    """A number of a JSON file as a float. Raises ValueError for text, truth values and what is not finite.

    >>> finite_number(3)
    3.0
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_NUMBER:
        raise ValueError(f"{str(value)[:50]!r} is not a finite number")
    return float(value)


def seal(head: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, str]:
    """All files of a bundle: those given and the index, which holds ``head``, their SHA-256 and its own."""
    index = {
        **head,
        "format": FORMAT,
        "files": {name: _sha256(text.encode()) for name, text in sorted(files.items())},
    }
    index["digest"] = digest_of(index)
    return {INDEX: canonical_json(index, what="the bundle's index"), **files}


def digest_of(index: Mapping[str, Any]) -> str:
    """SHA-256 of the index without its own digest; as it holds every file's, it stands for the whole bundle."""
    content = {key: value for key, value in index.items() if key != "digest"}
    return _sha256(canonical_json(content, what="the bundle's index").encode())


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write files beside the folder, sync them, and move them into place; only a bundle is replaced.

    Raises BundleError where the folder holds something else.
    """
    _check_replaceable(folder)
    with replacing_folder(folder) as partial:
        for name, text in files.items():
            path = partial / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())


def remove_bundle(folder: Path) -> None:
    """Remove a bundle, its index last, so that what an interruption leaves is refused and can be replaced.

    Raises BundleError where the folder holds something else; nothing there is fine.
    """
    if not folder.exists():
        return
    _check_replaceable(folder)
    if folder.is_symlink():
        folder.unlink()
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != INDEX:
            entry.unlink()
    shutil.rmtree(folder)


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not (
        folder.is_dir() and ((folder / INDEX).is_file() or not any(folder.iterdir()))
    ):
        raise BundleError(
            f"'{folder}' holds something else than a bundle, which would be lost if it were replaced; name a "
            "new folder"
        )


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The index and the text of every file, each read once and checked against its checksum.

    Raises BundleError for an unknown format, a missing or extra file, a link, an altered byte, or a path that
    leads out of the folder.
    """
    if not folder.is_dir():
        raise BundleError(f"there is no bundle '{folder}'; name the folder that training wrote")
    found = _list_files(folder)
    if INDEX not in found:
        raise BundleError(f"'{folder}' is no bundle: it has no {INDEX}; name the folder that training wrote")
    text = _decode(_read(folder / INDEX), INDEX)
    index = parse_json(text, INDEX)
    if index.get("format") != FORMAT:
        raise BundleError(
            f"the bundle '{folder}' has format {index.get('format')!r}, this version of convpredict reads "
            f"{FORMAT}; use the version that wrote it, or train again"
        )
    listed = index.get("files")
    if not isinstance(listed, dict) or not all(isinstance(value, str) for value in listed.values()):
        raise BundleError(f"{INDEX} does not list the files of the bundle; export it anew")
    odd = sorted(name for name in listed if not _NAMES.fullmatch(name))
    if odd:
        raise BundleError(f"{INDEX} lists {odd[0]!r}, which is no file of a bundle; export it anew")
    if text != canonical_json(index, what=INDEX) or index.get("digest") != digest_of(index):
        raise BundleError(
            f"{INDEX} of '{folder}' was altered after it was written; copy or export the bundle anew"
        )
    missing, extra = sorted(set(listed) - found), sorted(found - set(listed) - {INDEX})
    if missing or extra:
        what = (
            f"lacks {', '.join(missing)}" if missing else f"holds {', '.join(extra)}, which is not part of it"
        )
        raise BundleError(f"the bundle '{folder}' {what}; copy or export it anew")
    files = {}
    for name, checksum in listed.items():
        content = _read(folder / name)
        if _sha256(content) != checksum:
            raise BundleError(
                f"{name} of the bundle '{folder}' was altered after it was written (its SHA-256 differs); "
                "copy or export the bundle anew"
            )
        files[name] = _decode(content, name)
    return index, files


def _list_files(folder: Path) -> set[str]:
    found = set()
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if _FOLDERS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            inner = [(f"{entry.name}/{deeper.name}", deeper) for deeper in os.scandir(entry.path)]
        else:
            inner = [(entry.name, entry)]
        for name, deeper in inner:
            if not deeper.is_file(follow_symlinks=False):
                raise BundleError(
                    f"the bundle '{folder}' holds '{name}', which is a link or a folder and could lead "
                    "anywhere; a bundle holds plain files only: copy or export it anew"
                )
            found.add(name)
    return found


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor, "rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"'{path}' cannot be read ({error.strerror}); check its permissions") from None
    if len(content) > _LARGEST_BYTES:
        raise BundleError(
            f"'{path}' is larger than 1 GiB, which no file of a bundle is; export the bundle anew"
        )
    return content


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{name} is not UTF-8 (byte {error.start}); copy or export the bundle anew"
        ) from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
