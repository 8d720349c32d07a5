"""`latent-gemma estimate`: memory, time and cost of a training run, and which device it fits."""

from dataclasses import fields
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers import Gemma2Config, Gemma3TextConfig, GemmaConfig

from latent_gemma.errors import ModelError
from latent_gemma.model.loading import TINY, read_config
from latent_gemma.model.tiny import build_tiny
from latent_gemma.options.tools import Estimate
from latent_gemma.training.cost import GIB, Memory, Step, memory, step_flop

NAMES = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim"
#: Published dimensions, so that gated models can be estimated without an account.
PUBLISHED: dict[str, tuple[Any, tuple[int, ...]]] = {
    "gemma-3-270m": (Gemma3TextConfig, (262144, 640, 2048, 18, 4, 1, 256)),
    "gemma-3-1b": (Gemma3TextConfig, (262144, 1152, 6912, 26, 4, 1, 256)),
    "gemma-2-2b": (Gemma2Config, (256000, 2304, 9216, 26, 8, 4, 256)),
    "maths-problems-gemma-2-2b": (Gemma2Config, (256000, 2304, 9216, 26, 8, 4, 256)),
    "gemma-2-9b": (Gemma2Config, (256000, 3584, 14336, 42, 16, 8, 256)),
    "gemma-2b": (GemmaConfig, (256000, 2048, 16384, 18, 8, 1, 256)),
}
#: Memory that PyTorch can have, GiB, and published dense bf16 peak, TFLOP/s. The T4's tensor cores know float16 only.
DEVICES = {
    "T4 16 GB": (15, 8.1), "L4 24 GB": (22.5, 121), "RTX 4090": (23.5, 165), "A100 40 GB": (39.5, 312),
    "A100 80 GB": (79, 312), "H100 80 GB": (79, 990), "H200 141 GB": (140, 990),
}  # fmt: skip
#: What the driver, the allocator and the libraries take besides; assumed.
OVERHEAD_GIB = 1.0


def dimensions_of(name: str) -> Any:
    """The configuration of a model by name, without its weights.

    Args:
        name: a published Gemma (with or without owner and -it), a local model, "tiny", or a hub name that can be had.

    Returns:
        A Gemma configuration.

    Raises:
        ModelError: if its configuration cannot be read.
    """
    if name == TINY:
        return build_tiny().config
    short = name.rsplit("/", 1)[-1].removesuffix("-it").removesuffix("-pt")
    if short in PUBLISHED:
        family, sizes = PUBLISHED[short]
        return family(**dict(zip(NAMES.split(), sizes, strict=True)))
    if (config := read_config(name)) is None:
        raise ModelError(f"the configuration of {name} cannot be read", f"known by name are {', '.join(PUBLISHED)}")
    return config


def run_estimate(config: Estimate) -> Memory:
    """Print what a run needs and which device it fits.

    Args:
        config: the run.

    Returns:
        The memory of one process.
    """
    shared = {field.name: getattr(config, field.name) for field in fields(Step) if field.name != "config"}
    step = Step(dimensions_of(config.model), **shared)
    needs, console = memory(step), Console()
    table = Table(title=f"{config.model}: memory of a process", title_justify="left", box=None, show_header=False)
    for name, value in (
        (f"weights ({step.values / 1e6:,.0f} M values)", needs.weights),
        ("gradients", needs.gradients),
        ("optimiser (AdamW)", needs.optimiser),
        ("activations", needs.activations),
        ("at the end, in float32, if that is more", needs.at_end),
        ("driver, allocator and libraries (assumed)", OVERHEAD_GIB * GIB),
        ("together", needs.peak + OVERHEAD_GIB * GIB),
    ):
        table.add_row(name, f"{value / GIB:6.1f} GiB")
    console.print(table)
    console.print(_devices(config, step, needs))
    console.print(
        f"Computed from the dimensions. Assumed: {config.peak_share:.0%} of the published peak, and nothing for what "
        "GPUs send each other. benchmarks/sizes.py measures the share.",
        style="dim",
    )
    return needs


def _devices(config: Estimate, step: Step, needs: Memory) -> Table:
    steps, flop = max(1.0, config.rows * config.epochs / config.batch_size / config.gpus), step_flop(step)
    several = config.gpus > 1
    columns = ["device", "fits", "s/step", "hours", *(["GPU-hours"] if several else [])]
    title = f"{steps:,.0f} steps of {flop / 1e12:,.1f} TFLOP" + (f" on {config.gpus} GPUs" if several else "")
    table = Table(*columns, *(["cost"] if config.price else []), title=title, title_justify="left", box=None)
    for name, (memory_gib, tflops) in DEVICES.items():
        whole, shared = (
            bytes_ / GIB + OVERHEAD_GIB <= memory_gib for bytes_ in (needs.peak, memory(step, config.gpus).peak)
        )
        seconds = flop / (config.peak_share * tflops * 1e12)
        hours = seconds * steps / 3600
        cells = [name, "yes" if whole else "sharded" if shared else "no", f"{seconds:.2f}", f"{hours:.1f}"]
        cells += [f"{hours * config.gpus:,.0f}"] if several else []
        table.add_row(*cells, *([f"{hours * config.gpus * config.price:,.0f}"] if config.price else []))
    return table
