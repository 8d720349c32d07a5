"""What is gone on with is what was begun: another setting, model or data set is refused, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latent_gemma.cli import main
from latent_gemma.model import LatentConfig
from latent_gemma.training.run_log import read_metrics
from tests.saving import save_tiny

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
RUN = ["--model", "base", "--data", "a.jsonl", "--steps", "6", "--batch-size", "4", "--lr", "1e-3", "--log-every", "2"]
GROUPS = ["--mode", "words", "--format", "tags", "--num-generations", "4", "--max-new-tokens", "3"]
#: Option -> another value, and what is said of it: the option, what it was and what it is.
COMMON = {
    "--lr": ("1e-5", "--lr (0.001 there, 1e-05 here)"),
    "--batch-size": ("8", "--batch-size (4 there, 8 here)"),
    "--accumulate": ("2", "--accumulate (1 there, 2 here)"),
    "--seed": ("5", "--seed (0 there, 5 here)"),
    "--steps": ("7", "--steps (6 there, 7 here)"),
    "--weight-decay": ("0.5", "--weight-decay (0.01 there, 0.5 here)"),
    "--precision": ("bfloat16", "--precision (float32 there, bfloat16 here)"),
    "--model": ("other", "--model (base there, other here)"),
    "--data": ("b.jsonl", "--data (a.jsonl there, b.jsonl here)"),
    "--holdout": ("3", "--holdout (0 there, 3 here)"),
}
RECIPES = {
    "sft": {
        "--rank": ("2", "--rank (0 there, 2 here)"),
        "--reasoning": ("none", "--reasoning (words there, none here)"),
        "--format": ("tags", "--format (markers there, tags here)"),
        "--step-separator": (";", "--step-separator"),
    },
    "coconut": {
        "--uniform-prob": ("0.5", "--uniform-prob (0.0 there, 0.5 here)"),
        "--c-thought": ("2", "--c-thought (1 there, 2 here)"),
    },
    "anneal": {"--p-shape": ("cosine", "--p-shape (linear there, cosine here)")},
    "grpo": {
        "--beta": ("0.1", "--beta (0.04 there, 0.1 here)"),
        "--temperature": ("0.5", "--temperature (1.0 there, 0.5 here)"),
        "--format-score": ("3", "--format-score (2.0 there, 3.0 here)"),
    },
}
FREE = ["--max-hours", "9", "--save-every", "1", "--log-every", "1", "--checkpointing"]


def run(*args):
    return main([str(arg) for arg in args])


def changed(command, option, value):
    """A command with another value of an option."""
    if option in command:
        place = command.index(option) + 1
        return [*command[:place], value, *command[place + 1 :]]
    return [*command, option, value]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "other")):
        save_tiny(tmp_path / name, latent=LatentConfig(num_thoughts=2), seed=seed, **SIZES)
    rows = [{"question": f"{i}+{i}=", "steps": [f"{2 * i}"], "answer": str(2 * i)} for i in range(24)]
    for name, kept in (("a", rows), ("b", rows[::-1])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return tmp_path


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_another_setting_is_refused_and_the_corrected_command_goes_on(recipe, here, capsys):
    command = ["train", recipe, *RUN, *(GROUPS if recipe == "grpo" else []), "--out", "run"]
    assert run(*command, "--max-hours", "1e-9") == 0
    assert "stopped at step 1" in capsys.readouterr().out
    before = content(here / "run")
    for option, (value, said) in (COMMON | RECIPES[recipe]).items():
        for resume in ("auto", "yes"):
            assert run(*changed(command, option, value), "--resume", resume) == 2, option
            error = capsys.readouterr().err.splitlines()[-1]
            assert f"run is a run with another {said}" in error
            assert "give another --out, or the options it was started with" in error
    others = [other for other in ("sft", "coconut") if other != recipe]
    assert run("train", others[0], *RUN, "--out", "run", "--resume", "auto") == 2
    assert f"another recipe ({recipe} there, {others[0]} here)" in capsys.readouterr().err
    assert content(here / "run") == before
    assert run(*command, *FREE, "--resume", "auto") == 0
    record = json.loads((here / "run" / "run.json").read_text())
    assert (record["steps"], record["config"]["train"]["lr"]) == (6, 1e-3)
    capsys.readouterr()
    assert run(*command, "--resume", "auto") == 0
    assert "is finished" in capsys.readouterr().out
    assert run(*changed(command, "--lr", "1e-5"), "--resume", "auto") == 2, "what is finished was another run"


def test_the_same_by_another_way_goes_on(here, capsys):
    command = ["train", "sft", *RUN, "--out", "run"]
    assert run(*command, "--max-hours", "1e-9") == 0
    shutil.copytree("base", "moved")
    shutil.copy("a.jsonl", "renamed.jsonl")
    same = {"--model": "moved", "--data": "renamed.jsonl", "--limit": "24", "--batch-size": "2", "--accumulate": "2"}
    for option, value in same.items():
        command = changed(command, option, value)
    assert run(*command, "--resume", "auto") == 0
    assert (here / "run" / "model").is_dir()


def test_a_run_of_a_version_with_one_engine_goes_on(here):
    command = ["train", "sft", *RUN, "--out", "run"]
    assert run(*command, "--max-hours", "1e-9") == 0
    settings = here / "run" / "settings.json"
    begun = json.loads(settings.read_text())
    del begun["config"]["train"]["engine"], begun["config"]["train"]["mesh"]
    settings.write_text(json.dumps(begun))
    assert run(*command, "--resume", "auto") == 0
    assert (here / "run" / "model").is_dir()


def test_changed_weights_and_rows_under_the_same_name_are_noticed(here, capsys):
    command = ["train", "sft", *RUN, "--out", "run", "--resume", "auto"]
    assert run(*command, "--max-hours", "1e-9") == 0
    shutil.copytree("base", "kept")
    save_tiny(here / "base", latent=LatentConfig(num_thoughts=2), seed=7, **SIZES)
    assert run(*command) == 2
    assert "another weights of --model (" in capsys.readouterr().err
    shutil.rmtree("base")
    shutil.move("kept", "base")
    shutil.copy("b.jsonl", "a.jsonl")
    assert run(*command) == 2
    assert "another rows of --data (" in capsys.readouterr().err


def test_what_a_run_is_begun_with_is_on_the_disk_before_its_first_step(here):
    assert run("train", "sft", *RUN, "--out", "run", "--max-hours", "1e-9") == 0
    begun = json.loads((here / "run" / "settings.json").read_text())
    assert begun["recipe"] == "sft"
    assert begun["config"]["train"]["batch_size"] == 4
    assert (len(begun["parent_sha256"]), len(begun["data_sha256"]), begun["data_rows"]) == (64, 64, 24)
    assert run("train", "sft", *RUN, "--out", "run", "--resume", "yes") == 0
    finished = json.loads((here / "run" / "run.json").read_text())
    assert {key: finished[key] for key in ("recipe", "seed", "parent_sha256", "data_sha256")} == {
        key: begun[key] for key in ("recipe", "seed", "parent_sha256", "data_sha256")
    }


def test_the_epochs_that_the_stages_take_are_what_is_recorded(here):
    stages = ["--epochs-per-stage", "2", "--max-latent-stage", "2"]
    command = changed(["train", "coconut", *RUN, *stages, "--out", "run"], "--steps", "0")
    assert run(*command) == 0
    record = json.loads((here / "run" / "run.json").read_text())
    assert record["config"]["train"]["epochs"] == 4.0
    assert record["steps"] == 4 * 6


def test_a_run_of_an_older_version_goes_on_and_says_that_nothing_was_compared(here, capsys):
    command = ["train", "sft", *RUN, "--out", "run", "--resume", "auto"]
    assert run(*command, "--max-hours", "1e-9") == 0
    (here / "run" / "settings.json").unlink()
    assert run(*changed(command, "--lr", "1e-2")) == 0
    assert "goes on unchecked" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": 1}'])
def test_damaged_settings_are_told_in_one_line(text, here, capsys):
    command = ["train", "sft", *RUN, "--out", "run", "--resume", "auto"]
    assert run(*command, "--max-hours", "1e-9") == 0
    (here / "run" / "settings.json").write_text(text)
    assert run(*command) == 2
    assert "settings.json cannot be read" in capsys.readouterr().err.splitlines()[-1]


def test_a_run_that_failed_before_its_first_step_leaves_nothing_to_go_on_from(here):
    (here / "long.jsonl").write_text(json.dumps({"question": "1" * 3000, "steps": ["1"], "answer": "1"}) + "\n")
    command = changed(["train", "sft", *RUN, "--out", "run", "--resume", "auto"], "--data", "long.jsonl")
    assert run(*command) == 2
    assert not (here / "run").exists()
    Path("run").mkdir()
    assert run(*command) == 2
    assert list(Path("run").iterdir()) == [], "a folder that was there is left as it was"
    assert run("train", "sft", *RUN, "--out", "run") == 0


def test_a_study_goes_on_as_it_was_begun(here, capsys):
    short = ["--items", "6", "--scale", "0.005", "--out", "demo"]
    assert run("demo", *short, "--resume", "yes") == 2
    assert "holds no study to resume" in capsys.readouterr().err
    assert run("demo", *short, "--max-hours", "1e-9") == 0
    assert "unfinished and not reported: no reasoning, text stage, words, COCONUT, annealed" in capsys.readouterr().out
    assert not (here / "demo" / "no-reasoning" / "run.json").exists()
    for option, value in (("--scale", "0.01"), ("--items", "7"), ("--seed", "1")):
        assert run(*changed(["demo", *short], option, value), "--resume", "auto") == 2
        assert f"demo is a study with another {option}" in capsys.readouterr().err
    assert run("demo", "--words", *short, "--resume", "auto") == 2
    assert "another recipe (demo there, demo --words here)" in capsys.readouterr().err
    assert run("demo", *short) == 2, "without --resume nothing is touched"
    assert run("demo", *short, "--resume", "auto") == 0
    assert (here / "demo" / "report.json").is_file()


def test_a_study_over_beta_and_a_single_run_are_two_things(here, capsys):
    command = ["train", "grpo", *changed(RUN, "--data", "chains:length=2"), *GROUPS, "--limit", "8", "--out", "out"]
    assert run(*command, "--max-hours", "1e-9") == 0
    assert run(*command, "--beta", "0,0.04", "--eval-items", "2", "--resume", "auto") == 2
    assert "is a study with another recipe (grpo there, grpo, several beta here)" in capsys.readouterr().err


def test_two_processes_stop_and_go_on_together(here, capsys):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def together(folder, *options):
        command = [*launch, "latent_gemma.cli", "train", "anneal", *changed(RUN, "--log-every", "1"), "--out", folder]
        return subprocess.run(
            [*command, "--resume", "auto", *options], env=environment, capture_output=True, text=True, timeout=200
        )

    done = together("cut", "--max-hours", "1e-9")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stopped at step 1" in done.stdout
    assert run("train", "anneal", *RUN, "--out", "cut", "--resume", "auto") == 2
    assert "another number of examples in a step (8 there, 4 here)" in capsys.readouterr().err
    assert together("cut").returncode == 0
    steps = [entry["step"] for entry in read_metrics(here / "cut" / "metrics.jsonl") if "loss" in entry]
    assert steps == [1, 2, 3, 4, 5, 6]
