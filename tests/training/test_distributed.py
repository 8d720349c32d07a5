"""Two processes with half the batch each train the model that one process trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latent_gemma.training.run_log import read_metrics

DRIVER = Path(__file__).with_name("distributed.py")
CASES = ("coconut", "anneal", "codi", "grouped", "sequence")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of the cases, trained by one process and by two."""
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, str(DRIVER), str(alone), "4", *CASES]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command in (run, [*launch, str(DRIVER), str(together), "2", *CASES]):
        subprocess.run(command, env=environment, check=True, timeout=300)
    return alone, together


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_trains(trained, case):
    expected, found = (load_file(folder / f"{case}.safetensors") for folder in trained)
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, atol=1e-5), name
    parts = ("teacher_loss", "distill_loss") if case == "codi" else ("anchor_loss",)
    columns = ("loss", "answer_loss", *parts, "grad_norm", "p", "K", "stage", "tokens")
    steps = [
        [entry for entry in read_metrics(folder / case / "metrics.jsonl") if "loss" in entry] for folder in trained
    ]
    rows = [[[entry[column] for column in columns] for entry in entries] for entries in steps]
    assert len(rows[0]) == 6
    assert rows[1] == [pytest.approx(row, abs=1e-4) for row in rows[0]]
    assert (len({row[columns.index("K")] for row in rows[0]}) > 1) == (case != "codi")
