import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.data.example import Example
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.local import read_file
from latent_gemma.data.multiplication import MultiplicationConfig, multiplication, multiplication_examples
from latent_gemma.errors import ConfigError


def number(digits):
    return int("".join(reversed(digits.split())))


def check(example):
    """Every partial product and every running total of a working, from its text alone."""
    left, right = example.question.split(" * ")
    total, last = 0, len(example.steps) - 1
    for place, (step, digit) in enumerate(zip(example.steps, right.split(), strict=True)):
        partial, _, running = step.removeprefix("+ ").removesuffix(" )").partition(" ( ")
        assert number(partial) == number(left) * int(digit) * 10**place
        total += number(partial)
        assert bool(running) == (0 < place < last)
        assert not running or number(running) == total
    assert total == number(left) * number(right) == number(example.answer)


@given(st.integers(1, 10**8), st.integers(1, 10**8))
def test_every_step_is_true(left, right):
    example = multiplication(left, right)
    assert tuple(map(number, example.question.split(" * "))) == (left, right)
    check(example)


def test_one_by_hand():
    steps = ("5 0 1", "+ 0 0 7 0 ( 5 0 8 0 )", "+ 0 0 5 3 0")
    assert multiplication(35, 123) == Example("5 3 * 3 2 1", steps, "5 0 3 4 0")


@pytest.mark.parametrize(("config", "lengths"), [((4, None), (4, 4)), ((3, 5), (3, 5)), ((1, 1), (1, 1))])
def test_factors_have_the_digits_asked_for(config, lengths):
    for example in itertools.islice(multiplication_examples(MultiplicationConfig(*config), "train", 0), 50):
        factors = example.question.split(" * ")
        assert tuple(len(factor.split()) for factor in factors) == lengths
        assert not any(factor.endswith("0") for factor in factors)
        check(example)


def test_splits_and_seeds():
    train, test = (load_examples(DataSpec("multiplication:digits=2", split, limit=200)) for split in ("train", "test"))
    assert not {e.question for e in train} & {e.question for e in test}
    assert train == load_examples(DataSpec("multiplication:digits=2;by=2", limit=200))
    assert train != load_examples(DataSpec("multiplication:digits=2", limit=200, seed=1))


@pytest.mark.parametrize("settings", ["digits=0", "digits=21", "digits=4;by=0"])
def test_digits_that_cannot_be(settings):
    with pytest.raises(ConfigError, match="give 1 to 20 digits"):
        load_examples(DataSpec(f"multiplication:{settings}", limit=1))


@pytest.mark.parametrize("name", ["4_by_4", "5_by_5"])
def test_published_lines_are_made_again_byte_for_byte(published, name):
    path = published(f"multiplication/{name}_mult_valid.txt")
    examples = list(read_file(path))
    assert len(examples) == 1000
    lines = path.read_text().splitlines()
    for line, example in zip(lines, examples, strict=True):
        made = multiplication(*map(number, example.question.split(" * ")))
        assert made == example
        assert f"{made.question}||{' '.join(made.steps)} #### {made.answer}" == line
        check(example)
