"""Rewards as named functions of texts."""

import time

import pytest

from latent_gemma.errors import ConfigError
from latent_gemma.text.rewards import (
    BrokenTagsReward,
    CorrectnessReward,
    FormatReward,
    ShortReasoningReward,
    StepsReward,
    load_reward,
    reward_name,
)

GOOD = "<reasoning>20 plus 19 is 39.</reasoning><answer>39</answer>"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (GOOD, (2.0, 25.0, 0.0, 0.0)),
        (GOOD.replace("<answer>39", "<answer>40"), (2.0, 0.0, 0.0, 0.0)),
        ("<answer>39</answer>", (0.0, 25.0, 0.0, -2.0)),
        ("<reasoning>20 plus 19 is 39.<answer>39</answer>", (0.0, 25.0, -15.0, 0.0)),
        ("<reasoning></reasoning><answer>39.0</answer>", (2.0, 25.0, 0.0, -2.0)),
        ("the answer is 39", (0.0, 0.0, 0.0, -2.0)),
        ("39", (0.0, 10.0, 0.0, -2.0)),
        ("#### 39", (0.0, 10.0, 0.0, -2.0)),
        ("<think>20 + 19</think>39", (0.0, 10.0, 0.0, -2.0)),
        (GOOD.replace("39</answer>", "39 apples</answer>"), (2.0, 25.0, 0.0, 0.0)),
        (GOOD.replace("39</answer>", "**39**</answer>"), (2.0, 25.0, 0.0, 0.0)),
        (GOOD.replace("39</answer>", "答えは39個です</answer>"), (2.0, 25.0, 0.0, 0.0)),
        (GOOD.replace("39</answer>", "39 or 40</answer>"), (2.0, 0.0, 0.0, 0.0)),
        (f"Sure! {GOOD}", (0.0, 25.0, 0.0, 0.0)),
        (f"{GOOD} No, 40.", (0.0, 25.0, 0.0, 0.0)),
        (GOOD.replace("<answer>", "so <answer>"), (0.0, 25.0, 0.0, 0.0)),
        (f"\n{GOOD}\n", (2.0, 25.0, 0.0, 0.0)),
        ("", (0.0, 0.0, 0.0, -2.0)),
    ],
)
def test_the_published_sizes(completion, expected):
    rewards = (FormatReward(), CorrectnessReward(), BrokenTagsReward(), ShortReasoningReward())
    assert tuple(reward("Solve 20 + 19", completion, ("39",)) for reward in rewards) == expected


def test_work_is_shown_from_the_least_number_of_characters_on():
    reward = ShortReasoningReward(least_chars=5)
    assert [reward("", f"<reasoning>{text}</reasoning>", ()) for text in ("2+2=", "2+2=4")] == [-2.0, 0.0]


QUESTION = "Mika has 6 boxes of 7 pens. How many pens has she?"


@pytest.mark.parametrize(
    "reasoning",
    [
        "6 times 7 is 42.",
        "6 x 7 = 42",
        "2.5 + 39.5 = 42.0",
        "7 + 7 + 7 + 7 + 7 + 7 = 42",
        "6かける7は42です。",
        f"{QUESTION} Six times seven is 42.",
    ],
)
def test_work_is_worth_all(reasoning):
    assert ShortReasoningReward()(QUESTION, f"<reasoning>{reasoning}</reasoning>", ()) == 0.0


@pytest.mark.parametrize(
    "reasoning",
    [".....", "- - - - - -", "so so so so", "so " * 99, "so then " * 30, "ああああああ", "42 42 42", QUESTION,
     QUESTION * 3, "Mika has 6 boxes", f"{QUESTION} 42", "boxes of pens has Mika"],
)  # fmt: skip
def test_what_shows_no_work(reasoning):
    assert ShortReasoningReward()(QUESTION, f"<reasoning>{reasoning}</reasoning>", ()) == -2.0


@pytest.mark.parametrize("piece", [".", "so ", "1+", "あ", "a b c "])
def test_work_is_looked_for_in_linear_time(piece):
    started = time.perf_counter()
    ShortReasoningReward()(QUESTION, f"<reasoning>{piece * (300_000 // len(piece))}</reasoning>", ())
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize(
    ("reasoning", "share"),
    [("20 plus 19 is 39.", 1), ("20 + 19 = 39, 2 + 2 = 5", 0.5), ("20 + 19 = 40", 0), ("Add them.", 0), ("", 0)],
)
def test_steps_are_paid_by_the_share_that_is_true(reasoning, share):
    completion = f"<reasoning>{reasoning}</reasoning><answer>1+1=2</answer>"
    assert StepsReward(score=4.0)("", completion, ("39",)) == 4 * share


def test_names_are_columns():
    rewards = (FormatReward(), CorrectnessReward(), BrokenTagsReward(), ShortReasoningReward(), StepsReward())
    assert [reward_name(r) for r in rewards] == ["format", "correctness", "broken_tags", "short_reasoning", "steps"]
    assert reward_name(len) == "len"


def test_a_users_reward_is_imported():
    assert load_reward("math:sqrt")(9) == 3


@pytest.mark.parametrize("path", ["math", ":sqrt", "math:", "math:nothing", "no_such_module_here:f", "math:pi"])
def test_what_is_no_reward_is_told(path):
    with pytest.raises(ConfigError, match="reward"):
        load_reward(path)
