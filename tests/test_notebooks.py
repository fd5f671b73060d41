"""The notebooks run from top to bottom, and the rendered ones show what the sources say."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_runs(source: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import jupytext
        from nbclient import NotebookClient

        notebook = jupytext.read(source)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_rendered_notebook_has_the_same_cells(source: Path) -> None:
    import jupytext

    rendered = jupytext.read(source.with_suffix(".ipynb"))
    written = jupytext.read(source)
    assert [cell.source for cell in rendered.cells] == [cell.source for cell in written.cells]
    assert any(cell.get("outputs") for cell in rendered.cells)
