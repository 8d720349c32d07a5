"""Steps of a shape that does not change: compiled, and on a GPU captured once and started as a whole.

Compiling takes longer than many a decoding, so it is asked for. Inside, a cache has a fixed number of
slots, a position is a tensor, and masks hide the slots that are not written yet.
"""

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


class Captured:
    """A step's launches on a GPU, recorded for one cache and repeated as one: recording takes as long as a step.

    Args:
        run: the step; it may run several times with the same result.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._graph: torch.cuda.CUDAGraph | None = None
        self._cache: Tensor | None = None
        self._inputs: list[Tensor] = []
        self._hidden: Tensor | None = None

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
        # rows may share their positions in one call and not in the next
        if self._cache is buffers[0][0] and [x.shape for x in given] == [x.shape for x in self._inputs]:
            torch._foreach_copy_(self._inputs, given)
        else:
            self._record(given, rotations, masks, buffers)
        return self._replay()

    def _record(
        self, given: list[Tensor], rotations: dict[str | None, Rotation], masks: dict[str | None, Tensor],
        buffers: list[KeyValue],
    ) -> None:  # fmt: skip
        self._graph = self._hidden = None  # its memory may be used again
        self._cache, self._inputs = buffers[0][0], [part.clone() for part in given]
        kept = iter(self._inputs)
        x = next(kept)
        turns = {kind: (next(kept), next(kept)) for kind in rotations}
        hidden_from = {kind: next(kept) for kind in masks}
        slot = next(kept)
        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):  # libraries take their workspaces before anything is recorded
            self.run(x, turns, hidden_from, slot, buffers)
        torch.cuda.current_stream(x.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            hidden = self.run(x, turns, hidden_from, slot, buffers)
        self._graph, self._hidden = graph, hidden

    def _replay(self) -> Tensor:
        graph, hidden = self._graph, self._hidden
        assert graph is not None
        assert hidden is not None
        graph.replay()
        return hidden.clone()


class CompiledForward:
    """As `SingleForward`, for caches of growing layers that keep everything: compiled, or on a GPU `Captured`.

    Args:
        step: the forward.
        backend: of torch.compile; None captures.
    """

    def __init__(self, step: SingleForward, backend: str | None) -> None:
        self.step = step
        self.windows = {layer.layer_type: layer.window for layer in step.layers}
        self._run: Run = Captured(self._forward) if backend is None else torch.compile(self._forward, backend=backend)

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
