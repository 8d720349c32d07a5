"""Learning rate and data order are those of Trainer."""

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from transformers import TrainingArguments, get_scheduler

from latent_gemma.training.data_order import epoch_order
from latent_gemma.training.learning_rate import learning_rates
from latent_gemma.training.run import trainer_arguments
from latent_gemma.training.settings import TrainSettings


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_the_rates_are_those_of_trainers_scheduler(steps, warmup, tmp_path):
    settings = TrainSettings(steps=steps, lr=3e-3, warmup=warmup)
    arguments = TrainingArguments(**trainer_arguments(settings, tmp_path))
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=settings.lr)
    scheduler = get_scheduler(
        arguments.lr_scheduler_type, optimizer, arguments.get_warmup_steps(steps), steps, arguments.lr_scheduler_kwargs
    )
    expected = []
    for _ in range(steps):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert learning_rates(settings, steps) == pytest.approx(expected, rel=1e-12)


def test_the_order_is_that_of_trainers_sampler():
    sampler = SeedableRandomSampler(range(11), data_seed=5)
    for epoch in range(3):
        assert epoch_order(11, 5, epoch) == list(sampler)
