"""Tunix's rollouts for our prompts: ids in, ids out with their ends, other noise in every batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from flax import nnx
from tunix.models.gemma.model import RematConfig
from tunix.rl import common
from tunix.rl.rollout.base_rollout import CacheConfig, RolloutConfig, RolloutOutput
from tunix.rl.rollout.vanilla_rollout import VanillaRollout

from latent_gemma.training.rewarding import RewardBook

#: No token's id: whatever a model writes, its padding token included, is part of the completion.
PAD_ID = -1


class PromptIds:
    """What Tunix takes for a tokenizer: a "text" is the number of a prompt, a completion becomes what is scored.

    Args:
        book: reads completions.
        prompts: ids of each prompt.
    """

    def __init__(self, book: RewardBook, prompts: Sequence[list[int]]) -> None:
        self.book, self.prompts = book, prompts

    def encode(self, text: str, **kwargs: Any) -> list[int]:
        """Ids of a prompt."""
        return self.prompts[int(text)]

    def decode(self, ids: list[int], **kwargs: Any) -> str:
        """A completion as it is scored."""
        return self.book.read(ids)

    def bos_id(self) -> int | None:
        """None: the prompt has it where it belongs."""
        return None

    def eos_id(self) -> int:
        """The first of the ids that end a completion."""
        return self.book.frame.end_id

    def pad_id(self) -> int:
        """See `PAD_ID`."""
        return PAD_ID


def _without_checkpointing(actor: Any) -> Any:
    """The graph of a model that recomputes no layer: within the loop that decodes, nnx cannot."""
    model = nnx.merge(*nnx.split(actor))
    for layer in model.layers:
        layer.config = replace(layer.config, remat_config=RematConfig.NONE)
    return nnx.graphdef(model)


class FramedRollout(VanillaRollout):
    """Tunix's own rollout with three faults mended.

    Without a seed it draws the same noise for every batch; it cuts the token that ends a completion off, so that
    nobody learns to end one; its log-probabilities leave the temperature out.

    Args:
        rollout_actor: the model in Tunix.
        tokenizer: see `PromptIds`, as Tunix wraps it.
        rollout_config: its settings; `seed` is the key of the run.
        mesh: Tunix's, which hands it to every rollout.
    """

    #: Number of the batch, which Tunix may draw in several parts: `batch` is set before it, `part` counts on.
    batch, part = 0, 0

    def __init__(self, rollout_actor: Any, tokenizer: Any, rollout_config: RolloutConfig, mesh: Any = None) -> None:
        model = rollout_actor.config
        sizes = CacheConfig(rollout_config.kv_cache_size, model.num_layers, model.num_kv_heads, model.head_dim)
        super().__init__(rollout_actor, tokenizer, sizes)
        if model.remat_config is not RematConfig.NONE:
            self._sampler._transformer_graphdef = _without_checkpointing(rollout_actor)
        self.temperature = rollout_config.temperature
        self.drawn: Any = None
        decode = self._sampler._compiled_decode_fn

        def keep_drawn(*args: Any) -> Any:
            state = decode(*args)
            self.drawn = state.token_buffer
            return state

        self._sampler._compiled_decode_fn = keep_drawn

    def begin_batch(self, number: int) -> None:
        """The batch of this number, from 0, is drawn next."""
        self.batch, self.part = number, 0

    def generate(self, prompts: list[str], rollout_config: RolloutConfig, **kwargs: Any) -> RolloutOutput:
        """Write a completion to each prompt; arguments and result as of Tunix's."""
        key = jax.random.fold_in(jax.random.fold_in(rollout_config.seed, self.batch), self.part)
        self.part += 1
        output = super().generate(prompts, replace(rollout_config, seed=key), **kwargs)
        drawn = np.asarray(self.drawn)[:, rollout_config.max_prompt_length :]
        tokens = [ids[: len(cut) + 1] for ids, cut in zip(drawn, output.tokens, strict=True)]
        return replace(output, tokens=tokens, text=[self._sampler.tokenizer.decode(ids.tolist()) for ids in tokens])

    def get_per_token_logps(self, prompt_tokens: jax.Array, completion_tokens: jax.Array) -> jax.Array:
        """Log-probabilities of completions, [B, C], of the distribution that they were drawn from."""
        graph, state = self._sampler.model_def_and_state()
        return common.compute_per_token_logps(
            graph, state, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, pad_id=PAD_ID,
            eos_id=self.eos_id(), temperature=self.temperature,
        )  # fmt: skip
