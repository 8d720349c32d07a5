"""What every training recipe can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the optimisation, the same for every recipe.

    Args:
        steps: optimiser steps; 0 takes `epochs` instead.
        epochs: passes over the training examples.
        batch_size: examples per step and device.
        accumulate: batches per optimiser step.
        lr: peak learning rate.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of AdamW.
        clip: largest gradient norm.
        precision: "float32", or "bfloat16" mixed precision (weights, bridge and accumulation stay in float32).
        checkpointing: recompute activations in backward: less memory, about a third more time.
        log_every: steps between entries of metrics.jsonl.
        save_every: steps between checkpoints; 0 saves only when the run is stopped.
        seed: of data order, dropout and stage mixing.
    """

    steps: int = 0
    epochs: float = 3.0
    batch_size: int = 8
    accumulate: int = 1
    lr: float = 3e-5
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    log_every: int = 10
    save_every: int = 0
    seed: int = 0


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation of the whole model in the text stage; merged into the weights at the end.

    Args:
        rank: rank of the update; 0 trains all weights instead.
        alpha: its scale times its rank.
        dropout: on the update's input.
        targets: names of the projections it acts on.
    """

    rank: int = 0
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run folder, or None."""
    found = [path for path in run.glob("checkpoints/checkpoint-*") if (path / "trainer_state.json").exists()]
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)
