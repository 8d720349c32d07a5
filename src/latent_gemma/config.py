"""Reading what users type."""

from collections.abc import Callable
from typing import TypeVar

from latent_gemma.errors import ConfigError

Number = TypeVar("Number", int, float)


def parse_numbers(text: str, kind: Callable[[str], Number], option: str) -> tuple[Number, ...]:
    """Read a comma-separated list of numbers.

    Args:
        text: such as "0,1,2"; empty for none.
        kind: int or float.
        option: its name, for the message.

    Returns:
        The numbers, in order.

    Raises:
        ConfigError: naming the part that is no number.
    """
    numbers = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            numbers.append(kind(part))
        except ValueError as error:
            raise ConfigError(f"{option} {text}: {part!r} is no number", f"write it as in {option} 0,1,2") from error
    return tuple(numbers)
