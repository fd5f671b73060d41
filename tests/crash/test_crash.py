"""A nightly run killed at any moment, and its disk taken away: readers see one whole night, the next run finishes.

``make crash`` kills as often as CONVPREDICT_KILLS says (200) and prints what it saw; here it is a few times only.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import NEW, OLD, POSTGRES, RUN_ID, Crash, Place, remount, small_disk

from postgres_server import postgres_server

KILLS = int(os.environ.get("CONVPREDICT_KILLS", "6"))
MANY = KILLS > 15


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    made = Crash.prepare(tmp_path_factory.mktemp("crash"), leads=500)
    yield made
    made.warm.close()


def killed_at_random(crash: Crash, kills: int, seed: int, with_signal: int) -> Counter[str]:
    """Kill a night at that many moments; a third of the runs that should finish it are killed as well.

    Moments that lay beyond the end of a run do not count.
    """
    source = random.Random(seed)
    seen: Counter[str] = Counter()
    for number, share in enumerate(crash.moments(kills, seed)):
        if number % 10 == 9:
            crash.measure()
        place = crash.fresh()
        code = crash.kill(place, share, with_signal)
        state = crash.check_readers(place)
        seen[f"{'killed' if code != 0 else 'ended before'}, readers saw {state}"] += 1
        if source.random() < 1 / 3:
            crash.kill(place, source.random(), with_signal)
            crash.check_readers(place)
        code, _ = crash.finish(place)
        assert code == 0, crash.log()
        crash.check_finished(place)
        killed = sum(count for state, count in seen.items() if state.startswith("killed"))
        if killed >= kills or sum(seen.values()) > 4 * kills:
            break
    return seen


def tell(what: str, seen: Counter[str]) -> None:
    if MANY:
        print(f"\n{what}: " + "; ".join(f"{count} x {state}" for state, count in sorted(seen.items())))


def test_killed_at_random_moments(crash):
    seen = killed_at_random(crash, KILLS, 1, signal.SIGKILL)
    tell("SIGKILL", seen)
    assert sum(count for state, count in seen.items() if state.startswith("killed")) == KILLS


def test_terminated_at_random_moments(crash):
    seen = killed_at_random(crash, max(2, KILLS // 4), 2, signal.SIGTERM)
    tell("SIGTERM", seen)


def test_terminated_runs_say_so(crash):
    place = crash.fresh()
    code = crash.kill(place, 0.3, signal.SIGTERM)
    assert code == 130
    manifest = place.manifest()
    assert manifest["status"] == "failed"
    assert manifest["error"].startswith("KeyboardInterrupt")
    assert (place.folder / "state" / "lock").read_text() == ""


@pytest.mark.skipif(not MANY, reason="starts a database server; make crash runs it")
def test_killed_with_a_database_server(tmp_path_factory):
    with postgres_server("SELECT 1") as uri, pytest.MonkeyPatch.context() as patch:
        patch.setenv(POSTGRES, uri)
        crash = Crash.prepare(tmp_path_factory.mktemp("postgres"), with_postgres=True, leads=500)
        try:
            tell("SIGKILL with PostgreSQL", killed_at_random(crash, max(4, KILLS // 4), 3, signal.SIGKILL))
        finally:
            crash.warm.close()


@pytest.mark.parametrize("largest_file", [0, 700, 3_000, 9_000, 20_000] if MANY else [3_000])
def test_files_cannot_grow(crash, largest_file):
    place = crash.fresh()
    code, _ = crash.finish(place, largest_file=max(1, largest_file))
    crash.check_readers(place)
    assert code == 9, crash.log()
    assert crash.finish(place)[0] == 0, crash.log()
    crash.check_finished(place)


def test_the_disk_is_full(crash, tmp_path):
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", "16m"))
        except (OSError, FileNotFoundError) as error:
            pytest.skip(f"no file system can be mounted here ({error})")
        seen: Counter[str] = Counter()
        for free in [0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512][:: 1 if MANY else 4]:
            place = crash.fresh(disk / "place")
            left = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            with open(disk / "filler", "wb") as filler:
                filler.write(bytes(max(0, left - free * 1024)))
            code, _ = crash.finish(place)
            seen[f"exit {code}, readers saw {crash.check_readers(place)}"] += 1
            assert code in (0, 9, 12), crash.log()
            (disk / "filler").unlink()
            assert crash.finish(place)[0] == 0, crash.log()
            if code != 12:
                crash.check_finished(place)
            assert place.seen() == crash.new
        tell("full disk", seen)
        assert any(state.startswith("exit 9") for state in seen)


def test_the_output_is_read_only(crash, tmp_path):
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", "16m"))
        except (OSError, FileNotFoundError) as error:
            pytest.skip(f"no file system can be mounted here ({error})")
        place = crash.fresh(disk / "place")
        remount(disk, "ro")
        assert crash.finish(place)[0] == 9
        assert crash.check_readers(place) == "old"
        remount(disk, "rw")
        assert crash.finish(place)[0] == 0
        crash.check_finished(place)


def test_only_the_scores_are_read_only(crash, tmp_path):
    """The night is decided, but cannot be published: the next run publishes the same scores without scoring again."""
    with ExitStack() as stack:
        place = crash.fresh()
        scores = place.folder / "scores"
        kept = {path.relative_to(scores): path.read_bytes() for path in scores.rglob("*") if path.is_file()}
        try:
            stack.enter_context(small_disk(scores, "8m"))
        except (OSError, FileNotFoundError) as error:
            pytest.skip(f"no file system can be mounted here ({error})")
        for name, content in kept.items():
            (scores / name).parent.mkdir(parents=True, exist_ok=True)
            (scores / name).write_bytes(content)
        remount(scores, "ro")
        assert crash.finish(place)[0] == 9
        assert crash.check_readers(place) == "some"
        assert place.manifest()["status"] == "failed"
        remount(scores, "rw")
        log = Path(crash.log_path)
        size = log.stat().st_size
        assert crash.finish(place)[0] == 0
        told = log.read_text()[size:]
        assert "finishing" in told
        assert "bucket" not in told
        crash.check_finished(place)


def test_two_at_once(crash):
    place = crash.fresh()
    pids = [crash.start(place), crash.start(place)]
    codes = sorted(crash.wait(pid)[0] for pid in pids)
    assert codes == [0, 8], crash.log()
    assert "another run is at work" in crash.whole_log()
    assert f"run {RUN_ID}" in crash.whole_log()
    crash.check_finished(place)


def test_a_killed_owner_holds_no_lock(crash):
    place = crash.fresh()
    pid = crash.start(place)
    lock = place.folder / "state" / "lock"
    while not lock.read_text():
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    assert crash.wait(pid)[0] == -signal.SIGKILL
    assert json.loads(lock.read_text())["pid"] == pid
    assert crash.finish(place)[0] == 0
    assert f"owner_died former_pid={pid}" in crash.whole_log()
    crash.check_finished(place)


def test_the_clock_is_set_back(crash):
    place = crash.fresh()
    before = place.written()
    back = {"as_of": None, "now": OLD.replace(day=OLD.day - 3).isoformat()}
    request = {**crash.request(place, NEW), **back}
    assert crash.wait(int(crash.warm.ask(do="run", **request)["pid"]))[0] == 7
    assert "clock was set back" in crash.whole_log()
    assert crash.check_readers(place) == "old"
    assert place.written() == before
    assert crash.finish(place)[0] == 0
    crash.check_finished(place)


def test_readers_while_a_night_is_published(crash):
    """Who reads all the time sees the old night, then the new one, and nothing else."""
    place: Place = crash.fresh()
    pid = crash.start(place)
    states = []
    while not place.manifest():
        states.append(crash.check_readers(place, while_publishing=True))
    assert crash.wait(pid)[0] == 0
    assert states[0] == "old"
    order = [state for state, former in zip(states, [None, *states], strict=False) if state != former]
    assert order in (["old"], ["old", "new"], ["old", "some"], ["old", "some", "new"])
