"""Runs in MLflow: written by one function, tagged when complete, and read back only if they are."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convpredict.config.training import TrackingConfig
from convpredict.errors import BundleError, ConfigError, DataError

from .items import Artifact, Item, Json, Metric, Param, Plot, Tag, Text
from .store import connect, experiment_id, local_path, quiet, shown, tracking_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

COMPLETED = "convpredict.completed"
BUNDLE = "bundle"
DEFAULT_EXPERIMENT = "convpredict"


@dataclass(frozen=True)
class RunRecord:
    """A completed run as it was recorded; ``artifacts`` is the URI of its artifact folder."""

    run_id: str
    name: str
    started_at: datetime
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: str


class Run:
    """A run that is being written: ``run_id``, ``uri`` (the store's) and :meth:`log`."""

    def __init__(self, client: MlflowClient, run_id: str, uri: str) -> None:
        self._client = client
        self.run_id = run_id
        self.uri = uri

    def log(self, items: Iterable[Item]) -> None:
        """Write items in one go: numbers and settings in batches, everything that is a file in one copy.

        Raises :class:`DataError` if a file to be recorded does not exist.
        """
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import Param as MlflowParam
        from mlflow.entities import RunTag

        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        params, metrics, tags = [], [], []
        with tempfile.TemporaryDirectory(prefix="convpredict-") as folder, quiet():
            staged = Path(folder)
            for item in items:
                if isinstance(item, Param):
                    params.append(MlflowParam(item.name, item.value))
                elif isinstance(item, Metric):
                    metrics.append(MlflowMetric(item.name, item.value, now_ms, 0))
                elif isinstance(item, Tag):
                    tags.append(RunTag(item.name, item.value))
                else:
                    _stage(item, staged)
            for batch in _batches(metrics, 1000):
                self._client.log_batch(self.run_id, metrics=batch)
            for batch in _batches(params, 100):
                self._client.log_batch(self.run_id, params=batch)
            for batch in _batches(tags, 100):
                self._client.log_batch(self.run_id, tags=batch)
            if any(staged.iterdir()):
                self._client.log_artifacts(self.run_id, folder)


@contextmanager
def start_run(
    name: str,
    config: TrackingConfig | None = None,
    *,
    experiment: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """A new MLflow run, for the length of a ``with`` block.

    The run goes to ``config.experiment``, else to ``experiment`` (the project's name), else to
    ``convpredict``. At the end it is tagged ``convpredict.completed=true``; an exception marks it failed (an
    interruption, killed) and goes on, and readers never see such a run. No state outside the block: two runs
    can be written side by side.

    Raises :class:`ConfigError` for a store that cannot be used.
    """
    uri = tracking_uri(config)
    client = connect(uri)
    with quiet():
        into = experiment_id(
            client, (config.experiment if config else None) or experiment or DEFAULT_EXPERIMENT, uri
        )
        created = client.create_run(into, run_name=name, tags=dict(tags or {}))
        run_id = created.info.run_id
    try:
        yield Run(client, run_id, uri)
        with quiet():
            client.set_tag(run_id, COMPLETED, "true")
    except BaseException as error:
        with quiet():
            client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    with quiet():
        client.set_terminated(run_id, "FINISHED")


def read_run(run_id: str, config: TrackingConfig | None = None) -> RunRecord:
    """A completed run by its id; raises :class:`DataError` if there is none or it never completed."""
    from_uri = tracking_uri(config)
    client = connect(from_uri)
    from mlflow.exceptions import MlflowException

    try:
        with quiet():
            run = client.get_run(run_id)
    except MlflowException as error:
        raise DataError(
            f"there is no MLflow run '{run_id}' at {shown(from_uri)}; list the runs (mlflow ui), or set "
            "MLFLOW_TRACKING_URI to the store that has it"
        ) from error
    if run.data.tags.get(COMPLETED) != "true":
        raise DataError(
            f"the MLflow run '{run_id}' never completed (status {run.info.status}), so that its bundle may "
            "be partial; use a completed run, or train again"
        )
    return _record(run)


def find_run(
    config: TrackingConfig | None = None,
    *,
    experiment: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> RunRecord | None:
    """The newest completed run of an experiment that carries all the given tags, or None.

    The experiment is chosen as in :func:`start_run`.
    """
    client = connect(tracking_uri(config))
    name = (config.experiment if config else None) or experiment or DEFAULT_EXPERIMENT
    with quiet():
        found = client.get_experiment_by_name(name)
        if found is None:
            return None
        wanted = {COMPLETED: "true", **(tags or {})}
        clauses = [f"tags.`{_quotable(key)}` = '{_quotable(value)}'" for key, value in wanted.items()]
        runs = client.search_runs(
            [found.experiment_id],
            filter_string=" and ".join(clauses),
            order_by=["attributes.start_time DESC", "attributes.run_id DESC"],
            max_results=1,
        )
    return _record(runs[0]) if runs else None


def fetch_bundle(run_id: str, config: TrackingConfig | None = None, *, into: Path | None = None) -> Path:
    """The bundle folder of a completed run: in place if the artifacts lie on this machine, else downloaded.

    ``into`` is the folder for a download (default: a new temporary one). Raises :class:`DataError` for an
    unknown or incomplete run, :class:`BundleError` if it has no bundle.
    """
    record = read_run(run_id, config)
    root = local_path(record.artifacts)
    if root is not None and into is None:
        folder = root / BUNDLE
    else:
        client = connect(tracking_uri(config))
        target = Path(tempfile.mkdtemp(prefix="convpredict-")) if into is None else into
        target.mkdir(parents=True, exist_ok=True)
        with quiet():
            listed = client.list_artifacts(run_id, BUNDLE)
            folder = (
                Path(client.download_artifacts(run_id, BUNDLE, str(target))) if listed else target / BUNDLE
            )
    if not folder.is_dir():
        raise BundleError(
            f"the MLflow run '{run_id}' has no folder '{BUNDLE}' among its artifacts "
            f"({shown(record.artifacts)}), so there is nothing to score with; "
            "name a run that 'convpredict train' made"
        )
    return folder


def _record(run: Any) -> RunRecord:
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        started_at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags={key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
        artifacts=run.info.artifact_uri,
    )


def _stage(item: Artifact | Text | Json | Plot, folder: Path) -> None:
    if isinstance(item, Artifact):
        target = folder / item.folder
        if item.path.is_dir():
            shutil.copytree(item.path, target, dirs_exist_ok=True)
        elif item.path.is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(item.path, target / item.path.name)
        else:
            raise DataError(f"'{item.path}' does not exist, so that it cannot be recorded with the run")
        return
    path = folder / item.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(item, Plot):
        item.figure.savefig(path)
    else:
        text = (
            item.text
            if isinstance(item, Text)
            else json.dumps(item.content, indent=2, ensure_ascii=False) + "\n"
        )
        path.write_text(text, encoding="utf-8")


def _batches(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


def _quotable(text: str) -> str:
    if "'" in text or "`" in text:
        raise ConfigError(f"a tag to search runs by must hold no quotes; got {text!r}")
    return text
