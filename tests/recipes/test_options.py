"""Whatever an option is given, its verb runs or says in one line why it does not."""

import io
import json
import math
import random
import sys
from dataclasses import fields, is_dataclass
from typing import Literal, get_args, get_origin, get_type_hints
from unittest.mock import MagicMock

import pytest

from latent_gemma.cli import VERBS, config_class, main
from latent_gemma.errors import ConfigError
from latent_gemma.model import LatentConfig
from latent_gemma.ranges import option, ranges_of
from latent_gemma.studio import page
from latent_gemma.training.curriculum import AnnealCurriculum, CoconutCurriculum
from latent_gemma.training.settings import LoraSettings, TrainSettings
from tests.saving import save_tiny

TRAIN = ["--model", "m", "--data", "d.jsonl", "--steps", "1", "--batch-size", "4", "--out", "out"]
ASKED = ["m", "--data", "d.jsonl", "--limit", "2", "--max-new-tokens", "2", "--out", "out"]
#: Each verb that has options of its own, with what it needs to run in a second.
COMMANDS = {
    "demo": ["--scale", "0.002", "--items", "2", "--out", "out"],
    "train sft": TRAIN,
    "train coconut": TRAIN,
    "train anneal": TRAIN,
    "train codi": TRAIN,
    "train pause": TRAIN,
    "train internalize": TRAIN,
    "train grpo": [*TRAIN, "--num-generations", "4", "--max-new-tokens", "2"],
    "study": [*TRAIN, "--holdout", "2", "--methods", "none", "--max-new-tokens", "2"],
    "eval": [*ASKED, "--controls", "none", "--traces", "0"],
    "compare": ["evaluated", "--out", "out"],
    "vote": ["m", "1+2=", "--max-new-tokens", "2"],
    "ask": ["m", "1+2=", "--max-new-tokens", "2"],
    "chat": ["m", "--max-new-tokens", "2"],
    "data preview": ["--data", "d.jsonl"],
    "data mine": ["evaluated", "--out", "out.jsonl"],
    "data arithmetic": ["--n", "2", "--out", "out.jsonl"],
    "data chains": ["--n", "2", "--out", "out.jsonl"],
    "tasks": [],
    "estimate": ["--model", "google/gemma-2-2b-it"],
    "export": ["m", "--to", "out"],
    "push": ["m", "owner/name"],
    "studio": ["m", "--no-browser"],
}
TEXTS = [
    "",
    " ",
    ",",
    "x",
    "a\ud800b",
    "../x",
    "\n",
    "{}",
    "-1",
    "nan",
    "1e400",
    "9" * 25,
    "é" * 300,
    "::",
    "a=b;c",
    "%s",
]


def options(owner):
    """Name, type and class of every option."""
    kinds = get_type_hints(owner)
    for field in fields(owner):
        if is_dataclass(kinds[field.name]):
            yield from options(kinds[field.name])
        else:
            yield field.name, set(get_args(kinds[field.name]) or (kinds[field.name],)), owner


