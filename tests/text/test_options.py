"""Questions with options: however a model names its letter, the letter counts, and two letters are no answer."""

import pytest

from latent_gemma.text.answers import answers_match, grade, plain_spelling

NAMED = [
    "B", "B.", "B)", "(B)", "(b)", "（Ｂ）", "B) Paris", "(B) Paris", "B. Paris", "B: Paris", "Option B", "option (B)",
    "The choice B", "選択肢B", "The answer is (B).", "The answer is (B) Paris.", "Answer: (B)", "答えは（B）です。",
    "**(B)**", "<answer>(B)</answer>", "<answer>B. Paris</answer>", r"\boxed{B}", r"\boxed{\text{(B)}}", "#### (B)",
]  # fmt: skip
NOT_B = [
    "A", "(A)", "(A) or (B)", "A) and B)", "Both (A) and (B)", "(A) Paris", "B and A", "(B", "(1) B", "Bob", "B Paris",
    "Better", "(Be)",
]  # fmt: skip


@pytest.mark.parametrize("written", NAMED)
@pytest.mark.parametrize("accepted", [["B"], ["Paris", "B"], ["(B)"], ["B) Paris"]], ids=" or ".join)
def test_an_option_is_told_by_its_letter(written, accepted):
    assert grade(written, accepted).lenient


@pytest.mark.parametrize("written", NOT_B)
@pytest.mark.parametrize("accepted", [["B"], ["(B)"]], ids=" or ".join)
def test_another_option_two_of_them_and_words_that_begin_so_are_not_it(written, accepted):
    assert not grade(written, accepted).lenient


def test_an_accepted_option_is_met_by_its_text_as_well():
    assert answers_match("Paris", ["B) Paris"])
    assert not answers_match("London", ["B) Paris"])
    assert not answers_match("A) Paris", ["B) Paris"])


def test_votes_for_an_option_count_together_and_names_with_initials_do_not():
    assert {plain_spelling(vote) for vote in ("B", "(B)", "B)", "Option B", "(B) Paris")} == {"b"}
    assert len({plain_spelling(name) for name in ("J. Smith", "J. Doe")}) == 2
