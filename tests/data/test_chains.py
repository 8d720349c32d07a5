import re
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.data.splits import only_split
from latent_gemma.errors import ConfigError

configs = st.builds(
    ChainConfig, length=st.integers(2, 8), modulus=st.integers(2, 10), ops=st.sampled_from(["+", "+-", "+-*", "-*"])
)


def rows(config, split="train", seed=0, n=5):
    return list(islice(chain_examples(config, split, seed), n))


@settings(max_examples=80, deadline=None)
@given(configs, st.integers(0, 10**6))
def test_steps_are_the_running_results_from_left_to_right(config, seed):
    for example in rows(config, seed=seed):
        value, pairs = int(example.question[0]), re.findall(r"([+\-*])(\d)", example.question)
        assert example.question == f"{value}{''.join(op + digit for op, digit in pairs)}="
        assert len(pairs) == len(example.steps) == config.length
        for (op, digit), step in zip(pairs, example.steps, strict=True):
            assert op in config.ops
            assert int(digit) >= (2 if op == "*" else 1)
            value = {"+": value + int(digit), "-": value - int(digit), "*": value * int(digit)}[op] % config.modulus
            assert step == str(value)
            assert len(step) == 1
        assert example.answer == example.steps[-1]


def test_lengths_are_drawn_evenly_and_steps_can_be_written_out():
    config = ChainConfig(3, shortest=1, steps="equations")
    examples = rows(config, n=900)
    lengths = [len(example.steps) for example in examples]
    assert all(abs(lengths.count(length) - 300) < 75 for length in (1, 2, 3))
    for example in examples:
        value = example.question[0]
        for operation, step in zip(re.findall(r"[+\-*]\d", example.question), example.steps, strict=True):
            said, value = step.split("=")
            assert said == f"{step[0]}{operation}"
            assert int(value) == eval(said) % 10
        assert [step[0] for step in example.steps] == [example.question[0], *(s[-1] for s in example.steps[:-1])]
        assert example.answer == value


def test_splits_share_no_question_and_seeds_repeat():
    config = ChainConfig(length=2)
    train, test = rows(config, "train", n=2000), rows(config, "test", n=300)
    assert not {e.question for e in train} & {e.question for e in test}
    assert train == rows(config, "train", n=2000)
    assert train != rows(config, "train", seed=1, n=2000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "length 0"),
        ({"shortest": 0}, "length 0 to 4"),
        ({"shortest": 5}, "length 5 to 4"),
        ({"steps": "words"}, "'words'"),
        ({"modulus": 1}, "modulo 1"),
        ({"modulus": 11}, "modulo 11"),
        ({"ops": "+/"}, "'\\+/'"),
        ({"ops": ""}, "''"),
    ],
)
def test_impossible_families_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ChainConfig(**settings)


def test_a_family_without_the_split_is_refused_instead_of_searched_for_ever():
    drawn = iter(lambda: Example("Solve 24 + 15", (), "39"), None)
    with pytest.raises(ConfigError, match="no test split"):
        next(only_split(drawn, "test"))
