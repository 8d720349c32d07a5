"""What every training recipe can be told."""

from dataclasses import dataclass
from typing import Annotated, Literal

from latent_gemma.config import Amount, Count, Positive, Range, Seed, Size, Whole, check_ranges
from latent_gemma.errors import ConfigError

Resume = Literal["no", "yes", "auto"]


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the optimisation, the same for every recipe.

    Args:
        steps: optimiser steps; 0 takes `epochs` instead.
        epochs: passes over the training examples.
        batch_size: examples per step and device.
        accumulate: batches per optimiser step.
        group_by_length: fill each step with examples of like length, which spares padding; the mean over a step's
            tokens then gives a token of a short example more weight, and on arithmetic the same number of steps taught
            less. Text stages pack what they can without it.
        lr: peak learning rate.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of AdamW.
        clip: largest gradient norm; 0 for no bound.
        precision: "float32", or "bfloat16" mixed precision: what trains, the bridge and accumulation stay in float32;
            frozen weights are held in bfloat16 while training lasts, and end as they began.
        checkpointing: recompute activations in backward: less memory, about a third more time.
        log_every: steps between entries of metrics.jsonl.
        save_every: steps between checkpoints; 0 saves only when the run is stopped.
        max_hours: stop in time to be done, with a full checkpoint, after this many hours (a Kaggle session has 9);
            `--resume auto` goes on in the next session.
        max_skipped: a step whose loss or gradient is not finite is skipped; so many in a row end the run.
        seed: of new weights, data order, dropout and stage mixing.
    """

    steps: Whole = 0
    epochs: Positive = 3.0
    batch_size: Count = 8
    accumulate: Count = 1
    group_by_length: bool = False
    lr: Positive = 3e-5
    warmup: Annotated[float, Range(0.0, 0.99)] = 0.05
    weight_decay: Amount = 0.01
    clip: Amount = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    log_every: Count = 10
    save_every: Whole = 0
    max_hours: Positive | None = None
    max_skipped: Count = 5
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation of the whole model; kept as an adapter, and merged into the weights at the end.

    Args:
        rank: rank of the update; 0 trains all weights instead.
        alpha: its scale times its rank.
        dropout: on the update's input.
        targets: names of the projections it acts on.
        quantize: "4bit" keeps the frozen weights in 4 bits while the adapter trains (QLoRA; needs bitsandbytes).
    """

    rank: Size = 0
    alpha: Count = 32
    dropout: Annotated[float, Range(0.0, 0.99)] = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    quantize: Literal["none", "4bit"] = "none"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.quantize == "4bit" and not self.rank:
            raise ConfigError("--quantize 4bit freezes all weights", "train an adapter beside them with --rank 16")
