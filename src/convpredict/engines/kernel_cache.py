"""Where numba keeps compiled kernels while the package is imported from a model directory: never in that directory.

Left alone, numba would write beside the code, where every file that was not there is refused, or by the code's
path, so that each download of a model compiled everything again.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from numba.core import caching, config

_PACKAGE = Path(__file__).resolve().parents[1]
_folder: Path | None = None


def keep_kernels(key: str) -> None:
    """Keep this package's kernels in the user's cache, by ``key``, which stands for all code that they are made of.

    That is ``$NUMBA_CACHE_DIR``, else ``$XDG_CACHE_HOME/convpredict``, else ``~/.cache/convpredict``; a temporary
    folder where none can be written. Other libraries' kernels stay where they were. Call it before any kernel is
    imported.
    """
    global _folder
    _folder = _writable(key)
    settings: dict[str, Any] = vars(config)
    theirs = settings["CACHE_LOCATOR_CLASSES"] or ",".join(
        locator.__name__ for locator in caching.CacheImpl._locator_classes
    )
    settings["CACHE_LOCATOR_CLASSES"] = f"{__name__}.{PackageLocator.__name__},{theirs}"


class PackageLocator(caching._SourceFileBackedLocatorMixin, caching._CacheLocator):
    """Finds the cache of a kernel of this package by its module, whatever folder the package lies in."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        assert _folder is not None
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        self._cache_path = _folder.joinpath(*Path(py_file).resolve().relative_to(_PACKAGE).parts[:-1])

    def get_cache_path(self) -> str:
        """The folder that the kernel's files are in."""
        return str(self._cache_path)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """A locator for a kernel of this package; None for any other, which numba then asks its own about."""
        if _folder is None or _PACKAGE not in Path(py_file).resolve().parents:
            return None
        return super().from_function(py_func, py_file)  # type: ignore[no-untyped-call]


def _writable(key: str) -> Path:
    named = os.environ.get("NUMBA_CACHE_DIR")
    cache = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "convpredict" / key
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="convpredict-kernels-"))
