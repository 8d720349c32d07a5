"""`latent-gemma data preview | arithmetic | chains`: look at data as the model sees it, and write generated data."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latent_gemma.config import Count, Range, Seed, check_ranges
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.writing import write_jsonl
from latent_gemma.errors import ConfigError
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.loading import TINY, load_tokenizer
from latent_gemma.model.prompt import Frame
from latent_gemma.model.tiny import build_tokenizer
from latent_gemma.recipes.stage import DataSettings
from latent_gemma.text.display import displayable
from latent_gemma.training.batches import IGNORE, build_row, encode_examples
from latent_gemma.training.curriculum import Stage, Steps


@dataclass(frozen=True)
class Preview:
    """Show a few rows as text, as tokens, and which of them the loss reads.

    Args:
        data: the data.
        model: whose tokenizer and frame to use; "tiny" is the built-in one.
        rows: how many rows.
        latent_steps: how many written steps to replace by thoughts.
        c_thought: thoughts per step.
        step_separator: text after each written step.
    """

    data: DataSettings
    model: str = TINY
    rows: Count = 3
    latent_steps: Steps = 0
    c_thought: Annotated[int, Range(1, 1000)] = 1
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


def run_preview(config: Preview) -> None:
    """Print the rows.

    Args:
        config: what to show. Tokens the loss reads are green, thoughts and markers are set apart.
    """
    examples = load_examples(config.data.spec("train", 0, config.data.limit or config.rows))[: config.rows]
    tokenizer = build_tokenizer() if config.model == TINY else load_tokenizer(config.model)
    latent = LatentConfig(c_thought=config.c_thought, step_separator=config.step_separator)
    frame = Frame(tokenizer, latent)
    stage = Stage(latent_steps=config.latent_steps)
    console = Console()
    names = {latent.bot_id: "<bot>", latent.thought_id: "<thought>", latent.eot_id: "<eot>"}
    for example, item in zip(examples, encode_examples(frame, examples), strict=True):
        row = build_row(item, stage, frame, random.Random(0))
        table = Table(show_header=False, box=None, padding=(0, 1))
        table.add_row("question", Text(displayable(example.question)))
        table.add_row("steps", Text(displayable("\n".join(example.steps))))
        table.add_row("answer", Text(displayable(example.answer)))
        shown = Text()
        for token, label in zip(row.ids, row.labels, strict=True):
            text = displayable(names.get(token) or str(tokenizer.convert_ids_to_tokens(token)))
            shown.append(f"{text} ", style="cyan" if token in names else "green" if label != IGNORE else "dim")
        table.add_row("tokens", shown)
        read = sum(label != IGNORE for label in row.labels)
        table.add_row("loss reads", f"{read} of {len(row.ids)} tokens (green)")
        console.print(table, "")


def run_generate(config: Arithmetic | Chains) -> Path:
    """Write generated data.

    Args:
        config: what to write.

    Returns:
        The file.

    Raises:
        ConfigError: if the file exists.
    """
    if config.out.exists():
        raise ConfigError(f"--out {config.out} exists", "give another name")
    if isinstance(config, Arithmetic):
        remainder = ";remainder=true" if config.remainder else ""
        source = f"arithmetic:ops={config.ops};digits={config.digits};operations={config.operations}{remainder}"
        style = config.style
    else:
        source, style = f"chains:length={config.length}", "examples"
    examples = load_examples(DataSpec(source=source, split=config.split, limit=config.n, seed=config.seed))
    write_jsonl(examples, config.out, style)
    print(f"wrote {len(examples)} rows to {config.out}")
    return config.out
