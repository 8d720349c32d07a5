"""Voting: normalised answers are counted, missing ones never win, ties go to the more probable."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.text.election import MAX_COMPARED, MAX_SUBSETS, agree, maj_at_k, pass_at_k, vote

ANSWERS = st.lists(st.sampled_from(["7", "7.0", "８", "8", "nine", None, ""]), min_size=1, max_size=7)


def test_the_majority_wins_over_the_probable():
    result = vote(["39", "40", "39"], [-2.0, -0.1, -1.0])
    assert (result.answer, result.votes, result.total, result.winner) == ("39", 2, 3, 2)
    assert result.agreement == pytest.approx(2 / 3)


def test_spellings_of_one_number_are_one_answer():
    assert vote(["1,080", "1080.0", "１０８０", "12", "12"], [0.0] * 5).votes == 3
    assert vote(["7 remainder 3", "7 remainder 3", "3"], [0.0] * 3).answer == "7 remainder 3"


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["3", "3", "1/2", r"\frac12", "0.5"], "1/2"),
        (["20", "18 eggs", "18"], "18"),
        (["大阪", "「東京」です", "東京"], "東京"),
        (["大阪", "東京（とうきょう）", "**東京**"], "**東京**"),
        (["7 remainder 3", "7", "7"], "7"),
        (["19", "$18", "十八", "18.0"], "$18"),
        (["19", "19", "18 eggs", "18 hens", "18"], "18"),
        (["19 km", "18 km", "18 m", "19 km"], "19 km"),
    ],
)
def test_equal_answers_count_together_and_the_plainest_stands_for_them(answers, winner):
    assert vote(answers, [0.0] * len(answers)).answer == winner


def test_what_a_grader_holds_equal_counts_together():
    def same(predicted, accepted):
        return predicted is not None and predicted.replace(" ", "") in [answer.replace(" ", "") for answer in accepted]

    answers = ["x+2", "x + 1", "x+ 1", "x +1", "y", None]
    assert vote(answers, [0.0] * 6).votes == 1
    assert vote(answers, [0.0, -1.0, -2.0, -1.5, 0.0, 0.0], same).answer == "x + 1"
    assert agree(answers, same) == ["x+2", "x + 1", "x + 1", "x + 1", "y", None]
    assert vote(agree(answers, same), [0.0] * 6).votes == 3


def test_a_grader_is_asked_a_bounded_number_of_times():
    asked = []

    def never(predicted, accepted):
        asked.append(predicted)
        return False

    assert len(set(agree([f"x{i}" for i in range(200)], never))) == 200
    assert len(asked) <= 200 * MAX_COMPARED
    assert agree(["a", "b"], lambda predicted, accepted: predicted == "b") == ["a", "b"], "one way is not equal"


def test_missing_answers_never_win():
    assert vote([None, None, "", "5"], [0.0] * 4).answer == "5"
    nobody = vote([None, "", " "], [0.0] * 3)
    assert (nobody.answer, nobody.winner, nobody.agreement) == (None, None, 0.0)


def test_ties_go_to_the_higher_mean_log_probability():
    assert vote(["1", "2"], [-2.0, -1.0]).answer == "2"
    assert vote(["1", "2", "1", "2"], [-1.0, -3.0, -2.0, -0.5]).answer == "1"
    assert vote(["1", "2"], [-1.0, -1.0]).answer == "1"


@given(ANSWERS, st.data())
def test_order_changes_nothing_but_the_index(answers, data):
    logprobs = [-float(i) / 3 for i in range(len(answers))]
    order = data.draw(st.permutations(range(len(answers))))
    given_, shuffled = vote(answers, logprobs), vote([answers[i] for i in order], [logprobs[i] for i in order])
    assert given_.votes == shuffled.votes
    if given_.winner is not None:
        members = [i for i in range(len(answers)) if answers[i] == given_.answer]
        assert given_.winner in members


def test_maj_at_k_is_the_mean_over_subsets():
    answers, correct = ["1", "2", "2", None], [True, False, False, False]
    logprobs = [-1.0, -2.0, -2.0, 0.0]
    for k in (1, 2, 3, 4):
        outcomes = []
        for subset in combinations(range(4), k):
            result = vote([answers[i] for i in subset], [logprobs[i] for i in subset])
            outcomes.append(result.answer == "1")
        assert maj_at_k(answers, logprobs, correct, k) == pytest.approx(sum(outcomes) / len(outcomes))


def test_many_traces_are_sampled_and_reproducible():
    answers = [str(i % 3) for i in range(20)]
    correct = [answer == "0" for answer in answers]
    first = maj_at_k(answers, [0.0] * 20, correct, 10)
    assert first == maj_at_k(answers, [0.0] * 20, correct, 10)
    assert 0.0 < first < 1.0
    assert MAX_SUBSETS < 184_756


@pytest.mark.parametrize("correct", range(6))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(correct):
    for k in range(1, 6):
        subsets = list(combinations(range(5), k))
        share = sum(any(i < correct for i in subset) for subset in subsets) / len(subsets)
        assert pass_at_k(correct, 5, k) == pytest.approx(share)
