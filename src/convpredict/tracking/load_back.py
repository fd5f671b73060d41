"""Load a registered version in a process of its own, and compare its scores with those of the bundle in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convpredict.errors import RegistryError

from .model_directory import verify_model_directory
from .versions import Registry

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

_PATIENCE_SECONDS = 600
EXAMPLE_PARAMS = {"allow_later_rates": True}
"""The bits are compared, whatever snapshot the environment names; ``load_back_script`` has the same."""


def load_back(registry: Registry, version: str, folder: Path, rows: pd.DataFrame) -> None:
    """Score ``rows`` (a table of features) and the input example with a version, loaded from the registry.

    ``folder`` is the model directory that was registered. The code that scores is that of the version. Raises
    RegistryError if it fails, or if a probability differs in a single bit from what the bundle in memory gives.
    """
    import pandas as pd

    uri = f"models:/{registry.name}/{version}"
    with tempfile.TemporaryDirectory(prefix="convpredict-") as temporary:
        exchanged = Path(temporary)
        rows.to_parquet(exchanged / "rows.parquet")
        _run(registry, uri, exchanged)
        found = [pd.read_parquet(exchanged / name) for name in ("scores.parquet", "example.parquet")]
    for what, scores, expected in zip(("rows", "example"), found, _score_here(folder, rows), strict=True):
        check_same(f"version {version} of {registry.where}", what, scores, expected)


def check_same(version: str, what: str, scores: Any, expected: Mapping[str, Floats]) -> None:
    """Raise RegistryError unless the columns of ``scores`` hold what is expected, to the bit."""
    for name, values in expected.items():
        found = np.asarray(scores[name], np.float64)
        if not np.array_equal(found.view(np.int64), values.view(np.int64)):
            raise RegistryError(
                f"{version} scores otherwise when it is loaded back ({name} of {len(values)} {what}): it stays "
                "unverified, and nothing uses it. The libraries here may differ from the stated requirements; train "
                "again in the locked environment"
            )


def _score_here(folder: Path, rows: pd.DataFrame) -> tuple[Mapping[str, Floats], Mapping[str, Floats]]:
    """The probabilities that this process gives to the rows, by the bundle alone, and to the input example."""
    from convpredict.models.bundle import load_bundle

    from .mlflow_pyfunc import Model, PythonModelContext
    from .pyfunc_model import LeadModel

    bundle_folder = verify_model_directory(folder)
    bundle = load_bundle(bundle_folder)
    names = [f"p_convert_{horizon}" for horizon in bundle.horizons]
    model = LeadModel()
    of_mlflow: Any = PythonModelContext
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that this process has another version shows in the scores
        model.load_context(of_mlflow({"bundle": str(bundle_folder)}, {}))
    given: Any = Model.load(str(folder)).load_input_example(str(folder))
    example = model.predict(None, given, EXAMPLE_PARAMS)
    by_bundle = dict(zip(names, bundle.predict_horizons(rows).values(), strict=True))
    return by_bundle, {name: example[name].to_numpy() for name in names}


def _run(registry: Registry, uri: str, exchanged: Path) -> None:
    script = Path(__file__).with_name("load_back_script.py")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_REGISTRY_URI": registry.uri}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(script), uri, str(exchanged)],
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
