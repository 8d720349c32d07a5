"""Generated questions belong to training or to test by their own text, so that no question is in both."""

import hashlib
from collections.abc import Iterator
from typing import Literal

from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError

Split = Literal["train", "test"]
#: Draws without one of the wanted split after which a family counts as too small to hold any.
_PATIENCE = 10_000


def split_of(question: str) -> Split:
    """The split a generated question belongs to: one in eight is for testing, whatever the seed and the machine."""
    # A cryptographic hash: under a checksum neighbouring questions ("Solve 20 * 4", "Solve 21 * 4") fall together.
    return "test" if hashlib.sha256(question.encode()).digest()[0] % 8 == 0 else "train"


def only_split(drawn: Iterator[Example], split: Split) -> Iterator[Example]:
    """Keep the examples of one split.

    Args:
        drawn: examples without end.
        split: "train" or "test".

    Yields:
        Those whose question belongs to the split.

    Raises:
        ConfigError: if a family is so small that none does.
    """
    misses = 0
    for example in drawn:
        if split_of(example.question) == split:
            misses = 0
            yield example
        else:
            misses += 1
        if misses == _PATIENCE:
            raise ConfigError(f"these generated questions have no {split} split", "ask for longer or larger ones")
