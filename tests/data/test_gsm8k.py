import json
from fractions import Fraction

import pytest

from latent_gemma.data.gsm8k import parse_gsm8k, parse_internalized
from latent_gemma.data.local import read_file
from latent_gemma.text.normalize import parse_number

ANSWER = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether <<48+24=72>>72.\n#### 1,072"


@pytest.mark.parametrize(
    ("steps_format", "steps"),
    [
        ("natural", ("Natalia sold 48/2 = 24 clips in May.", "Altogether 72.")),
        ("expression", ("<<48/2=24>>", "<<48+24=72>>")),
        ("result", ("24", "72")),
    ],
)
def test_steps_formats(steps_format, steps):
    example = parse_gsm8k("How many?", ANSWER, steps_format)
    assert (example.question, example.steps, example.answer) == ("How many?", steps, "1072")


@pytest.mark.parametrize("answer", ["no mark", "steps\n####", "####  "])
def test_an_answer_without_a_final_one_is_none(answer):
    assert parse_gsm8k("How many?", answer, "natural") is None


@pytest.mark.parametrize(
    ("steps_format", "steps"),
    [
        ("natural", ("<<4-2=2>>", "<<2/.5=4>>")),
        ("expression", ("<<4-2=2>>", "<<2/.5=4>>")),
        ("result", ("2", "4")),
    ],
)
def test_internalized_lines(steps_format, steps):
    example = parse_internalized("How much?||<<4-2=2>> <<2/.5=4>> #### 5,000\n", steps_format)
    assert (example.question, example.steps, example.answer) == ("How much?", steps, "5000")


@pytest.mark.parametrize("steps_format", ["natural", "expression", "result"])
def test_working_without_annotations_is_one_step(steps_format):
    assert parse_internalized("1 2 * 3||6 3 #### 6 3", steps_format).steps == ("6 3",)
    assert parse_internalized("1 + 1||#### 2", steps_format).steps == ()


@pytest.mark.parametrize("line", ["", "question", "question||steps", "q #### 3", "||s #### 3", "q||s ####"])
def test_other_lines_are_none(line):
    assert parse_internalized(line, "natural") is None


def value_of(expression):
    """The value of a bare arithmetic expression of the data set, as a fraction."""
    assert set(expression) <= set("0123456789.+-*/()")
    numbers = "".join(f"F('{token}')" if token[0] in "0123456789." else token for token in tokens(expression))
    return eval(numbers, {"F": Fraction})


def tokens(expression):
    found = [""]
    for character in expression:
        if character in "+-*/()":
            found += [character, ""]
        else:
            found[-1] += character
    return [token for token in found if token]


def test_all_published_rows_load_and_their_expressions_hold(published):
    path = published("gsm8k/train.jsonl")
    natural, expression, result = (list(read_file(path, None, f)) for f in ("natural", "expression", "result"))
    assert len(natural) == 7473
    assert not any("<<" in step or "####" in step for example in natural for step in example.steps)
    assert all(parse_number(example.answer) is not None and "," not in example.answer for example in natural)
    for expressions, results in zip(expression, result, strict=True):
        for step, value in zip(expressions.steps, results.steps, strict=True):
            left, stated = step[2:-2].rsplit("=", 1)
            assert stated == value
            assert abs(value_of(left) - value_of(stated)) < Fraction(1, 100)


def test_expressions_equal_those_published_as_expressions(published):
    ours = list(read_file(published("gsm8k/train.jsonl"), None, "expression"))
    theirs = list(read_file(published("gsm8k_expr/train_from_gsm8k.jsonl")))
    assert [(e.question.strip(), e.steps, e.answer) for e in theirs] == [(e.question, e.steps, e.answer) for e in ours]


def test_published_validation_lines_are_rows_of_the_training_file(published):
    rows = list(read_file(published("gsm8k_expr/valid.txt")))
    train = {example.question: example for example in read_file(published("gsm8k_expr/train_from_gsm8k.jsonl"))}
    indices = json.loads(published("gsm8k_expr/valid_idx_in_train.json").read_text())
    assert len(rows) == len(indices) == 500
    same = [row.answer == train[row.question].answer for row in rows if row.question in train]
    assert len(same) > 450
    assert all(same)


@pytest.mark.parametrize("name", ["4_by_4", "5_by_5"])
def test_published_multiplications_are_right(published, name):
    rows = list(read_file(published(f"multiplication/{name}_mult_valid.txt")))
    assert len(rows) == 1000

    def number(digits):
        return int("".join(reversed(digits.split())))

    for row in rows:
        left, right = row.question.split(" * ")
        assert number(left) * number(right) == number(row.answer)
