import time

import pytest

from latent_gemma.text.expressions import MAX_NESTING, settle, to_expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("$x^2$", "$x^2$"),
        (r"\(\frac{1}{2}\)", r"$\frac{1}{2}$"),
        (r"\$5", "$5$"),
        ("2**10", "$2^10$"),
        ("x² − 3⁻¹⁰", "$x^2 - 3^{-10}$"),
        ("１，０８０", "$1080$"),
        (r"5\text{ apples}", "$5$"),
        ("12 apples", "$12$"),
        (r"\frac{1}{2}\,\mathrm{cm}^2", r"$\frac{1}{2}$"),
        ("4t", "$4t$"),
        ("2√3", r"$2\sqrt{3}$"),
        ("√(x+1)", r"$\sqrt{x+1}$"),
        ("(−∞, 2pi]", r"$(-\infty , 2\pi ]$"),
        ("x ≤ 3 1/4", r"$x \le \frac{13}{4}$"),
        ("45°", "$45$"),
        ("sin 30°", r"$sin 30^{\circ}$"),
        ("(3,100)", "$(3,100)$"),
        ("sin x", "$sin x$"),
        (r"1\\[2,3]", r"$1\\[2,3]$"),
    ],
)
def test_one_form_for_the_parser(text, expression):
    assert to_expression(text) == expression


@pytest.mark.parametrize(
    "text",
    ["", " $ $ ", "Tokyo", "12 apples or 13", "答えは東京です", "9**9**9", "9^{9^{9^9}}", "2^-99999999", "x^(10^ 8)"],
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


@pytest.mark.parametrize(
    ("predicted", "accepted", "equal"),
    [
        ("[1, 2 )", "[1,2)", True),
        (r"\text{Anna}", "anna", True),
        ("3 1/4", "3.25", True),
        ("3 1/4", r"\frac14", False),
        ("0.0833333333333", r"\frac{1}{12}", True),
        ("0.083", r"\frac{1}{12}", False),
        ("3^{-60}", "3^{-61}", False),
        ("5 km", "5 cm", False),
        ("5 km", "5 kilometers", True),
        ("AB", "BA", False),
        ("204_5", "204_{6}", False),
        (r"\Delta", r"\delta", False),
        ("2x + y = 0", "0", False),
        ("2 + 3 = 5", "5", True),
    ],
)
def test_what_needs_no_parser(predicted, accepted, equal):
    settled = settle(predicted, accepted)
    assert (settled.equal, settled.given) == (equal, None)


@pytest.mark.parametrize(
    ("predicted", "given"),
    [("y = 2x + 1", "$2x + 1$"), (r"f(x) = 2x", "$2x$"), (r"\sum_{n=1}^{2} n = x", "$x$"), ("1, x = 2", "$1, x = 2$")],
)
def test_a_parser_is_shown_the_last_side_where_no_equation_is_accepted(predicted, given):
    assert settle(predicted, "z + 1").given == given
    assert settle(predicted, "z = 1").given == f"${predicted}$"
