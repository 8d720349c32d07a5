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
    """Run scenarios, name -> (command line, strikes, seed); returns the folder."""
    told = {
        name: {"arguments": command, "strikes": strikes, "seed": seed}
        for name, (command, strikes, seed) in scenarios.items()
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
    for code, cause, _ in ends:
        assert code in ENDS[cause.split()[0]], (cause, log[-3000:])
    whole, cut = content(folder / name / "whole"), content(folder / name / "cut")
    assert whole.keys() == cut.keys()
    for file, value in whole.items():
        assert cut[file] == value, file
    assert any(file.endswith("random-0.safetensors") for file in whole)
    assert not list((folder / name / "cut").rglob("*.partial"))
    return ends


#: Exit status by cause. A run that trains ends cleanly at a signal; one that loads, measures or is done, at once.
ENDS = {"end": (0,), "SIGKILL": (-KILL,), "SIGINT": (0, 130), "SIGTERM": (0, -TERMINATE)}
#: recipe -> what strikes it, and the seed of when
SCENARIOS = {
    "coconut": ([(None, KILL)] * 10, 1),
    "anneal": ([("save", KILL), ("step", INTERRUPT)], 2),
    "codi": ([("step", KILL), ("save", TERMINATE)], 6),
    "sft": ([("step", TERMINATE)], 3),
    "grpo": ([("rollout", KILL), ("save", TERMINATE), ("step", KILL)], 4),
    "study": ([("evaluation", KILL), ("step", INTERRUPT), ("rollout", TERMINATE)], 5),
}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    return play(folder, {name: (arguments(folder, name), *scenario) for name, scenario in SCENARIOS.items()})


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_killed_run_ends_as_if_it_never_was(played, name):
    ends = check(played, name)
    assert len([cause for _, cause, _ in ends if cause != "end"]) == len(SCENARIOS[name][0]), ends


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_ten_kills_in_every_recipe(tmp_path, name, seed):
    strikes = [(None, number) for number in (KILL, KILL, INTERRUPT, KILL, TERMINATE) * 2]
    play(tmp_path, {name: (arguments(tmp_path, name), strikes, seed)})
    causes = Counter(cause for _, cause, _ in check(tmp_path, name) if cause != "end")
    assert sum(causes.values()) >= 8
