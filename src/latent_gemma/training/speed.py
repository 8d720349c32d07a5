"""Seconds of a training step, from the model's dimensions and four rates of a device."""

from dataclasses import dataclass

from latent_gemma.choices import Precision
from latent_gemma.training.footprint import Call, PerLayer, Step, layer_bytes

#: Bytes that a layer's operations besides matrix products read and write, counted as they are dispatched.
FORWARD: dict[tuple[Precision, bool], PerLayer] = {
    ("float32", False): PerLayer(136, 72, 40, 20, 48, 0, 0),
    ("float32", True): PerLayer(176, 92, 80, 60, 48, 0, 0),
    ("bfloat16", False): PerLayer(186, 62, 30, 10, 36, 0, 6),
    ("bfloat16", True): PerLayer(236, 84, 51, 42, 36, 0, 0),
}
BACKWARD: dict[tuple[Precision, bool], PerLayer] = {
    ("float32", False): PerLayer(444, 80, 80, 36, 48, 0, 0),
    ("float32", True): PerLayer(456, 100, 96, 64, 48, 0, 0),
    ("bfloat16", False): PerLayer(510, 74, 62, 18, 42, 0, 6),
    ("bfloat16", True): PerLayer(544, 96, 70, 44, 42, 0, 0),
}
#: Operations of a layer, forward and backward, counted likewise.
OPERATIONS: dict[tuple[Precision, bool], tuple[int, int]] = {
    ("float32", False): (61, 107),
    ("float32", True): (89, 134),
    ("bfloat16", False): (80, 133),
    ("bfloat16", True): (124, 176),
}
#: Those of a layer for a position that goes through alone (`model/unrolled.py`), and what the first of them adds:
#: gradients that all of them give together, and their keys for the calls behind.
ALONE: dict[tuple[Precision, bool], tuple[int, int]] = {
    ("float32", False): (46, 55),
    ("float32", True): (60, 69),
    ("bfloat16", False): (52, 65),
    ("bfloat16", True): (66, 79),
}
FIRST: dict[tuple[Precision, bool], tuple[int, int]] = {
    ("float32", False): (14, 66),
    ("float32", True): (21, 77),
    ("bfloat16", False): (23, 75),
    ("bfloat16", True): (37, 93),
}
#: Checkpointing hooks every tensor that is kept, in Python: operations of a step take so many times the host's time,
#: those of the second forward included. Measured on a model too small for anything else to matter (2.2 with adapters,
#: 2.7 without).
HOOKED = 2.5
#: Bytes an optimiser step reads and writes per trained value: AdamW seven, the norm of the gradient one, clipping two.
OPTIMISER = 40


@dataclass(frozen=True)
class Rates:
    """What a device reaches, measured by `benchmarks/sizes.py` or assumed.

    Args:
        matmul: FLOP/s of large matrix products.
        stream: bytes/s at which weights come in for products of few positions.
        elementwise: bytes/s of operations on activations.
        launch_s: seconds the host needs to start one operation, Python's share included.
        overlaps: whether the device works while the host starts further operations.
    """

    matmul: float
    stream: float
    elementwise: float
    launch_s: float
    overlaps: bool


def call_flop(step: Step, call: Call) -> tuple[float, float]:
    """Floating-point operations of one decoder call forward (once, recomputation not counted) and backward.

    2 a weight and position forward, 2 for the gradient of its input, 2 for that of the weight where it trains.
    """
    sizes = step.sizes
    lora = step.rank * sizes.lora_width * sizes.layers
    attention = 4.0 * call.positions * call.keys * sizes.queries * sizes.layers
    gradients = 1 if step.rank else 2
    return (
        2.0 * call.positions * (sizes.projections + lora) + attention,
        2.0 * call.positions * (gradients * sizes.projections + 2 * lora) + 2 * attention,
    )


def step_flop(step: Step) -> float:
    """Floating-point operations of a step."""
    forward, backward = map(sum, zip(*(call_flop(step, call) for call in step.calls()), strict=True))
    head = 2.0 * step.read * step.sizes.embedding
    return forward * (2 if step.checkpointing else 1) + backward + head * (2 if step.rank else 3)


def traffic(step: Step, call: Call, table: dict[tuple[Precision, bool], PerLayer]) -> float:
    """Bytes that all layers' elementwise operations move in one call."""
    return step.sizes.layers * layer_bytes(step, call, table)


def _phase(rates: Rates, flop: float, weights: float, moved: float, operations: float) -> float:
    work = flop / rates.matmul + weights / rates.stream + moved / rates.elementwise
    started = operations * rates.launch_s
    return max(work, started) if rates.overlaps else work + started


def goes_alone(step: Step, index: int, sharded: bool) -> bool:
    """Whether a call is that of a single position, between the first call and the last, through our own forward."""
    return not sharded and 0 < index < len(step.calls()) - 1


