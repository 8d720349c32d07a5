"""Weights sharded over processes (FSDP2) give the gradients of one process, also where batches think unequally long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latent_gemma.training.losses import latent_loss
from tests.model.sharded import RECURRENCES, STEPS, batch_of, build


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """The folder of gradients that two processes wrote."""
    out = tmp_path_factory.mktemp("sharded")
    driver = str(Path(__file__).with_name("sharded.py"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", driver, str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(launch, env=environment, check=True, timeout=120)
    return out


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_sharded_gradients_are_those_of_one_process(sharded, recurrence):
    model = build(recurrence)
    steps = tuple(step for rows in STEPS for step in rows)
    latent_loss(model, batch_of(steps, model.config.latent), 0.0).total.backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = load_file(sharded / f"{recurrence}.safetensors")
    assert expected.keys() <= found.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-6), name
    assert any("bridge" in name and grad.abs().max() > 0 for name, grad in expected.items())


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("steps", [(2, 1), (0, 0)])
def test_further_passes_change_nothing(recurrence, steps):
    model = build(recurrence)
    batch = batch_of(steps, model.config.latent)
    calls, layer = [], model.model.layers[0]
    layer.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        alone = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        own = len(calls)
        with model.thinking(passes=4):
            more = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.allclose(more, alone, atol=1e-6)
    assert len(calls) - own == {"append": 5, "sequence": 6, "parallel": 5}[recurrence] > own
