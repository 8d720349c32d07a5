"""Long multiplication digit by digit, in the published format: every number's least significant digit first."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from latent_gemma.data.example import Example
from latent_gemma.data.splits import Split, only_split
from latent_gemma.errors import ConfigError

_QUESTION = re.compile(r"[0-9](?: [0-9])* \* [0-9](?: [0-9])*")


@dataclass(frozen=True)
class MultiplicationConfig:
    """A family of multiplications.

    Args:
        digits: digits of the first factor, 1 to 20.
        by: digits of the second factor, 1 to 20; None takes as many as the first has.
    """

    digits: int = 4
    by: int | None = None

    def __post_init__(self) -> None:
        for count in (self.digits, self.by):
            if count is not None and not 1 <= count <= 20:
                raise ConfigError(f"multiplication of {count} digits", "give 1 to 20 digits")


def _spelled(number: int, width: int) -> str:
    """A number's digits, least significant first, zeros after them: 305 in four digits is "5 0 3 0"."""
    return " ".join(reversed(f"{number:0{width}d}"))


def is_multiplication(question: str) -> bool:
    """Whether a question is of the form "5 6 3 2 * 7 4 3 4"."""
    return _QUESTION.fullmatch(question) is not None


def working_steps(working: str) -> tuple[str, ...]:
    """Divide a published working into its steps, one a partial product: "5 5 5 6 1", "+ 0 0 6 4 9 0 ( 5 5 1 1 1 1 )".

    Args:
        working: what stands between `||` and `####`.

    Returns:
        The steps; joined by spaces they are the working again.
    """
    return tuple(re.split(r"\s+(?=\+)", working.strip()))


def multiplication(left: int, right: int) -> Example:
    """Work one multiplication.

    Args:
        left: the first factor, positive.
        right: the second factor, positive.

    Returns:
        The example. Step i is the partial product of the i-th digit of `right`, shifted by i zeros, with the running
        total in parentheses; the first partial product is its own total, the total after the last is the answer.
    """
    digits, by = len(str(left)), len(str(right))
    total, steps = 0, list[str]()
    for place, digit in enumerate(reversed(str(right))):
        partial, width = left * int(digit) * 10**place, digits + 1 + place
        total += partial
        running = f" ( {_spelled(total, width)} )" if 0 < place < by - 1 else ""
        steps.append(f"{'+ ' if place else ''}{_spelled(partial, width)}{running}")
    question = f"{_spelled(left, digits)} * {_spelled(right, by)}"
    return Example(question, tuple(steps), _spelled(total, digits + by))


def _draw(rng: random.Random, config: MultiplicationConfig) -> Example:
    left, right = (
        rng.randint(10 ** (count - 1), 10**count - 1) for count in (config.digits, config.by or config.digits)
    )
    return multiplication(left, right)


def multiplication_examples(config: MultiplicationConfig, split: Split, seed: int) -> Iterator[Example]:
    """Multiplications such as "5 6 3 2 * 7 4 3 4", which is 2365 * 4347.

    Args:
        config: the family.
        split: "train" or "test"; the two never share a question.
        seed: of the generator.

    Returns:
        Examples without end; factors have no leading zeros. A question of a published validation file may come up by
        chance: leave those out of training when validating on it.

    Source: Deng et al. 2024 (arXiv 2405.14838); the format is byte for byte theirs, here divided into steps.
    """
    rng = random.Random(seed)
    return only_split(iter(lambda: _draw(rng, config), None), split)
