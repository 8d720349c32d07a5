"""Synthetic arithmetic with its working in words: "10 times 4 is 40." "2 times 4 is 8." "40 plus 8 is 48."."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from latent_gemma.data.example import Example
from latent_gemma.data.splits import Split, only_split
from latent_gemma.errors import ConfigError

OPS = ("add", "sub", "mul", "div")
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
#: Divisors of an intermediate value are looked for up to here; trying all nine-digit ones would take hours.
_MAX_INNER_DIVISOR = 999


@dataclass(frozen=True)
class ArithmeticConfig:
    """A family of questions.

    Args:
        ops: operations to draw from: add, sub, mul, div.
        digits: written numbers have 1 to this many digits; at most 9.
        operations: operations in one question, 1 to 100, worked from left to right as its parentheses say.
        remainder: division leaves a remainder ("7 remainder 2") instead of being exact; one operation only.
    """

    ops: tuple[str, ...] = OPS
    digits: int = 2
    operations: int = 1
    remainder: bool = False

    def __post_init__(self) -> None:
        if not self.ops:
            raise ConfigError("arithmetic without operations", f"choose from {', '.join(OPS)}")
        for op in self.ops:
            if op not in OPS:
                raise ConfigError(f"arithmetic operation {op!r} is unknown", f"choose from {', '.join(OPS)}")
        if not 1 <= self.digits <= 9:
            raise ConfigError(f"arithmetic with {self.digits} digits", "give 1 to 9 digits")
        if not 1 <= self.operations <= 100:  # Python refuses to write numbers of more than 4,300 digits
            raise ConfigError(f"arithmetic with {self.operations} operations", "give 1 to 100")
        if self.remainder and self.operations > 1:
            raise ConfigError("a remainder cannot be worked on further", "use one operation with remainder")


def _parts(number: int) -> list[int]:
    """Place values of a number that is not negative, largest first: 305 -> [300, 5]; [0] for zero."""
    digits = str(number)
    parts = [int(digit) * 10**place for place, digit in zip(range(len(digits) - 1, -1, -1), digits, strict=True)]
    return [part for part in parts if part] or [0]


def _add_steps(a: int, b: int) -> list[str]:
    """Add, or for a negative b take away, place by place."""
    steps, total = [], a
    for part in _parts(abs(b)):
        result = total + part if b >= 0 else total - part
        steps.append(f"{total} {'plus' if b >= 0 else 'minus'} {part} is {result}.")
        total = result
    return steps


def _mul_steps(a: int, b: int) -> list[str]:
    """Multiply place by place, then add up; for b > 0. The sign of a negative a is put back at the end."""
    parts = _parts(abs(a))
    steps = [f"{part} times {b} is {part * b}." for part in parts]
    total = parts[0] * b
    for part in parts[1:]:
        steps.append(f"{total} plus {part * b} is {total + part * b}.")
        total += part * b
    return steps + _negation(a, total)


def _div_steps(a: int, b: int) -> list[str]:
    """Take away place-value multiples of the divisor, adding up the quotient; for b > 0. Sign as in `_mul_steps`."""
    steps, rest, quotient = [], abs(a), 0
    for part in _parts(abs(a) // b):
        steps += [f"{part} times {b} is {part * b}.", f"{rest} minus {part * b} is {rest - part * b}."]
        if quotient:
            steps.append(f"{quotient} plus {part} is {quotient + part}.")
        rest, quotient = rest - part * b, quotient + part
    return steps + _negation(a, quotient)


def _negation(a: int, size: int) -> list[str]:
    return [f"0 minus {size} is {-size}."] if a < 0 else []


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


def _number(rng: random.Random, config: ArithmeticConfig, low: int = 1) -> int:
    """A number of 1 to `digits` digits, each length as likely as any other."""
    return rng.randint(low, 10 ** rng.randint(1, config.digits) - 1)


def _first_operands(rng: random.Random, config: ArithmeticConfig, op: str) -> tuple[int, int]:
    if op != "div":
        return _number(rng, config), _number(rng, config)
    divisor = _number(rng, config, low=2)
    largest = 10**config.digits - 1
    if config.remainder:
        return rng.randint(divisor, largest), divisor
    # From the quotient backwards: a random dividend is seldom divisible.
    return rng.randint(1, largest // divisor) * divisor, divisor


def _next_operand(rng: random.Random, config: ArithmeticConfig, op: str, value: int) -> int:
    if op != "div":
        return _number(rng, config)
    candidates = range(2, min(10**config.digits, _MAX_INNER_DIVISOR + 1))
    return rng.choice([number for number in candidates if value % number == 0] or [1])


def _draw(rng: random.Random, config: ArithmeticConfig) -> Example:
    op = rng.choice(config.ops)
    value, operand = _first_operands(rng, config, op)
    question, steps, rest = f"{value} {_SIGNS[op]} {operand}", _STEPS[op](value, operand), value % operand
    value = _VALUES[op](value, operand)
    if config.remainder and op == "div":
        return Example(f"Solve {question}", tuple(steps), f"{value} remainder {rest}")
    for _ in range(config.operations - 1):
        op = rng.choice(config.ops)
        operand = _next_operand(rng, config, op, value)
        question = f"({question}) {_SIGNS[op]} {operand}"
        steps += _STEPS[op](value, operand)
        value = _VALUES[op](value, operand)
    return Example(f"Solve {question}", tuple(steps), str(value))


def arithmetic_examples(config: ArithmeticConfig, split: Split, seed: int) -> Iterator[Example]:
    """Questions such as "Solve 12 * 4" with true steps, each a sentence "A plus|minus|times B is C.".

    Args:
        config: the family.
        split: "train" or "test"; the two never share a question.
        seed: of the generator.

    Returns:
        Examples without end; the answer is exact under the usual precedence. A small family repeats its questions.
    """
    rng = random.Random(seed)
    return only_split(iter(lambda: _draw(rng, config), None), split)
