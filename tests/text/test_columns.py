"""Tables at every width: nothing is lost, no line is too long, no word is broken; text of double width among it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from latent_gemma.text.columns import LONGEST_WORD, Columns, facts, spoken_bytes

WORDS = st.sampled_from(
    ["accuracy", "no", "difference shown", "98.1 [96.5–99.0]", "1,319", "–", "りんごが12個あります", "答え",
     "a-b/c.json", "supercalifragilistic", "[red]x[/red]", "x=3+4 ✓"]
)  # fmt: skip


def shown(renderable, width):
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return [line.rstrip() for line in captured.get().splitlines()]


def narrow_words(texts):
    """The words that no line may break: those of single width, short enough."""
    words = {word for text in texts for word in text.split() if word != "–"}
    return {word for word in words if cell_len(word) == len(word) <= LONGEST_WORD}


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(2, 9).flatmap(lambda n: st.lists(st.lists(WORDS, min_size=n, max_size=n), min_size=2, max_size=4)),
    width=st.sampled_from([30, 60, 80, 200]),
)
def test_no_width_loses_or_breaks_a_word(rows, width):
    header, *cells = rows
    lines = shown(Columns(header, cells, "タイトル", "a note"), width)
    assert max(map(cell_len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    # of a record's fields, what was not measured is left out with its heading
    kept = [cell for row in cells for cell in row] + [row[0] for row in rows[1:]]
    assert narrow_words(kept) <= words
    said = re.sub(r"\s", "", "".join(lines))
    assert all(character in said for cell in kept if cell != "–" for character in re.sub(r"\s", "", cell))


def test_what_does_not_fit_in_columns_becomes_records():
    header = ("method", "accuracy", "tokens", "milliseconds", "答え")
    row = ("words and thoughts", "98.1 [96.5–99.0]", "12.5", "–", "りんごは7個")
    wide, narrow = shown(Columns(header, [row]), 80), shown(Columns(header, [row]), 42)
    assert wide[-1].split() == " ".join(row).split()
    assert narrow == ["words and thoughts", "  accuracy 98.1 [96.5–99.0]   tokens 12.5", "  答え りんごは7個"]


def test_text_gives_way_to_numbers_and_wraps_between_words():
    question = "りんごが12個あります。5個食べました。残りはいくつですか。" * 3
    lines = shown(Columns(("step", "question", "accuracy"), [("1", question, "98.1 [96.5–99.0]")]), 60)
    assert sum("98.1 [96.5–99.0]" in line for line in lines) == 1
    assert max(map(cell_len, lines)) <= 60
    assert len(lines) > 4


@pytest.mark.parametrize("width", [30, 60, 80])
def test_facts_stand_one_below_the_other(width):
    lines = shown(facts({"rows": "64", "writes to": "runs/words; " * 9, "": "七" * 50}), width)
    assert max(map(cell_len, lines)) <= width
    assert lines[0] == "rows       64"
    assert lines[1].startswith("writes to  runs/words;")


def test_memory_is_said_in_a_unit_a_person_would_take():
    assert [spoken_bytes(count) for count in (40 * 2**20, 1023 * 2**20, 3.1 * 2**30)] == [
        "40 MiB",
        "1.0 GiB",
        "3.1 GiB",
    ]
