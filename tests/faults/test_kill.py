"""A run that is killed goes on and ends as one that never was: every number, every bit, every file."""

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.recipes import RECIPES, arguments, content

KILL, INTERRUPT, TERMINATE = int(signal.SIGKILL), int(signal.SIGINT), int(signal.SIGTERM)


def play(folder, scenarios):
    """Run scenarios; returns the folder."""
    told = {
        name: {"arguments": arguments(folder, name), "kills": kills, "signals": signals, "seed": seed}
        for name, (kills, signals, seed) in scenarios.items()
    }
    file = folder / "scenarios.json"
    file.write_text(json.dumps(told))
    command = [sys.executable, Path(__file__).with_name("killing.py"), file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def check(folder, name):
    """A scenario ended well: all its processes as they should, the two runs alike, and nothing left behind."""
    ends = json.loads((folder / name / "ends.json").read_text())
    log = (folder / name / "cut.log").read_text()
    for code, cause in ends:
        assert code == (-KILL if cause.startswith("SIGKILL") else 0), (cause, log[-3000:])
    whole, cut = content(folder / name / "whole"), content(folder / name / "cut")
    assert whole.keys() == cut.keys()
    for file, value in whole.items():
        assert cut[file] == value, file
    assert any(file.endswith("random-0.safetensors") for file in whole)
    assert not list((folder / name / "cut").rglob("*.partial"))
    return ends


SCENARIOS = {"coconut": (10, [KILL], 1), "anneal": (2, [KILL, INTERRUPT], 2), "sft": (1, [TERMINATE], 3),
             "grpo": (3, [KILL, TERMINATE], 4), "study": (1, [KILL], 5)}  # fmt: skip


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    return play(tmp_path_factory.mktemp("played"), SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_killed_run_ends_as_if_it_never_was(played, name):
    ends = check(played, name)
    struck = [cause for _, cause in ends if cause != "end"]
    assert len(struck) == SCENARIOS[name][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_ten_kills_in_every_recipe(tmp_path, name, seed):
    play(tmp_path, {name: (10, [KILL, KILL, INTERRUPT, TERMINATE], seed)})
    causes = Counter(cause for _, cause in check(tmp_path, name) if cause != "end")
    assert sum(causes.values()) >= 8
