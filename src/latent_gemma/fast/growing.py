"""A cache that grows in place, for decoding without gradients."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer

from latent_gemma.model.cache import KeyValue


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer in buffers with room, so that a position is written without copying those before it.

    Not for gradients: the buffers are written in place.

    Args:
        capacity: positions there is room for at first; more are taken when they come.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self._buffers: KeyValue | None = None
        self._shown: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeyValue:
        """Write keys and values [B, heads, T, head_dim] behind those there are; returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        buffers = self.buffers(end)
        if buffers is None:
            self.capacity = self.capacity if end <= self.capacity else 2 * end
            # zeros, not what lay there: a masked position still counts nothing times its value
            keys, values = (
                new.new_zeros(*new.shape[:2], self.capacity, new.shape[3]) for new in (key_states, value_states)
            )
            if self.keys is not None and self.values is not None and start:
                keys[:, :, :start], values[:, :, :start] = self.keys, self.values
            buffers = self._buffers = keys, values
        keys, values = buffers
        keys[:, :, start:end], values[:, :, start:end] = key_states, value_states
        self.show(buffers, end)
        return keys[:, :, :end], values[:, :, :end]

    def buffers(self, length: int) -> KeyValue | None:
        """The buffers [B, heads, capacity, head_dim], if what is kept lies in them and `length` positions fit."""
        # rows may have been selected since, which leaves other tensors in place of the buffers' views
        if self._buffers is None or self.keys is not self._shown or self._buffers[0].shape[2] < length:
            return None
        return self._buffers

    def show(self, buffers: KeyValue, length: int) -> None:
        """Count the first `length` positions of the buffers as kept."""
        self.keys, self.values = (buffer[:, :, :length] for buffer in buffers)
        self._shown = self.keys


def growing_cache(config: PreTrainedConfig, capacity: int, whole: bool = False) -> DynamicCache:
    """A stock cache whose layers have room for `capacity` positions; a layer with a shorter window keeps only that.

    Args:
        config: the decoder's configuration.
        capacity: positions expected in all.
        whole: layers with a shorter window keep everything as well.

    Returns:
        The cache, not for gradients.
    """
    cache: Any = DynamicCache(config=config)
    cache.layers = [
        GrowingLayer(capacity) if whole or getattr(layer, "sliding_window", capacity) >= capacity else layer
        for layer in cache.layers
    ]
    return cache
