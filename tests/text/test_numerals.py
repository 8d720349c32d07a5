"""One number at a place of a text, in every notation."""

import time
from fractions import Fraction

import pytest

from latent_gemma.text.numerals import MAX_DIGITS, numeral_at


@pytest.mark.parametrize(
    ("text", "value", "rest"),
    [
        ("42 apples", 42, " apples"),
        ("1,234,567.5", Fraction("1234567.5"), ""),
        ("1 234 567", 1234567, ""),
        ("1,2345", 1, ",2345"),
        (".5", Fraction(1, 2), ""),
        ("3/4", Fraction(3, 4), ""),
        ("3 1/4 cups", Fraction(13, 4), " cups"),
        ("3 and 1/4", Fraction(13, 4), ""),
        ("3 5/4", 3, " 5/4"),
        ("3/4/5", 3, "/4/5"),
        ("2 x 10^3", 2000, ""),
        ("2.5×10^{-2}", Fraction(1, 40), ""),
        ("6.6e-34", Fraction(66, 10**35), ""),
        ("1e3", 1, "e3"),
        ("2^10", 1024, ""),
        ("2**10", 1024, ""),
        ("0.(3)", Fraction(1, 3), ""),
        ("0.1(6)", Fraction(1, 6), ""),
        ("2:00 pm", 2, " pm"),
        ("2:05", 2, ":05"),
        ("5 million", 5_000_000, ""),
        ("70k", 70_000, ""),
        ("5 kg", 5, " kg"),
        ("12万円", 120_000, "円"),
        ("1万2千", 12_000, ""),
        ("3.5億", 350_000_000, ""),
        ("4千克", 4, "千克"),
        ("二十四個", 24, "個"),
        ("二〇二四年", 2024, "年"),
        ("一・五", Fraction(3, 2), ""),
        ("三点一四", Fraction(157, 50), ""),
        ("百二十三万四千", 1_234_000, ""),
        ("3分の2", Fraction(2, 3), ""),
        ("1と3分の2", Fraction(5, 3), ""),
        ("1と2", 1, "と2"),
    ],
)
def test_the_longest_number_is_read(text, value, rest):
    number = numeral_at(text, 0)
    assert number.values[0] == value
    assert text[number.end :] == rest


@pytest.mark.parametrize(
    ("text", "values"),
    [("35%", [35, Fraction(7, 20)]), ("3割", [3, Fraction(3, 10), 30]), ("3割5分", [Fraction(7, 20), 35])],
)
def test_shares_have_several_readings(text, values):
    assert list(numeral_at(text, 0).values) == values


@pytest.mark.parametrize(
    "text", ["1.2.3", "1/0", "9" * (MAX_DIGITS + 1), "10^9999", "9^{9999}", "0^-1", "2 x 10^99999"]
)
def test_digits_without_a_value_are_read_over(text):
    assert numeral_at(text, 0) == ((), len(text))


@pytest.mark.parametrize("text", ["apples", "-5", "x1", " 5", "万", "$5"])
def test_where_no_number_begins(text):
    number = numeral_at(text, 0)
    assert number is None or not number.values


@pytest.mark.parametrize("piece", ["9", "1,234", "1 234", "一", "九千", "1.", "1/", "3分の", "1と", "2^"])
def test_time_is_linear(piece):
    started = time.perf_counter()
    numeral_at(piece * (200_000 // len(piece)), 0)
    assert time.perf_counter() - started < 1
