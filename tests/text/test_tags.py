"""Tags: what is written is read back, and everything else has one of three shapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.text.tags import answer_start, open_answer, parse_tagged, write_tagged

PLAIN = st.text(alphabet=st.characters(blacklist_characters="<>", blacklist_categories=("Cs",)), max_size=30)
PIECES = st.lists(
    st.sampled_from(["<reasoning>", "</reasoning>", "<answer>", "</answer>", "7", " plus ", "\n", "<b>"]), max_size=8
)


@given(st.lists(PLAIN.filter(str.strip), min_size=1, max_size=3), PLAIN)
def test_what_is_written_is_read_back(steps, answer):
    parsed = parse_tagged(write_tagged(steps, answer))
    assert parsed.shape == "complete"
    assert parsed.reasoning == "\n".join(steps).strip()
    assert parsed.answer == answer.strip()


def test_without_steps_the_answer_stands_alone():
    assert write_tagged([], "39") == "<answer>39</answer>"
    assert parse_tagged("<answer>39</answer>").shape == "partial"


@pytest.mark.parametrize(
    ("text", "shape", "answer"),
    [
        ("", "partial", None),
        ("39", "partial", None),
        ("<reasoning>a</reasoning>", "partial", None),
        ("so: <reasoning>a</reasoning> hence <answer>39</answer>.", "complete", "39"),
        ("<reasoning></reasoning><answer></answer>", "complete", ""),
        ("<reasoning>a<answer>39</answer>", "broken", "39"),
        ("<reasoning>a</reasoning><answer>39", "broken", None),
        ("<answer>39</answer><reasoning>a</reasoning>", "broken", "39"),
        ("<reasoning>a</reasoning><answer>1</answer><answer>2</answer>", "broken", "2"),
        ("<reasoning><answer>39</answer></reasoning>", "broken", "39"),
        ("39</answer>", "broken", None),
        ("<Reasoning>a</Reasoning><Answer>39</Answer>", "partial", None),
    ],
)
def test_shapes(text, shape, answer):
    parsed = parse_tagged(text)
    assert (parsed.shape, parsed.answer) == (shape, answer)


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("<reasoning>a</reasoning><answer>39</answer>", True),
        (" \n<reasoning>a</reasoning>\n<answer>39</answer>\n", True),
        ("so: <reasoning>a</reasoning><answer>39</answer>", False),
        ("<reasoning>a</reasoning> hence <answer>39</answer>", False),
        ("<reasoning>a</reasoning><answer>39</answer> or 40", False),
        ("39", False),
    ],
)
def test_what_stands_outside_of_the_tags_is_told(text, alone):
    assert parse_tagged(text).alone == alone


def test_of_several_pairs_the_first_reasoning_and_the_last_answer_count():
    parsed = parse_tagged("<reasoning>a</reasoning><answer>1</answer><reasoning>b</reasoning><answer>2</answer>")
    assert (parsed.reasoning, parsed.answer) == ("a", "2")


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("<reasoning></reasoning><reasoning>b</reasoning><reasoning>c</reasoning>", "b"),
        ("<reasoning> \n<reasoning>b", "b"),
        ("<reasoning>a<answer>39</answer>", "a"),
        ("<reasoning></reasoning><answer>39</answer>", ""),
        ("a</reasoning><answer>39</answer>", ""),
    ],
)
def test_reasoning_is_the_first_that_is_not_empty_up_to_the_next_tag(text, reasoning):
    assert parse_tagged(text).reasoning == reasoning


@given(PIECES)
def test_complete_means_each_tag_once_and_in_order(pieces):
    text = "".join(pieces)
    tags = [piece for piece in pieces if piece in ("<reasoning>", "</reasoning>", "<answer>", "</answer>")]
    complete = tags == ["<reasoning>", "</reasoning>", "<answer>", "</answer>"]
    assert (parse_tagged(text).shape == "complete") == complete


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<reasoning>1</reasoning><answer>2", "<reasoning>1</reasoning><answer>"),
        ("<answer>2</answer>", "<answer>"),
        ("<reasoning>1", "<reasoning>1</reasoning><answer>"),
        ("so it is", "so it is<answer>"),
    ],
)
def test_an_answer_is_opened_behind_the_reasoning(text, expected):
    assert open_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "rest"),
    [("<reasoning>1</reasoning><answer>2", "<answer>2"), ("<reasoning>1", ""), ("<answer>2", "<answer>2"), ("7", "7")],
)
def test_the_answer_starts_where_the_reasoning_ends(text, rest):
    assert text[answer_start(text) :] == rest
