from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_gemma.text.normalize import fold_characters, normalize_answer, parse_number, strip_thousands, undivided


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("  1,080 ", "1080"),
        ("12,345,678.5", "12345678.5"),
        ("１２３", "123"),
        ("−5", "-5"),
        ("–5", "-5"),
        ("$42.", "42"),
        ("42$.", "42"),
        ("\\$42", "42"),
        ("-$5", "-5"),
        ("￥1,000", "1000"),
        ("Tom is a Lempus.", "tom is a lempus"),
        ("東京。", "東京"),
        ("two\n words", "two words"),
        (".5", ".5"),
        ("...", ""),
        ("「東京」", "東京"),
        ("『蛍の 光』", "蛍の 光"),
        ("**Tokyo**", "tokyo"),
        ("'Tokyo.'", "tokyo"),
        ("“Tokyo”", "tokyo"),
        ("it’s", "it's"),
        ("2**10", "2**10"),
        ("x**2", "x**2"),
        ("3½", "3 1/2"),
        ("1\u202f080", "1080"),
        ("(3,100)", "(3,100)"),
        ("[1,080]", "[1,080]"),
    ],
)
def test_one_spelling(written, normal):
    assert normalize_answer(written) == normal


@pytest.mark.parametrize("text", ["1,2", "1,2345", "1,234,56", "(1,2,3)", "0.1,234"])
def test_other_commas_stay(text):
    assert strip_thousands(text) == text


@settings(max_examples=100)
@given(st.text("0123456789,.$€¥ -−–+/%。１aBß東ー", max_size=20))
def test_normal_spelling_is_its_own_normal_spelling(text):
    assert normalize_answer(normalize_answer(text)) == normalize_answer(text)


@settings(max_examples=100)
@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_do_not_change_a_number(number):
    assert parse_number(normalize_answer(f"{number:,}")) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.50", Fraction(1, 2)), (".5", Fraction(1, 2)), ("1/2", Fraction(1, 2)), ("-3", Fraction(-3)), ("50%", 50)],
)
def test_numbers_are_exact(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["1e3", "1/0", "", "-", "seven", "1 2", "0x10", "__import__('os')", "9" * 101, "²"])
def test_all_else_is_no_number(text):
    assert parse_number(text) is None


@pytest.mark.parametrize(("text", "plain"), [("3²", "3^2"), ("x¹²", "x^{12}"), ("10⁻³", "10^{-3}"), ("m²", "m^2")])
def test_superscripts_are_powers_not_digits(text, plain):
    assert fold_characters(text) == plain
    assert normalize_answer(text) != normalize_answer(text.translate(str.maketrans("²¹⁻³", "21-3")))


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("ジョン・レノン", "ジョンレノン"),
        ("ジャン=ジャック ルソー", "ジャンジャックルソー"),
        ("a b", "a b"),
        ("B・B", "B・B"),
        ("1・2", "1・2"),
    ],
)
def test_what_divides_japanese_names_is_taken_away(text, one):
    assert undivided(text) == one
