import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.errors import ConfigError, DataError
from latent_gemma.evaluation.metrics.fuzzy import FuzzyScore, fuzzy, fuzzy_score


@pytest.mark.parametrize(
    ("predicted", "accepted", "score"),
    [
        ("Ｔｏｋｙｏ.", ["tokyo"], 100.0),
        ("abcd", ["wxyz", "abce"], 75.0),
        ("マイケル・ジャクソン", ["マイケルジャクソン"], 100 * 18 / 19),
        ("", [""], 0.0),
        ("。", ["東京"], 0.0),
        ("東京", [], 0.0),
    ],
)
def test_best_ratio_of_the_normalised_texts(predicted, accepted, score):
    assert fuzzy_score(predicted, accepted) == pytest.approx(score)


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=3))
def test_scores_lie_between_0_and_100_and_more_answers_never_hurt(predicted, accepted):
    score = fuzzy_score(predicted, accepted)
    assert 0 <= score <= 100
    assert fuzzy_score(predicted, [*accepted, "x"]) >= score


def test_mean_and_share_at_the_threshold():
    predictions, references = ["abcd", "abcd", ""], ["abce", ["zzz", "abcd"], "a"]
    assert fuzzy(predictions, references) == FuzzyScore(pytest.approx(175 / 3), pytest.approx(1 / 3), 80.0)
    assert fuzzy(predictions, references, threshold=75).share == pytest.approx(2 / 3)


def test_a_page_of_text_takes_little_time():
    started = time.perf_counter()
    fuzzy_score("ab" * 2**20, ["ba" * 2**20])
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("threshold", [-1, 100.5, float("nan")])
def test_a_threshold_off_the_scale_is_refused(threshold):
    with pytest.raises(ConfigError, match="outside"):
        fuzzy(["a"], ["a"], threshold)


@pytest.mark.parametrize(
    ("predictions", "references", "problem"),
    [
        (["a"], [], "1 predictions for 0 references"),
        ([], [], "no prediction"),
        (["a", "b"], ["a", []], "item 2 has no reference"),
    ],
)
def test_items_that_do_not_fit_are_refused(predictions, references, problem):
    with pytest.raises(DataError, match=problem):
        fuzzy(predictions, references)
