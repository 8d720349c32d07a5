"""Chains of modular arithmetic: short questions that need one step after another."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from latent_gemma.data.example import Example
from latent_gemma.data.splits import Split, only_split
from latent_gemma.errors import ConfigError

#: What a chain's steps say: each result, or the operation it is the result of.
ChainSteps = Literal["results", "equations"]


@dataclass(frozen=True)
class ChainConfig:
    """A family of chains.

    Args:
        length: operations in a chain.
        modulus: all results are taken modulo this; 2 to 10, so that each is one digit.
        ops: operations to draw from, any of "+", "-", "*".
        shortest: each chain draws its number of operations from this to `length`; None takes `length` for all.
        steps: "results" such as "2", or "equations" such as "7+5=2".
    """

    length: int = 4
    modulus: int = 10
    ops: str = "+-*"
    shortest: int | None = None
    steps: ChainSteps = "results"

    def __post_init__(self) -> None:
        shortest = self.length if self.shortest is None else self.shortest
        if not 1 <= shortest <= self.length <= 1000:
            lengths = self.length if shortest == self.length else f"{shortest} to {self.length}"
            raise ConfigError(f"chains of length {lengths}", "give a length from 1 to 1000, or two such as 1..6")
        if self.steps not in get_args(ChainSteps):
            raise ConfigError(f"chains with steps {self.steps!r}", f"choose from {', '.join(get_args(ChainSteps))}")
        if not 2 <= self.modulus <= 10:
            raise ConfigError(f"chains modulo {self.modulus}", "give a modulus from 2 to 10: each step is one digit")
        if not self.ops or set(self.ops) - set("+-*"):
            raise ConfigError(f"chains with operations {self.ops!r}", "choose from + - *")


def _draw(rng: random.Random, config: ChainConfig) -> Example:
    length = config.length if config.shortest is None else rng.randint(config.shortest, config.length)
    value = rng.randrange(config.modulus)
    question, steps = str(value), []
    for _ in range(length):
        op = rng.choice(config.ops)
        operand = rng.randint(2 if op == "*" else 1, 9)
        result = value + operand if op == "+" else value - operand if op == "-" else value * operand
        operation = f"{value}{op}{operand}="
        value = result % config.modulus
        question += f"{op}{operand}"
        steps.append(f"{operation}{value}" if config.steps == "equations" else str(value))
    return Example(question + "=", tuple(steps), str(value))


def chain_examples(config: ChainConfig, split: Split, seed: int) -> Iterator[Example]:
    """Chains such as "7+5*3-2+8=", evaluated strictly from left to right modulo 10: steps 2, 6, 4, 2, answer 2.

    Args:
        config: the family.
        split: "train" or "test"; the two never share a question.
        seed: of the generator.

    Returns:
        Examples without end. A chain starts at a digit below the modulus; operands are 1 to 9, for * 2 to 9: adding 0
        and multiplying by 0 or 1 would need no step.
    """
    rng = random.Random(seed)
    return only_split(iter(lambda: _draw(rng, config), None), split)
