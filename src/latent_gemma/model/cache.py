"""What a rollout keeps between its calls: a cache that grows in place, one that checkpointing can replay, a note."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from latent_gemma.model.attention import NAME as LATENT_EAGER
from latent_gemma.model.attention import Chunks

KeyValue = tuple[Tensor, Tensor]


@dataclass
class RolloutNote:
    """What a cache has to remember of a rollout besides keys and values.

    Args:
        length: positions in the cache when this was written.
        last_hidden: final hidden state of the last position, [B, D]; what a thought that comes next would feed back.
            None where that position has been taken away.
        key_bias: bias per key for every later position, [B, length], or None where there is none.
    """

    length: int
    last_hidden: Tensor | None
    key_bias: Tensor | None

    @staticmethod
    def on(cache: Any) -> "RolloutNote | None":
        """The note of a cache, if it has one."""
        layers = getattr(cache, "layers", ())
        return getattr(layers[0], "rollout_note", None) if layers else None

    @classmethod
    def write(cls, cache: Any, last_hidden: Tensor, key_bias: Tensor | None) -> None:
        """Put a note on a cache as it is now."""
        layer: Any = cache.layers[0]
        kind: Any = type(layer)
        if not hasattr(layer, "rollout_note"):
            layer.__class__ = _noted(kind)
        layer.rollout_note = cls(int(cache.get_seq_length()), last_hidden, key_bias)

    def each(self, change: Callable[[Tensor], Tensor]) -> None:
        """Change the rows."""
        self.last_hidden = None if self.last_hidden is None else change(self.last_hidden)
        self.key_bias = None if self.key_bias is None else change(self.key_bias)


@functools.cache
def _noted(kind: Any) -> type:
    """A cache's first layer with a note: what selects, repeats, crops or clears a cache does it to the note too.

    Args:
        kind: class of the layer.
    """

    class Noted(kind):
        rollout_note: RolloutNote | None = None
        _layer_type = None  # by which transformers would take this class for its own

        def reorder_cache(self, beam_idx: Tensor) -> None:
            super().reorder_cache(beam_idx)
            if self.rollout_note is not None:
                self.rollout_note.each(lambda part: part.index_select(0, beam_idx.to(part.device)))

        def batch_select_indices(self, indices: Tensor) -> None:
            super().batch_select_indices(indices)
            if self.rollout_note is not None:
                self.rollout_note.each(lambda part: part[indices])

        def batch_repeat_interleave(self, repeats: int) -> None:
            super().batch_repeat_interleave(repeats)
            if self.rollout_note is not None:
                self.rollout_note.each(lambda part: part.repeat_interleave(repeats, dim=0))

        def crop(self, tokens_to_remove: int) -> None:
            super().crop(tokens_to_remove)
            note = self.rollout_note
            if note is not None and tokens_to_remove:
                length = note.length - abs(tokens_to_remove)
                self.rollout_note = RolloutNote(
                    length, None, None if note.key_bias is None else note.key_bias[:, :length]
                )

        def reset(self) -> None:
            super().reset()
            self.rollout_note = None

        def __reduce_ex__(self, protocol: Any) -> Any:
            # pickle looks classes up by name, and this one is made when first needed
            return _with_note, (kind, vars(self))

    return Noted


def _with_note(kind: Any, state: dict[str, Any]) -> Any:
    layer = kind.__new__(kind)
    layer.__class__ = _noted(kind)
    vars(layer).update(state)
    return layer


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


def _joined(pieces: list[KeyValue]) -> KeyValue:
    """Pieces of keys and values as one; a single piece is not copied."""
    keys, values = zip(*pieces, strict=True)
    return (keys[0], values[0]) if len(pieces) == 1 else (torch.cat(keys, dim=-2), torch.cat(values, dim=-2))


class SegmentCache(Cache):
    """What one decoder call of a rollout sees of the calls before it.

    A stock cache grows by every call, so a call that gradient checkpointing runs a second time in backward would find
    its own keys in the past. Here the past is fixed when the call starts, and a second run of the same call returns
    the same keys. The pieces are shared, not copied: K steps keep one prompt alive, not K copies of it.

    Args:
        past: per layer, the pieces of the calls before, each (key, value) of shape [B, heads, T_piece, head_dim].
        chunked: hand keys out in pieces, as `latent_eager` takes them; else joined.
        unrolled: what takes the single positions behind the past, if it has begun.
    """

    def __init__(self, past: list[list[KeyValue]], chunked: bool, unrolled: Any = None) -> None:
        super().__init__(layers=[])
        self.past, self.chunked, self.unrolled = past, chunked, unrolled
        self.new: list[KeyValue | None] = [None] * len(past)

    @classmethod
    def empty(cls, config: PreTrainedConfig) -> "SegmentCache":
        """A cache with no past, for a decoder of this configuration."""
        return cls([[] for _ in range(config.num_hidden_layers)], config._attn_implementation == LATENT_EAGER)

    def following(self) -> "SegmentCache":
        """The cache of the call after this one."""
        if self.unrolled is not None:
            return SegmentCache(self.past, self.chunked, self.unrolled)
        past = [[*past, new] for past, new in zip(self.past, self.new, strict=True) if new is not None]
        self.close()
        return SegmentCache(past, self.chunked)

    def close(self) -> None:
        """Let go of this call's keys: checkpointing keeps the cache to run the call again, and they would keep that."""
        self.new = []

    def unroll(self, make: Callable[[list[KeyValue]], Any]) -> Any:
        """What takes single positions; the pieces of the past are joined for it.

        Args:
            make: makes it from keys and values of every layer.
        """
        if self.unrolled is None:
            with torch.enable_grad():  # the first positions may be ones that backpropagation does not reach
                joined = [_joined(pieces) for pieces in self.past]
            self.past = [[piece] for piece in joined]
            self.unrolled = make(joined)
        return self.unrolled

    def settle(self) -> None:
        """Make pieces of the past of the positions that were taken singly."""
        if self.unrolled is not None:
            self.past = [[*past, piece] for past, piece in zip(self.past, self.unrolled.pieces(), strict=True)]
            self.unrolled = None

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Any, Any]:
        """Keys and values of the past and of this call, [B, heads, T, head_dim] each.

        In pieces these are two, the first call's and the rest: the first is long, and never copied.
        """
        past = self.past[layer_idx]
        if self.chunked and not past:
            # projections hand out heads that lie apart, which every later product would copy, and keep for backward
            key_states, value_states = key_states.contiguous(), value_states.contiguous()
        if self.new and self.new[layer_idx] is None:
            self.new[layer_idx] = (key_states, value_states)
        if not past:
            return key_states, value_states
        (first_key, first_value), *later = past
        rest_key, rest_value = (
            torch.cat([*(pair[side] for pair in later), new], dim=-2)
            for side, new in enumerate((key_states, value_states))
        )
        if self.chunked:
            return Chunks((first_key, rest_key)), Chunks((first_value, rest_value))
        return torch.cat([first_key, rest_key], dim=-2), torch.cat([first_value, rest_value], dim=-2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions before this call."""
        assert self.unrolled is None
        return sum(k.shape[-2] for k, _ in self.past[layer_idx])

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Length and offset of the keys this call sees; windows are the mask's business, nothing is dropped here."""
        return self.get_seq_length(layer_idx) + query_length, 0

    @property
    def is_compileable(self) -> bool:
        """Never: its shapes grow."""
        return False
