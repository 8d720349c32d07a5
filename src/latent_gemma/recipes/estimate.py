"""`latent-gemma estimate`: memory, time and cost of a training run, and which device it fits."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from latent_gemma.model.sizes import sizes_of
from latent_gemma.options.tools import Estimate
from latent_gemma.training.footprint import GIB, Needs, Step, needs
from latent_gemma.training.speed import Rates, ddp_seconds, fsdp_seconds, step_flop, step_seconds


@dataclass(frozen=True)
class Device:
    """A device's published figures.

    Args:
        name: with its memory.
        memory_gib: what PyTorch can have of it.
        tflops: dense bf16 peak, TFLOP/s.
        bandwidth: of its memory, GB/s.
        link: to others in its machine, GB/s in one direction (NVLink, or PCIe where there is none).
    """

    name: str
    memory_gib: float
    tflops: float
    bandwidth: float
    link: float


DEVICES = (
    # its tensor cores know float16 only; float32 and bfloat16 run at the plain rate
    Device("T4 16 GB", 15, 8.1, 320, 12),
    Device("L4 24 GB", 22.5, 121, 300, 25),
    Device("RTX 4090", 23.5, 165, 1008, 25),
    Device("A100 40 GB", 39.5, 312, 1555, 300),
    Device("A100 80 GB", 79, 312, 2039, 300),
    Device("H100 80 GB", 79, 990, 3350, 450),
    Device("H200 141 GB", 140, 990, 4800, 450),
)
#: Assumed until `benchmarks/sizes.py` has run on the device: share of the published peak that a large matrix product
#: reaches, share of the published bandwidth, seconds in which the host starts one operation.
MATMUL_SHARE, BANDWIDTH_SHARE, LAUNCH_S = 0.6, 0.8, 10e-6
#: What the driver, the allocator and the libraries take besides; assumed.
OVERHEAD_GIB = 1.0
#: GPUs in a machine, and GB/s a GPU between machines (400 Gbit/s InfiniBand each); assumed.
MACHINE, NETWORK = 8, 50.0


def assumed_rates(device: Device) -> Rates:
    """What a device is assumed to reach of its published figures."""
    bandwidth = device.bandwidth * 1e9 * BANDWIDTH_SHARE
    return Rates(device.tflops * 1e12 * MATMUL_SHARE, bandwidth, bandwidth, LAUNCH_S, overlaps=True)


def run_estimate(config: Estimate) -> Needs:
    """Print what a run needs and which device it fits.

    Args:
        config: the run.

    Returns:
        The needs of one process.
    """
    step = Step(
        sizes_of(config.model), config.rank, config.k, config.prompt, config.answer, config.batch_size,
        config.precision, config.checkpointing,
    )  # fmt: skip
    need, console = needs(step), Console()
    console.print(_memory(config, step, need))
    console.print(_devices(config, step, need))
    console.print(
        f"Computed from the dimensions. Assumed: {MATMUL_SHARE:.0%} of the peak in matrix products, "
        f"{BANDWIDTH_SHARE:.0%} of the bandwidth, {LAUNCH_S * 1e6:.0f} us to start an operation"
        + (
            f", {NETWORK:.0f} GB/s a GPU between machines of {MACHINE}, nothing sent while computing"
            if config.gpus > 1
            else ""
        )
        + ". benchmarks/sizes.py measures them.",
        style="dim",
    )
    return need


def _memory(config: Estimate, step: Step, need: Needs) -> Table:
    table = Table(title=f"{config.model}: memory, {need.when}", title_justify="left", box=None, show_header=False)
    for name, value in (
        (f"weights ({step.weights / 1e6:,.0f} M values)", need.weights),
        ("Adam moments", need.moments),
        ("gradients", need.gradients),
        ("copies of weights in bfloat16", need.copies),
        ("activations", need.activations),
        ("logits the loss reads", need.logits),
        ("driver, allocator and libraries (assumed)", OVERHEAD_GIB * GIB),
        ("together", need.total + OVERHEAD_GIB * GIB),
    ):
        table.add_row(name, f"{value / GIB:6.1f} GiB")
    return table


def _devices(config: Estimate, step: Step, need: Needs) -> Table:
    steps = max(1.0, config.rows * config.epochs / config.batch_size / config.gpus)
    several = config.gpus > 1
    columns = ["device", "fits", "s/step", "of peak"]
    columns += ["+ DDP", "+ FSDP2"] if several else []
    columns += ["hours", "GPU-hours"] if several else ["hours"]
    title = f"{steps:,.0f} steps of {step_flop(step) / 1e12:,.1f} TFLOP" + (
        f" on {config.gpus} GPUs" if several else ""
    )
    table = Table(*columns, *(["cost"] if config.price else []), title=title, title_justify="left", box=None)
    for device in DEVICES:
        seconds = step_seconds(step, assumed_rates(device))
        link = (device.link if config.gpus <= MACHINE else min(device.link, NETWORK)) * 1e9
        ddp, fsdp = ddp_seconds(step, config.gpus, link), fsdp_seconds(step, config.gpus, link)
        whole = need.total / GIB + OVERHEAD_GIB <= device.memory_gib
        if several and not whole:
            seconds = step_seconds(step, assumed_rates(device), sharded=True)
        shared = needs(step, config.gpus).total / GIB + OVERHEAD_GIB <= device.memory_gib
        hours = (seconds + (ddp if whole else fsdp)) * steps / 3600
        cells = [device.name, "yes" if whole else "sharded" if shared else "no", f"{seconds:.2f}"]
        cells.append(f"{step_flop(step) / seconds / device.tflops / 1e12:.0%}")
        cells += [f"{ddp:.2f}", f"{fsdp:.2f}"] if several else []
        cells += [f"{hours:.1f}", f"{hours * config.gpus:,.0f}"] if several else [f"{hours:.1f}"]
        table.add_row(*cells, *([f"{hours * config.gpus * config.price:,.0f}"] if config.price else []))
    return table
