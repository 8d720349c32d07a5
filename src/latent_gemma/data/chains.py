"""Chains of modular arithmetic: short questions that need one step after another."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from latent_gemma.data.example import Example
from latent_gemma.data.splits import Split, only_split
from latent_gemma.errors import ConfigError


@dataclass(frozen=True)
class ChainConfig:
    """A family of chains.

    Args:
        length: operations in a chain.
        modulus: all results are taken modulo this; 2 to 10, so that each is one digit.
        ops: operations to draw from, any of "+", "-", "*".
    """

    length: int = 4
    modulus: int = 10
    ops: str = "+-*"

    def __post_init__(self) -> None:
        if not 1 <= self.length <= 1000:
            raise ConfigError(f"chains of length {self.length}", "give a length from 1 to 1000")
        if not 2 <= self.modulus <= 10:
            raise ConfigError(f"chains modulo {self.modulus}", "give a modulus from 2 to 10: each step is one digit")
        if not self.ops or set(self.ops) - set("+-*"):
            raise ConfigError(f"chains with operations {self.ops!r}", "choose from + - *")


def _draw(rng: random.Random, config: ChainConfig) -> Example:
    value = rng.randrange(config.modulus)
    question, steps = str(value), []
    for _ in range(config.length):
        op = rng.choice(config.ops)
        operand = rng.randint(2 if op == "*" else 1, 9)
        result = value + operand if op == "+" else value - operand if op == "-" else value * operand
        value = result % config.modulus
        question += f"{op}{operand}"
        steps.append(str(value))
    return Example(question + "=", tuple(steps), steps[-1])


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
