"""Notebooks executed from the top, in a folder of their own."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """execute(name, timeout): the notebook behind its last cell, and what each cell printed."""
    # a notebook calls the command line of the environment the tests run in
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def run(name, timeout=300):
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(tmp_path)}}).execute()
        printed = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in notebook.cells]
        return notebook, printed

    return run
