"""The notebook for TPU, executed from the top on the tiny model: words, GRPO in two sessions, inference, a vote."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.engines.conftest import needs_tunix

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tunix.ipynb"
SETTINGS = {
    "MODEL": "tiny",
    "DATA": "--data chains:length=1 --limit 32 --log-every 1",
    "ENGINE": "--engine tunix --mesh 1,1",
    "SFT": "--batch-size 8 --steps 3",
    "GRPO": "--batch-size 4 --num-generations 2 --max-new-tokens 8 --steps 3 --sample-every 1",
    "QUESTION": "1+2=",
    "SFT_HOURS": "1",
    "GRPO_HOURS": "0.000001,1",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # the notebook calls the command line of the environment the tests run in
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"TUNIX_{name}", value)
    return tmp_path


@needs_tunix
@pytest.mark.filterwarnings("ignore")  # the kernel's own libraries
def test_two_sessions_inference_and_a_vote(folder):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in notebook.cells]
    sessions = [text for cell, text in zip(notebook.cells, printed, strict=True) if "{REWARDS}" in cell.source]
    assert "stopped at step 1;" in sessions[0]
    assert "sft is finished" in sessions[1]
    assert "stopped" not in sessions[1]
    for stage, file in (("sft", "metrics.jsonl"), ("grpo", "metrics.jsonl"), ("grpo", "samples.jsonl")):
        lines = (folder / "tunix" / stage / file).read_text().splitlines()
        assert sorted({json.loads(line)["step"] for line in lines}) == [1, 2, 3]
    record = json.loads((folder / "tunix" / "grpo" / "run.json").read_text())
    assert (record["config"]["train"]["engine"], record["config"]["train"]["mesh"]) == ("tunix", "1,1")
    assert {"jax", "google-tunix"} <= record["versions"].keys()
    assert "JAX" in record["machine"]
    assert record["parent"] == "tunix/sft"
    assert "traces agree" in printed[-1] or "no trace has an answer" in printed[-1]


def test_the_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
