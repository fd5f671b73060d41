"""What is public: listed once, documented, and loaded on first use."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import convpredict

SOURCE = Path(convpredict.__file__)


def imported_for_type_checkers() -> dict[str, str]:
    """Names under ``if TYPE_CHECKING`` and the module that each comes from."""
    blocks = [
        node
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.name: str(node.module)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_what_is_listed_is_what_is_exposed() -> None:
    assert sorted(set(convpredict.__all__)) == sorted(convpredict.__all__)
    assert set(convpredict._HOME) == set(convpredict.__all__)
    assert set(dir(convpredict)) == {*convpredict.__all__, "__version__"}


def test_type_checkers_see_what_is_exposed() -> None:
    assert imported_for_type_checkers() == convpredict._HOME


@pytest.mark.parametrize("name", convpredict.__all__)
def test_everything_public_is_documented_and_at_home_where_it_says(name: str) -> None:
    thing = getattr(convpredict, name)
    assert thing.__name__ == name
    assert thing.__module__ == f"convpredict.{convpredict._HOME[name]}"
    assert len(inspect.getdoc(thing) or "") > 20
    assert "dataclass" not in (thing.__doc__ or "")


def test_public_methods_are_documented() -> None:
    things = {name: getattr(convpredict, name) for name in convpredict.__all__}
    methods = {
        f"{name}.{key}": value
        for name, thing in things.items()
        if inspect.isclass(thing)
        for key, value in vars(thing).items()
        if not key.startswith("_") and (callable(value) or isinstance(value, property | classmethod))
    }
    assert len(methods) > 20
    assert [name for name, value in methods.items() if not inspect.getdoc(value)] == []


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'load_projekt'; it has: .*ConfigError"):
        convpredict.load_projekt  # noqa: B018


def test_a_star_import_gives_what_is_listed() -> None:
    script = (
        "before = set(dir()); from convpredict import *; print(*sorted(set(dir()) - before - {'before'}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == sorted(convpredict.__all__)
