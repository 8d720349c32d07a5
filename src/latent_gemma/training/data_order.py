"""Which examples each step takes: a pure function of seed and step, the same in every engine."""

import math

import torch

from latent_gemma.training.settings import TrainSettings


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of one pass, as Trainer's sampler (accelerate's seedable one) draws it.

    Args:
        count: number of examples.
        seed: of the run.
        epoch: number of the pass, from 0.

    Returns:
        Indices.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch)).tolist()


def steps_a_pass(count: int, settings: TrainSettings) -> int:
    """Optimiser steps of one pass over so many examples; the last need not be full."""
    return math.ceil(math.ceil(count / settings.batch_size) / settings.accumulate)


def planned_steps(count: int, settings: TrainSettings) -> int:
    """Optimiser steps of the whole run."""
    return settings.steps or math.ceil(settings.epochs * steps_a_pass(count, settings))
