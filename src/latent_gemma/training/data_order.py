"""Which examples each step takes: a pure function of seed and step, the same in every engine."""

import math

import torch

from latent_gemma.training.settings import GrpoSettings, TrainSettings


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of one pass, as Trainer's sampler (accelerate's seedable one) draws it; TRL's is told to.

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


def rollout_questions(batch: int, count: int, groups: int, seed: int) -> list[int]:
    """The questions of a batch of rollouts; a pass ends where fewer are left than a batch has groups.

    Args:
        batch: its number, from 0.
        count: number of questions, at least `groups`.
        groups: of a batch, one for each of its questions.
        seed: of the run.

    Returns:
        Indices.
    """
    epoch, place = divmod(batch, count // groups)
    return epoch_order(count, seed, epoch)[place * groups : (place + 1) * groups]


def planned_rollout_steps(count: int, groups: int, settings: TrainSettings, grpo: GrpoSettings) -> int:
    """Optimiser steps of a whole run of GRPO."""
    return settings.steps or math.ceil(settings.epochs * (count // groups) * grpo.iterations)
