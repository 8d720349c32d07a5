"""`latent-gemma data preview | arithmetic | chains`: look at data as the model sees it, and write generated data."""

import random
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.writing import write_jsonl
from latent_gemma.errors import ConfigError
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.loading import TINY, load_tokenizer
from latent_gemma.model.prompt import Frame
from latent_gemma.model.tiny import build_tokenizer
from latent_gemma.options.samples import Arithmetic, Chains, Preview
from latent_gemma.text.display import displayable
from latent_gemma.training.batches import IGNORE, build_row, encode_examples
from latent_gemma.training.curriculum import Stage


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
