"""The relay notebook, executed from the top on the tiny model."""

import json

import pytest


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAY_MODEL", "tiny")
    monkeypatch.setenv("RELAY_RUN", str(tmp_path / "relay"))
    monkeypatch.setenv("RELAY_TRAINING", "--data chains:length=2 --limit 64 --batch-size 8 --steps 12")
    monkeypatch.setenv("RELAY_QUESTION", "1+2+3=")
    monkeypatch.setenv("RELAY_HOURS", "0.000001,1")
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # the kernel's own libraries
def test_two_sessions_and_inference(environment, execute):
    notebook, printed = execute("relay.ipynb")
    sessions = [text for cell, text in zip(notebook.cells, printed, strict=True) if "{SESSION}" in cell.source]
    assert "stopped at step 1;" in sessions[0]
    assert "stopped" not in sessions[1]
    steps = [json.loads(line)["step"] for line in (environment / "relay" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 13))
    assert (environment / "relay" / "model" / "model.safetensors").is_file()
    assert "traces agree" in printed[-1] or "no trace has an answer" in printed[-1]
