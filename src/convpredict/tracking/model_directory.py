"""A complete MLflow model directory: the bundle, the code that scores with it, and a checksum of every file.

Written by ``mlflow.pyfunc.save_model`` as "models from code", so it holds no pickle. The same bundle, code and
library versions give the same bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convpredict.errors import BundleError
from convpredict.files import replacing_folder
from convpredict.models.bundle import Bundle, write_bundle
from convpredict.models.bundle_files import canonical_json

from .checksums import CHECKSUMS, AlteredError, check_files, write_checksums
from .package_files import copy_package, modules_needed, requirements

BUNDLE_FOLDER = Path("artifacts") / "bundle"
CROSS_LEAD_FILE = Path("artifacts") / "cross_lead.json"
SCRIPT = "pyfunc_script.py"
ENTRIES = ("convpredict.tracking.pyfunc_model", "convpredict.engines.kernel_cache")
"""What the script imports."""
_CREATED = "1970-01-01 00:00:00"


def write_model_directory(
    folder: Path,
    bundle: Bundle,
    *,
    input_example: Any = None,
    cross_lead: Mapping[str, Any] | None = None,
) -> None:
    """Write a model directory whole or not at all; one that is there is replaced.

    ``input_example`` is what the model accepts (a frame of features or of raw leads); without it, an invented lead,
    whose cutoff is the instant of ``cross_lead``.
    ``cross_lead`` is the snapshot of rates and loads across leads as of the end of the training data
    (:func:`~convpredict.features.cross_lead.snapshot_cross_lead`); without one, leads can be scored from raw
    history only where the features need none, or where the process that scores is given another.
    Nothing in it tells the time that it was written: MLmodel has a fixed date and an id that follows from the files.

    Raises BundleError where the folder holds something else.
    """
    if folder.exists() and not (
        folder.is_dir() and ((folder / CHECKSUMS).is_file() or not any(folder.iterdir()))
    ):
        raise BundleError(
            f"'{folder}' holds something else than a model directory, which would be lost if it were replaced; "
            "name a new folder"
        )
    from .pyfunc_schema import example_of

    with replacing_folder(folder) as partial:
        example = input_example
        if example is None:
            example = (
                example_of(bundle) if cross_lead is None else example_of(bundle, str(cross_lead["as_of"]))
            )
        _save(partial, bundle, example)
        write_bundle(partial / BUNDLE_FOLDER, bundle)
        if cross_lead is not None:
            text = canonical_json(cross_lead, what="the snapshot of rates and loads")
            (partial / CROSS_LEAD_FILE).write_bytes(text.encode())
        shutil.copyfile(Path(__file__).with_name("checksums.py"), partial / "checksums.py")
        _finish_mlmodel(partial, bundle, with_cross_lead=cross_lead is not None)
        write_checksums(partial)


def verify_model_directory(folder: Path) -> Path:
    """Check every byte of a model directory and return the folder of its bundle; no code of it is run.

    Raises BundleError with the name of the first file that was altered, is missing or extra, or is a link. MLflow's
    own ``registered_model_meta`` may be there. Whoever can write the files can write ``checksums.json`` as well:
    compare :func:`directory_digest` with a record kept elsewhere to know that they are those once written.
    """
    if not folder.is_dir():
        raise BundleError(f"there is no model directory '{folder}'; name the folder that training wrote")
    try:
        check_files(folder)
    except AlteredError as error:
        raise BundleError(
            f"the model directory is not as it was written: {error}; nothing of it was used. Copy it anew from where "
            "it was registered, or train again"
        ) from None
    bundle = folder / BUNDLE_FOLDER
    if not bundle.is_dir():
        raise BundleError(f"the model directory '{folder}' has no {BUNDLE_FOLDER.as_posix()}; train again")
    return bundle


def directory_digest(folder: Path) -> str:
    """SHA-256 of ``checksums.json``: equal digests mean model directories with the same bytes."""
    try:
        return hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"'{folder / CHECKSUMS}' cannot be read ({error.strerror}); name the folder of a model directory"
        ) from None


def _save(folder: Path, bundle: Bundle, input_example: Any) -> None:
    """What MLflow writes: MLmodel, environments, input example, the script and the code of this package."""
    from .mlflow_pyfunc import quiet, save_model
    from .pyfunc_schema import signature_of

    modules, libraries = modules_needed(*ENTRIES)
    with tempfile.TemporaryDirectory(prefix="convpredict-") as temporary, quiet():
        copy_package(modules, Path(temporary))
        save_model(
            path=str(folder),
            python_model=str(Path(__file__).with_name(SCRIPT)),
            code_paths=[str(Path(temporary) / "convpredict")],
            pip_requirements=requirements(libraries),
            signature=signature_of(bundle),
            input_example=input_example,
        )
    for stray in (
        "uv.lock",
        "pyproject.toml",
        ".python-version",
    ):  # copied from wherever it runs, if there are any
        (folder / stray).unlink(missing_ok=True)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)


def _finish_mlmodel(folder: Path, bundle: Bundle, *, with_cross_lead: bool) -> None:
    """Name the artifacts in MLmodel by their places in the directory, and take out whatever differs between writes."""
    from .mlflow_pyfunc import Model

    path = folder / "MLmodel"
    model = Model.load(str(path))
    flavor = model.flavors["python_function"]
    flavor.pop("cloudpickle_version", None)
    flavor["model_code_path"] = SCRIPT
    artifacts = {"bundle": BUNDLE_FOLDER} | ({"cross_lead": CROSS_LEAD_FILE} if with_cross_lead else {})
    flavor["artifacts"] = {
        name: {"path": place.as_posix(), "uri": place.as_posix()} for name, place in artifacts.items()
    }
    path.unlink()
    write_checksums(folder)
    model.model_uuid = directory_digest(folder)[:32]
    model.utc_time_created = _CREATED
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != CHECKSUMS]
    model.model_size_bytes = sum(file.stat().st_size for file in files)
    model.metadata = {"convpredict_bundle": bundle.digest}
    (folder / CHECKSUMS).unlink()
    model.save(str(path))
