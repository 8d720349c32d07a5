"""Each file of a published run names its launch line and what came of it, and holds options that its verb takes."""

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from latent_gemma.cli import config_class, parse

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
LAUNCH = re.compile(
    r"# (?:accelerate launch --num_processes \d+ -m latent_gemma\.cli|latent-gemma) (.+) --config (\S+)"
)


def test_there_are_configs():
    assert len(CONFIGS) >= 10


def read(path):
    """Verb, and options of a file in the groups they stand in ("" for those in none)."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    verb, named = LAUNCH.fullmatch(first).groups()
    assert ROOT / named == path
    groups = {"": {}}
    for name, value in tomllib.loads(path.read_text(encoding="utf-8")).items():
        (groups if isinstance(value, dict) else groups[""])[name] = value
    return verb, groups


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_one_that_its_verb_takes(path):
    verb, groups = read(path)
    config = parse(config_class(verb), ["--config", str(path)], verb)
    for group, options in groups.items():
        holder = getattr(config, group) if group else config
        kinds = get_type_hints(type(holder))
        known = {field.name for field in fields(holder) if not is_dataclass(kinds[field.name])}
        for option, value in options.items():
            field = option.replace("-", "_")
            assert field in known, f"{option} is none of {group or verb}"
            value = tuple(value) if isinstance(value, list) else value
            assert getattr(holder, field) == (Path(value) if kinds[field] is Path else value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_what_came_of_it(path):
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    said = " ".join(comments)
    assert "not run here" in said or all(word in said for word in ("Gave:", "Time", "emory")), comments
    assert all(len(line) <= 120 for line in comments)
