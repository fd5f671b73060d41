"""A real PostgreSQL server, started for the tests, reachable through a socket in its own folder only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _as_server_user() -> list[str]:
    """The prefix that runs a command as somebody whom the server accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return []
    for user in ("postgres", "nobody"):
        try:
            pwd.getpwnam(user)
        except KeyError:
            continue
        if shutil.which("runuser"):
            return ["runuser", "-u", user, "--"]
    pytest.skip("PostgreSQL refuses to run as root, and there is no other user to run it as")


@contextmanager
def postgres_server(script: str) -> Iterator[str]:
    """The connection string of a server on which the SQL of ``script`` has run; it stops at the end of the block.

    Skips the test where the server or the driver is missing. ``data`` beside the socket is the server's folder.
    """
    pytest.importorskip("adbc_driver_postgresql", reason="the extra 'postgres' is not installed")
    if not (shutil.which("initdb") and shutil.which("pg_ctl") and shutil.which("psql")):
        pytest.skip("no PostgreSQL server programs (initdb, pg_ctl, psql) in PATH")
    prefix = _as_server_user()
    with tempfile.TemporaryDirectory(prefix="cp-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if prefix:
            shutil.chown(folder, prefix[2])
        folder.chmod(0o755)
        data, uri = folder / "data", f"postgresql://owner@/postgres?host={folder}"
        environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}

        def run(*command: str) -> None:
            done = subprocess.run(
                [*prefix, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
            )
            if done.returncode:
                pytest.skip(f"PostgreSQL does not start here: {(done.stderr or done.stdout).strip()[-300:]}")

        run("initdb", "-D", str(data), "-U", "owner", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses='' -k {folder} -c fsync=off"
        run("pg_ctl", "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            run("psql", uri, "-v", "ON_ERROR_STOP=1", "-q", "-c", script)
            yield uri
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
