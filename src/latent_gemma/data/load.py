"""The one entry to data: generated, local or from the hub."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from latent_gemma.data.arithmetic import ArithmeticConfig, arithmetic_examples
from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.data.files import read_file
from latent_gemma.data.gsm8k import StepsFormat
from latent_gemma.data.hub import read_hub
from latent_gemma.data.rows import FileColumns
from latent_gemma.data.splits import Split
from latent_gemma.errors import ConfigError, DataError

GENERATORS = ("arithmetic", "chains")


@dataclass(frozen=True)
class DataSpec:
    """Which examples to read.

    Args:
        source: "arithmetic", "arithmetic:ops=add,mul;digits=2;operations=2", "chains", "chains:length=3", a local
            file, or a hub name.
        split: "train" or "test"; of a local file, "test" is what `holdout` keeps back; any name for the hub.
        limit: use at most this many; needed for the generators.
        seed: of the generators and of shuffling.
        steps_format: "natural", "expression" or "result".
        holdout: rows at the end of a local file that belong to its test split.
        columns: names of the columns; None recognises published formats.
        shuffle: shuffle the split before `limit` cuts it.
    """

    source: str
    split: str = "train"
    limit: int | None = None
    seed: int = 0
    steps_format: str = "natural"
    holdout: int = 0
    columns: FileColumns | None = None
    shuffle: bool = False


def _options(source: str) -> dict[str, str]:
    options = {}
    for part in filter(None, source.partition(":")[2].split(";")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"data {source!r}: {part!r} is no setting", "write name=value, separated by ;")
        options[name.strip()] = value.strip()
    return options


def _whole(options: dict[str, str], name: str, default: int, source: str) -> int:
    text = options.pop(name, str(default))
    if not text.lstrip("-").isdigit():
        raise ConfigError(f"data {source!r}: {name}={text} is no whole number", f"write {name}={default}")
    return int(text)


def _generated(source: str, split: Split, seed: int) -> Iterator[Example]:
    options = _options(source)
    examples: Iterator[Example]
    if source.split(":")[0] == "chains":
        chain = ChainConfig(
            _whole(options, "length", 4, source), _whole(options, "modulus", 10, source), options.pop("ops", "+-*")
        )
        examples, known = chain_examples(chain, split, seed), "length, modulus, ops"
    else:
        remainder = options.pop("remainder", "false")
        if remainder not in ("true", "false"):
            raise ConfigError(f"data {source!r}: remainder={remainder}", "write remainder=true or remainder=false")
        arithmetic = ArithmeticConfig(
            tuple(options.pop("ops", "add,sub,mul,div").split(",")), _whole(options, "digits", 2, source),
            _whole(options, "operations", 1, source), remainder == "true",
        )  # fmt: skip
        examples, known = arithmetic_examples(arithmetic, split, seed), "ops, digits, operations, remainder"
    if options:
        raise ConfigError(f"data {source!r}: unknown setting {next(iter(options))!r}", f"known are {known}")
    return examples


def _looks_like_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or Path(source).suffix != "" or "/" not in source


def load_examples(spec: DataSpec) -> list[Example]:
    """Read the examples of a split.

    Args:
        spec: which.

    Returns:
        The examples, at least one.

    Raises:
        ConfigError: for a setting that cannot be.
        DataError: if they cannot be had, a row is malformed, or there are none.
    """
    if spec.steps_format not in get_args(StepsFormat):
        raise ConfigError(
            f"steps format {spec.steps_format!r} is unknown", f"choose from {', '.join(get_args(StepsFormat))}"
        )
    if spec.limit is not None and spec.limit < 1:
        raise ConfigError(f"--limit {spec.limit} leaves no rows", "give 1 or more")
    if spec.holdout < 0:
        raise ConfigError(f"--holdout {spec.holdout} is negative", "give the number of rows to keep back")
    steps_format: Any = spec.steps_format
    if spec.source.split(":")[0] in GENERATORS:
        if spec.split not in get_args(Split):
            raise ConfigError(f"split {spec.split!r} of generated data", "choose train or test")
        if spec.limit is None:
            raise ConfigError(f"{spec.source} has no end", "say how many rows with --limit")
        split: Any = spec.split
        return list(itertools.islice(_generated(spec.source, split, spec.seed), spec.limit))
    path = Path(spec.source).expanduser()
    if path.exists() or _looks_like_path(spec.source):
        examples = list(read_file(path, spec.columns, steps_format))
        if spec.holdout >= len(examples) > 0:
            raise DataError(f"--holdout {spec.holdout} keeps all {len(examples)} rows of {path} back", "keep fewer")
        cut = len(examples) - spec.holdout
        examples = examples[cut:] if spec.split == "test" and spec.holdout else examples[:cut]
    else:
        examples = list(read_hub(spec.source, spec.split, spec.columns, steps_format))
    if not examples:
        raise DataError(f"{spec.source} holds no examples", "give a file with at least one row")
    if spec.shuffle:
        random.Random(spec.seed).shuffle(examples)
    return examples[: spec.limit]
