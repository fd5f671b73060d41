"""Scores as Parquet files: every run in a folder of its own, and the latest one under a fixed name."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...config.nightly import ParquetTarget
from ...errors import PublishError
from ...files import release, replacing, write_text
from .protocol import (
    Publication,
    Published,
    as_text,
    check_same,
    check_scores,
    decide,
    done,
    unowned,
)

RECORD = b"convpredict.publication"
"""The key of a file's metadata under which the publication lies, as JSON."""

_RUN_ID_POSITION = 2
"""Where tables of scores have the column that the files of runs lack."""

_ROW_GROUP = 131_072
_POLL_SECONDS = 0.2


class ParquetPublisher:
    """Scores below a folder: ``latest.parquet``, and ``runs/run_id=<id>/scores.parquet`` for every run.

    ``latest.parquet`` is replaced by one rename: whoever has it open goes on reading the night it opened. Many readers
    open a file by name twice, first for its footer and then for its rows, and fail where it is replaced in between:
    for them ``latest.json`` names the file of the latest run, whose name is never given to another one. The files of
    runs lack the column ``run_id``, which readers of a Hive-partitioned folder get from the path. ``shown`` is the
    name of the folder in messages; ``wait`` how many seconds to wait for another publication to the same folder.
    """

    def __init__(self, folder: Path, shown: str | None = None, wait: float = 60.0) -> None:
        self.folder = folder
        self._shown = shown or str(folder)
        self._wait = wait

    @classmethod
    def of(cls, target: ParquetTarget, base_folder: Path) -> ParquetPublisher:
        """The publisher of a target of the configuration, whose paths start at ``base_folder``."""
        return cls(base_folder / target.parquet, target.parquet, target.wait.microseconds / 1e6)

    def describe(self) -> str:
        """The folder in words."""
        return f"Parquet files in {self._shown}"

    def publish(self, scores: pa.Table, publication: Publication, *, older_ok: bool = False) -> Published:
        """Write the run's file, then replace ``latest.parquet`` by one rename; see Publisher."""
        check_scores(scores, publication)
        with self._alone():
            self._clean()
            step = decide(publication, self.current(), self.describe(), older_ok=older_ok)
            changed = False
            if step != "unchanged":
                changed = self._keep_run(scores, publication)
            if step == "publish":
                self._write(scores, publication, self._latest)
                changed = True
            if step != "older":
                self._point_to(publication)
        return done(self.describe(), publication, changed=changed, current=step != "older")

    def current(self) -> Publication | None:
        """What ``latest.parquet`` says of itself."""
        with self._explained():
            try:
                found = _record(self._latest)
            except FileNotFoundError:
                return None
            except (pa.ArrowInvalid, ValueError, KeyError):
                found = None
        if found is None:
            raise unowned(f"{self._shown}/{self._latest.name}")
        return found

    def kept(self, run_id: str) -> Publication | None:
        """What the run's own file says of itself, else ``latest.parquet``, if it is that run."""
        with self._explained():
            kept = self._record_of(run_id)
        if kept is not None:
            return kept
        current = self.current()
        return current if current is not None and current.run_id == run_id else None

    def copy_of(self, run_id: str) -> tuple[pa.Table, Publication] | None:
        """A run's scores as they were published, but for leads that were erased since; None: they are not kept."""
        with self._explained():
            record = self._record_of(run_id)
            if record is None:
                return None
            table = _read(self._run_file(run_id))
        run = pa.repeat(pa.scalar(run_id, pa.string()), table.num_rows)
        table = table.add_column(_RUN_ID_POSITION, "run_id", run)
        return table.replace_schema_metadata(None), record

    def erase(self, lead_ids: Sequence[object]) -> int:
        """Rewrite every file that holds one of the leads, each in one step; see Publisher.

        A file that cannot be read is told by a PublishError once all others are done.
        """
        wanted, removed = pa.array(as_text(lead_ids), pa.string()), 0
        if not self.folder.is_dir():
            return 0
        with self._alone():
            self._clean()
            failed: list[PublishError] = []
            for path in self._files():
                try:
                    with self._explained(path):
                        removed += self._erase_from(path, wanted)
                except PublishError as error:
                    failed.append(error)
        if failed:
            raise failed[0]
        return removed

    def _erase_from(self, path: Path, wanted: pa.Array) -> int:
        if not _hits(path, wanted):
            return 0
        table = _read(path)
        kept = table.filter(pc.invert(_is_in(table["lead_id"], wanted)))
        gone = int(table.num_rows - kept.num_rows)
        record = _record(path)
        if record is None:
            raise unowned(self._name(path))
        self._write(kept, record.without(gone), path)
        return gone

    def find(self, lead_ids: Sequence[object]) -> list[str]:
        """The files that hold one of the leads."""
        wanted = pa.array(as_text(lead_ids), pa.string())
        with self._explained():
            files = self._files()
        found = []
        for path in files:
            with self._explained(path):
                found += [self._name(path)] if _hits(path, wanted) else []
        return found

    def runs(self) -> list[str]:
        """The ids of the runs that are kept."""
        with self._explained():
            return sorted(
                path.parent.name.removeprefix("run_id=")
                for path in self.folder.glob("runs/run_id=*/scores.parquet")
            )

    def remove(self, run_ids: Sequence[str], name: str) -> int:
        """Delete runs of the project ``name``, each in one step, but never the one that readers see; how many went.

        What lies in a run's folder beside its scores stays, as does a file that is not ours.
        """
        if not run_ids:
            return 0
        removed = 0
        with self._alone():
            self._clean()
            current = self.current()
            for run_id in run_ids:
                record = self._record_of(run_id)
                if record is None or record.name != name or current is None or current.run_id == run_id:
                    continue
                self._run_file(run_id).unlink()
                removed += 1
            self._clean()
        return removed

    @property
    def _latest(self) -> Path:
        return self.folder / "latest.parquet"

    def _name(self, path: Path) -> str:
        return f"{self._shown}/{path.relative_to(self.folder).as_posix()}"

    def _files(self) -> list[Path]:
        runs = sorted(self.folder.glob("runs/run_id=*/scores.parquet"))
        return [*runs, self._latest] if self._latest.exists() else runs

    def _point_to(self, publication: Publication) -> None:
        """Let ``latest.json`` name the run's file; a publication that was killed just before is made up for."""
        pointer = {
            "file": f"runs/run_id={publication.run_id}/scores.parquet",
            "run_id": publication.run_id,
            "cutoff": publication.to_dict()["cutoff"],
        }
        text = json.dumps(pointer, ensure_ascii=False) + "\n"
        path = self.folder / "latest.json"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(text, path)

    def _run_file(self, run_id: str) -> Path:
        return self.folder / "runs" / f"run_id={run_id}" / "scores.parquet"

    def _record_of(self, run_id: str) -> Publication | None:
        try:
            return _record(self._run_file(run_id))
        except (FileNotFoundError, pa.ArrowInvalid, ValueError, KeyError):
            return None

    def _keep_run(self, scores: pa.Table, publication: Publication) -> bool:
        path = self._run_file(publication.run_id)
        kept = self._record_of(publication.run_id)
        if kept is not None:
            check_same(publication, kept, self._name(path))
            if kept.rows + kept.erased == publication.rows:
                return False
        self._write(scores.drop_columns(["run_id"]), publication, path)
        return True

    def _write(self, table: pa.Table, publication: Publication, path: Path) -> None:
        record = json.dumps(publication.to_dict(), ensure_ascii=False).encode()
        table = table.replace_schema_metadata({RECORD: record})
        with replacing(path) as partial:
            pq.write_table(
                table, partial, compression="zstd", row_group_size=_ROW_GROUP, write_page_checksum=True
            )

    def _clean(self) -> None:
        """Remove what a killed publication left: parts of files, and folders of runs without a file."""
        for pattern in (".*.partial", "runs/run_id=*/.*.partial"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        for folder in self.folder.glob("runs/run_id=*"):
            if not any(folder.iterdir()):
                folder.rmdir()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock: the kernel lets go of it when its owner ends, however it ends."""
        with self._explained():
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                until = time.monotonic() + self._wait
                while not _locked(descriptor):
                    if time.monotonic() >= until:
                        raise PublishError(
                            f"{self.describe()}: another process has been publishing to this folder for more than "
                            f"{self._wait:g} s. Wait until it ends, or end it, and run again."
                        )
                    time.sleep(_POLL_SECONDS)
                yield
            finally:
                release(descriptor)

    @contextmanager
    def _explained(self, path: Path | None = None) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            where = self.describe() if path is None else f"{self.describe()}: {self._name(path)}"
            raise PublishError(
                f"{where}: {reason.splitlines()[0]}. Readers still see what they saw. Check the disk, its "
                "free space and the rights on the folder, and run again."
            ) from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _record(path: Path) -> Publication | None:
    """The publication in a file's metadata, its rows those that the file really has."""
    metadata = pq.read_metadata(path)
    record = (metadata.metadata or {}).get(RECORD)
    if record is None:
        return None
    content = json.loads(record)
    return Publication.from_dict({**content, "rows": metadata.num_rows})


def _hits(path: Path, wanted: pa.Array) -> bool:
    return bool(pc.any(_is_in(_read(path, ["lead_id"])["lead_id"], wanted)).as_py())


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The file alone, without the run_id that its folder's name would add."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns)


def _is_in(lead_id: pa.ChunkedArray, wanted: pa.Array) -> pa.ChunkedArray:
    return pc.is_in(pc.cast(lead_id, pa.string()), value_set=wanted)
