"""Every promise names a test that is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    line.split(" | ")
    for line in (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "`" in line.split(" | ")[1]
]


def test_every_promise_names_a_test_that_is_there():
    assert len(ROWS) >= 35
    for row in ROWS:
        assert len(row) == 5, row
        for name in re.findall(r"`([\w/]+\.py)`", row[1]):
            assert (ROOT / "tests" / "faults" / name).is_file() or (ROOT / "tests" / name).is_file(), name


def test_every_file_of_faults_keeps_a_promise():
    named = {name for row in ROWS for name in re.findall(r"`([\w/]+\.py)`", row[1])}
    assert {path.name for path in (ROOT / "tests" / "faults").glob("test_*.py")} <= named
