"""The layers of the design, held over the syntax tree: who imports whom, and who may import what is heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "convpredict"

LAYERS = (
    "errors",
    "files",
    "config",
    "history",
    "engines",
    "features",
    "training",
    "models",
    "evaluation",
    "decisions",
    "campaigns",
    "tracking",
    "scoring",
    "monitoring",
    "crm",
    "workflows",
    "cli",
)
"""In the order in which data flows: a layer imports only from itself and from layers before it."""

OWNERS = {
    "adbc_driver_postgresql": ("history", "scoring/publish"),
    "duckdb": ("history", "scoring/publish", "scoring/ledger", "scoring/forget"),
    "jinja2": ("evaluation/report", "monitoring"),
    "joblib": ("engines", "models"),
    "lightgbm": ("models",),
    "matplotlib": ("evaluation",),
    "mlflow": ("tracking",),
    "numba": ("history/simulator", "engines", "features", "models", "evaluation"),
    "optuna": ("models/tuning.py",),
    "polars": ("history",),
    "rich": ("cli", "history/summary.py", "evaluation/tables.py", "scoring/tables.py"),
    "shap": (),
    "sklearn": ("training", "models", "evaluation"),
    "typer": ("cli",),
    "yaml": ("config", "models/scorecard.py"),
}
"""Where each library may be imported: folders or files of the package."""

HEAVY = (
    "adbc_driver_postgresql",
    "duckdb",
    "joblib",
    "lightgbm",
    "matplotlib",
    "mlflow",
    "numba",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
)
"""What neither ``import convpredict`` nor ``convpredict --help`` may wait for."""


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a file below ``root``, the folder of the package."""
    parts = (root.name, *path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Every import of a module with its line: absolute or relative, at the top, in a function, or by name.

    ``from . import x`` and ``from package import x`` give ``package.x``, since x may be a module.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join((*start, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and (name := imported_by_name(node)) is not None:
            yield node.lineno, ".".join((*package, name.lstrip("."))) if name.startswith(".") else name


def imported_by_name(call: ast.Call) -> str | None:
    """The module that ``import_module("...")`` or ``__import__("...")`` names, if this is such a call."""
    if ast.unparse(call.func).split(".")[-1] not in {"__import__", "import_module"} or not call.args:
        return None
    name = call.args[0]
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def all_imports(root: Path) -> Iterator[tuple[Path, int, str]]:
    """Every import below ``root`` but those of its own ``__init__``, which only names what is public."""
    for path in sorted(root.rglob("*.py")):
        if path == root / "__init__.py":
            continue
        name = module_name(path, root)
        for line, imported in imports_of(path.read_text(), name, is_package=path.name == "__init__.py"):
            yield path, line, imported


def layer_violations(root: Path) -> list[str]:
    """Imports that go against the order of the layers, as ``file:line``, and modules that have no layer."""
    found = []
    for path in sorted(root.rglob("*.py")):
        layer = path.relative_to(root).parts[0].removesuffix(".py")
        if layer not in (*LAYERS, "__init__", "__main__"):
            found.append(f"{path.relative_to(root)} belongs to no layer")
    for path, line, imported in all_imports(root):
        parts = imported.split(".")
        if parts[0] != root.name:
            continue
        layer = path.relative_to(root).parts[0].removesuffix(".py")
        target = parts[1] if len(parts) > 1 else ""
        if target not in LAYERS:
            found.append(f"{path.relative_to(root)}:{line} imports {imported}: name the module it lives in")
        elif layer in LAYERS and LAYERS.index(target) > LAYERS.index(layer):
            found.append(f"{path.relative_to(root)}:{line} {layer} imports {target}, a later layer")
    return found


def owner_violations(root: Path) -> list[str]:
    """Imports of a library outside the files that own it."""
    found = []
    for path, line, imported in all_imports(root):
        library = imported.split(".")[0]
        place = path.relative_to(root).as_posix()
        owners = OWNERS.get(library)
        if owners is not None and not any(
            place == owner or place.startswith(f"{owner}/") for owner in owners
        ):
            found.append(
                f"{place}:{line} imports {library}, which belongs to {', '.join(owners) or 'nobody'}"
            )
    return found


def test_layers_import_only_earlier_layers() -> None:
    assert layer_violations(SOURCE) == []


def test_heavy_libraries_stay_with_their_owners() -> None:
    assert owner_violations(SOURCE) == []


def test_every_module_was_looked_at() -> None:
    imports = list(all_imports(SOURCE))
    assert len({path for path, _, _ in imports}) > 30
    assert any(imported.startswith("convpredict.history") for _, _, imported in imports)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("history/sources.py", "from convpredict.models import bundle"),
        ("history/sources.py", "from ..features.build import build_features"),
        ("history/sources.py", "from .. import scoring"),
        ("history/sources.py", "import convpredict.workflows as later"),
        ("history/deep/inside.py", "from ...training import labels"),
        ("history/__init__.py", "from ..features import build"),
        ("history/sources.py", "def load():\n    from convpredict import cli"),
        ("history/sources.py", "import importlib\nimportlib.import_module('convpredict.models.bundle')"),
        ("history/sources.py", "from convpredict import build_features"),
        ("history/sources.py", "if True:\n    from ..models.bundle import load_bundle"),
        ("errors.py", "from .config import base"),
        ("helpers.py", "x = 1"),
    ],
)
def test_a_planted_import_against_the_flow_is_found(tmp_path: Path, place: str, line: str) -> None:
    planted = tmp_path / "convpredict" / place
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(line + "\n")
    assert len(layer_violations(tmp_path / "convpredict")) == 1


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("features/build.py", "from convpredict.history.history import History"),
        ("features/build.py", "from ..engines import local"),
        ("features/kernels/counts.py", "from ..time_rule import is_visible"),
        ("features/__init__.py", "from .build import build_features"),
        ("cli.py", "def main():\n    from . import workflows"),
    ],
)
def test_an_import_with_the_flow_is_allowed(tmp_path: Path, place: str, line: str) -> None:
    planted = tmp_path / "convpredict" / place
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(line + "\n")
    assert layer_violations(tmp_path / "convpredict") == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("scoring/run.py", "import mlflow"),
        ("scoring/run.py", "def log():\n    from mlflow.tracking import MlflowClient"),
        ("features/build.py", "import lightgbm as lgb"),
        ("config/load.py", "from sklearn.base import BaseEstimator"),
        ("models/trees.py", "import shap"),
        ("evaluation/tables_and_more.py", "import rich"),
    ],
)
def test_a_planted_heavy_import_is_found(tmp_path: Path, place: str, line: str) -> None:
    planted = tmp_path / "convpredict" / place
    planted.parent.mkdir(parents=True)
    planted.write_text(line + "\n")
    assert len(owner_violations(tmp_path / "convpredict")) == 1


@pytest.mark.parametrize("statement", ["import convpredict", "from convpredict.cli import main\nmain()"])
def test_nothing_heavy_is_loaded_at_import_or_for_help(statement: str) -> None:
    script = "\n".join(
        (
            "import atexit, sys",
            "sys.argv = ['convpredict', '--help']",
            f"atexit.register(lambda: print('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules))))",
            statement,
        )
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1].split() == ["loaded:"]
    assert "main" not in statement or "Usage" in ran.stdout
