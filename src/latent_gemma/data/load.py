"""The one entry to data: generated, local or from the hub."""

import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from latent_gemma.data.arithmetic import OPS, ArithmeticConfig, arithmetic_examples
from latent_gemma.data.chains import ChainConfig, ChainSteps, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat
from latent_gemma.data.hub import load_hub
from latent_gemma.data.local import SUFFIXES, read_file
from latent_gemma.data.multiplication import MultiplicationConfig, multiplication_examples
from latent_gemma.data.prosqa import ProsqaConfig, prosqa_examples
from latent_gemma.data.rows import FileColumns
from latent_gemma.data.splits import Split
from latent_gemma.data.symbolic import Labels, SymbolicConfig, symbolic_examples
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.ranges import nearest

_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+(?::[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class DataSpec:
    """Which examples to read.

    Args:
        source: "arithmetic", "arithmetic:ops=add,mul;digits=2;operations=2", "chains", "chains:length=3",
            "chains:length=1..6;steps=equations", "multiplication:digits=4;by=2", "prosqa:hops=3-6;concepts=20", or one
            letter a node, "prosqa:nodes=23;hops=3-4;labels=rising;branches=false"; a local file, or a hub name,
            "owner/name" or "owner/name:config".
        split: "train" or "test", of graphs in letters "validation" too; with a hub name any of its splits. A local
            file without `holdout` is one split, whichever of the two it is called.
        limit: use at most this many, after splitting and shuffling; needed for the generators.
        seed: of the generators and of shuffling.
        steps_format: "natural", "expression" or "result".
        holdout: rows at the end of the data (the train split of a hub data set) that are its test split.
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

    def __post_init__(self) -> None:
        formats = get_args(StepsFormat)
        if self.steps_format not in formats:
            raise ConfigError(f"steps format {self.steps_format!r} is unknown", f"choose from {', '.join(formats)}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit} leaves no rows", "give 1 or more")
        if self.holdout < 0:
            raise ConfigError(f"--holdout {self.holdout} is negative", "give the number of rows to keep back")

    @property
    def is_generated(self) -> bool:
        """Whether the examples are generated here."""
        return self.source.partition(":")[0] in GENERATORS

    @property
    def keeps_test_rows(self) -> bool:
        """Whether there are rows for tests besides those for training."""
        return self.is_generated or self.is_hub_name or self.holdout > 0

    @property
    def is_hub_name(self) -> bool:
        """Whether the source is looked for on the hub: shaped like a hub name, and nothing in a local folder."""
        if not _HUB_NAME.fullmatch(self.source) or self.source.lower().endswith(SUFFIXES):
            return False
        return not Path(self.source).exists() and not Path(self.source).parent.is_dir()


class _Options:
    """The settings of a generator, "name=value;name=value", each asked for once."""

    def __init__(self, source: str) -> None:
        self.source, self._values, self._known = source, {}, list[str]()
        for part in filter(None, source.partition(":")[2].split(";")):
            name, equals, value = part.partition("=")
            if not equals:
                raise ConfigError(f"data {source!r}: {part!r} is no setting", "write name=value, separated by ;")
            self._values[name.strip()] = value.strip()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str) -> str:
        self._known.append(name)
        return self._values.pop(name, default)

    def whole(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        try:
            return int(value)
        except ValueError:
            raise ConfigError(
                f"data {self.source!r}: {name}={value} is no whole number", f"write {name}={default}"
            ) from None

    def span(self, name: str, default: tuple[int, int]) -> tuple[int, int]:
        value = self.text(name, f"{default[0]}-{default[1]}")
        match = re.fullmatch(r"([0-9]{1,9})(?:(?:-|\.\.)([0-9]{1,9}))?", value)
        if match is None:
            low, high = default
            wanted, example = ("whole number", f"1..{high}") if low == high else ("range", f"{low}-{high}")
            raise ConfigError(
                f"data {self.source!r}: {name}={value} is no {wanted}", f"write {name}={low} or {name}={example}"
            )
        return int(match[1]), int(match[2] or match[1])

    def truth(self, name: str, default: bool = False) -> bool:
        value = self.text(name, str(default).lower())
        if value not in ("true", "false"):
            raise ConfigError(f"data {self.source!r}: {name}={value}", f"write {name}=true or {name}=false")
        return value == "true"

    def refuse_unknown(self) -> None:
        for name in self._values:
            raise ConfigError(f"data {self.source!r}: unknown setting {name!r}", f"known are {', '.join(self._known)}")


def _arithmetic(options: _Options, split: Split, seed: int) -> Iterator[Example]:
    config = ArithmeticConfig(
        ops=tuple(op.strip() for op in options.text("ops", ",".join(OPS)).split(",")),
        digits=options.whole("digits", 2),
        operations=options.whole("operations", 1),
        remainder=options.truth("remainder"),
    )
    return arithmetic_examples(config, split, seed)


def _chains(options: _Options, split: Split, seed: int) -> Iterator[Example]:
    fewest, most = options.span("length", (4, 4))
    config = ChainConfig(
        most, options.whole("modulus", 10), options.text("ops", "+-*"), None if fewest == most else fewest,
        cast(ChainSteps, options.text("steps", "results")),
    )  # fmt: skip
    return chain_examples(config, split, seed)


def _multiplication(options: _Options, split: Split, seed: int) -> Iterator[Example]:
    digits = options.whole("digits", 4)
    return multiplication_examples(MultiplicationConfig(digits, options.whole("by", digits)), split, seed)


def _prosqa(options: _Options, split: Split, seed: int) -> Iterator[Example]:
    if "nodes" in options:
        nodes, hops = options.span("nodes", (23, 23)), options.span("hops", (3, 4))
        labels = cast(Labels, options.text("labels", "random"))
        config = SymbolicConfig(*nodes, *hops, labels, options.truth("branches", default=True))
        return symbolic_examples(config, split, seed)
    fewest, most = options.span("hops", (3, 6))
    return prosqa_examples(ProsqaConfig(options.whole("concepts", 20), fewest, most), split, seed)


#: Name of a generator -> its examples with the settings, the split and the seed asked for.
GENERATORS: dict[str, Callable[[_Options, Split, int], Iterator[Example]]] = {
    "arithmetic": _arithmetic,
    "chains": _chains,
    "multiplication": _multiplication,
    "prosqa": _prosqa,
}


def _generated(spec: DataSpec) -> Iterator[Example]:
    if spec.split not in get_args(Split):
        raise ConfigError(f"{spec.source} has no split {spec.split!r}", f"choose from {', '.join(get_args(Split))}")
    if spec.limit is None:
        raise ConfigError(f"{spec.source} has no end", "say how many rows with --limit")
    if spec.holdout:
        raise ConfigError(f"--holdout with {spec.source}", "leave it out: generated questions never share a split")
    options = _Options(spec.source)
    examples = GENERATORS[spec.source.partition(":")[0]](options, cast(Split, spec.split), spec.seed)
    options.refuse_unknown()
    return examples


def _stored(spec: DataSpec, on_bad: Callable[[DataError], None] | None) -> Iterator[Example]:
    """All rows that `holdout` divides, or the split itself where there is none."""
    steps_format = cast(StepsFormat, spec.steps_format)
    if spec.is_hub_name:
        name, _, config = spec.source.partition(":")
        split = "train" if spec.holdout else spec.split
        return load_hub(name, config or None, split, spec.columns, steps_format, on_bad=on_bad)
    path = Path(spec.source).expanduser()
    meant = nearest(spec.source.partition(":")[0], list(GENERATORS), "")
    if meant and not path.suffix and not path.exists():
        raise DataError(f"there is no data {spec.source}", meant)
    return read_file(path, spec.columns, steps_format, on_bad)


def _held_out(examples: list[Example], spec: DataSpec) -> list[Example]:
    if 0 < len(examples) <= spec.holdout:
        raise DataError(f"--holdout {spec.holdout} keeps all {len(examples)} rows of {spec.source} back", "keep fewer")
    cut = len(examples) - spec.holdout
    return examples[cut:] if spec.split == "test" else examples[:cut]


def load_examples(spec: DataSpec, on_bad: Callable[[DataError], None] | None = None) -> list[Example]:
    """Read the examples of a split.

    Args:
        spec: which.
        on_bad: told of each malformed row, which is then left out; None raises at the first.

    Returns:
        The examples, at least one.

    Raises:
        ConfigError: for a setting that cannot be.
        DataError: if they cannot be had, a row is malformed, or there are none.
    """
    if spec.is_generated:
        examples = list(itertools.islice(_generated(spec), spec.limit))
    else:
        if spec.split not in ("train", "test") and (spec.holdout or not spec.is_hub_name):
            raise ConfigError(f"{spec.source} has no split {spec.split!r}", "choose train or test")
        # Rows behind the limit are not even read, unless they decide which ones come before it.
        needed = None if spec.holdout or spec.shuffle else spec.limit
        examples = list(itertools.islice(_stored(spec, on_bad), needed))
        examples = _held_out(examples, spec) if spec.holdout else examples
    if not examples:
        raise DataError(f"{spec.source} holds no examples", "give a file with at least one row")
    if spec.shuffle:
        random.Random(spec.seed).shuffle(examples)
    return examples[: spec.limit]
