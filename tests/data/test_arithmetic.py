import ast
import operator
import re
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_gemma.data.arithmetic import OPS, ArithmeticConfig, arithmetic_examples
from latent_gemma.data.splits import split_of
from latent_gemma.errors import ConfigError

STEP = re.compile(r"(-?\d+) (plus|minus|times) (-?\d+) is (-?\d+)\.")
WORDS = {"plus": operator.add, "minus": operator.sub, "times": operator.mul}
SIGNS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

configs = st.builds(
    ArithmeticConfig,
    ops=st.lists(st.sampled_from(OPS), min_size=1, max_size=4, unique=True).map(tuple),
    digits=st.integers(1, 9),
    operations=st.integers(2, 6),
)
single = st.builds(
    ArithmeticConfig,
    ops=st.sampled_from([(op,) for op in OPS]),
    digits=st.integers(2, 9),
    remainder=st.booleans(),
)


def value_of(question):
    """The exact value of "Solve (1 + 2) * 3", by Python's own precedence."""

    def walk(node):
        if isinstance(node, ast.BinOp):
            return SIGNS[type(node.op)](walk(node.left), walk(node.right))
        return Fraction(node.value)

    return walk(ast.parse(question.removeprefix("Solve "), mode="eval").body)


def rows(config, split="train", seed=0, n=3):
    return list(islice(arithmetic_examples(config, split, seed), n))


@settings(max_examples=80, deadline=None)
@given(configs | single, st.integers(0, 10**6))
def test_every_step_is_true_and_the_answer_exact(config, seed):
    for example in rows(config, seed=seed):
        for step in example.steps:
            a, word, b, result = STEP.fullmatch(step).groups()
            assert WORDS[word](int(a), int(b)) == int(result)
        exact = value_of(example.question)
        quotient, _, rest = example.answer.partition(" remainder ")
        if rest:
            _, a, _, b = example.question.split()
            assert (int(quotient), int(rest)) == divmod(int(a), int(b))
        else:
            assert Fraction(example.answer) == exact


@settings(max_examples=40, deadline=None)
@given(configs | single, st.integers(0, 10**6))
def test_exact_questions_end_their_working_at_the_answer(config, seed):
    for example in rows(config, seed=seed):
        if "remainder" not in example.answer:
            results = [STEP.fullmatch(step)[4] for step in example.steps]
            # A division ends by taking away the last multiple; its quotient then stands in that multiple.
            assert example.answer in results or example.answer == STEP.fullmatch(example.steps[-2])[1]


@settings(max_examples=40, deadline=None)
@given(configs | single)
def test_written_numbers_keep_to_their_digits(config):
    for example in rows(config):
        assert all(len(number) <= config.digits for number in re.findall(r"\d+", example.question))


@pytest.mark.parametrize("op", OPS)
def test_the_working_of_each_operation(op):
    examples = {
        "add": ("Solve 24 + 15", ("24 plus 10 is 34.", "34 plus 5 is 39."), "39"),
        "sub": ("Solve 24 - 15", ("24 minus 10 is 14.", "14 minus 5 is 9."), "9"),
        "mul": ("Solve 12 * 4", ("10 times 4 is 40.", "2 times 4 is 8.", "40 plus 8 is 48."), "48"),
        "div": (
            "Solve 84 / 7",
            ("10 times 7 is 70.", "84 minus 70 is 14.", "2 times 7 is 14.", "14 minus 14 is 0.", "10 plus 2 is 12."),
            "12",
        ),
    }
    question, steps, answer = examples[op]
    everything = arithmetic_examples(ArithmeticConfig(ops=(op,)), split_of(question), 0)
    found = next(example for example in islice(everything, 200_000) if example.question == question)
    assert (found.steps, found.answer) == (steps, answer)


def test_splits_share_no_question_and_seeds_repeat():
    config = ArithmeticConfig(digits=1)
    train, test = rows(config, "train", n=2000), rows(config, "test", n=200)
    assert not {e.question for e in train} & {e.question for e in test}
    assert train == rows(config, "train", n=2000)
    assert train != rows(config, "train", seed=1, n=2000)


def test_the_split_of_a_question_never_changes():
    assert [n for n in range(15, 60) if split_of(f"Solve {n} * 4") == "test"] == [20, 24, 47, 52]


def test_one_question_in_eight_is_for_testing():
    share = sum(split_of(f"Solve {a} * {b}") == "test" for a in range(100) for b in range(100)) / 10_000
    assert 0.11 < share < 0.14


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ops": ("pow",)}, "'pow' is unknown"),
        ({"ops": ()}, "without operations"),
        ({"digits": 0}, "0 digits"),
        ({"digits": 10}, "10 digits"),
        ({"operations": 0}, "0 operations"),
        ({"operations": 101}, "101 operations"),
        ({"operations": 2, "remainder": True}, "remainder"),
    ],
)
def test_impossible_families_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ArithmeticConfig(**settings)


def test_deep_division_comes_to_an_end():
    assert len(rows(ArithmeticConfig(ops=("div",), digits=1, operations=100), n=2)) == 2


def test_large_numbers_can_be_written():
    example = rows(ArithmeticConfig(ops=("mul",), digits=9, operations=100), n=1)[0]
    assert Fraction(example.answer) == value_of(example.question)
