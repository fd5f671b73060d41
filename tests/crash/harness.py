"""Kill nightly runs and look what readers see: the scores of the night before or those of the new one, whole."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from convpredict.config.nightly import PostgresTarget
from convpredict.scoring.content_hash import content_hash
from convpredict.scoring.ledger.ledger import Ledger
from convpredict.scoring.publish.make import make_publisher
from convpredict.scoring.publish.parquet import ParquetPublisher
from nightly_project import NIGHT, NightlyProject, make_project

OLD, NEW = NIGHT - timedelta(days=1), NIGHT
RUN_ID = f"demo-{NEW:%Y%m%dT%H%M%SZ}"
POSTGRES = "CONVPREDICT_CRASH_POSTGRES"


class Warm:
    """The warm process, asked over pipes."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@dataclass
class Place:
    """One state of a project's outputs: the folder that holds the nightly folder, the scores and the database."""

    folder: Path
    with_postgres: bool = False

    @property
    def overrides(self) -> list[str]:
        """What of the configuration makes a run work here."""
        targets = [f"{{parquet: '{self.folder}/scores'}}", f"{{duckdb: '{self.folder}/scores.duckdb'}}"]
        if self.with_postgres:
            targets.append(f"{{postgres_env: {POSTGRES}}}")
        return [f"nightly.folder={self.folder}/state", f"nightly.publish=[{', '.join(targets)}]"]

    def seen(self, *, while_publishing: bool = False) -> dict[str, str]:
        """What readers of every target see: the content hash of the whole table.

        While a run writes to a DuckDB file, nobody can open it: then it is left out.
        """
        found = {"parquet": content_hash(pq.ParquetFile(self.folder / "scores" / "latest.parquet").read())}
        with (
            suppress(*([duckdb.IOException] if while_publishing else [])),
            duckdb.connect(str(self.folder / "scores.duckdb"), read_only=True) as connection,
        ):
            found["duckdb"] = content_hash(
                connection.sql("SELECT * FROM scores ORDER BY rank").to_arrow_table()
            )
        if self.with_postgres:
            publication = make_publisher(PostgresTarget(postgres_env=POSTGRES), self.folder).current()
            assert publication is not None
            found["postgres"] = f"{publication.run_id} {publication.rows} {publication.content_hash}"
        return found

    def written(self) -> dict[str, str]:
        """The bytes of all that a night leaves behind, but for manifests and the lock, which tell the time."""
        kept: dict[str, str] = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not name.startswith(("scores.duckdb", "state/runs/", "state/lock")):
                kept[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return kept

    def ledger(self) -> str:
        """The content of the ledger."""
        return content_hash(
            Ledger(self.folder / "state" / "ledger")
            .read()
            .sort_by([("run_id", "ascending"), ("lead_id", "ascending")])
        )

    def manifest(self) -> dict[str, Any]:
        """The manifest of the new night; empty if there is none."""
        path = self.folder / "state" / "runs" / f"{RUN_ID}.json"
        return json.loads(path.read_text()) if path.is_file() else {}


@dataclass
class Crash:
    """The project, the state before the night, what an undisturbed night leaves, and how long it takes."""

    root: Path
    project: NightlyProject
    warm: Warm
    with_postgres: bool
    old: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    ledger: str = ""
    seconds: float = 0.0
    decided: float = 0.0

    @classmethod
    def prepare(cls, root: Path, with_postgres: bool = False, **sizes: Any) -> Crash:
        """Simulate, train, publish the night before, and run the night once without disturbance."""
        project = make_project(root / "project", **sizes)
        crash = cls(root, project, Warm(), with_postgres)
        before = Place(root / "before", with_postgres)
        answer = crash.warm.ask(do="warm", **crash.request(before, OLD))
        assert answer["code"] == 0, answer
        crash.old = before.seen()
        for _ in range(2):
            place = crash.fresh()
            code, crash.seconds = crash.finish(place)
            assert code == 0, crash.log()
        steps = {step["step"]: step["seconds"] for step in place.manifest()["steps"]}
        rest = sum(steps[name] for name in ("ledger", "publish", "compact", "monitor"))
        crash.decided = max(0.0, 1 - 1.5 * rest / crash.seconds)
        crash.new, crash.written, crash.ledger = place.seen(), place.written(), place.ledger()
        assert crash.old != crash.new
        return crash

    def request(self, place: Place, as_of: datetime, **more: Any) -> dict[str, Any]:
        """A request for a night."""
        return {
            "config": str(self.project.config),
            "run": str(self.project.run),
            "as_of": as_of.isoformat(),
            "overrides": place.overrides,
            "log": str(self.log_path),
            **more,
        }

    def fresh(self, folder: Path | None = None) -> Place:
        """A place as it was before the night, files and database."""
        folder = folder or self.root / "place"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.root / "before", folder, dirs_exist_ok=True)
        if self.with_postgres:
            self._reset_postgres()
        return Place(folder, self.with_postgres)

    def _reset_postgres(self) -> None:
        """The night before in a database that knows of no other."""
        drop = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
        subprocess.run(["psql", os.environ[POSTGRES], "-qc", drop], check=True, capture_output=True)
        scores = self.root / "before" / "scores"
        publication = ParquetPublisher(scores).current()
        assert publication is not None
        table = pq.ParquetFile(scores / "latest.parquet").read()
        make_publisher(PostgresTarget(postgres_env=POSTGRES), scores).publish(table, publication)

    def start(self, place: Place, **more: Any) -> int:
        """Start the night in a child; its pid."""
        return int(self.warm.ask(do="run", **self.request(place, NEW, **more))["pid"])

    def wait(self, pid: int) -> tuple[int, float]:
        """The exit code of a child, and how long it ran."""
        answer = self.warm.ask(do="wait", pid=pid)
        return int(answer["code"]), float(answer["seconds"])

    def finish(self, place: Place, **more: Any) -> tuple[int, float]:
        """Run the night to its end."""
        return self.wait(self.start(place, **more))

    def kill(self, place: Place, share: float, with_signal: int = signal.SIGKILL) -> int:
        """Start the night and send it a signal after that share of its length; its exit code."""
        pid = self.start(place)
        time.sleep(share * self.seconds)
        os.kill(pid, with_signal)
        return self.wait(pid)[0]

    def measure(self) -> None:
        """Run the night once without disturbance, to know how long it takes now: other work on the machine varies."""
        code, self.seconds = self.finish(self.fresh())
        assert code == 0, self.log()

    def check_readers(self, place: Place, *, while_publishing: bool = False) -> str:
        """Each target shows the old scores or the new ones; which of them: ``old``, ``new`` or ``some``."""
        states = set()
        for target, seen in place.seen(while_publishing=while_publishing).items():
            assert seen in (self.old[target], self.new[target]), f"{target} shows a mixture: {self.log()}"
            states.add("new" if seen == self.new[target] else "old")
        return states.pop() if len(states) == 1 else "some"

    def check_finished(self, place: Place) -> None:
        """What an undisturbed night left is there, bit for bit, and nothing unfinished."""
        assert place.seen() == self.new, self.log()
        assert place.ledger() == self.ledger
        differs = {
            name
            for name in place.written() | self.written
            if place.written().get(name) != self.written.get(name)
        }
        assert not differs, f"{sorted(differs)} differ from an undisturbed night: {self.log()}"
        assert place.manifest()["status"] == "published"

    def log(self) -> str:
        """The end of the log of the runs."""
        return "\n".join(self.whole_log().splitlines()[-20:])

    def whole_log(self) -> str:
        """All that the runs wrote to their log."""
        return self.log_path.read_text() if self.log_path.is_file() else ""

    @property
    def log_path(self) -> Path:
        """The file that the runs write their log to."""
        return self.root / "log"

    def moments(self, number: int, seed: int) -> Iterator[float]:
        """Shares of a run's length, half of them over the whole of it, half over its end, from the decision on.

        One in each of as many equal parts, in no order; then further ones, for runs that had ended before.
        """
        source = random.Random(seed)
        for place in source.sample(range(number), number):
            begin, half = (0.0, number - number // 2) if place % 2 == 0 else (self.decided, number // 2)
            yield begin + (place // 2 + source.random()) / half * (1 - begin)
        while True:
            yield source.random()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of a given size, mounted for the length of the block; raises OSError where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def remount(folder: Path, how: str) -> None:
    """Mount a small disk read-only (``ro``) or writable (``rw``)."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True, capture_output=True)
