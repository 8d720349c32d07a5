import time

import pytest

from latent_gemma.text.answers import extract_answer
from latent_gemma.text.boxed import MAX_BOX_CHARS, last_boxed


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ a \right.}", r"\left\{ a \right."),
        (r"\fbox{7}", "7"),
        (r"first \boxed{1}, so \fbox{2}", "2"),
        (r"$\boxed 7$.", "7"),
        (r"\boxed{f(x) = {1 \over 2}}", r"f(x) = {1 \over 2}"),
        (r"\boxed{print('}')}", "print('"),
        (r"write $\boxed$ around it", None),
        (r"\boxed{}", None),
        (r"\boxed{5}. I have put it in \boxed{}.", "5"),
        (r"\boxed{5} in \boxed{ } and \fbox{}", "5"),
        (r"\boxed{1} and \boxed{2", None),
        ("\\boxed{" + "1" * MAX_BOX_CHARS + "}", "1" * MAX_BOX_CHARS),
        ("\\boxed{" + "1" * (MAX_BOX_CHARS + 1) + "}", None),
        ("\\boxed " + "1" * (MAX_BOX_CHARS + 1), None),
    ],
)
def test_data_and_models_are_read_alike(text, answer):
    assert last_boxed(text) == answer
    assert extract_answer(text, strict=True) == answer


@pytest.mark.parametrize("piece", ["\\boxed", "\\boxed{", "\\boxed ", "{", "\\", "\\boxed{\\}"])
def test_hostile_text_is_read_in_linear_time(piece):
    started = time.monotonic()
    last_boxed(piece * (1_000_000 // len(piece)))
    assert time.monotonic() - started < 5
