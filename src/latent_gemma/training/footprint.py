"""Peak memory of a training step, from the model's dimensions: what autograd keeps, counted once per kind of tensor.

A step of recurrence "append" is K + 1 decoder calls (one for K = 0): the prompt, K - 1 single positions, and the last
thought with the answer. `tests/training/test_footprint.py` counts what a small model really keeps and compares.
"""

from dataclasses import dataclass
from typing import NamedTuple

from latent_gemma.choices import Precision
from latent_gemma.model.sizes import Sizes

GIB = 1024**3


class PerLayer(NamedTuple):
    """Bytes of one layer and call: per position times a width (`scores`: heads times keys), and per weight."""

    hidden: float
    queries: float
    keys: float
    intermediate: float
    scores: float
    rank: float
    weights: float


#: What autograd keeps of a layer without checkpointing, by precision and whether an adapter trains.
#: In float32 that is, of hidden width, 10 tensors (2 norms in front: input, normalised and output each; 2 behind:
#: input and normalised), 4 of the queries' width (queries, repeated keys and values, output), 4 of the intermediate
#: width (both projections, the activation, the product), and the scores behind softcap and softmax. Under an adapter
#: the weights of norms do not train, so their inputs are not kept (6 of hidden width). bfloat16 keeps the residual
#: stream and the norms in float32, and a copy of a norm's output for each projection that reads it. It keeps a copy of
#: trained weights, too, which all calls share; frozen ones are held in bfloat16 (`training/frozen.py`).
SAVED: dict[tuple[Precision, bool], PerLayer] = {
    ("float32", False): PerLayer(40, 16, 0, 16, 8, 0, 0),
    ("float32", True): PerLayer(24, 16, 0, 16, 8, 28, 0),
    ("bfloat16", False): PerLayer(42, 8, 0, 8, 8, 0, 2),
    ("bfloat16", True): PerLayer(26, 8, 0, 8, 8, 14, 0),
}


class Call(NamedTuple):
    """One decoder call: B * T positions and the keys they see."""

    positions: int
    keys: int


@dataclass(frozen=True)
class Step:
    """A training step.

    Args:
        sizes: of the model.
        rank: of LoRA on all projections; 0 trains all weights.
        k: latent steps.
        prompt: tokens before the thoughts, without their markers.
        answer: tokens after them, which the loss reads.
        batch_size: B.
        precision: of the computation; in "bfloat16", frozen projections are held in it, other weights in float32.
        checkpointing: recompute activations in backward.
    """

    sizes: Sizes
    rank: int
    k: int
    prompt: int
    answer: int
    batch_size: int
    precision: Precision
    checkpointing: bool

    @property
    def width(self) -> int:
        """Bytes of a value that projections compute."""
        return 2 if self.precision == "bfloat16" else 4

    @property
    def weights(self) -> int:
        """Values of all matrices."""
        return self.sizes.embedding + self.sizes.projections

    @property
    def trained(self) -> int:
        """Values that train."""
        return self.rank * self.sizes.lora_width * self.sizes.layers if self.rank else self.weights

    def weight_bytes(self, sharded: bool = False) -> float:
        """Memory of all matrices; sharded ones stay in float32."""
        halved = self.precision == "bfloat16" and self.rank > 0 and not sharded
        return 4.0 * self.weights - (2.0 * self.sizes.projections if halved else 0.0)

    @property
    def read(self) -> int:
        """Positions whose logits the loss reads."""
        return self.batch_size * self.answer

    def calls(self) -> list[Call]:
        """The decoder's calls, in order."""
        batch, length = self.batch_size, self.prompt + self.k + 2 + self.answer
        if self.k == 0:
            return [Call(batch * length, length)]
        single = [Call(batch, self.prompt + 1 + step) for step in range(1, self.k)]
        return [
            Call(batch * (self.prompt + 1), self.prompt + 1),
            *single,
            Call(batch * (self.answer + 2), length),
        ]


