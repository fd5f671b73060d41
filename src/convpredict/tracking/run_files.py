"""The files among the artifacts of a project's runs: where they lie, and exchanging one that lies elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convpredict.config.training import TrackingConfig

from .store import _sqlite_file, connect, local_path, quiet, tracking_uri

_PAGE = 1000


@dataclass(frozen=True)
class RunFiles:
    """The artifacts of one run, deleted ones too; ``folder`` is None where they do not lie on this machine."""

    run_id: str
    folder: Path | None


def runs_of_project(name: str, config: TrackingConfig | None = None) -> list[RunFiles]:
    """The runs of a project, by the name in its configuration; none where there is no store yet.

    Raises ConfigError for a store that cannot be used.
    """
    uri = tracking_uri(config)
    file = _sqlite_file(uri)
    if file is not None and not file.exists():
        return []
    client = connect(uri)
    with quiet():
        experiment = client.get_experiment_by_name((config.experiment if config else None) or name)
        if experiment is None:
            return []
        found = [
            run
            for run in _runs(client, experiment.experiment_id)
            if run.data.params.get("name", name) == name
        ]
    return [RunFiles(run.info.run_id, local_path(run.info.artifact_uri)) for run in found]


def store_file(config: TrackingConfig | None = None) -> Path | None:
    """The SQLite file of the store, if it is one and there is one."""
    file = _sqlite_file(tracking_uri(config))
    return file if file is not None and file.exists() else None


def list_files(run_id: str, config: TrackingConfig | None = None, folder: str = "") -> Iterator[str]:
    """The paths of all files among a run's artifacts, wherever they lie."""
    client = connect(tracking_uri(config))
    with quiet():
        entries = client.list_artifacts(run_id, folder or None)
    for entry in entries:
        if entry.is_dir:
            yield from list_files(run_id, config, entry.path)
        else:
            yield entry.path


def download(run_id: str, path: str, into: Path, config: TrackingConfig | None = None) -> Path:
    """A copy of one file of a run on this machine."""
    with quiet():
        return Path(connect(tracking_uri(config)).download_artifacts(run_id, path, str(into)))


def upload(run_id: str, file: Path, path: str, config: TrackingConfig | None = None) -> None:
    """Put a file in the place of one of the same name among a run's artifacts."""
    folder = path.rpartition("/")[0]
    with quiet():
        connect(tracking_uri(config)).log_artifact(run_id, str(file), folder or None)


def _runs(client: Any, experiment_id: str) -> Iterator[Any]:
    from mlflow.entities import ViewType

    token = None
    while True:
        page = client.search_runs(
            [experiment_id], run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return
