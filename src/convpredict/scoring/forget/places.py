"""Where training has written rows of leads: kept in the nightly folder, so that ``forget`` finds it from anywhere."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ...files import release, write_json

FILE = "places.json"
FORMAT = 1


@dataclass(frozen=True)
class KnownPlaces:
    """The results folders (absolute) that training and backtests wrote, and the URIs of their tracking stores.

    Paths of SQLite files are absolute too, and no URI holds a user or password.
    """

    results: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()


def read_places(folder: Path) -> KnownPlaces:
    """What was noted in a nightly folder; nothing where there is no note.

    Raises DataError where the file is damaged: an erasure would miss places without a word.
    """
    path = folder / FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}, this version reads {FORMAT}")
        return KnownPlaces(tuple(map(str, stored["results"])), tuple(map(str, stored["stores"])))
    except FileNotFoundError:
        return KnownPlaces()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"'{path}' cannot be read ({error}), so it is not known where rows of leads were written; restore it from "
            "a backup, or delete it and name the folders with --also"
        ) from None


def note_places(folder: Path, *, results: Path | None = None, store: str | None = None) -> None:
    """Add a results folder and a tracking store to what is known; nothing is written where both are."""
    with _alone(folder):
        known = read_places(folder)
        folders = dict.fromkeys((*known.results, *([str(results.absolute())] if results is not None else [])))
        stores = dict.fromkeys((*known.stores, *([store] if store is not None else [])))
        added = KnownPlaces(tuple(folders), tuple(stores))
        if added != known:
            content = {"format": FORMAT, "results": list(added.results), "stores": list(added.stores)}
            write_json(content, folder / FILE)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from adding at the same time: a lock on the folder itself, which leaves no file."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        release(descriptor)
