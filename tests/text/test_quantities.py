"""Numbers that stand for themselves, told from parts of expressions."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.text.quantities import first_number, last_number, quantities, whole_number
from latent_gemma.text.tokens import plain


def written(number):
    return None if number is None else number.text


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("3 boxes of 12", "3", "12"),
        ("x = 5", "5", "5"),
        ("3 x 9 = 27", "27", "27"),
        ("9 * $2 = $18 a day", "18", "18"),
        (r"\sqrt{16} = 4", "4", "4"),
        ("f(2) = 7", "7", "7"),
        ("Profit = Income - Cost = 30", "30", "30"),
        ("6 times 7 is 42", "42", "42"),
        ("18 (not 17)", "18", "18"),
        ("18 (= 9 x 2)", "18", "18"),
        ("18 dollars ($20 - $2)", "18", "18"),
        ("not 17 but 18", "18", "18"),
        ("17ではなく18", "18", "18"),
        ("minus 5", "minus 5", "minus 5"),
        ("マイナス5", "マイナス5", "マイナス5"),
        ("$-5", "-5", "-5"),
        ("- 5 apples", "5", "5"),
        ("27-mile", "27", "27"),
        ("48 cm^2", "48", "48"),
        ("5 m/s^2", "5", "5"),
        ("3 30-minute shows", "3", "30"),
        ("21 years old in 3 years", "21", "3"),
        ("Step 2: 15", "2", "15"),
        ("In 2020, 5 people", None, "5"),
        ("$<<6*7=42>>42", "42", "42"),
        ("a (12)", "12", "12"),
        ("5 > 3", None, None),
        ("x > 3", None, None),
        ("(1, 2)", None, None),
        ("(x, 2)", None, None),
        ("(3,100)", None, None),
        ("[0,7)", None, None),
        ("1,2", None, None),
        ("1, 2", None, None),
        ("39 or 40", None, None),
        ("5個か6個", None, None),
        ("5-7", None, None),
        ("5 to 7", None, None),
        ("5〜7", None, None),
        ("10:45", None, None),
        ("3:4", None, None),
        ("3対4", None, None),
        ("10-4", None, None),
        ("10 minus 4", None, None),
        ("2x + 3", None, None),
        ("2x + y = 0", None, None),
        ("y - x = 5", None, None),
        ("x^2 = 9", None, None),
        ("3 + 4i", None, None),
        (r"5\pi", None, None),
        ("2√3", None, None),
        ("±3", None, None),
        ("204_5", None, None),
        ("42 43", None, None),
        ("3 hours 20 minutes", None, None),
        ("3 hours and 20 minutes", None, None),
        ("5 feet 4 inches", None, None),
        ("1メートル50センチ", None, None),
        ("2024年5月6日", None, None),
        ("2024-05-06", None, None),
        ("March 5", None, None),
        ("the 5th of March", "5", "5"),
        ("COVID-19", None, None),
        ("H2O", None, None),
        ("一番", None, None),
        ("三重県", None, None),
        ("", None, None),
    ],
)
def test_the_first_and_the_last_number(text, first, last):
    assert written(first_number(text)) == first
    assert written(last_number(text)) == last


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("27", ""), ("about $27", ""), ("27 square miles.", "square miles"), ("48 cm^2", "cm^2"), ("60 km/h", "km/h"),
        ("二十四個です", "個"), ("1600年代", "年代"), ("約3.5時間です。", "時間"), ("-5°C", "°c"), ("3/4 cup", "cup"),
        ("(27)", ""),
    ],
)  # fmt: skip
def test_a_number_and_its_unit(text, unit):
    assert whole_number(text).rest == unit


@pytest.mark.parametrize(
    "text",
    ["7 remainder 3", "x = 5", "27 is the answer", "18 (not 17)", "3)", "三色旗", "21エモン", "101回目のプロポーズ",
     "apples", "", "5 " + "very " * 50 + "old"],
)  # fmt: skip
def test_what_is_more_than_a_number(text):
    assert whole_number(text) is None


@given(st.text("0123456789 .,-+*/=()[]{}<>^_x\\√πabc$%円万分のか年", max_size=40))
def test_any_text_is_read_and_nothing_twice(text):
    cut = plain(text)
    found = quantities(cut)
    assert all(0 <= one.start < one.end <= len(cut) for one in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
