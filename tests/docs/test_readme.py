"""What the README and the pages in docs tell people to type is what the programs take."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from figures import best_fixed, read

from latent_gemma.cli import VERBS, config_class, main, parse
from latent_gemma.inspection.numbers import percent
from latent_gemma.inspection.select import main_rows
from latent_gemma.model import LatentConfig
from tests.docs.pages import COMMANDS, PAGES, ROOT
from tests.saving import save_tiny

README = PAGES["README.md"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    words = shlex.split(command)
    if words == ["--version"]:
        return
    verb = next(" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in VERBS)
    assert isinstance(parse(config_class(verb), words[len(verb.split()) :], verb), config_class(verb))


def test_what_is_generated_has_an_end():
    """The verbs refuse a generator without --limit; a study counts for itself."""
    endless = [
        c for c in COMMANDS if re.search(r"^(train|eval).* --data \"?(arithmetic|chains|multiplication|prosqa)\b", c)
    ]
    assert len(endless) >= 8
    assert all("--limit" in command for command in endless)


def twin(command, **changes):
    """A command of the README with some options changed; an option that is None is left out with its values."""
    words = []
    for word in shlex.split(command):
        if word.startswith("--") or not words or not words[-1][0].startswith("--"):
            words.append([word])
        else:
            words[-1].append(word)
    changed = {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    kept = [part for part in words if part[0] not in changed]
    given = [[name, *str(value).split()] for name, value in changed.items() if value is not None]
    return [word for part in (*kept, *given) for word in part]


def readme(start):
    return next(command for command in COMMANDS if command.startswith(start))


def test_train_your_own_prints_what_the_models_can_do(tmp_path, monkeypatch, capsys):
    """The README's words, annealed, eval and compare on a task that a tiny model learns in seconds."""
    monkeypatch.chdir(tmp_path)
    save_tiny("tiny", latent=LatentConfig(num_thoughts=0), hidden_size=64, num_heads=2, intermediate_size=128)
    task = {"data": "chains:length=2;ops=+;modulus=5", "holdout": None}
    size = {**task, "limit": 9600, "steps": 300, "batch_size": 32, "lr": 4e-3}
    assert main([*twin(readme("train sft"), model="tiny", rank=None, **size), "--step-separator", ""]) == 0
    given = {**size, "c_thought": 1, "max_latent_steps": 2, "grow_until": 0.35, "steps": 200}
    assert main(twin(readme("train anneal --model runs/words"), **given)) == 0
    tests = {**task, "limit": 100, "max_new_tokens": 8}
    assert main(twin(readme("eval runs/words runs/annealed --data"), **tests)) == 0
    capsys.readouterr()
    assert main(twin(readme("compare runs/both"))) == 0
    shown = capsys.readouterr().out

    rows = {row["label"]: row for row in reversed(json.loads(Path("runs/both/report.json").read_text())["rows"])}
    assert {label: row["mode"] for label, row in rows.items()} == {"words": "words", "annealed": "latent"}
    assert rows["words"]["accuracy"] >= 0.9
    assert rows["words"]["complete"] == 100
    assert main(twin("eval runs/words --mode words --out runs/alone", **tests)) == 0
    (alone,) = json.loads(Path("runs/alone/report.json").read_text())["rows"]
    timed = ("seconds_per_answer", "seconds_range", "peak_mem_gib")
    assert all(alone[key] == value for key, value in rows["words"].items() if key not in timed)
    assert re.search(rf"Compared with words \({100 * alone['accuracy']:.1f} %", " ".join(shown.split()))
    assert "words / annealed" in shown


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 50
    assert {"demo", "demo --words", "--version"} <= set(COMMANDS)


def test_continuous_integration_runs_the_readmes_test_command():
    command = next(line for line in README.splitlines() if "pytest" in line and "pip install" in line)
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert command in [line.strip() for line in lines]


def test_its_cpu_build_of_torch_is_in_the_range_that_was_tested():
    """A build outside of it would be replaced, by one with CUDA, when the package is installed after it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (torch,) = (each for each in project["project"]["dependencies"] if each.startswith("torch"))
    (index,) = project["tool"]["uv"]["index"]
    assert f'pip install "{torch}" --index-url {index["url"]}' in README
    assert {torch} == {*project["project"]["optional-dependencies"]["cpu"]}
    assert {torch} == {*project["project"]["optional-dependencies"]["gpu"]}


def test_no_placeholder_is_left():
    assert not re.findall(r"^[A-Z]+_[A-Z]+$", "\n".join(PAGES.values()), re.MULTILINE)


def test_it_is_read_in_one_sitting():
    assert len(README.splitlines()) <= 150


def test_what_it_says_of_k_is_in_the_report_of_a_demo():
    rows = read("demo").rows
    for label in ("COCONUT", "annealed"):
        main = main_rows(rows)[label]
        fixed = best_fixed(rows, main)
        chosen = f"{label} chooses K rightly for {percent(main.k_right)} %"
        assert f"{chosen}; its best fixed K, {fixed.k}, is right on {percent(fixed.accuracy)} %" in " ".join(
            README.split()
        )
