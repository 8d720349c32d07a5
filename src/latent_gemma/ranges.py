"""Reading what users type, and the ranges it may lie in."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import inf, isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError

Number = TypeVar("Number", int, float)
#: Numbers that count something fit into 31 bits, as the libraries expect.
MOST = 2**31 - 1


@dataclass(frozen=True)
class Range:
    """What a number may be; a dataclass names it in the annotation of a field, see `check_ranges`.

    Args:
        least: the smallest value.
        most: the largest one; infinity itself is never allowed, nor is what is no number.
        open: `least` itself is not allowed.
    """

    least: float
    most: float = inf
    open: bool = False

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and isfinite(value) and not (self.open and value == self.least)

    @property
    def bounded(self) -> bool:
        """Whether its upper end means anything to a person."""
        return self.most < MOST

    def __str__(self) -> str:
        if self.bounded:
            return f"a number in {'(' if self.open else '['}{self.least:g}, {self.most:g}]"
        return f"more than {self.least:g}" if self.open else f"{self.least:g} or more"


Whole = Annotated[int, Range(0, MOST)]
Count = Annotated[int, Range(1, MOST)]
#: What multiplies the length of a prompt or the size of a matrix.
Size = Annotated[int, Range(0, 50_000)]
#: K as it is asked for; "auto" leaves it to the model.
Thoughts = Size | Literal["auto"]
#: Of the numbers in a list.
THOUGHTS, SHARES, TEMPERATURES = Range(0, 50_000), Range(0.0, 1.0), Range(0.0, 1000.0)
#: NumPy takes no larger one.
Seed = Annotated[int, Range(0, 2**32 - 1)]
Share = Annotated[float, Range(0.0, 1.0)]
Amount = Annotated[float, Range(0.0, MOST)]
Positive = Annotated[float, Range(0.0, MOST, open=True)]

Kind = TypeVar("Kind")
#: What marks an option that a person seldom turns; the help shows it under "advanced".
ADVANCED = "advanced"
Advanced = Annotated[Kind, ADVANCED]


def option(name: str) -> str:
    """A field's name as it is typed."""
    return f"--{name.replace('_', '-')}"


def nearest(name: str, known: Sequence[str], otherwise: str) -> str:
    """The remedy for a name that is not known.

    Args:
        name: as it was typed.
        known: the names there are.
        otherwise: the remedy where none of them is like it.

    Returns:
        The remedy.
    """
    close = get_close_matches(name, known, n=1, cutoff=0.7)  # --learning-rate is no --learn-k
    return f"did you mean {close[0]}?" if close else otherwise


def nearest_path(path: Path) -> Path | None:
    """What exists and is spelt most like a path that does not, part by part; None where there is nothing like it."""
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        try:
            names = os.listdir(found)
        except OSError:
            return None
        close = [part] if part in names else get_close_matches(part, names, n=1, cutoff=0.7)
        if not close:
            return None
        found /= close[0]
    return found


def missing(path: Path, otherwise: str) -> str:
    """The remedy for a path at which nothing is.

    Args:
        path: it.
        otherwise: the remedy where nothing is like it, and no folder on the way to it exists.

    Returns:
        The remedy: what is spelt like it, or else the nearest folder with some of what it holds.
    """
    close = nearest_path(path)
    if close is not None:
        return f"did you mean {close}?"
    folder = next((each for each in path.parents if each.is_dir()), Path())
    if folder.name in ("", ".."):  # here, or the root
        return otherwise
    held = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    return f"the nearest folder is {folder}, which holds {', '.join(held[:5]) or 'nothing'}{', ..' * (len(held) > 5)}"


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def check_number(name: str, value: float, allowed: Range) -> None:
    """Refuse a number that lies outside of its range.

    Args:
        name: as the user knows it, such as "--lr".
        value: the number.
        allowed: its range.

    Raises:
        ConfigError: naming both.
    """
    if value not in allowed:
        outside = f"outside [{allowed.least:g}, {allowed.most:g}]" if allowed.bounded else "out of range"
        wanted = f"at most {allowed.most:.10g}" if value > allowed.most else str(allowed)
        raise ConfigError(f"{name} {_shown(value)} is {outside}", f"give {wanted}")


def _ranges(kind: Any) -> Iterator[Range]:
    """The ranges in an annotation: of a number, of one that may be None, of several."""
    if isinstance(kind, Range):
        yield kind
    for part in get_args(kind):  # of what is annotated: its type and its notes
        yield from _ranges(part)


def ranges_of(config_class: type) -> dict[str, Range]:
    """The ranges that a dataclass names.

    Args:
        config_class: the class.

    Returns:
        Name of a field -> its range; fields without one are left out.
    """
    kinds = get_type_hints(config_class, include_extras=True)
    return {field.name: allowed for field in fields(config_class) for allowed in _ranges(kinds[field.name])}


def check_ranges(config: Any) -> None:
    """Refuse a configuration with a number that lies outside of the range its field names.

    Args:
        config: a dataclass; call this in its `__post_init__`.

    Raises:
        ConfigError: naming the first such option.
    """
    for name, allowed in ranges_of(type(config)).items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, str | None):  # a word in place of a number, or none
                check_number(option(name), number, allowed)


def parse_numbers(
    text: str, kind: Callable[[str], Number], name: str, allowed: Range | None = None
) -> tuple[Number, ...]:
    """Read a comma-separated list of numbers.

    Args:
        text: such as "0,1,2"; empty for none.
        kind: int or float.
        name: of the option, for the message.
        allowed: what each may be.

    Returns:
        The numbers, in order.

    Raises:
        ConfigError: naming the part that is no number, or out of range.
    """
    numbers = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            numbers.append(kind(part))
        except ValueError as error:
            raise ConfigError(f"{name} {text}: {part!r} is no number", f"write it as in {name} 0,1,2") from error
        if allowed is not None:
            check_number(name, numbers[-1], allowed)
    return tuple(numbers)


def parse_thoughts(text: str, name: str) -> tuple[NumThoughts, ...]:
    """Read a comma-separated list of numbers of latent steps, "auto" perhaps among them.

    Args:
        text: such as "0,1,2,auto"; empty for none.
        name: of the option, for the message.

    Returns:
        The numbers, in order, "auto" last.

    Raises:
        ConfigError: naming the part that is neither, or out of range.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = parse_numbers(",".join(part for part in parts if part != "auto"), int, name, THOUGHTS)
    return (*numbers, "auto") if "auto" in parts else numbers


def k_order(k: NumThoughts) -> tuple[bool, int]:
    """What numbers of latent steps are sorted by, "auto" behind them."""
    return (True, 0) if k == "auto" else (False, k)
