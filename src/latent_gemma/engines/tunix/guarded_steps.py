"""The optimiser: AdamW as Trainer runs it, which takes no step along a gradient that is not finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from latent_gemma.training.learning_rate import learning_rates
from latent_gemma.training.settings import TrainSettings


class GuardedState(NamedTuple):
    """What the optimiser knows between batches.

    Args:
        micro: batches of the step that are done.
        sums: of their gradients; of no use with one batch a step, and then None.
        steps: done, those that were skipped included.
        moments: of Adam.
        norm: of the gradient of the last step, before it was clipped.
        skipped: steps whose gradient was not finite.
        skipped_in_row: of these, the last ones without another between them.
    """

    micro: Any
    sums: Any
    steps: Any
    moments: Any
    norm: Any
    skipped: Any
    skipped_in_row: Any


def _decays(weights: Any) -> Any:
    """Weight decay acts on matrices, not on the scales of norms, as Trainer has it."""
    return jax.tree_util.tree_map_with_path(lambda path, _: "scale" not in jax.tree_util.keystr(path), weights)


def guarded_adamw(settings: TrainSettings, steps: int) -> optax.GradientTransformation:
    """AdamW on the sum of the gradients of a step's batches.

    Tunix's own accumulation takes the mean over batches of their means, and keeps a NaN for ever once it has met one.

    Args:
        settings: the optimisation.
        steps: of the whole run, which the learning rate follows.

    Returns:
        The optimiser; between steps its updates are zero.
    """
    adam = optax.chain(
        optax.scale_by_adam(b1=0.9, b2=0.99), optax.add_decayed_weights(settings.weight_decay, mask=_decays)
    )
    rates = jnp.asarray(np.array(learning_rates(settings, steps), np.float32))

    def init(weights: Any) -> GuardedState:
        sums = jax.tree.map(jnp.zeros_like, weights) if settings.accumulate > 1 else None
        # each an array of its own: a step gives all of them away
        micro, steps, skipped, in_row = (jnp.zeros((), jnp.int32) for _ in range(4))
        return GuardedState(micro, sums, steps, adam.init(weights), jnp.zeros(()), skipped, in_row)

    def step(gradient: Any, state: GuardedState, weights: Any) -> tuple[Any, GuardedState]:
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(norm)
        # as torch clips
        scale = jnp.minimum(1.0, settings.clip / (norm + 1e-6)) if settings.clip else 1.0
        clipped = jax.tree.map(lambda g: jnp.where(finite, g * scale, 0.0), gradient)
        updates, moments = adam.update(clipped, state.moments, weights)
        rate = jnp.where(finite, rates[jnp.minimum(state.steps, len(rates) - 1)], 0.0)
        return jax.tree.map(lambda update: -rate * update, updates), state._replace(
            steps=state.steps + 1,
            moments=jax.tree.map(lambda new, old: jnp.where(finite, new, old), moments, state.moments),
            norm=norm.astype(jnp.float32),
            skipped=state.skipped + ~finite,
            skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
        )

    def update(gradient: Any, state: GuardedState, weights: Any = None) -> tuple[Any, GuardedState]:
        if settings.accumulate == 1:
            return step(gradient, state, weights)
        sums = jax.tree.map(jnp.add, state.sums, gradient)
        zeros = jax.tree.map(jnp.zeros_like, gradient)

        def last(_: Any) -> tuple[Any, GuardedState]:
            updates, after = step(sums, state, weights)
            return updates, after._replace(micro=jnp.zeros((), jnp.int32), sums=zeros)

        def other(_: Any) -> tuple[Any, GuardedState]:
            return zeros, state._replace(micro=state.micro + 1, sums=sums)

        return jax.lax.cond(state.micro == settings.accumulate - 1, last, other, None)

    return optax.GradientTransformation(init, update)
