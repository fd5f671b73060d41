"""Where a project's rows of leads may lie: as configured, as noted by training, and what of it is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.load import Project
from ..config.nightly import DuckdbTarget, ParquetTarget
from ..errors import ConfigError, ConvpredictError
from .common import nightly_folder

if TYPE_CHECKING:
    from ..scoring.forget.erasure import Places
    from ..scoring.forget.places import KnownPlaces

RUNS = Path("runs")
"""Where ``convpredict train`` puts its results unless told otherwise."""


@dataclass(frozen=True)
class Located:
    """All places of a project. ``stores``: the URIs of its tracking stores. ``elsewhere``: the runs of each whose
    artifacts do not lie on this machine. ``missing``: what was noted and is not there, in sentences."""

    places: Places
    stores: tuple[str, ...] = ()
    elsewhere: dict[str, list[str]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def locate(project: Project, also: Sequence[Path]) -> Located:
    """Find everything that a project has written, from whatever working directory.

    Raises ConfigError where ``also`` names what does not exist, or the configured store cannot be used.
    """
    from ..scoring.forget.erasure import Places
    from ..scoring.forget.places import read_places
    from ..scoring.nightly.state import NightFolder
    from ..scoring.publish.make import make_publisher
    from ..tracking.run_files import runs_of_project, store_file
    from ..tracking.store import at_store

    settings, base = project.config, project.path.parent
    if absent := [str(path) for path in also if not path.exists()]:
        raise ConfigError(f"--also names {', '.join(absent)}, which does not exist; correct the path")
    known = read_places(nightly_folder(project))
    results, missing = _results(project, known, also)
    stores, configured, without = _stores(project, known)
    missing += without
    artifacts: list[Path] = []
    files: list[Path] = []
    used: list[str] = []
    elsewhere: dict[str, list[str]] = {}
    for uri in stores:
        with at_store(uri):
            try:
                runs = runs_of_project(settings.name, settings.tracking)
                file = store_file(settings.tracking)
            except ConvpredictError as error:
                if uri == configured:
                    raise
                missing.append(f"an MLflow store that training wrote to cannot be asked: {error}")
                continue
        used.append(uri)
        artifacts += [run.folder for run in runs if run.folder is not None]
        elsewhere[uri] = [run.run_id for run in runs if run.folder is None]
        files += [file] if file is not None else []
    published = [
        base / (target.parquet if isinstance(target, ParquetTarget) else target.duckdb)
        for target in settings.nightly.publish
        if isinstance(target, ParquetTarget | DuckdbTarget)
    ]
    places = Places(
        NightFolder(nightly_folder(project), settings.name),
        [make_publisher(target, base) for target in settings.nightly.publish],
        published,
        [*results, *also],
        artifacts,
        files,
    )
    return Located(places, tuple(used), elsewhere, tuple(missing))


def _results(project: Project, known: KnownPlaces, also: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The folders of this project's training runs and backtests: here, beside the configuration, where training noted
    them and beside those. And what is missing: a folder that was moved counts as found under its name."""
    noted = [Path(text) for text in known.results]
    roots = [
        RUNS,
        project.path.parent / RUNS,
        *(path.parent for path in noted if path.parent.name == RUNS.name),
    ]
    found = {path.resolve(): path for path in noted if path.is_dir()}
    for folder in (each for root in roots for each in _folders(root)):
        if _is_of(project.config.name, folder):
            found.setdefault(folder.resolve(), folder)
    named = [*also, *(folder for each in also for folder in _folders(each))]
    names = {path.name for path in (*found.values(), *named)}
    missing = [
        f"training wrote results to '{path}', which is not there; if it was moved, name its folder with --also; if it "
        f"was deleted, take its line out of '{_note(project)}'"
        for path in noted
        if not path.is_dir() and path.name not in names
    ]
    if not noted and not found and not any(_is_of(project.config.name, folder) for folder in named):
        missing.append(
            f"no results of training were found (looked in '{RUNS.absolute()}' and "
            f"'{(project.path.parent / RUNS).absolute()}'); name the folder that holds them with --also"
        )
    return list(found.values()), missing


def _stores(project: Project, known: KnownPlaces) -> tuple[list[str], str, list[str]]:
    """The tracking stores to ask, the configured one among them, and what is missing."""
    from ..tracking.run_files import store_file
    from ..tracking.store import DEFAULT_URI, absolute_uri, at_store, tracking_uri

    configured = tracking_uri(project.config.tracking)
    candidates = {absolute_uri(configured): configured}
    for uri in known.stores:
        candidates.setdefault(uri, uri)
    if configured == DEFAULT_URI:
        beside = f"sqlite:///{(project.path.parent / 'mlflow.db').absolute()}"
        candidates.setdefault(beside, beside)
    found: list[str] = []
    missing: list[str] = []
    for place, uri in candidates.items():
        with at_store(uri):
            there = not uri.startswith("sqlite:") or store_file() is not None
        if there and ("***" not in uri or uri == configured):
            found.append(uri)
        elif there:
            missing.append(f"training wrote to the MLflow store '{place}'; name it in MLFLOW_TRACKING_URI")
        elif place in known.stores:
            missing.append(
                f"training wrote to the MLflow store '{place}', which is not there; if it was moved, name it in "
                f"MLFLOW_TRACKING_URI, and in any case take its line out of '{_note(project)}'"
            )
    if not found and not known.stores and not known.results:
        looked = "' and '".join(candidates)
        missing.append(f"no MLflow store was found (looked for '{looked}'); name it in MLFLOW_TRACKING_URI")
    return found, configured, missing


def _note(project: Project) -> Path:
    from ..scoring.forget.places import FILE

    return nightly_folder(project) / FILE


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in sorted(root.iterdir()) if path.is_dir())


def _is_of(name: str, folder: Path) -> bool:
    if folder.name.startswith(f"{name}-"):
        return True
    for path in (folder / "manifest.json", folder / "training_set" / "manifest.json"):
        try:
            return bool(json.loads(path.read_text(encoding="utf-8")).get("name") == name)
        except (OSError, ValueError, AttributeError):
            continue
    return False
