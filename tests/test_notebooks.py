"""The notebooks run from top to bottom, and the rendered ones show what the sources say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = (
    "01_from_csv_to_training_set",
    "02_training_and_reading_a_model",
    "03_values",
    "04_your_own_features",
)


def renderer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", FOLDER / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def shown(notebook: Any) -> str:
    """All text that the outputs show."""
    return "\n".join(
        output.get("text", "") + "".join(str(content) for content in output.get("data", {}).values())
        for output in outputs(notebook)
    )


def test_every_notebook_is_tested() -> None:
    assert tuple(path.stem for path in renderer().SOURCES) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_runs_without_errors_and_warnings(name: str, tmp_path: Path) -> None:
    notebook = renderer().execute(FOLDER / f"{name}.py", tmp_path)
    assert not [output for output in outputs(notebook) if output["output_type"] == "error"]
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert not list(tmp_path.iterdir()), "a notebook writes into its own temporary folder only"


@pytest.mark.parametrize("name", NAMES)
def test_the_rendered_notebook_has_the_same_cells(name: str) -> None:
    import jupytext

    rendered = jupytext.read(FOLDER / f"{name}.ipynb")
    written = jupytext.read(FOLDER / f"{name}.py")
    assert [cell.source for cell in rendered.cells] == [cell.source for cell in written.cells]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "01_from_csv_to_training_set",
            ("its lead is in quarantine", "outcome_value:status", "no findings of hindsight"),
        ),
        ("02_training_and_reading_a_model", ("image/png", "Captured in top 5 %", "calls a week", "  + ")),
        ("03_values", ("Normalised Gini", "coverage", "purchase within 30d")),
        ("04_your_own_features", ("kind_buying_page", "by hand:", "a duration needs a unit")),
    ],
)
def test_the_rendered_notebook_shows_results(name: str, expected: tuple[str, ...]) -> None:
    import jupytext

    rendered = jupytext.read(FOLDER / f"{name}.ipynb")
    kinds = {kind for output in outputs(rendered) for kind in output.get("data", {})}
    text = shown(rendered)
    assert all(part in text or part in kinds for part in expected)
    assert "/tmp/tmp" not in text


def test_cleaning_takes_out_what_differs_from_run_to_run(tmp_path: Path) -> None:
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    text = f"<object at 0x7f24f384bc90> in {tmp_path.parent / 'tmpab_12'}"
    cell = new_code_cell("x", outputs=[new_output("stream", text=text)], metadata={"execution": {"a": "b"}})
    module = renderer()
    module.tempfile.tempdir, before = str(tmp_path.parent), module.tempfile.tempdir
    try:
        cleaned = module.clean(new_notebook(cells=[cell])).cells[0]
    finally:
        module.tempfile.tempdir = before
    assert cleaned["outputs"][0]["text"] == "<object at 0x0> in /tmp/example"
    assert (cleaned["id"], cleaned["metadata"]) == ("cell-00", {})
