import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_gemma.text.display import displayable

hostile = st.text() | st.lists(st.characters(categories=["Cc", "Cs", "Zl", "Zp", "Cf"])).map("".join)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "␛[31mred␛]0;title␇"),
        ("\x9b31m", "\\x9b31m"),
        ("wrong\rright\x08\x7f\x00", "wrong␍right␈␡␀"),
        ("abc\u202edef\u2066", "abc\\u202edef\\u2066"),
        ("a\u2028b\udcff", "a\\u2028b\\udcff"),
        ("一行\n\t二行 [red]x[/] 👩‍🔬", "一行\n\t二行 [red]x[/] 👩‍🔬"),
    ],
)
def test_commands_become_visible_and_text_stays(text, shown):
    assert displayable(text) == shown


@given(hostile)
@settings(derandomize=True, max_examples=300)
def test_nothing_that_steers_is_left_and_nothing_is_dropped(text):
    shown = displayable(text)
    assert not {unicodedata.category(c) for c in shown if c not in "\n\t"} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert len(shown) >= len(text)
    assert displayable(shown) == shown
    shown.encode("utf-8")
