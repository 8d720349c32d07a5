from itertools import product
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.errors import DataError
from latent_gemma.evaluation.paired import holm, mcnemar


def by_counts(b, c, both=0, neither=0):
    first = [True] * b + [False] * c + [True] * both + [False] * neither
    second = [False] * b + [True] * c + [True] * both + [False] * neither
    return mcnemar(first, second)


@pytest.mark.parametrize("b", range(6))
@pytest.mark.parametrize("c", range(6))
def test_equals_the_count_over_all_splits(b, c):
    splits = [abs(2 * sum(coins) - (b + c)) for coins in product((0, 1), repeat=b + c)]
    assert by_counts(b, c, both=1).p_value == sum(split >= abs(b - c) for split in splits) / len(splits)


@pytest.mark.parametrize(
    ("b", "c", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 6, 0.03125),
        (1, 9, 22 / 1024),
        (3, 3, 1.0),
        (10, 25, 2 * sum(comb(35, taken) for taken in range(11)) / 2**35),
        (2000, 0, 0.0),
    ],
)
def test_known_values(b, c, p_value):
    assert by_counts(b, c, both=3, neither=2).p_value == pytest.approx(p_value, rel=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_counts_are_a_partition_and_sides_are_alike(pairs):
    first, second = zip(*pairs, strict=True)
    forward, backward = mcnemar(first, second), mcnemar(second, first)
    assert forward.total == len(pairs)
    assert (forward.first_only, forward.second_only) == (backward.second_only, backward.first_only)
    assert forward.both + forward.first_only == sum(first)
    assert forward.p_value == backward.p_value
    assert 0 < forward.p_value <= 1


def test_the_sentence_names_the_better_model_only_where_it_is_shown():
    assert by_counts(1, 9, both=5).sentence("words", "latent") == (
        "latent is better than words: of 15 items words alone is right on 1, latent alone on 9 "
        "(exact McNemar, p = 0.021)."
    )
    assert by_counts(9, 1).sentence("words", "latent").startswith("words is better than latent: ")
    assert by_counts(3, 1).sentence("words", "latent").startswith("No difference is shown between words and latent: ")


@pytest.mark.parametrize(("first", "second"), [([True], []), ([], [])])
def test_items_that_do_not_pair_are_refused(first, second):
    with pytest.raises(DataError, match="item"):
        mcnemar(first, second)


def test_several_tests_are_corrected_step_by_step():
    # Holm's own procedure: 0.01 * 4, 0.02 * 3, 0.022 * 2 (not below 0.06), 0.5
    assert holm([0.02, 0.5, 0.01, 0.022]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.3]) == [0.3]
    assert holm([]) == []
