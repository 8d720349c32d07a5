"""The optimiser of the Tunix engine is Trainer's AdamW, and nothing that is not finite moves it."""

import numpy as np
import pytest
import torch

from latent_gemma.training.learning_rate import learning_rates
from latent_gemma.training.settings import TrainSettings

from .conftest import needs_tunix

pytestmark = needs_tunix
STEPS = 6


def gradients(steps, accumulate, bad=()):
    """Gradients of every batch; those of the bad batches hold a NaN."""
    rng = np.random.default_rng(0)
    drawn = [
        {"kernel": rng.normal(size=(3, 2)).astype(np.float32), "scale": rng.normal(size=3).astype(np.float32)}
        for _ in range(steps * accumulate)
    ]
    for place in bad:
        drawn[place]["kernel"][0, 0] = np.nan
    return drawn


def by_torch(settings, drawn):
    """What torch makes of them: steps with a NaN are left out, and count for the learning rate."""
    weights = {"kernel": torch.ones(3, 2), "scale": torch.ones(3)}
    for weight in weights.values():
        weight.requires_grad_(True)
    groups = [
        {"params": [weights["kernel"]], "weight_decay": settings.weight_decay},
        {"params": [weights["scale"]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.99))
    for step, rate in enumerate(learning_rates(settings, STEPS)):
        batches = drawn[step * settings.accumulate : (step + 1) * settings.accumulate]
        sums = {name: sum(torch.tensor(batch[name]) for batch in batches) for name in weights}
        if not all(bool(part.isfinite().all()) for part in sums.values()):
            continue
        for name, weight in weights.items():
            weight.grad = sums[name]
        torch.nn.utils.clip_grad_norm_(list(weights.values()), settings.clip or float("inf"))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return {name: weight.detach().numpy() for name, weight in weights.items()}


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("bad", [(), (2, 9)])
def test_steps_are_those_of_torch(tunix_sft, accumulate, clip, bad):
    import jax.numpy as jnp
    import optax

    from latent_gemma.engines.tunix.guarded_steps import guarded_adamw

    settings = TrainSettings(steps=STEPS, accumulate=accumulate, clip=clip, lr=0.05, weight_decay=0.3, warmup=0.2)
    bad = tuple(place for place in bad if place < STEPS * accumulate)
    drawn = gradients(STEPS, accumulate, bad)
    weights = {"kernel": jnp.ones((3, 2)), "scale": jnp.ones(3)}
    optimizer = guarded_adamw(settings, STEPS)
    state = optimizer.init(weights)
    for gradient in drawn:
        updates, state = optimizer.update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
    for name, expected in by_torch(settings, drawn).items():
        np.testing.assert_allclose(np.asarray(weights[name]), expected, atol=2e-6)
    assert int(state.skipped) == len(bad)
    assert int(state.skipped_in_row) == 0


def test_skips_in_a_row_are_counted(tunix_sft):
    import jax.numpy as jnp

    from latent_gemma.engines.tunix.guarded_steps import guarded_adamw

    weights = {"kernel": jnp.ones((3, 2)), "scale": jnp.ones(3)}
    optimizer = guarded_adamw(TrainSettings(steps=STEPS, accumulate=1), STEPS)
    state, seen = optimizer.init(weights), []
    for gradient in gradients(STEPS, 1, bad=(1, 2, 4)):
        _, state = optimizer.update(gradient, state, weights)
        seen.append(int(state.skipped_in_row))
    assert seen == [0, 1, 2, 0, 1, 0]


def test_the_accumulation_that_tunix_takes_keeps_a_nan(tunix_sft):
    import jax.numpy as jnp
    import optax

    optimizer = optax.MultiSteps(optax.sgd(1.0), 2)
    weights = {"kernel": jnp.ones(2)}
    state = optimizer.init(weights)
    for gradient in (jnp.array([jnp.nan, 1.0]), jnp.ones(2), jnp.ones(2), jnp.ones(2)):
        _, state = optimizer.update({"kernel": gradient}, state, weights)
    assert jnp.isnan(state.acc_grads["kernel"]).tolist() == [True, False]
