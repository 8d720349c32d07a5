import time

import pytest

from latent_gemma.text.expressions import MAX_NESTING, to_expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("$x^2$", "$x^2$"),
        (r"\(\frac{1}{2}\)", r"$\frac{1}{2}$"),
        (r"\$5", "$5$"),
        ("2**10", "$2^10$"),
        ("x² − 3⁻¹⁰", "$x^2 - 3^{-10}$"),
        ("１，０８０", "$1080$"),
        (r"5\text{ apples}", r"$5\text{ apples}$"),
        ("sin x", "$sin x$"),
        (r"1\\[2,3]", r"$1\\[2,3]$"),
    ],
)
def test_one_form_for_the_parser(text, expression):
    assert to_expression(text) == expression


@pytest.mark.parametrize(
    "text", ["", " $ $ ", "Tokyo", "12 apples", "答えは東京です", "9**9**9", "9^{9^{9^9}}", "2^-99999999", "x^(10^ 8)"]
)
def test_what_the_parser_is_not_shown(text):
    assert to_expression(text) is None


@pytest.mark.parametrize("text", ["2^{2^{3}}", "e^{x^2}", "(9^9)^9", "2^{100000}", "x^0^9999999", "2^1^9^9"])
def test_powers_that_fit_pass(text):
    assert to_expression(text) is not None


def test_nesting_has_a_cap():
    assert to_expression("(" * MAX_NESTING + "1" + ")" * MAX_NESTING) is not None
    assert to_expression("{" * (MAX_NESTING + 1) + "1" + "}" * (MAX_NESTING + 1)) is None
    assert to_expression("(1)" * 20) is not None
    deep = "(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1)
    assert to_expression(")" * 20 + deep) is None, "what is closed before it opens pays for nothing"


@pytest.mark.parametrize("piece", ["^ ", "^{9", "\\text{", "1,111", "(", "⁹", "^+9.9", "\\", "$"])
def test_time_is_short_for_hostile_text(piece):
    started = time.perf_counter()
    to_expression(piece * (10_000 // len(piece)))
    assert time.perf_counter() - started < 2
