"""Steps of a shape that does not change, compiled: what torch.compile makes of a position that goes through alone.

Compiling takes longer than many a decoding, so it is asked for. Inside, a cache has a fixed number of
slots, a position is a tensor, and masks hide the slots that are not written yet.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from latent_gemma.fast.anatomy import Rotation
from latent_gemma.fast.growing import GrowingLayer
from latent_gemma.fast.masks import beyond_window
from latent_gemma.fast.single import Layer, SingleForward
from latent_gemma.model.attention import lowest
from latent_gemma.model.cache import KeyValue

#: Slots of a cache come in multiples of this, so that prompts of like length share a compiled step.
SLOTS = 64


@dataclass(frozen=True)
class _Slots:
    """Buffers of every layer, masks [B, 1, 1, slots] of every layer type, and the slot [1] that is written."""

    buffers: list[KeyValue]
    masks: dict[str | None, Tensor]
    slot: Tensor

    def extend(self, layer: Layer, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `latent_gemma.fast.single.Memory`."""
        keys, values = self.buffers[layer.index]
        keys.index_copy_(2, self.slot, key)
        values.index_copy_(2, self.slot, value)
        return keys, values, self.masks[layer.layer_type]


class CompiledForward:
    """As `SingleForward`, compiled, for caches of growing layers that keep everything.

    Args:
        step: the forward.
        backend: of torch.compile.
    """

    def __init__(self, step: SingleForward, backend: str) -> None:
        self.step = step
        self.windows = {layer.layer_type: layer.window for layer in step.layers}
        self._run = torch.compile(self._forward, backend=backend)

    def _forward(
        self,
        x: Tensor,
        rotations: dict[str | None, Rotation],
        masks: dict[str | None, Tensor],
        slot: Tensor,
        buffers: list[KeyValue],
    ) -> Tensor:
        return self.step.run(x, rotations, _Slots(buffers, masks, slot))

    def __call__(self, embeds: Tensor, position_ids: Tensor, cache: Cache, mask: Tensor | None) -> Tensor:
        """See `SingleForward`."""
        start = int(cache.get_seq_length())
        layers: list[Any] = cache.layers
        kept = [layer.buffers(start + 1) if isinstance(layer, GrowingLayer) else None for layer in layers]
        buffers = [pair for pair in kept if pair is not None]
        if len(buffers) < len(layers):  # a cache of another making, or one that has to grow
            return self.step(embeds, position_ids, cache, mask)
        turns = self.step.rotations(embeds, position_ids)
        slot = torch.tensor([start], device=embeds.device)
        hidden = self._run(embeds[:, 0], turns, self._masks(mask, embeds, start, buffers[0]), slot, buffers)
        for layer, pair in zip(layers, buffers, strict=True):
            layer.show(pair, start + 1)
        return hidden[:, None]

    def _masks(self, mask: Tensor | None, embeds: Tensor, start: int, pair: KeyValue) -> dict[str | None, Tensor]:
        added = embeds.new_full((len(embeds), 1, 1, pair[0].shape[2]), lowest(embeds.dtype))
        added[..., : start + 1] = 0.0 if mask is None else mask
        return {
            kind: added if window is None else beyond_window(added, start, window)
            for kind, window in self.windows.items()
        }
