"""Generated questions belong to training or to test by their own text, so that no question is in both."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError

Split = Literal["train", "validation", "test"]
E = TypeVar("E", bound=Example)
#: Draws without one of the wanted split after which a family counts as too small to hold any.
_PATIENCE = 10_000


def split_of(question: str, validates: bool = False) -> Split:
    """The split a generated question belongs to: one in eight is for testing, whatever the seed and the machine.

    Args:
        question: its text, or what stands for it.
        validates: one more in eight is for validation.

    Returns:
        The split.
    """
    # A cryptographic hash: under a checksum neighbouring questions ("Solve 20 * 4", "Solve 21 * 4") fall together.
    drawn = hashlib.sha256(question.encode()).digest()[0] % 8
    return "test" if drawn == 0 else "validation" if validates and drawn == 1 else "train"


def only_split(drawn: Iterator[E], split: Split, key: Callable[[E], str] | None = None) -> Iterator[E]:
    """Keep the examples of one split.

    Args:
        drawn: examples without end.
        split: "train" or "test"; with a `key` also "validation".
        key: what decides of an example, in place of its question.

    Yields:
        Those whose question belongs to the split.

    Raises:
        ConfigError: if a family is so small that none does.
    """
    misses = 0
    for example in drawn:
        if (split_of(example.question) if key is None else split_of(key(example), validates=True)) == split:
            misses = 0
            yield example
        else:
            misses += 1
        if misses == _PATIENCE:
            raise ConfigError(f"these generated questions have no {split} split", "ask for longer or larger ones")
