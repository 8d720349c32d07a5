"""What a rollout keeps between its calls: a cache that checkpointing can replay, and a note on a cache."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

KeyValue = tuple[Tensor, Tensor]


@dataclass
class RolloutNote:
    """What a cache has to remember of a rollout besides keys and values.

    Args:
        length: positions in the cache when this was written.
        hidden: final hidden states of the last call's positions, [B, T, D]; the last one is what a thought that comes
            next would feed back. None where all of them have been taken away.
        held: which columns hold a position for those that come later, [B, length] bool; None where all do.
    """

    length: int
    hidden: Tensor | None
    held: Tensor | None

    @staticmethod
    def on(cache: Any) -> "RolloutNote | None":
        """The note of a cache, if it has one."""
        layers = getattr(cache, "layers", ())
        return getattr(layers[0], "rollout_note", None) if layers else None

    @classmethod
    def write(cls, cache: Any, hidden: Tensor, held: Tensor | None) -> None:
        """Put a note on a cache as it is now."""
        layer: Any = cache.layers[0]
        kind: Any = type(layer)
        if not hasattr(layer, "rollout_note"):
            layer.__class__ = _noted(kind)
        layer.rollout_note = cls(int(cache.get_seq_length()), hidden, held)

    def each(self, change: Callable[[Tensor], Tensor]) -> None:
        """Change the rows."""
        self.hidden = None if self.hidden is None else change(self.hidden)
        self.held = None if self.held is None else change(self.held)

    def columns(self, length: int) -> Tensor | None:
        """Which of so many columns hold a position, [B, length] bool, or None; those that came since all do."""
        return None if self.held is None else pad(self.held, (0, length - self.held.shape[1]), value=True)


def seen_columns(held: Tensor | None, padding: Tensor | None) -> Tensor | None:
    """The columns that later positions see, [B, T]: those that hold a position and no padding; None for all.

    Args:
        held: columns that hold a position, [B, T] bool, or None.
        padding: 0 on padding, [B, T], or None.
    """
    if held is None or padding is None:
        return padding if held is None else held
    return held & padding.bool()


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
                removed = abs(tokens_to_remove)
                length = note.length - removed
                hidden = None if note.hidden is None or note.hidden.shape[1] <= removed else note.hidden[:, :-removed]
                self.rollout_note = RolloutNote(length, hidden, None if note.held is None else note.held[:, :length])

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


def _joined(pieces: list[KeyValue]) -> KeyValue:
    """Pieces of keys and values as one; a single piece is not copied."""
    keys, values = zip(*pieces, strict=True)
    return (keys[0], values[0]) if len(pieces) == 1 else (torch.cat(keys, dim=-2), torch.cat(values, dim=-2))


def forked(cache: Any) -> Any:
    """A cache that begins as another is now, for a call whose keys nobody reads: the other stays as it is.

    Args:
        cache: ours or a stock one.
    """
    if isinstance(cache, SegmentCache):
        fork: Any = SegmentCache(cache.past)
        fork.close()
        return fork
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in fork.layers:  # some are written in place
        vars(layer).update({name: part.clone() for name, part in vars(layer).items() if isinstance(part, Tensor)})
    return fork


class SegmentCache(Cache):
    """What one decoder call of a rollout sees of the calls before it.

    A stock cache grows by every call, so a call that gradient checkpointing runs a second time in backward would find
    its own keys in the past. Here the past is fixed when the call starts, and a second run of the same call returns
    the same keys. The pieces are shared between calls, not copied.

    Args:
        past: per layer, the pieces of the calls before, each (key, value) of shape [B, heads, T_piece, head_dim].
    """

    def __init__(self, past: list[list[KeyValue]]) -> None:
        super().__init__(layers=[])
        self.past = past
        self.new: list[KeyValue | None] = [None] * len(past)

    @classmethod
    def empty(cls, config: PreTrainedConfig) -> "SegmentCache":
        """A cache with no past, for a decoder of this configuration."""
        return cls([[] for _ in range(config.num_hidden_layers)])

    def following(self) -> "SegmentCache":
        """The cache of the call after this one."""
        past = [[*past, *([] if new is None else [new])] for past, new in zip(self.past, self.new, strict=True)]
        self.close()
        return SegmentCache(past)

    def close(self) -> None:
        """Let go of this call's keys: checkpointing keeps the cache to run the call again, and they would keep that."""
        self.new = []

    def joined(self) -> list[KeyValue]:
        """Keys and values of every layer in one piece each, which replaces those there were."""
        with torch.enable_grad():  # the next positions may be ones that backpropagation does not reach
            pieces = [_joined(past) for past in self.past]
        self.past = [[piece] for piece in pieces]
        return pieces

    def take(self, pieces: list[KeyValue]) -> None:
        """Add a piece to every layer's past."""
        self.past = [[*past, piece] for past, piece in zip(self.past, pieces, strict=True)]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> KeyValue:
        """Keys and values of the past and of this call, [B, heads, T, head_dim] each."""
        if self.new and self.new[layer_idx] is None:
            self.new[layer_idx] = (key_states, value_states)
        return _joined([*self.past[layer_idx], (key_states, value_states)])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions before this call."""
        return sum(k.shape[-2] for k, _ in self.past[layer_idx])

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Length and offset of the keys this call sees; windows are the mask's business, nothing is dropped here."""
        return self.get_seq_length(layer_idx) + query_length, 0

    @property
    def is_compileable(self) -> bool:
        """Never: its shapes grow."""
        return False
