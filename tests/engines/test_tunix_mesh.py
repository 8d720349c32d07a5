"""However eight devices are laid out, the losses are the same; they are simulated in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import needs_tunix

pytestmark = needs_tunix

SCRIPT = """
import json, sys, itertools, warnings
warnings.simplefilter("ignore")
from dataclasses import replace
from pathlib import Path
import jax
from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.engines.tunix import grpo, mesh, sft
from latent_gemma.errors import ConfigError
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.training.curriculum import WrittenCurriculum
from latent_gemma.training.settings import GrpoSettings, LoraSettings, TrainSettings

def longer(question, completion, accepted):
    return float(len(completion))

examples = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 24))
found = {"refused": []}
for text in ("1,1", "8,1", "2,4"):
    latent = LatentConfig(num_thoughts=0, words_format="tags")
    # heads, hidden units and entries of the vocabulary that eight and four divide
    model = build_tiny(latent=latent, hidden_size=64, num_layers=2, num_heads=8, intermediate_size=64, vocab_size=272)
    run = Path(sys.argv[1]) / text
    run.mkdir()
    settings = TrainSettings(steps=3, batch_size=8, lr=3e-3, log_every=1, mesh=text)
    if text == "1,1":
        try:
            mesh.device_mesh(text, 8)
        except ConfigError as error:
            found["refused"].append(str(error))
        every = jax.devices
        jax.devices = lambda *args: every(*args)[:1]
    result = sft.fit(model, build_tokenizer(), examples, WrittenCurriculum(), settings, run, "t",
                     lora=LoraSettings(rank=4))
    improved = grpo.fit_grpo(result.model, build_tokenizer(), examples, [longer], "words", settings,
                             GrpoSettings(num_generations=4, max_new_tokens=6, iterations=2), run, LoraSettings(rank=4))
    if text == "1,1":
        jax.devices = every
    found[text] = [entry["loss"] for entry in result.metrics if "loss" in entry]
    found["grpo " + text] = [[entry[name] for name in ("loss", "kl", "grad_norm")]
                             for entry in improved.metrics if "loss" in entry]
for text, size in (("2,2", 8), ("3,3", 9), ("8,1", 4)):
    try:
        mesh.device_mesh(text, size)
    except ConfigError as error:
        found["refused"].append(str(error))
model = build_tiny(num_heads=4)
try:
    sft.fit(model, build_tokenizer(), examples, WrittenCurriculum(), replace(settings, mesh="1,8"), run, "t")
except ConfigError as error:
    found["refused"].append(str(error))
found["default"] = mesh.device_mesh(None, 4).devices.shape
print(json.dumps(found))
"""


def test_all_meshes_give_the_same_losses(tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, env=environment, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["1,1"]) == 3
    assert found["8,1"] == pytest.approx(found["1,1"], abs=1e-5)
    assert found["2,4"] == pytest.approx(found["1,1"], abs=1e-5)
    for shape in ("8,1", "2,4"):
        np.testing.assert_allclose(found[f"grpo {shape}"], found["grpo 1,1"], atol=1e-5)
    assert len(found["grpo 1,1"]) == 3
    # the second step moved the weights
    assert found["grpo 1,1"][-1][1] > 1e-6
    assert found["default"] == [4, 2]
    for said, expected in zip(
        found["refused"],
        ["1,1 leaves devices idle", "2,2 leaves devices idle", "3,3 needs more", "--batch-size 4", "does not divide"],
        strict=True,
    ):
        assert expected in said
