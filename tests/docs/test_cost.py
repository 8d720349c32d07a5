"""The tables of the pages are what `latent-gemma estimate` prints."""

import re

import pytest

from latent_gemma.cli import main
from tests.docs.pages import PAGES, ROOT

QUOTED = re.findall(
    r"```bash\nlatent-gemma (estimate [^\n]*)\n```\n\n```\n(.*?)\n```", "\n".join(PAGES.values()), re.DOTALL
)


def test_there_are_tables():
    assert len(QUOTED) == 6


@pytest.mark.parametrize(("command", "table"), QUOTED, ids=[command for command, _ in QUOTED])
def test_a_page_quotes_what_the_command_prints(command, table, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(ROOT)
    assert main(command.split()) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed[1:] == table.splitlines(), "after a line that is left free"
