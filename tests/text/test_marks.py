"""Where a text says its answer."""

import pytest

from latent_gemma.text.marks import behind_reasoning, has_prose, last_clause, mathematics, said_answer


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("42", "42"),
        ("<think>a</think> 42", " 42"),
        ("<reasoning>a</reasoning><answer>42", "42"),
        ("<answer>42</answer> so", "42"),
        ("<think>a</think><think>b", None),
        ("<Thinking>a", None),
        ("<reasoning>a<answer>42", "42"),
    ],
)
def test_what_stands_behind_the_reasoning(text, rest):
    assert behind_reasoning(text) == rest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The answer is 42. Good.", "42"),
        ("the final answer would be: 4.2", "4.2"),
        ("ANSWER: x", "x"),
        ("The answers are 1 and 2.", "1 and 2"),
        ("The answer to the question about pens is 7", "7"),
        ("the answer is 1, no, the answer is 2", "2"),
        ("答えは、東京です。首都です。", "東京です"),
        ("正解：東京", "東京"),
        ("回答は\n東京", "東京"),
        ("東京が正解です。", "東京"),
        ("「蛍の光」が答えだ。", "「蛍の光」"),
        ("answering", None),
        ("", None),
    ],
)
def test_what_is_said_to_be_the_answer(text, said):
    assert said_answer(text) == said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("we get $x = 2$ and $y$", ["x = 2", "y"]),
        (r"so \( \frac12 \), \[ 3 \] and $$4$$", [r"\frac12", "3", "4"]),
        ("$5 and $6 make $11", []),
        ("$125.0 + $96.0", []),
        ("$the whole cost$", []),
        (r"$\text{the cost} = 5$", [r"\text{the cost} = 5"]),
        (r"\begin{x}$1$", ["1"]),
        ("none", []),
    ],
)
def test_mathematics_is_told_from_prices(text, found):
    assert mathematics(text) == found


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("So the solution is x >= 5.", ["x >= 5"]),
        (r"First 2. The area is 12\pi", [r"12\pi"]),
        ("面積は2√3です。", ["2√3"]),
        ("The capital is Paris.", []),
        ("x + 1", []),
        ("", []),
    ],
)
def test_the_expression_that_ends_a_sentence(text, clause):
    assert last_clause(text) == clause


@pytest.mark.parametrize(
    ("text", "prose"),
    [
        ("the cat", True),
        ("It is 5", True),
        ("2x + ab", False),
        (r"\sin x \text{ if }", False),
        ("東京都", True),
        ("5 kg", False),
    ],
)
def test_words_outside_of_commands(text, prose):
    assert has_prose(text) == prose
