"""The notebook runs from top to bottom, and shows what is committed with it."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook" / "holdfast.ipynb"


def shown(cell: Any) -> list[str]:
    """The texts that a cell shows; of pictures, that they are there. What libraries log is left out."""
    texts: list[str] = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            texts += [output.text] if output.name == "stdout" and "ipywidgets" not in output.text else []
        else:
            data = sorted(output.data.items())
            texts += [kind if kind.startswith("image") else f"{kind}: {text}" for kind, text in data]
    return texts


@pytest.mark.filterwarnings("ignore")  # of the machinery of kernels
def test_example_the_notebook_runs_and_shows_what_is_committed() -> None:
    """Each cell, in a kernel of its own; the lots have a seed, so the figures are the same."""
    committed = nbformat.read(NOTEBOOK, as_version=4)
    again = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(again, timeout=120, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
    for before, after in zip(committed.cells, again.cells, strict=True):
        assert shown(after) == shown(before), before.source


def test_example_the_notebook_has_its_outputs() -> None:
    """A reader who does not run it sees a table and a picture."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    kinds = {text.split(":")[0] for cell in cells for text in shown(cell)}
    assert {"image/png", "text/html"} <= kinds
