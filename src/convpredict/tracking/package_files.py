"""Which files of this package a model directory needs: what its model class imports, and what that imports."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from convpredict.errors import BundleError

PACKAGE = Path(__file__).parents[1]
DISTRIBUTIONS = {
    "duckdb": "duckdb",
    "joblib": "joblib",
    "lightgbm": "lightgbm",
    "mlflow": "mlflow-skinny",
    "numba": "numba",
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "threadpoolctl": "threadpoolctl",
    "yaml": "pyyaml",
}
"""The distribution of every library that scoring may import."""


def modules_needed(*entries: str) -> tuple[list[str], list[str]]:
    """The modules of this package that importing some leads to, and the libraries from outside, both sorted.

    Imports for type checkers do not count, those inside functions do. The package's own ``__init__`` loads what
    it offers on first use, so it leads nowhere.
    """
    inside: set[str] = set()
    outside: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if top != PACKAGE.name:
            outside.add(top)
            continue
        path = _path_of(name)
        if name in inside or path is None:
            continue
        inside.add(name)
        waiting.append(name.rpartition(".")[0] or PACKAGE.name)
        if name != PACKAGE.name:
            waiting.extend(_imports(path, name))
    return sorted(inside), sorted(outside - set(sys.stdlib_module_names))


def copy_package(modules: list[str], folder: Path) -> None:
    """Copy modules of this package, and the files that lie beside them as data, below ``folder``."""
    for name in modules:
        source = _path_of(name)
        assert source is not None
        target = folder / source.relative_to(PACKAGE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        if source.name == "__init__.py" and name != PACKAGE.name:
            for data in source.parent.iterdir():
                if data.is_dir() and data.name != "__pycache__" and not any(data.rglob("*.py")):
                    shutil.copytree(data, target.parent / data.name, copy_function=shutil.copyfile)


def requirements(libraries: list[str]) -> list[str]:
    """The distributions of some libraries at the versions that are installed here, sorted.

    Raises BundleError for a library without a known distribution.
    """
    unknown = sorted(set(libraries) - set(DISTRIBUTIONS))
    if unknown:
        raise BundleError(
            f"scoring imports {', '.join(unknown)}, which no stated requirement brings, so the model would not "
            "load elsewhere; name its distribution in tracking/package_files.py"
        )
    return sorted({f"{DISTRIBUTIONS[name]}=={version(DISTRIBUTIONS[name])}" for name in libraries})


def _path_of(module: str) -> Path | None:
    place = PACKAGE.parent.joinpath(*module.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def _imports(path: Path, module: str) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if (
            isinstance(child, ast.If)
            and isinstance(child.test, ast.Name)
            and child.test.id == "TYPE_CHECKING"
        ):
            continue
        yield child
        yield from _walk(child)
