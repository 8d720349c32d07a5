"""What every training recipe can be told."""

from dataclasses import dataclass
from typing import Literal

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
        clip: largest gradient norm.
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

    steps: int = 0
    epochs: float = 3.0
    batch_size: int = 8
    accumulate: int = 1
    group_by_length: bool = False
    lr: float = 3e-5
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    log_every: int = 10
    save_every: int = 0
    max_hours: float | None = None
    max_skipped: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_hours is not None and self.max_hours <= 0:
            raise ConfigError(f"--max-hours {self.max_hours:g} leaves no time", "give a positive number of hours")
        if self.max_skipped < 1:
            raise ConfigError(f"--max-skipped {self.max_skipped}", "give 1 or more")


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

    rank: int = 0
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    quantize: Literal["none", "4bit"] = "none"

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"--rank {self.rank} is negative", "give 0 to train all weights, or a rank such as 16")
        if self.quantize == "4bit" and not self.rank:
            raise ConfigError("--quantize 4bit freezes all weights", "train an adapter beside them with --rank 16")