def layer_bytes(step: Step, call: Call, table: dict[tuple[Precision, bool], PerLayer]) -> float:
    """Bytes of one layer in one call by one of the tables, without those per weight."""
    sizes, each = step.sizes, table[step.precision, step.rank > 0]
    return call.positions * (
        each.hidden * sizes.hidden
        + each.queries * sizes.queries
        + each.keys * sizes.keys
        + each.intermediate * sizes.intermediate
        + each.scores * sizes.heads * call.keys
        + each.rank * step.rank
    )


def saved_bytes(step: Step, calls: list[Call]) -> float:
    """What these calls keep for backward, without logits and copies of weights."""
    sizes = step.sizes
    # of the final norm its input, normalised for its weights' gradient, and its output where a thought reads it
    kept = sum(call.positions for call in calls) * sizes.hidden * 4.0 * (1 + (step.rank == 0) + (step.k > 0))
    for call in calls:
        if step.checkpointing:
            kept += sizes.layers * call.positions * sizes.hidden * 4
        else:
            kept += sizes.layers * layer_bytes(step, call, SAVED)
        if step.k:  # keys and values that later calls read
            kept += sizes.layers * call.positions * 2 * sizes.keys * step.width
    return kept


@dataclass(frozen=True)
class Needs:
    """Bytes alive at the worst moment of a step; `when` says which."""

    when: str
    weights: float
    moments: float
    gradients: float
    copies: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.moments + self.gradients + self.copies + self.activations + self.logits


def needs(step: Step, shards: int = 1) -> Needs:
    """The worst moment of a training step with AdamW, behind the first one (which makes the moments).

    Args:
        step: the step.
        shards: GPUs among which FSDP2 shares out weights, moments and gradients; 1 for none of it.

    Returns:
        What is alive then.
    """
    sizes, calls, width = step.sizes, step.calls(), step.width
    full, half = step.rank == 0, step.precision == "bfloat16"
    entry = step.read * sizes.vocab
    # autocast's copies of weights that train, one for the step; shards are gathered in bfloat16, one layer at a time
    head_copy, layer_copies = (2.0 * sizes.embedding, 2.0 * sizes.projections) if half else (0.0, 0.0)
    if shards > 1:
        layer_copies /= sizes.layers
    elif not full:
        layer_copies = 0.0
    elif step.k > 1:  # single positions have copies of their own
        layer_copies *= 2
    # a layer in backward: what is recomputed of it, and the gradients of its widest tensors
    longest = max(calls)
    busy = longest.positions * 3.0 * max(width * sizes.intermediate, 4 * sizes.heads * longest.keys)
    if step.checkpointing:
        busy += layer_bytes(step, longest, SAVED)
    # a gradient is one value; while calls are left, those of copied weights wait in the copies' precision
    waiting = (width if full else 4.0) * step.trained
    at = {
        # of each logit: tanh, log-probability, and the gradients in front of and behind log-softmax
        "where the loss is read": (0.0, head_copy + layer_copies, saved_bytes(step, calls), entry * (width + 12.0)),
        "in the last layer's backward": (
            width * sizes.embedding if full else 0.0, layer_copies, saved_bytes(step, calls) + busy, 0.0
        ),
        "in the prompt's backward": (waiting, layer_copies, saved_bytes(step, calls[:1]) + busy, 0.0),
        # look-up and head each have a gradient as large as the embedding
        "behind backward": ((4.0 * step.trained + 4 * sizes.embedding) if full else 4.0 * step.trained, 0.0, 0.0, 0.0),
    }  # fmt: skip
    weights, moments = step.weight_bytes(sharded=shards > 1) / shards, 8.0 * step.trained / shards
    found = [Needs(when, weights, moments, gradients / shards, *others) for when, (gradients, *others) in at.items()]
    # where frozen weights are float32 again, the optimiser still has its moments
    found.append(Needs("at the end, in float32", 4.0 * step.weights / shards, moments, 0.0, 0.0, 0.0, 0.0))
    return max(found, key=lambda moment: moment.total)
