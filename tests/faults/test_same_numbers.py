"""Same seed, same numbers: nothing that ran before in a process shows in a run."""

import random

import numpy as np
import pytest
import torch

from latent_gemma.cli import main
from tests.faults.recipes import RECIPES, arguments, content


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "study"])
def test_two_runs_of_a_recipe_are_the_same(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    command = [*arguments(tmp_path, name), "--steps", "3", "--log-every", "1"]
    for chance in (1, 2):
        random.seed(chance)
        np.random.seed(chance)
        torch.manual_seed(chance)
        assert main([*command, "--out", f"run-{chance}"]) == 0
    first, second = (content(tmp_path / f"run-{chance}") for chance in (1, 2))
    assert first.keys() == second.keys()
    for file, value in first.items():
        assert second[file] == value, file
    assert any("loss" in entry for entry in first["metrics.jsonl"])