def given(command, name, value):
    """A command with an option changed, or added."""
    kept = list(command)
    if option(name) in kept:
        place = kept.index(option(name))
        del kept[place : place + 2]
    return [*kept, f"{option(name)}={value}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("options")
    save_tiny(here / "m", latent=LatentConfig(num_thoughts=2), hidden_size=32, num_layers=2, num_heads=2)
    rows = [{"question": f"{i}+{i}=", "steps": [f"{2 * i}"], "answer": str(2 * i)} for i in range(12)]
    (here / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        assert main(["eval", *COMMANDS["eval"][:-2], "--out", "evaluated"]) == 0
    return here


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A fresh folder with a model, data and an evaluation."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("1+1=\n\n"))
    monkeypatch.setattr(page, "Page", MagicMock())  # a page that would be shown until Ctrl-C
    monkeypatch.setattr(page, "serve", lambda *args, **kwargs: (None, "http://127.0.0.1:7860/", None))
    return tmp_path


def told(command, capsys):
    """Exit status and the line that says what is wrong; an exception fails the test."""
    capsys.readouterr()
    code = main(command)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("latent-gemma: ")]
    assert code in (0, 2), command
    assert len(lines) == (1 if code else 0), command
    return code, lines[0] if lines else ""


def outside(allowed):
    """Values that lie outside of a range."""
    beyond = [allowed.most * 2 + 1] if allowed.most < math.inf else []
    below = [allowed.least - 1] if allowed.least > -1e5 else [allowed.least * 2]
    values = [*below, *([allowed.least] if allowed.open else []), *beyond, math.nan, math.inf, -math.inf]
    return [*(f"{value:g}" if isinstance(value, float) else str(value) for value in values), "9" * 400, "x", ""]


def test_every_verb_is_tried():
    assert set(COMMANDS) == set(VERBS) - {"harness"}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_number_has_a_range(verb):
    for name, kinds, owner in options(config_class(verb)):
        if kinds & {int, float}:
            assert name in ranges_of(owner), f"{owner.__name__}.{name}"


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_number_out_of_range_is_told_in_one_line(verb, here, capsys):
    before = sorted(here.iterdir())
    for name, kinds, owner in options(config_class(verb)):
        if kinds & {int, float}:
            for value in outside(ranges_of(owner)[name]):
                code, line = told([*verb.split(), *given(COMMANDS[verb], name, value)], capsys)
                assert code == 2, (name, value)
                assert option(name) in line, (name, value, line)
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("verb", ["train sft", "train coconut", "train anneal", "train codi", "train grpo", "ask"])
def test_the_ends_of_every_range_run_or_are_told(verb, here, capsys):
    for number, (name, kinds, owner) in enumerate(options(config_class(verb))):
        if not kinds & {int, float}:
            continue
        allowed = ranges_of(owner).get(name)
        ends = [] if allowed is None else [] if allowed.open else [allowed.least]
        ends += [allowed.most] if allowed is not None and allowed.bounded else []
        for end in ends:
            if name in ("steps", "epochs") and end:
                continue
            value = int(end) if int in kinds else end
            changed = given(COMMANDS[verb], name, value)
            if "--out" in changed:
                changed[changed.index("--out") + 1] = f"out-{number}-{value}"
            told([*verb.split(), *changed], capsys)


def texts():
    """Every option that takes a text, with a text."""
    for verb, command in COMMANDS.items():
        if verb == "demo":
            continue  # their texts name folders
        for name, kinds, _ in options(config_class(verb)):
            plain = not any(get_origin(kind) is Literal for kind in kinds)
            if not kinds & {int, float, bool} and plain:
                yield from ((verb, command, name, text) for text in TEXTS)


#: Not the folders that they name: an empty one is where the tests run.
ALL_TEXTS = [each for each in texts() if each[2] not in ("out", "models", "model", "question", "runs", "folder")]


def try_texts(chosen, capsys):
    for number, (verb, command, name, text) in enumerate(chosen):
        changed = given(command, name, text)
        if "--out" in changed:
            changed[changed.index("--out") + 1] = f"{number}-out{'.jsonl' if verb.startswith('data') else ''}"
        told([*verb.split(), *changed], capsys)


def test_some_texts_for_every_verb(here, capsys):
    try_texts(random.Random(0).sample(ALL_TEXTS, 40), capsys)


@pytest.mark.slow
def test_any_text_for_any_option(here, capsys):
    try_texts(ALL_TEXTS, capsys)


@pytest.mark.parametrize("verb", ["ask m", "vote m"])
@pytest.mark.parametrize("text", ["a\ud800b", "\udc80", "nul\0"])
def test_what_is_no_text_is_refused(verb, text, here, capsys):
    code, line = told([*verb.split(), text], capsys)
    assert (code, "is no valid text" in line) == (2, True)


def test_a_chat_goes_on_behind_what_is_no_text(here, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\ud800b\n1+1=\n\n"))
    assert main(["chat", *COMMANDS["chat"]]) == 0
    assert "is no valid UTF-8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TrainSettings(lr=-1.0), "--lr -1 is out of range: give more than 0"),
        (lambda: TrainSettings(batch_size=0), "--batch-size 0 is out of range: give 1 or more"),
        (lambda: TrainSettings(seed=2**32), "--seed 4294967296 is out of range: give at most 4294967295"),
        (lambda: TrainSettings(max_hours=float("inf")), "--max-hours inf is out of range: give at most 2147483647"),
        (lambda: LoraSettings(rank=2, dropout=1.0), r"--dropout 1 is outside \[0, 0.99\]: give at most 0.99"),
        (lambda: AnnealCurriculum(p_start=1.5), r"--p-start 1.5 is outside \[0, 1\]: give at most 1"),
        (lambda: CoconutCurriculum(first_stage=5), "--first-stage 5 lies behind --max-latent-stage 3"),
        (lambda: AnnealCurriculum(compress="1.0,0"), r"--compress 0 is outside \[0, 1\]"),
        (lambda: AnnealCurriculum(compress="half"), "--compress half: 'half' is no number"),
    ],
)
def test_ranges_hold_in_python_too(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
