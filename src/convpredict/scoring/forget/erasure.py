"""Erasing leads from every place of a project, and searching every file for what is left of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from ...errors import ConvpredictError
from ..ledger.ledger import Ledger
from ..nightly.plan import parse_run_id
from ..nightly.state import CROSS_LEAD, NightFolder
from ..publish.protocol import Publisher
from .files import count_found, erase_rows, files_below
from .forgotten import FILE as FORGOTTEN
from .names import LeadNames

_SEALS = ("bundle.json", "checksums.json")
_MANIFEST, _ROWS = "manifest.json", "training_set.parquet"


@dataclass(frozen=True)
class Places:
    """Where a project keeps what it wrote.

    ``state``: the nightly folder. ``publishers`` with ``published``, the files and folders of theirs on this machine.
    ``results``: folders of training runs and whatever else the user names. ``artifacts``: folders of MLflow runs.
    ``stores``: files of MLflow's own database, which are only searched.
    """

    state: NightFolder
    publishers: Sequence[Publisher] = ()
    published: Sequence[Path] = ()
    results: Sequence[Path] = ()
    artifacts: Sequence[Path] = ()
    stores: Sequence[Path] = ()

    def files(self) -> Iterator[Path]:
        """Every file of all places, once."""
        seen: set[Path] = set()
        for root in (self.state.root, *self.published, *self.results, *self.artifacts, *self.stores):
            for path in files_below(root):
                real = path.resolve()
                if real not in seen:
                    seen.add(real)
                    yield path


@dataclass(frozen=True)
class Leftover:
    """A place that still holds an id: so many ``rows``, ``lines`` or ``bytes`` (places in raw bytes)."""

    place: str
    count: int
    what: str


@dataclass(frozen=True)
class Erased:
    """What an erasure did. ``rows``: how many went from which place. ``found``: the ids that were there.

    ``unread``: what could not be looked at or written, with the reason. ``removed``: files of counts that went.
    """

    rows: dict[str, int]
    found: set[str]
    unread: dict[str, str]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Search:
    """What was looked at and what was found. ``unread`` files could not be looked at, with the reason."""

    files: int = 0
    bytes: int = 0
    leftovers: tuple[Leftover, ...] = ()
    unread: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class TrainedOn:
    """A training set that held some of the leads: its folder, the digest of its manifest, observations by part."""

    folder: Path
    digest: str
    lead_ids: tuple[str, ...]
    observations: dict[str, int]


def erase_everywhere(names: LeadNames, places: Places) -> Erased:
    """Erase the leads. Who calls holds the lock of the nightly folder. What cannot be read does not end it.

    Unfinished nights are thrown away as a whole: they are scored anew. Sealed folders (bundles, registered models) are
    left as they are: they hold no rows of leads.
    """
    erased: dict[str, int] = {}
    found: set[str] = set()
    unread: dict[str, str] = {}
    places.state.sweep()
    for run_id in places.state.unfinished():
        places.state.drop_work(run_id)
    removed: list[str] = []
    ledger = Ledger(places.state.root / "ledger")
    try:
        scored = ledger.find(names.ids, unread)
        found |= set(scored["lead_id"].to_pylist())
        removed = _remove_counts(min(scored["cutoff"].to_pylist(), default=None), places.state)
        erased["ledger"] = ledger.erase(names.ids, unread)
    except ConvpredictError as error:
        unread[str(ledger.folder)] = str(error)
    roots = (
        places.state.root / "quarantine",
        places.state.root / "monitoring",
        *places.results,
        *places.artifacts,
    )
    for root in roots:
        for path in files_below(root):
            if not _is_sealed(path, root):
                try:
                    gone = erase_rows(path, names, found)
                except OSError as error:
                    unread[str(path)] = error.strerror or type(error).__name__
                    continue
                if gone:
                    erased[str(path)] = erased.get(str(path), 0) + gone
    for publisher in places.publishers:
        place = publisher.describe()
        try:
            found |= {lead for lead in names.ids if lead not in found and publisher.find([lead])}
        except ConvpredictError as error:
            unread[place] = str(error)
        try:
            erased[place] = publisher.erase(names.ids)
        except ConvpredictError as error:
            unread[place] = str(error)
    return Erased({place: rows for place, rows in erased.items() if rows}, found, unread, tuple(removed))


def _remove_counts(first: datetime | None, state: NightFolder) -> list[str]:
    """Remove what counts groups in which a lead may have been alone: the snapshot of rates and loads, if it is not
    newer than the list of the forgotten, and monitoring's reports from the ``first`` night on that scored one of them.

    Tells which files went. Called before the ledger is erased, which knows that night: done again after a crash, it
    removes the rest.
    """
    removed = []
    snapshot, listed = state.root / CROSS_LEAD, state.root / FORGOTTEN
    if snapshot.is_file() and snapshot.stat().st_mtime_ns <= listed.stat().st_mtime_ns:
        snapshot.unlink()
        removed.append(str(snapshot))
    if first is None:
        return removed
    reports = state.root / "monitoring"
    for path in sorted(reports.glob("*.json")):
        parsed = parse_run_id(state.name, path.stem)
        if parsed is not None and parsed[0] >= first:
            path.unlink()
            removed.append(str(path))
    if removed and (page := reports / "index.html").is_file():
        page.unlink()
        removed.append(str(page))
    return removed


def search_everywhere(names: LeadNames, places: Places, known: Mapping[str, str] | None = None) -> Search:
    """Look into every file of all places, and ask every publisher. ``known``: what the erasure could not look at."""
    files = size = 0
    leftovers: list[Leftover] = []
    unread: dict[str, str] = dict(known or {})
    for path in places.files():
        try:
            count, what = count_found(path, names)
            size += path.stat().st_size
        except Exception as error:
            unread.setdefault(str(path), type(error).__name__)
            continue
        files += 1
        if count:
            leftovers.append(Leftover(str(path), count, what))
    for publisher in places.publishers:
        try:
            leftovers += [Leftover(place, 1, "rows") for place in publisher.find(names.ids)]
        except ConvpredictError as error:
            unread.setdefault(publisher.describe(), str(error))
    return Search(files, size, tuple(leftovers), tuple(f"{place} ({why})" for place, why in unread.items()))


def training_sets(names: LeadNames, roots: Sequence[Path]) -> list[TrainedOn]:
    """The training sets below some folders that hold observations of the leads."""
    found = []
    for root in roots:
        for path in files_below(root):
            if path.name == _ROWS and (path.parent / _MANIFEST).is_file():
                held, counts = _observations(path, names)
                if held:
                    found.append(
                        TrainedOn(path.parent, manifest_digest(path.parent / _MANIFEST), held, counts)
                    )
    return found


def manifest_digest(path: Path) -> str:
    """The digest that bundles tell as ``created_from``."""
    manifest = json.loads(path.read_text(encoding="utf-8"))
    return sha256(json.dumps(manifest, sort_keys=True, default=str).encode()).hexdigest()


def _observations(path: Path, names: LeadNames) -> tuple[tuple[str, ...], dict[str, int]]:
    """Which of the leads a training set holds, and how many observations of them by part."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["lead_id", "split"])
    except (pa.ArrowException, OSError):
        return (), {}
    found = table.filter(pc.is_in(table["lead_id"].cast(pa.string()), value_set=pa.array(names.ids)))
    held = set(map(str, found["lead_id"].to_pylist()))
    parts = [str(part) for part in found["split"].to_pylist()]
    return tuple(lead for lead in names.ids if lead in held), {
        part: parts.count(part) for part in dict.fromkeys(parts)
    }


def _is_sealed(path: Path, root: Path) -> bool:
    """Whether a file lies in a folder whose every byte is checked, below ``root``."""
    folder = path.parent
    while True:
        if any((folder / seal).is_file() for seal in _SEALS):
            return True
        if folder in (root, folder.parent):
            return False
        folder = folder.parent
