import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_gemma.text.answers import Grade, answers_match, candidate, extract_answer, grade


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer> 42 </answer>", "42"),
        ("<answer>1</answer> no, <answer>2</answer>", "2"),
        ("<answer>left open <answer>3</answer>", "3"),
        ("steps\n#### 1,080", "1,080"),
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        ("<answer>5</answer> #### 6", "5"),
        ("<answer>5</answer> <answer> </answer>", "5"),
        (r"#### Step 2\nso \boxed{7}", "7"),
        (r"\boxed{7} #### 8", "8"),
        (r"<answer>so \boxed{7}</answer>", "7"),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", "1, 2, 3"),
        ("<think>#### 6</think>#### 7", "7"),
    ],
)
def test_marked_answers_are_found_strictly_and_leniently(text, answer):
    assert extract_answer(text, strict=True) == extract_answer(text, strict=False) == answer


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "The answer is 42.",
        "<answer>42",
        "<think>#### 42",
        "<think>#### 42</think>",
        r"\boxed{4{2}",
        "####",
        "#### \n",
        "",
    ],
)
def test_nothing_unmarked_is_strict(text):
    assert extract_answer(text, strict=True) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 42 apples.", "42"),
        ("The answer is 3.5. Not 7.", "3.5"),
        ("The answer is: **Paris**. It is big.", "Paris"),
        ("Answer: -7", "-7"),
        ("計算すると、答えは１２個です。3人", "12"),
        ("答えは東京です。", "東京"),
        ("答え：5", "5"),
        ("答え 8", "8"),
        ("so 10-4 and 48/2=24", "24"),
        ("10-4", "10-4"),
        ("it fell to -$1,250.50", "-$1,250.50"),
        ("from 3 to 7", "from 3 to 7"),
        ("18 (not 17)", "18"),
        ("<think>It may be 7", None),
        ("<think>It may be 7</think>8", "8"),
        ("<answer>9", "9"),
        ("it is −3", "-3"),
        ("a half, 1/2", "1/2"),
        ("Tom is a lempus.", "Tom is a lempus."),
        ("word " * 30, None),
        ("  ", None),
    ],
)
def test_lenient_rules(text, answer):
    assert extract_answer(text, strict=False) == answer


@pytest.mark.parametrize(
    ("predicted", "accepted"),
    [("0.50", ".5"), (".5", "1/2"), ("1/2", "0.50"), ("1,080", "1080"), ("$5.00", "5"), ("Ｔｏｋｙｏ", "tokyo")],
)
def test_same_value_matches_both_ways(predicted, accepted):
    assert answers_match(predicted, [accepted])
    assert answers_match(accepted, ["other", predicted])


@pytest.mark.parametrize(
    ("predicted", "accepted"),
    [
        (None, "1"),
        ("", ""),
        (".", "."),
        ("1e3", "1000"),
        ("2*3", "6"),
        ("0.333", "1/3"),
        ("12", "1"),
        ("x" * 1001,) * 2,
    ],
)
def test_what_does_not_match(predicted, accepted):
    assert not answers_match(predicted, [accepted])


def test_no_accepted_answer_matches_nothing():
    assert not answers_match("1", [])


@pytest.mark.parametrize(
    ("generated", "accepted", "expected"),
    [
        (" 39\n", ["39"], Grade(True, True, "39")),
        ("7 remainder 2", ["7 remainder 2"], Grade(True, True, "7 remainder 2")),
        ("it is <answer>39</answer>", ["39.0"], Grade(True, True, "39")),
        ("The answer is 39.", ["39"], Grade(False, True, "39")),
        ("答えは1600年代です。", ["1600年代"], Grade(False, True, "1600")),
        ("39 or 40", ["39"], Grade(False, False, "39 or 40")),
        ("<answer>39 km</answer>", ["39"], Grade(True, True, "39 km")),
        ("39 km", ["39"], Grade(True, True, "39 km")),
        ("He walks 39 km.", ["39"], Grade(False, True, "39")),
        ("東京です。", ["東京"], Grade(True, True, "東京です。")),
        ("東京です。首都ですから。", ["東京"], Grade(False, True, "東京です。首都ですから。")),
        ("<reasoning>39", ["39"], Grade(False, False, None)),
        ("", ["39"], Grade(False, False, None)),
    ],
)
def test_grade(generated, accepted, expected):
    assert grade(generated, accepted) == expected


frames = st.sampled_from(
    ["{}", " {}\n", "so <answer>{}</answer>", "#### {}", "\\boxed{{{}}}", "The answer is {}.", "{} 7"]
)


@settings(max_examples=100)
@given(frames, st.text("12.ab ", min_size=1, max_size=4), st.lists(st.text("12.ab ", max_size=4), max_size=3))
def test_right_answers_are_graded_alike_in_every_frame(frame, answer, others):
    result = grade(frame.format(answer), [*others, answer])
    assert result.lenient or not result.strict
    unframed = frame.strip() == "{}"
    if answers_match(answer, [answer]) and (unframed or frame[0] in "s#\\"):
        assert result.strict


@pytest.mark.parametrize(
    "piece",
    [
        "<answer>",
        "</answer>",
        "#### ",
        "\\boxed{",
        "answer is ",
        "答えは",
        "1,111",
        "-",
        "1/",
        "answer ",
        "が答えです",
        "$",
        "\\(",
        "\\[",
        "(",
        "\\frac{",
        "\\frac{1}{2}",
        "\\text{",
        "**",
        "一",
        "3分の",
        "1.",
        "x^",
        "= 1",
        "1 or ",
        "東（",
        "<<",
        "</think>",
        "<think>",
        "です",
        "km^2 ",
        " ",
        "\n",
        "1 000 ",
        "(1, ",
    ],
)
def test_time_is_linear_in_hostile_text(piece):
    started = time.perf_counter()
    result = grade(piece * (200_000 // len(piece)), ["1"])
    assert time.perf_counter() - started < 3
    assert not result.strict


@pytest.mark.parametrize(
    ("text", "given_"),
    [
        ("<reasoning>1 plus 2 is 3.</reasoning><answer>3</answer>", "3"),
        ("<answer></answer>", None),
        ("<answer>the answer is 14 cups</answer>", "14 cups"),
        ("<reasoning>6 times 7 is 42", None),
        ("<think>6 times 7 is 42", None),
        ("<think>6 times 7</think>42", "42"),
        ("<reasoning>a</reasoning><answer>42", "42"),
        ("7 remainder 3", "7 remainder 3"),
        ("So the answer is 39.", "39"),
        ("東京", "東京"),
        ("Half of it, 20, " + "and so on " * 20 + "is 19", "19"),
        ("no number here " * 20, None),
        ("  ", None),
        ("", None),
    ],
)
def test_what_a_text_votes_for(text, given_):
    assert candidate(text) == given_
