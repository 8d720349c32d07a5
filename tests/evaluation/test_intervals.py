import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.evaluation.intervals import intervals_apart, wilson_interval
from latent_gemma.evaluation.results import EvalRow

counts = st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


def row(correct, total=100):
    low, high = wilson_interval(correct, total)
    return EvalRow("a", 0, None, "none", correct, correct, total, low, high, 1.0, 1.0, 0.1)


@pytest.mark.parametrize(
    ("correct", "total", "expected"),
    [(8, 10, (0.4902, 0.9433)), (0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (50, 100, (0.4038, 0.5962))],
)
def test_known_values(correct, total, expected):
    assert wilson_interval(correct, total) == pytest.approx(expected, abs=1e-4)


@given(counts)
def test_contains_the_share_and_stays_between_0_and_1(count):
    correct, total = count
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    assert low < high


@given(counts)
def test_right_and_wrong_are_symmetric(count):
    correct, total = count
    low, high = wilson_interval(correct, total)
    assert wilson_interval(total - correct, total) == pytest.approx((1 - high, 1 - low))


@given(counts)
def test_more_items_and_less_confidence_narrow_it(count):
    correct, total = count
    low, high = wilson_interval(correct, total)
    for narrower in (wilson_interval(4 * correct, 4 * total), wilson_interval(correct, total, z=1.0)):
        assert narrower[1] - narrower[0] < high - low


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (1, -1), (-1, 10), (11, 10)])
def test_impossible_counts_are_refused(correct, total):
    with pytest.raises(ValueError, match="must"):
        wilson_interval(correct, total)


def test_intervals_apart_in_either_order():
    assert intervals_apart(row(10), row(90))
    assert intervals_apart(row(90), row(10))
    assert not intervals_apart(row(50), row(52))
    assert not intervals_apart(row(50), row(50))
