"""A remedy names an option that its verb has, and a verb that there is."""

import ast
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

import latent_gemma
from latent_gemma.cli import VERBS, config_class
from latent_gemma.ranges import option

PACKAGE = Path(latent_gemma.__file__).parent
#: Of no verb, and of other programs, whose options we hand on or ask for.
OTHERS = {
    "--num_fewshot",
    "--apply_chat_template",
    "--include_path",
    "--batch_size",
    "--model_args",
    "--tasks",
    "--no-deps",
    "--help",
    "--config",
    "--version",
}
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
VERB = re.compile(r"latent-gemma ((?:train |data )?[a-z]+)")


def options_of(owner):
    """The options of a recipe, those of its groups included."""
    kinds = get_type_hints(owner)
    for field in fields(owner):
        if is_dataclass(kinds[field.name]):
            yield from options_of(kinds[field.name])
        else:
            yield option(field.name)
            if kinds[field.name] is bool:
                yield f"--no-{field.name.replace('_', '-')}"


def verbs_options(start=""):
    """All options of the verbs that begin so."""
    found = set()
    for verb in VERBS:
        if verb.startswith(start):
            found |= set(options_of(config_class(verb)))
    return found


def texts(path):
    """The texts that a file can say: all but docstrings, parts of formatted ones by themselves."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented)
            and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_option_that_is_named_is_there(path):
    training = path.relative_to(PACKAGE).parts[0] == "training"
    known = (verbs_options("train ") if training else verbs_options()) | OTHERS
    named = {name for text in texts(path) for name in OPTION.findall(text)}
    assert named <= known


def test_every_verb_that_is_named_is_there():
    named = {name for path in PACKAGE.rglob("*.py") for text in texts(path) for name in VERB.findall(text)}
    groups = {verb.split()[0] for verb in VERBS}
    assert {name for name in named if name not in VERBS and name not in groups} <= {"train", "data", "results"}
    assert {"compare", "ask", "eval"} <= named


def test_options_are_found():
    assert {"--lr", "--skip-bad", "--max-hours", "--targets", "--no-compile"} <= verbs_options()
    assert "--max-length" not in verbs_options()
