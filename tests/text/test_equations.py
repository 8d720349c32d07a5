"""Equations in a text, and whether they are true."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.text.equations import find_equations, share_true


def found(text):
    return [(equation.text, equation.is_true) for equation in find_equations(text)]


@pytest.mark.parametrize(
    ("text", "equations"),
    [
        ("She sold a total of 48+24 = 72 clips.", ["48+24=72"]),
        ("16 - 3 - 4 = 9 eggs, 9 * 2 = $18.", ["16-3-4=9", "9*2=18"]),
        ("A clip (48/2 = 24) each", ["48/2=24"]),
        ("48/2 = <<48/2=24>>24 clips", ["48/2=24"]),
        ("48 divided by 2 is 24. 10 times 4 equals 40. 9 minus 4 is equal to 5.", ["48/2=24", "10*4=40", "9-4=5"]),
        ("２＋３＝５です。６×４＝２４個、９÷３＝３、７－２＝５", ["2+3=5", "6*4=24", "9/3=3", "7-2=5"]),
        ("残りは16-3-4=9個", ["16-3-4=9"]),
        ("48÷2は24です", ["48/2=24"]),
        ("1,000 x 3 = 3,000", ["1,000*3=3,000"]),
        ("17 000/5 = 3,400", ["17,000/5=3,400"]),
        ("2^3 = 8 = 4*2", ["2^3=8", "8=4*2"]),
        ("10² = 100 and 2**5 = 32 and 10^{-2} = 0.01", ["10^2=100", "2^5=32", "10^(-2)=0.01"]),
        ("2(3+4) = 14, (1+1)(2) = 4, [5+3]*2 = 16", ["2(3+4)=14", "(1+1)(2)=4", "(5+3)*2=16"]),
        ("1/2 = 0.5, .5*4 = 2.0", ["1/2=0.5", ".5*4=2.0"]),
        ("1½ + 1 1/2 = 3", ["(1+1/2)+(1+1/2)=3"]),
        ("20 / 1/5 = 100", ["20/(1/5)=100"]),
        ("Then -5 + 3 = -2, 5 - -3 = 8", ["-5+3=-2", "5--3=8"]),
        ("17 % 5 = 2", ["17%5=2"]),
        (r"\frac{1}{2} + \frac{1}{4} = \frac{3}{4}", ["((1)/(2))+((1)/(4))=((3)/(4))"]),
        (r"\[ 6 \div 2 \times 3 = 9 \] and $4 \cdot 5 = 20$", ["6/2*3=9", "4*5=20"]),
        ("**48 / 2 = 24**\n- 1 + 1 = 2\n* 2 + 1 = 3\n1. 3 + 1 = 4\n2) 4 + 1 = 5", ["48/2=24", "1+1=2", "2+1=3",
                                                                                "3+1=4", "4+1=5"]),
        ("x = 5 + 3 = 8", ["5+3=8"]),
        ("48/2\n= 24", ["48/2=24"]),
        ("12*5 = 60 = 1 hour", ["12*5=60"]),
    ],
)  # fmt: skip
def test_what_is_true_is_found_true(text, equations):
    assert found(text) == [(equation, True) for equation in equations]


@pytest.mark.parametrize(
    "text",
    ["4+4+6 = 18", "10 minus 4 is 5", "10/3 = 3.33", "5/0 = 0", "20% * 5 = 100", "２＋２＝５", "1) 5+5 = 11"],
)
def test_what_is_false_is_found_false(text):
    assert [is_true for _, is_true in found(text)] == [False]


def test_a_chain_is_judged_link_by_link():
    assert found("2 + 3 = 5 + 1 = 6") == [("2+3=5+1", False), ("5+1=6", True)]


@pytest.mark.parametrize(
    "text", ["20% * 50 = 10", "10/50 = 20%", "10/50*100 = 20%", "100% - 20% = 80%", "100 - 20 = 80 percent"]
)
def test_a_percent_sign_is_a_hundredth_or_a_unit(text):
    assert share_true(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no number at all",
        "5 + 5 = ?",
        "x + 3 = 7",
        "2x + 3 = 11",
        "2x - 3 = 11",
        "3y-2 = 4",
        "y - 3 = 7",
        "f(3+1) = 9",
        "12 = 5y",
        "5 apples + 3 apples = 8 apples",
        "48個÷2=24個",
        "apples - 5 = 3",
        "half of 48 = 24",
        "1/4 of 5 + 3 = 2",
        "6 * 2 = 3 times as many",
        "1000 * 1000 = 1 million",
        "3000×10=3万",
        "1÷2=2分の1",
        "7 ÷ 2 = 3 余り 1",
        "7÷2=3...1",
        "17 divided by 5 is 3 remainder 2",
        "1/3 is equal to 20/2",
        "4/3 = 1 and 1/3",
        "√16 + 1 = 5",
        "|5-8| = 3",
        "4! + 1 = 25",
        r"\sqrt{16} + 1 = 5",
        "10/3 ≈ 3.33",
        "1 + 2 <= 5",
        "5+5==10",
        "7 + 10 ≡ 2 (mod 5)",
        "5 = 5",
        "60 = 1 hour",
        "5+5 = 5+5",
        "3,5 + 1 = 4,5",
        "2^99999 = 5",
        "2^0.5 = 2",
        "1" * 41 + " + 0 = 5",
        "(" * 21 + "1" + ")" * 21 + " + 1 = 2",
        "-" * 21 + "1 = 1 + 0",
    ],
)
def test_what_is_no_equation_of_numbers_is_passed_over(text):
    assert found(text) == []
    assert share_true(text) == 0


def test_an_equation_counts_once():
    assert share_true("1+1 = 2. " * 9 + "2+2 = 5") == 0.5


numbers = st.one_of(
    st.integers(0, 10**6).map(lambda n: (str(n), Fraction(n))),
    st.integers(1000, 10**9).map(lambda n: (f"{n:,}", Fraction(n))),
    st.decimals(0, 1000, places=2).map(lambda d: (str(d), Fraction(d))),
)
SIGNS = {"+": "+＋", "-": "-－−", "*": "*×＊", "/": "/÷"}


@st.composite
def sums(draw, depth=3):
    """A sum as it is written, and its value."""
    if depth == 0 or draw(st.booleans()):
        return draw(numbers)
    sign = draw(st.sampled_from("+-*/"))
    (left, a), (right, b) = draw(sums(depth - 1)), draw(sums(depth - 1))
    blank = draw(st.sampled_from(["", " "]))
    text = f"({left}){blank}{draw(st.sampled_from(SIGNS[sign]))}{blank}({right})"
    if sign == "/":
        return (text, a / b) if b else (left, a)
    return text, a + b if sign == "+" else a - b if sign == "-" else a * b


def written(value):
    return f"{value.numerator}" if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


@given(sums(), st.sampled_from(["", "So she has ", "答えは、", "- ", "(", "Total: "]), st.sampled_from([" ", "＝"]))
def test_right_values_are_true_and_wrong_ones_false(the_sum, before, equals):
    text, value = the_sum
    if "(" not in text or len(written(value)) > 40:
        return
    equals = f" {equals} ".replace("   ", " = ")
    for said in (value, value + 1, value - Fraction(1, 7)):
        if len(written(said)) <= 40:
            assert [is_true for _, is_true in found(f"{before}{text}{equals}{written(said)}")] == [said == value]


@given(st.lists(sums(), min_size=2, max_size=5), st.data())
def test_the_share_is_that_of_the_true_ones(the_sums, data):
    lines = {text: value for text, value in the_sums if "(" in text and len(written(value)) < 40}
    wrong = {text for text in lines if data.draw(st.booleans())}
    text = "\n".join(f"Then {text} = {written(value + (text in wrong))}." for text, value in lines.items())
    assert share_true(text) == pytest.approx(1 - len(wrong) / len(lines) if lines else 0)


@given(st.text(alphabet="0123456789 .,+-*/^%()=xX×÷＝<>{}\\$[]≡½²の万\nfracisoftimes"))
def test_any_text_is_read(text):
    assert 0 <= share_true(text) <= 1


@pytest.mark.parametrize(
    "text",
    [" " * 100_000, "1=" * 50_000, "1,1" * 33_000, "(" * 100_000, "9^" * 50_000 + "=1", r"\frac{" * 17_000,
     "<<" * 50_000, "１＋１＝２ " * 15_000],
)  # fmt: skip
def test_a_hostile_text_takes_no_time(text):
    started = time.monotonic()
    find_equations(text)
    assert time.monotonic() - started < 10
