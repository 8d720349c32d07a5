"""The notebook for TPU, executed from the top on the tiny model: words, GRPO in two sessions, inference, a vote."""

import json

import pytest

from tests.engines.conftest import needs_tunix

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
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"TUNIX_{name}", value)
    return tmp_path


@needs_tunix
@pytest.mark.filterwarnings("ignore")  # the kernel's own libraries
def test_two_sessions_inference_and_a_vote(folder, execute):
    notebook, printed = execute("tunix.ipynb", timeout=600)
    sessions = [text for cell, text in zip(notebook.cells, printed, strict=True) if "{REWARDS}" in cell.source]
    assert "stopped at step 1;" in sessions[0]
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
