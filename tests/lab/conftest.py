"""Notebooks small enough to run in a test."""

import nbformat
import pytest


@pytest.fixture
def write_notebook():
    """A function that writes `<folder>/<name>.ipynb` with a parameters cell and further cells."""

    def write(folder, *cells, name="small", parameters="", tags=("parameters",)):
        folder.mkdir(parents=True, exist_ok=True)
        first = nbformat.v4.new_code_cell(parameters, metadata={"tags": list(tags)})
        rest = map(nbformat.v4.new_code_cell, cells)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Small"), first, *rest])
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.metadata["kernelspec"] = kernel
        nbformat.write(notebook, folder / f"{name}.ipynb")
        return folder / f"{name}.ipynb"

    return write
