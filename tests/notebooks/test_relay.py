"""The relay notebook, executed from the top on the tiny model."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "relay.ipynb"


@pytest.fixture
def environment(tmp_path, monkeypatch):
    # the notebook calls the command line of the environment the tests run in
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RELAY_MODEL", "tiny")
    monkeypatch.setenv("RELAY_RUN", str(tmp_path / "relay"))
    monkeypatch.setenv("RELAY_TRAINING", "--data chains:length=2 --limit 64 --batch-size 8 --steps 12")
    monkeypatch.setenv("RELAY_QUESTION", "1+2+3=")
    monkeypatch.setenv("RELAY_HOURS", "0.000001,1")
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # the kernel's own libraries
def test_two_sessions_and_inference(environment):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(environment)}}).execute()
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in notebook.cells]
    sessions = [text for cell, text in zip(notebook.cells, printed, strict=True) if "{SESSION}" in cell.source]
    assert "stopped at step 1;" in sessions[0]
    assert "stopped" not in sessions[1]
    steps = [json.loads(line)["step"] for line in (environment / "relay" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 13))
    assert (environment / "relay" / "model" / "model.safetensors").is_file()
    assert "traces agree" in printed[-1] or "no trace has an answer" in printed[-1]
