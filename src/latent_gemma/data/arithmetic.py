"""Synthetic arithmetic with its working in words: "10 times 4 is 40." "2 times 4 is 8." "40 plus 8 is 48."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from latent_gemma.data.example import Example
from latent_gemma.data.splits import Split, split_of
from latent_gemma.errors import ConfigError

OPS = ("add", "sub", "mul", "div")
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


@dataclass(frozen=True)
class ArithmeticConfig:
    """A family of questions.

    Args:
        ops: operations to draw from: add, sub, mul, div.
        digits: numbers have 1 to this many digits.
        operations: operations in one question; more than one is worked from left to right, with parentheses.
        remainder: division leaves a remainder ("7 remainder 2") instead of being exact; one operation only.
    """

    ops: tuple[str, ...] = OPS
    digits: int = 2
    operations: int = 1
    remainder: bool = False

    def __post_init__(self) -> None:
        unknown = [op for op in self.ops if op not in OPS]
        if unknown or not self.ops:
            raise ConfigError(
                f"arithmetic operation {unknown[0] if unknown else ''!r} is unknown", f"choose from {', '.join(OPS)}"
            )
        if not 1 <= self.digits <= 9:
            raise ConfigError(f"arithmetic with {self.digits} digits", "give 1 to 9 digits")
        if self.operations < 1:
            raise ConfigError(f"arithmetic with {self.operations} operations", "give at least 1")
        if self.remainder and self.operations > 1:
            raise ConfigError("a remainder cannot be worked on further", "use one operation with remainder")


def _parts(number: int) -> list[int]:
    """Place values of a positive number, largest first: 305 -> [300, 5]; [0] for zero."""
    digits = str(number)
    parts = [int(digit) * 10 ** (len(digits) - 1 - i) for i, digit in enumerate(digits)]
    return [part for part in parts if part] or [0]


def _add_steps(a: int, b: int) -> list[str]:
    steps, total = [], a
    for part in _parts(abs(b)):
        nxt = total + part if b >= 0 else total - part
        steps.append(f"{total} {'plus' if b >= 0 else 'minus'} {part} is {nxt}.")
        total = nxt
    return steps


def _mul_steps(a: int, b: int) -> list[str]:
    """Multiply place by place, then add up; the sign is worked out at the end."""
    left, right = abs(a), abs(b)
    products, steps = [], []
    for part in _parts(left):
        products.append(part * right)
        steps.append(f"{part} times {right} is {part * right}.")
    total = products[0]
    for product in products[1:]:
        steps.append(f"{total} plus {product} is {total + product}.")
        total += product
    if total and (a < 0) != (b < 0):
        steps.append(f"0 minus {total} is {-total}.")
    return steps


def _div_steps(a: int, b: int) -> list[str]:
    """Take away the largest place-value multiples of the divisor; for a >= 0 and b > 0."""
    steps, rest, quotient = [], a, 0
    for part in _parts(a // b) if a >= b else [0]:
        steps.append(f"{part} times {b} is {part * b}.")
        steps.append(f"{rest} minus {part * b} is {rest - part * b}.")
        if quotient and part:
            steps.append(f"{quotient} plus {part} is {quotient + part}.")
        rest, quotient = rest - part * b, quotient + part
    return steps


_STEPS: dict[str, Callable[[int, int], list[str]]] = {
    "add": _add_steps,
    "sub": lambda a, b: _add_steps(a, -b),
    "mul": _mul_steps,
    "div": _div_steps,
}
_VALUES: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a // b,
}


def _operand(rng: random.Random, config: ArithmeticConfig, op: str, value: int) -> int | None:
    """A second operand that fits `value`, or None if there is none."""
    if op != "div":
        return rng.randint(1, 10 ** rng.randint(1, config.digits) - 1)
    if value <= 0:
        return None
    divisors = range(2, min(value, 10**config.digits - 1) + 1)
    if config.remainder:
        return rng.choice(divisors) if divisors else None
    exact = [d for d in divisors if value % d == 0]
    return rng.choice(exact) if exact else None


def _draw(rng: random.Random, config: ArithmeticConfig) -> Example | None:
    value = rng.randint(1, 10 ** rng.randint(1, config.digits) - 1)
    question, steps, answer = str(value), [], str(value)
    for number in range(config.operations):
        op = rng.choice(config.ops)
        if op == "div" and number == 0 and not config.remainder:
            # Exact division from the answer backwards: random dividends have few divisors.
            b = rng.randint(2, 10 ** rng.randint(1, config.digits) - 1)
            value *= b
            question = str(value)
        else:
            drawn = _operand(rng, config, op, value)
            if drawn is None:
                return None
            b = drawn
        if number:
            question = f"({question})"
        question += f" {_SIGNS[op]} {b}"
        steps += _STEPS[op](value, b)
        rest = value % b if op == "div" else 0
        value = _VALUES[op](value, b)
        answer = f"{value} remainder {rest}" if config.remainder and op == "div" else str(value)
    return Example(f"Solve {question}", tuple(steps), answer)


def arithmetic_examples(config: ArithmeticConfig, split: Split, seed: int) -> Iterator[Example]:
    """Questions such as "Solve 12 * 4" with true steps, each a sentence "A plus|minus|times B is C."

    Args:
        config: the family.
        split: "train" or "test"; the two never share a question.
        seed: of the generator.

    Yields:
        Examples without end; the answer is exact under the usual precedence.
    """
    rng = random.Random(seed)
    while True:
        example = _draw(rng, config)
        if example is not None and split_of(example.question) == split:
            yield example
