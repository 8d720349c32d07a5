"""The learning rate of every step: a linear warm-up, then a cosine down to a share of the peak."""

import math

from latent_gemma.training.settings import TrainSettings

#: Share of the peak at which the cosine ends.
LEAST_RATE = 0.05


def learning_rates(settings: TrainSettings, steps: int) -> list[float]:
    """The learning rates that Trainer's scheduler gives, for engines that have none of their own.

    Args:
        settings: the optimisation.
        steps: of the whole run.

    Returns:
        One a step.
    """
    warmup = math.ceil(steps * settings.warmup)

    def share(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        fallen = 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
        return fallen * (1.0 - LEAST_RATE) + LEAST_RATE

    return [settings.lr * share(step) for step in range(steps)]
