"""Data that is looked at or written: the options of `data preview | arithmetic | chains | mine`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from latent_gemma.choices import ThoughtsPerStep
from latent_gemma.options.source import DataSettings
from latent_gemma.ranges import Count, Range, Seed, check_ranges
from latent_gemma.training.curriculum import Steps


@dataclass(frozen=True)
class Preview:
    """Show a few rows as text, as tokens, and which of them the loss reads.

    Args:
        data: the data.
        model: whose tokenizer and frame to use; "tiny" is the built-in one.
        rows: how many rows.
        latent_steps: how many written steps to replace by thoughts.
        c_thought: thoughts per step; "tokens" takes one for each token of it.
        step_separator: text after each written step.
    """

    data: DataSettings
    model: str = "tiny"
    rows: Count = 3
    latent_steps: Steps = 0
    c_thought: Annotated[ThoughtsPerStep, Range(1, 1000)] = 1
    step_separator: str = "\n"

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Arithmetic:
    """Write synthetic arithmetic with its steps in words.

    Args:
        n: how many rows.
        out: the JSONL file to write.
        ops: operations, from add, sub, mul, div.
        digits: digits of the numbers.
        operations: operations in one question.
        remainder: division with remainder instead of exact division.
        split: "train" or "test"; the two never share a question.
        style: "prompt_completion" with tags, or "examples" with question, steps and answer.
        seed: of the generator.
    """

    n: Count
    out: Path
    ops: str = "add,sub,mul,div"
    digits: Annotated[int, Range(1, 9)] = 2
    operations: Annotated[int, Range(1, 100)] = 1
    remainder: bool = False
    split: Literal["train", "test"] = "train"
    style: Literal["prompt_completion", "examples"] = "prompt_completion"
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Chains:
    """Write chains of modular arithmetic, the task of the demo.

    Args:
        n: how many rows.
        out: the JSONL file to write.
        length: operations in one chain.
        split: "train" or "test"; the two never share a question.
        seed: of the generator.
    """

    n: Count
    out: Path
    length: Annotated[int, Range(1, 1000)] = 4
    split: Literal["train", "test"] = "train"
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Mine:
    """Write right answers with false steps (hard negatives) beside right ones whose steps are all true.

    Args:
        run: folder of a GRPO run, whose samples are read, or of an evaluation in words, whose answers are.
        out: the JSONL file to write.
        style: "preference" writes pairs of traces of one question, prompt, chosen and rejected, as for DPO;
            "unpaired_preference" every trace by itself, prompt, completion and label, as for KTO: false steps that no
            true ones stand beside are written too.
    """

    run: Positional[Path]
    out: Path
    style: Literal["preference", "unpaired_preference"] = "preference"
