"""How a rollout calls the decoder: masks and positions, single positions by the shortest way, what is kept of calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from latent_gemma.model.adapters import current_thought_mask, thought_phase
from latent_gemma.model.cache import SegmentCache
from latent_gemma.model.masks import biased_masks, one_position_mask
from latent_gemma.model.static import StaticStep, stepper
from latent_gemma.model.step import Step
from latent_gemma.model.stock import cache_field
from latent_gemma.model.unrolled import Unrolled

#: Keywords that only the loss reads.
_OF_THE_LOSS = ("num_items_in_batch", "ignore_index", "shift_labels")


def _replay_in_phase(function: Callable[..., Any], *args: Any) -> Any:
    """Checkpoint a layer call so that backward recomputes it in the phase of its own forward, not the current one."""
    mask = current_thought_mask()

    def run(*inner: Any) -> Any:
        with thought_phase(mask):
            return function(*inner)

    return checkpoint(run, *args, use_reentrant=False)


@dataclass(frozen=True)
class Bias:
    """Bias per key [B, T_keys] and the positions of this forward it applies to [B, T]."""

    keys: Tensor
    queries: Tensor


class Calls:
    """The decoder calls of one rollout.

    Args:
        decoder: the latent decoder.
        start: positions in the cache before this forward.
        padding: [B, start + T], or None.
        position_ids: [B, T] or None.
        cache: what the calls extend.
        columns: number of columns that hold thoughts.
        replays: recompute activations in backward.
        kwargs: what else the stock decoder is to be given.
    """

    def __init__(
        self,
        decoder: Any,
        start: int,
        padding: Tensor | None,
        position_ids: Tensor | None,
        cache: Any,
        columns: int,
        replays: bool,
        kwargs: dict[str, Any],
    ) -> None:
        self.decoder, self.start, self.padding, self.position_ids = decoder, start, padding, position_ids
        self.cache, self.columns, self.replays = cache, columns, replays
        # PEFT hands on all it could be told, and Trainer what its loss divides by
        self.kwargs = {
            name: value
            for name, value in kwargs.items()
            if value is not None and value is not False and name not in _OF_THE_LOSS
        }
        self.outputs: list[BaseModelOutputWithPast] = []
        self._step: Step | StaticStep | None = None
        self._unrolls: bool | None = None

    def call(self, embeds: Tensor, a: int, cache: Cache | None, thinks: Tensor | None, bias: Bias | None) -> Tensor:
        """One decoder call over columns [a, a + T) with `embeds` [B, T, D]; returns final hidden states."""
        b = a + embeds.shape[1]
        if b == a + 1 and (step := self._stepper(cache)) is not None:
            return self._one_position(step, embeds, a, cache, thinks, bias)
        if isinstance(cache, SegmentCache):
            cache.settle()
        if bias is not None:
            mask: Any = biased_masks(
                self.decoder.config,
                self._padding_up_to(b),
                cache,
                self.start + a,
                bias.keys[:, : self.start + b],
                bias.queries[:, a:b],
                embeds.dtype,
            )
        else:
            mask = self._padding_up_to(b)
        positions = self.position_ids
        if positions is None:
            positions = torch.arange(self.start + a, self.start + b, device=embeds.device)[None]
        else:
            positions = positions[:, a:b]
        with thought_phase(thinks):
            output = self.decoder.decoder_call(
                inputs_embeds=embeds,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
                **cache_field(cache),
                **self.kwargs,
            )
        self.outputs.append(output)
        hidden: Any = output.last_hidden_state
        return hidden

    def _stepper(self, cache: Cache | None) -> Any:
        """What takes positions that go through alone, where the call has to give no more than hidden states."""
        if self.kwargs:
            return None
        if isinstance(cache, SegmentCache):
            if self._unrolls is None:
                self._unrolls = Unrolled.fits(self.decoder)
            begun = cache.unrolled is not None or any(cache.past)
            if not (self._unrolls and begun):
                return None
            return cache.unroll(lambda past: Unrolled(self.decoder, past, self.columns, self.replays))
        if torch.is_grad_enabled() or type(cache) is not DynamicCache:
            return None
        if self._step is None:
            self._step = stepper(self.decoder, thinks=True)
        return self._step

    def _one_position(
        self, step: Any, embeds: Tensor, a: int, cache: Any, thinks: Tensor | None, bias: Bias | None
    ) -> Tensor:
        """A call over column a alone, as `call`."""
        end = self.start + a + 1
        mask = one_position_mask(
            self._padding_up_to(a + 1),
            None if bias is None else bias.keys[:, :end],
            None if bias is None else bias.queries[:, a],
            embeds.dtype,
        )
        if self.position_ids is None:
            positions = torch.full((1, 1), end - 1, device=embeds.device)
        else:
            positions = self.position_ids[:, a : a + 1]
        if isinstance(step, Unrolled):
            hidden = step(embeds, positions, mask, thinks)
        else:
            with thought_phase(thinks):
                hidden = step(embeds, positions, cache, mask)
        self.outputs.append(BaseModelOutputWithPast(last_hidden_state=hidden))
        return hidden

    def next_cache(self) -> Cache:
        """The cache for the call that follows one made with `self.cache`."""
        if isinstance(self.cache, SegmentCache):
            self.cache = self.cache.following()
        return self.cache

    def close(self) -> None:
        """Let go of what keeps the graph: checkpointing keeps this object to run calls again, which would keep both."""
        self.outputs = []
        if isinstance(self.cache, SegmentCache):
            self.cache.close()
            self.cache = None

    def _padding_up_to(self, b: int) -> Tensor | None:
        return None if self.padding is None else self.padding[:, : self.start + b]

    @contextmanager
    def layers_replay(self) -> Iterator[None]:
        """Have each layer checkpoint through our function, which keeps the cache and the phase right."""
        if not self.replays:
            yield
            return
        layers: list[Any] = list(self.decoder.layers)
        kept = [(layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache) for layer in layers]
        for layer in layers:
            layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache = _replay_in_phase, True
        try:
            yield
        finally:
            for layer, (function, flag) in zip(layers, kept, strict=True):
                layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache = function, flag

    @staticmethod
    def join(calls: list[Any]) -> tuple[Tensor, tuple[Tensor | None, ...] | None]:
        """Final hidden states of some calls, and those of all layers where they were asked for."""
        hidden = torch.cat([call.last_hidden_state for call in calls], dim=1)
        if calls[0].hidden_states is None:
            return hidden, None
        # a layer that was not asked for is None
        return hidden, tuple(
            None if layer[0] is None else torch.cat(layer, dim=1)
            for layer in zip(*(call.hidden_states for call in calls), strict=True)
        )
