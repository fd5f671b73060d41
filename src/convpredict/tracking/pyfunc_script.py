"""The script of a model directory ("models from code"): MLflow runs it to get the model.

It checks every file of the directory with the standard library alone, and only then imports the code that lies
in it. Run from the package, where nothing was written yet, it checks nothing.
"""

import contextlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
IN_MODEL_DIRECTORY = (HERE / "MLmodel").is_file()


def check_directory() -> None:
    """Compare every file of the directory with its checksum, and forget the bytecode that Python made of this one."""
    spec = importlib.util.spec_from_file_location("convpredict_checksums", HERE / "checksums.py")
    assert spec is not None
    assert spec.loader is not None
    checksums = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checksums)
    checksums.check_files(HERE, besides="__pycache__/")
    for cached in HERE.glob("__pycache__/*"):
        with contextlib.suppress(OSError):
            cached.unlink()
    with contextlib.suppress(OSError):
        (HERE / "__pycache__").rmdir()


def keep_compiled_kernels_outside() -> None:
    """Let numba keep what it compiles in the user's cache: in the directory, it would be files that are extra."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convpredict" / "numba"
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        writable = os.access(cache, os.W_OK)
    except OSError:
        writable = False
    os.environ["NUMBA_CACHE_DIR"] = str(cache) if writable else tempfile.mkdtemp(prefix="convpredict-numba-")
    if "numba" in sys.modules:  # imported before, it has read the variable already
        vars(sys.modules["numba"].config)["CACHE_DIR"] = os.environ["NUMBA_CACHE_DIR"]


written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
try:
    if IN_MODEL_DIRECTORY:
        check_directory()
        keep_compiled_kernels_outside()
    from convpredict.tracking.pyfunc_model import LeadModel, set_model
finally:
    sys.dont_write_bytecode = written

set_model(LeadModel())
