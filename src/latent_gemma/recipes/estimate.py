"""`latent-gemma estimate`: memory and time of a training run, and which device it fits."""

from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from latent_gemma.errors import ConfigError
from latent_gemma.model.sizes import Sizes, sizes_of

GIB = 1024**3


@dataclass(frozen=True)
class Device:
    """A device's published figures: memory in GiB, dense bf16 peak in TFLOP/s, memory bandwidth in GB/s."""

    name: str
    memory_gib: float
    tflops: float
    bandwidth: float


DEVICES = (
    # its tensor cores know float16 only; float32 and bfloat16 run at the plain rate
    Device("T4 16 GB (Kaggle, Colab)", 15, 8.1, 320),
    Device("L4 24 GB", 22.5, 121, 300),
    Device("RTX 4090 24 GB", 23.5, 165, 1008),
    Device("A100 40 GB", 39.5, 312, 1555),
    Device("A100 80 GB", 79, 312, 2039),
    Device("H100 80 GB", 79, 990, 3350),
    Device("H200 141 GB", 140, 990, 4800),
    Device("CPU, 2 cores (float32)", 1e9, 0.1, 20),
)
#: Share of the published peak that a training step of this kind reaches; an assumption, printed with the table.
UTILISATION = 0.35
#: What the allocator and the libraries take besides.
OVERHEAD_GIB = 1.0


@dataclass(frozen=True)
class Estimate:
    """Memory and time of a training run, from the model's dimensions; nothing is loaded.

    Args:
        model: a published Gemma by name ("google/gemma-2-2b-it"), a local model or a hub name.
        rank: rank of LoRA; 0 trains all weights.
        k: latent steps.
        prompt: tokens before the thoughts.
        answer: tokens after them.
        batch_size: examples at once.
        rows: training examples.
        epochs: passes over them.
        precision: of the computation; weights stay in float32 in either.
        checkpointing: recompute activations in backward.
    """

    model: str
    rank: int = 16
    k: int = 4
    prompt: int = 128
    answer: int = 64
    batch_size: int = 8
    rows: int = 7473
    epochs: float = 3.0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    checkpointing: bool = True


@dataclass(frozen=True)
class Needs:
    """What a run needs; memory in GiB, work in FLOP and bytes per optimiser step."""

    weights_gib: float
    training_state_gib: float
    activations_gib: float
    logits_gib: float
    flop: float
    latent_bytes: float

    @property
    def total_gib(self) -> float:
        """All of it, with the overhead."""
        return self.weights_gib + self.training_state_gib + self.activations_gib + self.logits_gib + OVERHEAD_GIB


def needs(sizes: Sizes, config: Estimate) -> Needs:
    """Work out what a run needs.

    Args:
        sizes: of the model.
        config: of the run.

    Returns:
        The needs. Float32 weights (4 bytes) and for each trained value a gradient and two Adam moments (12 bytes);
        activations as the eager forward stores them; logits of the positions the loss reads, as computed, in float32
        and as gradient. Work: 2 FLOP a weight and position forward, 2 for the gradient of the input, 2 more for that
        of the weight where it is trained, 2 for recomputation.
    """
    width = 2 if config.precision == "bfloat16" else 4
    length = config.prompt + config.k + 2 + config.answer
    positions = config.batch_size * length
    weights = sizes.embedding + sizes.projections
    trained = config.rank * sizes.lora_width * sizes.layers if config.rank else weights
    stored = positions * (10 * sizes.hidden + 2 * sizes.attention_width + 4 * sizes.intermediate) * width
    # eager attention keeps the scores before and after softcap, mask and softmax (the last in float32 too)
    stored += positions * length * sizes.heads * (3 * width + 4)
    if config.checkpointing:
        activations = stored + positions * sizes.hidden * sizes.layers * width
    else:
        activations = stored * sizes.layers
    read = config.batch_size * config.answer
    factor = 4 + (0 if config.rank else 2) + (2 if config.checkpointing else 0)
    flop = positions * sizes.projections * factor + read * sizes.embedding * 6
    return Needs(
        weights_gib=4 * weights / GIB,
        training_state_gib=12 * trained / GIB,
        activations_gib=activations / GIB,
        logits_gib=read * sizes.vocab * (width + 8) / GIB,
        flop=flop,
        # one position at a time is bound by reading the weights: forward, recomputation, and backward
        latent_bytes=config.k * sizes.projections * width * (4 if config.checkpointing else 3),
    )


def seconds_per_step(need: Needs, device: Device) -> float:
    """Seconds of one optimiser step: matrix work at the assumed share of the peak, latent steps at the bandwidth."""
    return need.flop / (device.tflops * 1e12 * UTILISATION) + need.latent_bytes / (device.bandwidth * 1e9)


def run_estimate(config: Estimate) -> Needs:
    """Print what a run needs and which device it fits.

    Args:
        config: the run.

    Returns:
        The needs.

    Raises:
        ConfigError: for a number out of range.
    """
    for name, least in (("rank", 0), ("k", 0), ("prompt", 1), ("answer", 1), ("batch_size", 1), ("rows", 1)):
        if getattr(config, name) < least:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} {getattr(config, name)} is too small", f"give {least} or more")
    sizes = sizes_of(config.model)
    need = needs(sizes, config)
    steps = max(1.0, config.rows * config.epochs / config.batch_size)
    console = Console()
    memory = Table(title=f"{config.model}: memory", title_justify="left", box=None, show_header=False)
    for name, value in (
        (f"weights, float32 ({(sizes.embedding + sizes.projections) / 1e6:,.0f} M values)", need.weights_gib),
        ("gradients and Adam moments", need.training_state_gib),
        ("activations", need.activations_gib),
        ("logits the loss reads", need.logits_gib),
        ("allocator and libraries (assumed)", OVERHEAD_GIB),
        ("together", need.total_gib),
    ):
        memory.add_row(name, f"{value:6.1f} GiB")
    console.print(memory)
    table = Table("device", "fits", "s/step", "hours", title=f"{steps:,.0f} steps", title_justify="left", box=None)
    for device in DEVICES:
        seconds = seconds_per_step(need, device)
        fits = "–" if device.memory_gib > 1e6 else "yes" if need.total_gib <= device.memory_gib else "no"
        table.add_row(device.name, fits, f"{seconds:.2f}", f"{seconds * steps / 3600:.1f}")
    console.print(table)
    console.print(
        f"Computed, not measured: published peaks at {UTILISATION:.0%} use; latent steps at the memory bandwidth.",
        style="dim",
    )
    return need