def layer_operations(step: Step, index: int, sharded: bool = False) -> tuple[float, float]:
    """Operations that a layer starts in one call, forward and backward, in units of the host's time for a plain one.

    Args:
        step: the step.
        index: of the call.
        sharded: whether weights are shared out over GPUs, which leaves single positions to the stock layers.
    """
    kind = (step.precision, step.rank > 0)
    if not goes_alone(step, index, sharded):
        forward, backward = OPERATIONS[kind]
        return (HOOKED * forward, HOOKED * backward) if step.checkpointing else (forward, backward)
    forward, backward = ALONE[kind]
    more = FIRST[kind] if index == 1 else (0, 0)
    return forward + more[0], backward + more[1] + (forward if step.checkpointing else 0)


def call_seconds(step: Step, index: int, rates: Rates, sharded: bool = False) -> float:
    """Seconds of one decoder call, forward and backward.

    Args:
        step: the step.
        index: of the call.
        rates: of the device.
        sharded: see `layer_operations`.

    Returns:
        Seconds. Each pass takes its matrix products, the reading of its weights (for few positions that is all), and
        what its other operations move. All calls but one add their gradients of trained weights, and of the prompt's
        keys and values, to those of the others; single positions do so together, once.
    """
    sizes, full, width, calls = step.sizes, step.rank == 0, step.width, step.calls()
    call, kind = calls[index], (step.precision, not full)
    flop, backward_flop = call_flop(step, call)
    read = float(width * sizes.projections)
    # copies of weights that train, in the first call, and those of single positions, in the first of them
    alone = goes_alone(step, index, sharded)
    copied = FORWARD[kind].weights * sizes.projections if index == 0 or (alone and index == 1) else 0.0
    gives = not (alone and index > 1)  # the first single position hands out the gradients of all
    written = 1 if full and gives else 0
    added = (3 * width if index else BACKWARD[kind].weights) * sizes.projections * written
    past = 6.0 * width * sizes.layers * step.batch_size * (step.prompt + 1) * sizes.keys if index and gives else 0.0
    again = 2 if step.checkpointing else 1
    forward_ops, backward_ops = (sizes.layers * part for part in layer_operations(step, index, sharded))
    forward = _phase(
        rates, again * flop, again * (read + copied), again * traffic(step, call, FORWARD), forward_ops
    )  # fmt: skip
    backward = _phase(
        rates, backward_flop, read * (1 + written) + added, traffic(step, call, BACKWARD) + past, backward_ops,
    )  # fmt: skip
    return forward + backward


def step_seconds(step: Step, rates: Rates, sharded: bool = False) -> float:
    """Seconds of a whole optimiser step: its calls, the head, the embedding's gradient, AdamW.

    Args:
        step: the step.
        rates: of the device.
        sharded: see `layer_operations`.

    Returns:
        Seconds.
    """
    sizes, full, half = step.sizes, step.rank == 0, step.precision == "bfloat16"
    calls = sum(call_seconds(step, index, rates, sharded) for index in range(len(step.calls())))
    entry, products = step.read * sizes.vocab, 3 if full else 2
    # softcap, log-softmax and their gradients
    moved = entry * (62.0 if half else 76.0)
    head = _phase(
        rates, 2.0 * products * step.read * sizes.embedding,
        float(products * step.width + (6 if half else 0)) * sizes.embedding, moved, 0,
    )  # fmt: skip
    # the look-up's gradient is written whole and added to the head's
    embedding = (16.0 + (6 if half else 0)) * sizes.embedding if full else 0.0
    return calls + head + (embedding + OPTIMISER * step.trained) / rates.elementwise


def latent_floor_seconds(step: Step, bandwidth: float) -> float:
    """Seconds to read the projections' weights once, at the precision of the computation."""
    return step.width * step.sizes.projections / bandwidth


def ddp_seconds(step: Step, gpus: int, link: float) -> float:
    """Seconds to average the gradients of a step over all processes (DDP), none of it hidden behind backward.

    Args:
        step: the step of one process.
        gpus: processes.
        link: bytes/s that each sends.

    Returns:
        Seconds: a ring passes every byte twice but for one part in `gpus`.

    Source: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".
    """
    return 2 * 4.0 * step.trained * (gpus - 1) / gpus / link


def fsdp_seconds(step: Step, gpus: int, link: float) -> float:
    """Seconds that FSDP2 sends: every call gathers the weights, forward and backward, and hands gradients round.

    Args:
        step: the step of one process.
        gpus: processes.
        link: bytes/s that each sends.

    Returns:
        Seconds, none of it hidden. Weights travel in the precision of the computation, gradients in float32.
    """
    each = 2.0 * step.width * step.sizes.projections + 4.0 * step.trained
    return len(step.calls()) * each * (gpus - 1) / gpus / link
