"""Rows of leads among the artifacts of MLflow runs that lie elsewhere: fetched, rewritten, put back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...config.training import TrackingConfig
from ...tracking.run_files import download, list_files, upload
from .erasure import Leftover
from .files import count_found, erase_rows
from .names import LeadNames

_TABLES = (".parquet", ".csv", ".tsv")


@dataclass(frozen=True)
class RemoteRuns:
    """The artifacts of some runs of a tracking server. What lies in the model itself holds no rows and is left."""

    run_ids: Sequence[str]
    tracking: TrackingConfig

    def erase(self, names: LeadNames, found: set[str] | None = None) -> dict[str, int]:
        """Write tables with rows of the leads anew; tells how many rows went from which file.

        The ids that the rows held join ``found``.
        """
        erased = {}
        for run_id, path in self._tables():
            with self._copy(run_id, path) as copy:
                rows = erase_rows(copy, names, found)
                if rows:
                    upload(run_id, copy, path, self.tracking)
                    erased[f"MLflow run {run_id}: {path}"] = rows
        return erased

    def find(self, names: LeadNames) -> list[Leftover]:
        """Files that still hold one of the leads, fetched anew."""
        found = []
        for run_id in self.run_ids:
            for path in list_files(run_id, self.tracking):
                with self._copy(run_id, path) as copy:
                    count, what = count_found(copy, names)
                if count:
                    found.append(Leftover(f"MLflow run {run_id}: {path}", count, what))
        return found

    def _tables(self) -> Iterator[tuple[str, str]]:
        for run_id in self.run_ids:
            for path in list_files(run_id, self.tracking):
                if path.endswith(_TABLES) and not path.startswith("model/"):
                    yield run_id, path

    @contextmanager
    def _copy(self, run_id: str, path: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="convpredict-") as folder:
            yield download(run_id, path, Path(folder), self.tracking)
