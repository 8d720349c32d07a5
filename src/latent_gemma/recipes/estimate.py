"""`latent-gemma estimate`: memory, time and cost of a training run or a study, and which device it fits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import Gemma2Config, Gemma3TextConfig, GemmaConfig

from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.model.loading import TINY, read_config
from latent_gemma.model.tiny import build_tiny
from latent_gemma.options.command_line import parse
from latent_gemma.options.study_options import StudyOptions
from latent_gemma.options.tools import Estimate
from latent_gemma.recipes.methods import Budget, methods_of
from latent_gemma.text.columns import Columns, spoken, spoken_bytes
from latent_gemma.training.cost import GIB, Memory, Step, memory, step_flop
from latent_gemma.training.curriculum import CodiCurriculum, WrittenCurriculum

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


@dataclass(frozen=True)
class Part:
    """Steps of one kind: all of a run, or those of one method of a study with all seeds."""

    step: Step
    count: float


def run_estimate(config: Estimate) -> Memory:
    """Print what a run or a study needs and which device it fits.

    Args:
        config: the run, or the file of the study.

    Returns:
        The memory of one process, of a study where it is largest.

    Raises:
        ConfigError: for neither a model nor a study, or a study that says no number of steps.
    """
    if bool(config.model) == (config.study is not None):
        raise ConfigError("an estimate is of a run or of a study", "give one of --model and --study")
    if config.study is not None:
        config, parts = _study(config, config.study)
    else:
        count = max(1.0, config.rows * config.epochs / config.batch_size / config.gpus)
        parts = [Part(_step(config, dimensions_of(config.model), config.k, config.answer), count)]
    step = max((part.step for part in parts), key=lambda each: memory(each).activations)
    needs, console = memory(step), Console()
    rows = [
        (name, spoken_bytes(value))
        for name, value in (
            (f"weights ({step.values / 1e6:,.0f} M values)", needs.weights),
            ("gradients", needs.gradients),
            ("optimiser (AdamW)", needs.optimiser),
            ("activations", needs.activations),
            ("at the end, in float32, if that is more", needs.at_end),
            ("driver, allocator and libraries (assumed)", OVERHEAD_GIB * GIB),
            ("together", needs.peak + OVERHEAD_GIB * GIB),
        )
    ]
    console.print(Columns(("memory of a process", ""), rows, config.model))
    console.print(_devices(config, step, parts, needs))
    console.print(
        f"Computed from the dimensions. Assumed: {config.peak_share:.0%} of the published peak, {config.thought_ms:g} "
        "ms a layer and thought for starting operations, and nothing for what GPUs send each other. "
        "benchmarks/sizes.py measures both.",
        style="dim",
    )
    if config.study is not None:
        console.print(
            "Training alone, every method by the formula of recurrence `append`, words with as many written tokens as "
            "thoughts; the questions come on top.",
            style="dim",
        )
    return needs


def _step(config: Estimate, dimensions: Any, k: int, answer: int) -> Step:
    shared = {field.name: getattr(config, field.name) for field in fields(Step) if field.name != "config"}
    return Step(dimensions, **{**shared, "k": k, "answer": answer})


def _study(config: Estimate, file: Path) -> tuple[Estimate, list[Part]]:
    """The estimate of a study, with what its file says, and a part for each of its methods."""
    study: StudyOptions = parse(StudyOptions, ["--config", str(file)], "study")
    train, size = study.train, study.train.batch_size * study.train.accumulate
    if config.gpus > 1:
        raise ConfigError(f"--gpus {config.gpus} with --study", "a study runs in one process")
    steps = train.steps or math.ceil(config.rows * train.epochs / size)
    config = replace(
        config, model=study.model, rank=study.lora.rank, batch_size=train.batch_size, precision=train.precision,
        checkpointing=train.checkpointing,
    )  # fmt: skip
    dimensions = build_tiny("gemma2", None, **study.sizes).config if study.model == TINY else dimensions_of(study.model)
    parts = []
    for method in methods_of(study.names, Budget(study.text_steps or steps, steps, longest=1)):
        written = method.curriculum == WrittenCurriculum("words")
        twice = isinstance(method.curriculum, CodiCurriculum)  # its teacher's rows stand beside its student's
        step = _step(config, dimensions, config.k if method.thinks else 0, config.answer + (config.k if written else 0))
        step = replace(step, batch_size=train.batch_size * (2 if twice else 1))
        parts.append(Part(step, len(study.all_seeds) * method.steps * train.accumulate))
    return config, parts


def _devices(config: Estimate, largest: Step, parts: Sequence[Part], needs: Memory) -> Columns:
    steps = sum(part.count for part in parts)
    flop = sum(part.count * step_flop(part.step) for part in parts) / steps
    starts = sum(part.count * (len(part.step.calls()) - 1) * part.step.config.num_hidden_layers for part in parts)
    several = config.gpus > 1
    header = ["device", "fits", "a step", "together", *(["GPU-hours"] if several else [])]
    header += ["cost"] if config.price else []
    title = f"{steps:,.0f} steps of {flop / 1e12:,.1f} TFLOP" + (f" on {config.gpus} GPUs" if several else "")
    rows = []
    for name, (memory_gib, tflops) in DEVICES.items():
        whole, shared = (
            bytes_ / GIB + OVERHEAD_GIB <= memory_gib for bytes_ in (needs.peak, memory(largest, config.gpus).peak)
        )
        seconds = flop / (config.peak_share * tflops * 1e12) + starts / steps * config.thought_ms / 1e3
        hours = seconds * steps / 3600
        cells = [name, "yes" if whole else "sharded" if shared else "no", spoken(seconds), spoken(3600 * hours)]
        cells += [f"{hours * config.gpus:,.0f}"] if several else []
        rows.append((*cells, *([f"{hours * config.gpus * config.price:,.0f}"] if config.price else [])))
    return Columns(header, rows, title)
