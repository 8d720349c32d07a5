"""What the README and the pages in docs tell people to type is what the programs take."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from latent_gemma.cli import VERBS, parse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
COMMANDS = re.findall(
    r"^(?:.*&& |accelerate launch .*-m )?latent[-_]gemma(?:\.cli)? (.+)$",
    "\n".join(re.findall(r"```bash\n(.*?)```", "\n".join(PAGES), re.DOTALL)),
    re.MULTILINE,
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    words = shlex.split(command)
    verb = next(" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in VERBS)
    module, name, _ = VERBS[verb]
    config_class = getattr(importlib.import_module(f"latent_gemma.recipes.{module}"), name)
    assert isinstance(parse(config_class, words[len(verb.split()) :], verb), config_class)


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 10
    assert "demo" in COMMANDS


def test_continuous_integration_runs_the_readmes_test_command():
    command = next(line for line in README.splitlines() if "pytest" in line and "pip install" in line)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_no_placeholder_is_left():
    assert not re.findall(r"^[A-Z]+_[A-Z]+$", README, re.MULTILINE)
