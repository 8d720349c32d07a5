"""A run that is killed goes on and ends as one that never was: every number, every bit, every file."""

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import save_tiny

KILL, INTERRUPT, TERMINATE = int(signal.SIGKILL), int(signal.SIGINT), int(signal.SIGTERM)
COMMON = [
    "--data", "chains:length=2", "--batch-size", "4", "--log-every", "5", "--save-every", "2", "--resume", "auto",
]  # fmt: skip
GROUPS = ["--num-generations", "4", "--max-new-tokens", "5", "--sample-every", "3", "--steps", "8", "--limit", "6"]
#: Each crosses an epoch, and what its curriculum changes in a run.
RECIPES = {
    # two stages, at each of which the optimiser's moments are dropped
    "coconut": ["coconut", "--max-latent-stage", "2", "--uniform-prob", "0.3", "--steps", "12", "--limit", "20"],
    # K grows, p follows the loss gate, and the weights that act on thoughts are new
    "anneal": [
        "anneal", "--p-shape", "gated", "--gate-loss", "100", "--grow-until", "0.5", "--trains", "thoughts",
        "--adapter", "lora", "--bridge", "mlp", "--accumulate", "2", "--steps", "8", "--limit", "20",
    ],
    # dropout draws random numbers in every step
    "sft": ["sft", "--format", "tags", "--rank", "2", "--dropout", "0.3", "--steps", "8", "--limit", "20"],
    # one batch of rollouts serves two steps
    "grpo": ["grpo", "--mode", "words", "--format", "tags", "--iterations", "2", *GROUPS],
    "grpo-latent": ["grpo", "--mode", "latent", "--rank", "2", *GROUPS],
    # several runs, each measured
    "study": ["grpo", "--mode", "words", "--beta", "0,0.1", "--eval-items", "4", *GROUPS, "--steps", "3"],
}  # fmt: skip
#: What a clock says.
TIMES = {"seconds", "step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second", "time"}


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def content(run):
    """The files of a run: what is JSON without times, what is tensors bit for bit."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        # the manifest holds the hash of files that hold times; a report says how long it took
        if path.is_dir() or path.name in ("manifest.json", ".lock") or path.suffix in (".png", ".html", ".md"):
            continue
        if path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.suffix == ".jsonl":
            found[name] = [without_times(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        if path.name == "run.json":
            found[name] = {key: found[name][key] for key in ("recipe", "steps", "seed", "metrics", "parent_sha256")}
        if path.name == "report.json":
            found[name] = [{k: v for k, v in row.items() if k != "seconds_per_answer"} for row in found[name]["rows"]]
    return found


def play(folder, scenarios):
    """Run scenarios; returns the folder."""
    model = save_tiny(
        folder / "tiny", latent=LatentConfig(num_thoughts=2), hidden_size=32, num_layers=2, num_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    told = {
        name: {
            "arguments": ["train", RECIPES[name][0], "--model", str(model), *COMMON, *RECIPES[name][1:]],
            "kills": kills, "signals": signals, "seed": seed,
        }
        for name, (kills, signals, seed) in scenarios.items()
    }  # fmt: skip
    file = folder / "scenarios.json"
    file.write_text(json.dumps(told))
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killing.py"), file], capture_output=True, text=True, check=False
    )
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
