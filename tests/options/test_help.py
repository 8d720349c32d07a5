"""The help comes at once, for nothing heavy is imported, and shows what a person types before the rest."""

import re
import subprocess
import sys

import pytest

from latent_gemma.cli import VERBS, config_class, main
from latent_gemma.options.flat import flat
from latent_gemma.ranges import option as typed

HEAVY = tuple(
    "torch transformers datasets trl peft accelerate numpy pandas matplotlib sympy prompt_toolkit".split()  # noqa: SIM905
)
#: Runs the command as its script does, and says what it came to and which of the heavy libraries were imported.
SCRIPT = f"""
import sys
sys.argv[0] = "latent-gemma"
from latent_gemma.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print(code or 0, *sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)
"""
#: The studies are in their recipes still.


@pytest.mark.parametrize(
    "command", [*(f"{verb} --help" for verb in list(VERBS)), "", "train --help", "--version", "eval m --no-such"]
)
def test_help_imports_nothing_heavy(command):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *command.split()], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == ("2" if command.endswith("--no-such") else "0")
    assert "latent-gemma" in done.stdout or command.endswith("--no-such")


@pytest.mark.parametrize("module", ["latent_gemma", "latent_gemma.cli"])
def test_so_it_does_as_a_module(module):
    run = [sys.executable, "-X", "importtime", "-m", module, "study", "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "latent-gemma study" in done.stdout
    assert "latent_gemma.options.stages" in imported
    assert not imported & {*HEAVY}


def shown(verb, capsys):
    """What a verb's help shows under its first headings, and under "advanced"."""
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    first, _, rest = capsys.readouterr().out.partition(" advanced options ")
    return first, rest


def names(text):
    """What a help gives texts for: options, and positional arguments in capitals."""
    return set(re.findall(r"^[│ ] (--[\w-]+|[A-Z_]+)(?= |,|$)", text, re.MULTILINE))


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_option_stands_where_it_belongs(verb, capsys):
    first, rest = shown(verb, capsys)
    for option in flat(config_class(verb)):
        here, there = (rest, first) if option.is_advanced else (first, rest)
        name = option.name.upper() if option.is_positional else typed(option.name)
        assert name in names(here) - names(there), name
        assert option.text, f"{name} has no help"
    assert ("--config" in names(first)) == (verb != "harness")


@pytest.mark.parametrize("verb", ["train sft", "train coconut", "train anneal", "train codi", "train grpo", "eval"])
def test_what_a_person_types_is_half_at_most(verb):
    options = list(flat(config_class(verb)))
    assert sum(not option.is_advanced for option in options) <= max(20, len(options) // 2)


def test_the_defaults_shown_are_the_verbs_own(capsys):
    first, _ = shown("train grpo", capsys)
    assert "(default: 1e-05)" in first
    assert "(default: 16)" in first, "GRPO's batches, not those of the other recipes"
