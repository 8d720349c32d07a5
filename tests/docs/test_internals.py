"""The page of internals names tests that are there, and every library on it has an upper bound."""

import re
from pathlib import Path

from latent_gemma.versions import _requirements

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")


def test_every_row_names_a_test_that_is_there():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) >= 20
    for row in rows:
        named = re.findall(r"`(\w+/test_\w+\.py)`", row.split(" | ")[-1])
        assert named, row
        for name in named:
            assert (ROOT / "tests" / name).is_file(), name


def test_every_library_on_it_has_an_upper_bound():
    for name in ("transformers", "trl", "peft", "accelerate", "torch", "math-verify", "tyro"):
        needed = next(one for one in _requirements() if one.name == name)
        assert {limit.operator for limit in needed.specifier} == {">=", "<"}
        assert {"torch": "PyTorch"}.get(name, name).lower() in PAGE.lower()
    assert "lm_eval" in PAGE
