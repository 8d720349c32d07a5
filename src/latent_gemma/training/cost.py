"""What a training step takes, from the model's dimensions: bytes in a process, floating-point operations."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

GIB = 1024**3
Precision = Literal["float32", "bfloat16"]


class Memory(NamedTuple):
    """Bytes of one process in a training step with AdamW; `at_end`, frozen weights are float32 again."""

    weights: float
    gradients: float
    optimiser: float
    activations: float
    at_end: float

    @property
    def peak(self) -> float:
        """All of it together, though gradients are not whole before activations are gone."""
        return max(self.weights + self.gradients + self.optimiser + self.activations, self.at_end)


@dataclass(frozen=True)
class Step:
    """A training step of recurrence `append`, or of `parallel`.

    Args:
        config: of a Gemma.
        rank: of LoRA on all projections; 0 trains all weights.
        k: latent steps, between `prompt` and `answer` tokens; the loss reads those of the answer.
        precision: of the computation; in "bfloat16", frozen projections are held in it, other weights in float32.
        parallel_passes: T, passes over all K positions at once; 0 for `append`, one pass a position.
    """

    config: Any
    rank: int
    k: int
    prompt: int
    answer: int
    batch_size: int
    precision: Precision
    checkpointing: bool
    parallel_passes: int = 0

    @property
    def width(self) -> int:
        """Bytes of a value that projections compute."""
        return 2 if self.precision == "bfloat16" else 4

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Of a position: hidden D, queries, keys, intermediate."""
        c, each = self.config, self.config.head_dim
        return c.hidden_size, c.num_attention_heads * each, c.num_key_value_heads * each, c.intermediate_size

    @property
    def embedding(self) -> int:
        """Values of the embedding, shared with the head."""
        return int(self.config.vocab_size * self.config.hidden_size)

    @property
    def projections(self) -> int:
        """Values of all decoder projections."""
        d, q, kv, i = self.widths
        return int(self.config.num_hidden_layers) * (2 * d * q + 2 * d * kv + 3 * d * i)

    @property
    def adapter(self) -> int:
        """Values of LoRA on all projections."""
        d, q, kv, i = self.widths
        return self.rank * int(self.config.num_hidden_layers) * (2 * (d + q) + 2 * (d + kv) + 3 * (d + i))

    @property
    def values(self) -> int:
        """Values of all matrices; norms are next to nothing."""
        return self.embedding + self.projections + self.adapter

    @property
    def trained(self) -> int:
        """Values that train."""
        return self.adapter if self.rank else self.values

    @property
    def logits(self) -> int:
        """Values of the logits that the loss reads."""
        return int(self.batch_size * self.answer * self.config.vocab_size)

    def calls(self) -> list[tuple[int, int]]:
        """The decoder's calls, each B * T positions and the keys they see: prompt, thoughts, the last with the rest."""
        batch, length = self.batch_size, self.prompt + self.k + 2 + self.answer
        if self.k == 0:
            return [(batch * length, length)]
        before = self.prompt + 1
        if self.parallel_passes:
            passes = min(self.k, self.parallel_passes)
            thoughts, rest = [(batch * self.k, before + self.k)] * (passes - 1), self.k + 1 + self.answer
        else:
            thoughts, rest = [(batch, before + step) for step in range(1, self.k)], self.answer + 2
        return [(batch * before, before), *thoughts, (batch * rest, length)]


def layer_bytes(step: Step, positions: int, keys: int) -> float:
    """What autograd keeps of one layer: inputs and outputs of its norms, projections, scores and activation."""
    d, q, _, i = step.widths
    # norms are float32 throughout; the inputs of frozen ones are not kept
    norms = 4 * d * (6 if step.rank else 10)
    scores = 8 * step.config.num_attention_heads * keys
    return positions * (norms + step.width * (4 * (q + i) + 7 * step.rank) + scores)


def kept_bytes(step: Step) -> float:
    """What autograd keeps of a forward pass, logits and copies of weights in bfloat16 included."""
    d, q, kv, _ = step.widths
    layers = step.config.num_hidden_layers
    kept = float(step.logits * (step.width + 4))
    for positions, keys in step.calls():
        # of the final norm its input, normalised for its weights' gradient, and its output where a thought reads it
        kept += 4 * positions * d * (1 + (step.rank == 0) + (step.k > 0))
        kept += layers * (4 * positions * d if step.checkpointing else layer_bytes(step, positions, keys))
        if step.k:  # keys and values that later calls read
            kept += layers * positions * 2 * kv * step.width
    if step.parallel_passes and not step.checkpointing:  # each pass joins the keys before it to its own
        kept += sum(layers * (step.batch_size * keys - own) * 2 * q * step.width for own, keys in step.calls()[1:-1])
    if step.width == 2:
        layer_copies = 0 if step.checkpointing else step.adapter if step.rank else step.projections
        kept += 2 * (step.embedding + layer_copies)
    return kept


def memory(step: Step, shards: int = 1) -> Memory:
    """What a training step takes.

    Args:
        step: the step.
        shards: GPUs among which FSDP2 shares out weights, gradients and moments; sharded weights stay in float32.

    Returns:
        Bytes of one process, without those of driver, allocator and libraries.
    """
    halved = 2.0 * step.projections if step.width == 2 and step.rank and shards == 1 else 0.0
    # gradients in front of and behind log-softmax, the look-up's beside the head's, or what is recomputed of a layer
    widest = max(8.0 * step.logits, 0.0 if step.rank else 4.0 * step.embedding)
    if step.checkpointing:
        widest = max(widest, *(layer_bytes(step, *call) for call in step.calls()))
    weights, gradients, moments = 4.0 * step.values, 4.0 * step.trained, 8.0 * step.trained
    activations, at_end = kept_bytes(step) + widest, (weights + moments) / shards
    return Memory((weights - halved) / shards, gradients / shards, moments / shards, activations, at_end)


def step_memory(
    config: Any, args: Any, everything: int, trains: int, k: int, prompt: int, answer: int, batch_size: int,
    parallel_passes: int = 0,
) -> float:  # fmt: skip
    """Bytes that a training step of a model in memory takes, by `memory`, with the weights counted instead of computed.

    Args:
        config: of the Gemma.
        args: `TrainingArguments`.
        everything: parameters.
        trains: those of them that train.
        k: latent steps.
        prompt: tokens before them.
        answer: tokens after them.
        batch_size: rows at once.
        parallel_passes: see `Step`.
    """
    precision: Precision = "bfloat16" if args.bf16 else "float32"
    rank = int(trains < everything)
    step = Step(config, rank, k, prompt, answer, batch_size, precision, args.activation_checkpointing, parallel_passes)
    at_end = 4.0 * everything + 8.0 * trains
    return memory(step)._replace(gradients=4.0 * trains, optimiser=8.0 * trains, at_end=at_end).peak


def step_flop(step: Step) -> float:
    """Floating-point operations of a step: 2 a weight and position forward (again where that is recomputed), 2 for the
    gradient of its input, 2 for that of the weight where it trains; attention; the head where the loss reads it."""
    _, q, _, _ = step.widths
    total = 2.0 * step.logits * step.config.hidden_size * (2 if step.rank else 3)
    for positions, keys in step.calls():
        attention = 4.0 * positions * keys * q * step.config.num_hidden_layers
        forward = 2.0 * positions * (step.projections + step.adapter) + attention
        backward = 2.0 * positions * ((1 if step.rank else 2) * step.projections + 2 * step.adapter) + 2 * attention
        total += (2 if step.checkpointing else 1) * forward + backward
    return total
