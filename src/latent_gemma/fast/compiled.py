"""Steps of a shape that does not change: compiled, and on a GPU recorded and started as a whole.

Compiling takes longer than many a decoding, so it is asked for. Inside, a cache has a fixed number of
slots, a position is a tensor, and masks hide the slots that are not written yet.
"""

import weakref
from collections.abc import Callable
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

#: Inputs [B, D], rotations and masks of every layer type, the slot [1], every layer's buffers -> hidden states [B, D].
Run = Callable[[Tensor, dict[str | None, Rotation], dict[str | None, Tensor], Tensor, list[KeyValue]], Tensor]


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


def recorded(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """What starts all of a step's work on a GPU at once, and gives its result; the step may run several times."""
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):  # libraries take their workspaces before anything is recorded
        step()
    current.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = step()

    def replay() -> Tensor:
        graph.replay()
        return result.clone()

    return replay


class Recorded:
    """A step `recorded` anew for each cache, which takes as long as a step.

    Args:
        run: the step.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._cache: weakref.ref[Tensor] | None = None  # what is recorded keeps no cache alive
        self._inputs: list[Tensor] = []
        self._replay: Callable[[], Tensor] | None = None

    def __call__(
        self,
        x: Tensor,
        rotations: dict[str | None, Rotation],
        masks: dict[str | None, Tensor],
        slot: Tensor,
        buffers: list[KeyValue],
    ) -> Tensor:
        """See `Run`."""
        given = [x, *(part for turn in rotations.values() for part in turn), *masks.values(), slot]
        known = self._cache is not None and self._cache() is buffers[0][0]
        # rows may share their positions in one call and not in the next
        if self._replay is None or not known or [x.shape for x in given] != [x.shape for x in self._inputs]:
            self._replay = None  # its memory may be used again
            self._cache, self._inputs = weakref.ref(buffers[0][0]), [part.clone() for part in given]
            kept = iter(self._inputs)
            x, turns = next(kept), {kind: (next(kept), next(kept)) for kind in rotations}
            hiding, slot = {kind: next(kept) for kind in masks}, next(kept)
            self._replay = recorded(lambda: self.run(x, turns, hiding, slot, buffers), x.device)
        else:
            torch._foreach_copy_(self._inputs, given)
        return self._replay()


class CompiledForward:
    """As `SingleForward`, for caches of growing layers that keep everything: compiled, or on a GPU `Recorded`.

    Args:
        step: the forward.
        backend: of torch.compile; None records.
    """

    def __init__(self, step: SingleForward, backend: str | None) -> None:
        self.step = step
        self.windows = {layer.layer_type: layer.window for layer in step.layers}
        self._run: Run = Recorded(self._forward) if backend is None else torch.compile(self._forward, backend=backend)

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
        slot = torch.full((1,), start, device=embeds.device)
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
