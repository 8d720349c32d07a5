"""The tables of docs/cost.md and of the README are what `latent-gemma estimate` prints."""

import re
from pathlib import Path

import pytest

from latent_gemma.cli import main

ROOT = Path(__file__).parents[2]
PAGES = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("docs/cost.md", "README.md"))
QUOTED = re.findall(r"```bash\nlatent-gemma (estimate [^\n]*)\n```\n\n```\n(.*?)\n```", PAGES, re.DOTALL)


def test_there_are_tables():
    assert len(QUOTED) == 5


@pytest.mark.parametrize(("command", "table"), QUOTED, ids=[command for command, _ in QUOTED])
def test_a_page_quotes_what_the_command_prints(command, table, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(command.split()) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == table.splitlines()
