"""LaTeX written plainly."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.text.latex import plain_latex


@pytest.mark.parametrize(
    ("latex", "written"),
    [
        (r"\frac{3}{4}", "3/4"),
        (r"\frac34", "3/4"),
        (r"2\dfrac{3}{4}", "2 3/4"),
        (r"\frac{x}{2}", "(x)/(2)"),
        (r"\frac{\frac12}{3}", "(1/2)/(3)"),
        (r"6{,}400\text{ km}", "6,400 km "),
        (r"6\,400", "6,400"),
        (r"11,\! 111", "11,111"),
        (r"5\text{ m}^2", "5 m^2"),
        (r"\textbf{\text{42}}", "42 "),
        (r"90^\circ", "90°"),
        (r"90^{\circ}", "90°"),
        (r"0.\overline{36}", "0.(36)"),
        (r"2 \times 10^{3}", "2 × 10^{3}"),
        (r"\$5 \pm 10\%", "$5 ± 10%"),
        (r"\left(1, 2\right)", " (1, 2 )"),
        (r"\alpha", r"\alpha"),
        ("no LaTeX", "no LaTeX"),
    ],
)
def test_plain(latex, written):
    assert plain_latex(latex).strip() == written.strip()


@given(st.text("\\{}^frac12 text,!$_", max_size=40))
def test_any_text_is_written(text):
    assert isinstance(plain_latex(text), str)


@pytest.mark.parametrize(
    "piece", ["\\frac", "\\frac{", "\\frac{1}{2}", "\\text{", "{,}", "\\,", ".\\overline", "1\\, ", "\\"]
)
def test_time_is_linear(piece):
    started = time.perf_counter()
    plain_latex(piece * (300_000 // len(piece)))
    assert time.perf_counter() - started < 2
