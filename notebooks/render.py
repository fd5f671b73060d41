"""Run the notebooks and write them with their outputs: ``python notebooks/render.py [NAME ...]``.

The sources are the percent-format ``.py`` files; the ``.ipynb`` beside each is written by this script only.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
_ADDRESS = re.compile(r"0x[0-9a-f]{8,}")


def execute(source: Path, folder: Path) -> Any:
    """The notebook of a percent-format file, run from top to bottom in ``folder``.

    Raises ``CellExecutionError`` at the first cell that fails.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import jupytext
        from nbclient import NotebookClient

        notebook = jupytext.read(source)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def clean(notebook: Any) -> Any:
    """Without what differs from run to run and tells nothing: times, cell ids, the temporary folder."""
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        cell["metadata"] = {}
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = _settle(output["text"])
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output["data"][kind] = _settle(content)
    return notebook


def _settle(text: str) -> str:
    folder = re.escape(tempfile.gettempdir())
    return _ADDRESS.sub("0x0", re.sub(rf"{folder}/tmp\w+", "/tmp/example", text))


def main(names: list[str]) -> None:
    """Render the named notebooks, or all."""
    import nbformat

    for source in SOURCES:
        if names and source.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            notebook = clean(execute(source, Path(folder)))
        nbformat.write(notebook, source.with_suffix(".ipynb"))
        print(source.with_suffix(".ipynb").name)


if __name__ == "__main__":
    main(sys.argv[1:])
