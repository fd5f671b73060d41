"""The script of a model directory ("models from code"): MLflow runs it to get the model.

It checks every file of the directory with the standard library alone, and only then imports the code that lies
in it. Run from the package, where nothing was written yet, it checks nothing.
"""

import contextlib
import hashlib
import importlib.util
import json
import sys
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
    checksums.check_files(HERE, besides="__pycache__")
    for cached in HERE.glob("__pycache__/*"):
        with contextlib.suppress(OSError):
            cached.unlink()
    with contextlib.suppress(OSError):
        (HERE / "__pycache__").rmdir()


def code_digest() -> str:
    """Stands for the code in the directory, by its checksums."""
    files = json.loads((HERE / "checksums.json").read_text(encoding="utf-8"))["files"]
    code = sorted(entry for entry in files.items() if entry[0].startswith("code/"))
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:32]


written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
try:
    if IN_MODEL_DIRECTORY:
        check_directory()
        from convpredict.engines.kernel_cache import keep_kernels

        keep_kernels(code_digest())
    from convpredict.tracking.pyfunc_model import LeadModel, set_model
finally:
    sys.dont_write_bytecode = written

set_model(LeadModel())
