"""Load a registered version in a process of its own, and compare its scores with those of the bundle in memory."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from convpredict.errors import RegistryError

from .checksums import CHECKSUMS
from .versions import Registry

if TYPE_CHECKING:
    import pandas as pd

    from convpredict.models.bundle import Bundle

_PATIENCE_SECONDS = 600


def load_back(registry: Registry, version: str, folder: Path, bundle: Bundle, rows: pd.DataFrame) -> None:
    """Score ``rows`` (a table of features) and the input example with a version, loaded from the registry.

    ``folder`` is the model directory that was registered, ``bundle`` the bundle in it. The code that scores is that
    of the version. Raises RegistryError if it fails, or if a probability differs in a single bit.
    """
    import pandas as pd

    uri = f"models:/{registry.name}/{version}"
    with tempfile.TemporaryDirectory(prefix="convpredict-") as temporary, _place_for(folder) as copy:
        exchanged = Path(temporary)
        rows.to_parquet(exchanged / "rows.parquet")
        _run(registry, uri, exchanged, copy)
        scores = pd.read_parquet(exchanged / "scores.parquet")
    for horizon, values in bundle.predict_horizons(rows).items():
        found = scores[f"p_convert_{horizon}"].to_numpy()
        if len(found) != len(values) or not (found == values).all():
            raise RegistryError(
                f"version {version} of {registry.where} scores otherwise when it is loaded back (p_convert_{horizon} "
                f"of {len(values)} rows): it stays unverified, and nothing uses it. The libraries here may differ from "
                "the stated requirements; train again in the locked environment"
            )


@contextmanager
def _place_for(folder: Path) -> Iterator[Path]:
    """An empty folder whose path stands for the code of a model directory, for one process at a time.

    Numba finds the kernels that it has compiled again by the path of their code: a new path for every version would
    cost ten seconds each time.
    """
    listed: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))["files"]
    code = sorted((name, sha) for name, sha in listed.items() if name.endswith(".py"))
    digest = hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convpredict" / "load_back"
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(cache / f"{digest}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="convpredict-") as temporary:
            yield Path(temporary)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        place = cache / digest
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        yield place
        shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(descriptor)


def _run(registry: Registry, uri: str, exchanged: Path, copy: Path) -> None:
    script = Path(__file__).with_name("load_back_script.py")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_REGISTRY_URI": registry.uri}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(script), uri, str(exchanged), str(copy)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RegistryError(
            f"{uri} was not loaded back within {_PATIENCE_SECONDS} s; it stays unverified, and nothing uses it"
        ) from None
    if done.returncode:
        raise RegistryError(
            f"{uri} could not be loaded back and scored with ({_told_safely(done.stderr)}): it stays unverified, and "
            "nothing uses it"
        )


def _told_safely(stderr: str) -> str:
    """The last error of a process: its kind, and its message where that cannot hold rows of leads.

    >>> _told_safely("Traceback\\nmlflow.exceptions.MlflowException: row 1 holds ...")
    'mlflow.exceptions.MlflowException'
    """
    last = (stderr.strip().splitlines() or ["no message"])[-1]
    kind = last.partition(":")[0]
    safe = kind.endswith(("BundleError", "AlteredError", "ImportError", "ModuleNotFoundError"))
    safe = safe or "Failed to run user code" in last
    return last[:500] if safe else kind[:100]
