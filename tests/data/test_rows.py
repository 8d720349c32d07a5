import pytest

from latent_gemma.data.example import Example
from latent_gemma.data.rows import FileColumns, parse_row
from latent_gemma.errors import DataError


def read(row, columns=None, steps_format="natural"):
    return parse_row(row, columns, steps_format, "data.jsonl, line 3")


@pytest.mark.parametrize(
    ("row", "example"),
    [
        ({"question": "Q", "answer": "so <<1+1=2>>2\n#### 1,002"}, Example("Q", ("so 2",), "1002")),
        ({"question": "Q", "steps": ["a", "b"], "answer": "2", "idx": 0}, Example("Q", ("a", "b"), "2")),
        ({"question": "Q", "steps": "a\n\nb\n", "answer": "2"}, Example("Q", ("a", "b"), "2")),
        ({"question": "Q", "steps": [24, 72.5], "answer": 7}, Example("Q", ("24", "72.5"), "7")),
        ({"question": "Q", "steps": None, "answer": "2"}, Example("Q", (), "2")),
        ({"question": "Q", "answer": "2", "accepted": ["two"]}, Example("Q", (), "2", accepted=("two",))),
        ({"problem": "Q", "answer": "72", "llama8b_solve_rate": None}, Example("Q", (), "72")),
        ({"input": "Q", "target": 14.0}, Example("Q", (), "14")),
        ({"input": "Q", "target": 1e-05}, Example("Q", (), "0.00001")),
        ({"instruction": "訳せ。", "input": "A cat.", "output": "猫"}, Example("訳せ。\nA cat.", (), "猫", "ja")),
        ({"instruction": "Why?", "input": "", "output": "So."}, Example("Why?", (), "So.")),
        ({"original_question": "何？", "original_answer": "猫"}, Example("何？", (), "猫", "ja")),
        (
            {"prompt": "Solve 24 + 15", "completion": "<reasoning>a\nb</reasoning><answer>39</answer>"},
            Example("Solve 24 + 15", ("a", "b"), "39"),
        ),
        ({"prompt": "Q", "completion": "<answer>39</answer>"}, Example("Q", (), "39")),
        ({"prompt": "Q", "completion": "39"}, Example("Q", (), "39")),
    ],
)
def test_published_formats_are_recognised(row, example):
    assert read(row) == example


def test_given_columns_are_taken_at_their_word():
    row = {"instruction": "Q", "input": "more", "output": "x", "gold": "A", "how": "s"}
    assert read(row, FileColumns("instruction", "how", "gold")) == Example("Q", ("s",), "A")


@pytest.mark.parametrize(
    ("steps_format", "steps"),
    [
        ("natural", ("so 24 clips", "<<24+1=25>>")),
        ("expression", ("<<48/2=24>>", "<<24+1=25>>")),
        ("result", ("24", "25")),
    ],
)
def test_annotated_steps_follow_the_format(steps_format, steps):
    row = {"question": "Q", "steps": ["so <<48/2=24>>24 clips", "<<24+1=25>>"], "answer": "25"}
    assert read(row, steps_format=steps_format).steps == steps


def test_steps_without_annotations_are_the_same_in_every_format():
    row = {"question": "Q", "steps": ["Tom is a cat.", "Cats purr."], "answer": "Tom purrs."}
    assert read(row, steps_format="result").steps == ("Tom is a cat.", "Cats purr.")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (None, "null"),
        ("", "nothing"),
        (" \n", "nothing"),
        (float("nan"), "NaN"),
        (float("inf"), "infinity"),
        (True, "true"),
        ([1], "a list"),
        ({"a": 1}, "an object"),
        ("\ud83d", "text that is no valid Unicode"),
    ],
)
def test_a_wrong_answer_is_named(answer, found):
    with pytest.raises(DataError) as caught:
        read({"question": "Q", "answer": answer})
    assert str(caught.value) == f"data.jsonl, line 3, column 'answer': expected text or a number, found {found}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "", "answer": "1"}, "column 'question': expected text or a number, found nothing"),
        ({"question": "Q", "answer": "steps\n####"}, "column 'answer': expected an answer after ####, found nothing"),
        ({"question": "Q", "steps": {}, "answer": "1"}, "'steps': expected a list of texts or a text, found an object"),
        ({"question": "Q", "steps": ["a", None], "answer": "1"}, "'steps': expected a list of texts, found null in it"),
        ({"prompt": "Q", "completion": "<reasoning>a</reasoning>39"}, "column 'completion': expected <reasoning>"),
        ({"prompt": "Q", "completion": "<reasoning>a</reasoning><answer> </answer>"}, "column 'completion': expected"),
        ({"ask": "Q", "reply": "1"}, "expected columns 'question' and 'answer', found ask, reply: name them"),
        ({}, "found none"),
        ([1], "expected an object with named columns, found a list"),
        (3.5, "found a number"),
        ("text", "found text"),
    ],
)
def test_a_malformed_row_is_named(row, message):
    with pytest.raises(DataError) as caught:
        read(row)
    assert str(caught.value).startswith("data.jsonl, line 3")
    assert message in str(caught.value)


def test_a_missing_column_lists_those_there_are():
    with pytest.raises(DataError, match=r"column 'gold': .* found no such column: the columns are question, answer"):
        read({"question": "Q", "answer": "1"}, FileColumns(answer="gold"))
