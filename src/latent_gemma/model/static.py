"""Steps of a shape that does not change, compiled: what torch.compile makes of a position that goes through alone.

Compiling takes longer than many a decoding, so it is asked for, with `Static`. Inside, a cache has a fixed number of
slots, a position is a tensor, and masks hide the slots that are not written yet.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import Cache

from latent_gemma.errors import ConfigError
from latent_gemma.model.anatomy import Rotation
from latent_gemma.model.attention import lowest
from latent_gemma.model.cache import GrowingLayer, KeyValue, growing_cache
from latent_gemma.model.masks import beyond_window
from latent_gemma.model.packing import Packing, laid_out, state_of
from latent_gemma.model.step import Layer, Step

#: Slots of a cache come in multiples of this, so that prompts of like length share a compiled step.
SLOTS = 64

_active: ContextVar["Static | None"] = ContextVar("static", default=None)


@dataclass(frozen=True)
class _Slots:
    """Buffers of every layer, masks [B, 1, 1, slots] of every layer type, and the slot [1] that is written."""

    buffers: list[KeyValue]
    masks: dict[str | None, Tensor]
    slot: Tensor

    def extend(self, layer: Layer, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `latent_gemma.model.step.Memory`."""
        keys, values = self.buffers[layer.index]
        keys.index_copy_(2, self.slot, key)
        values.index_copy_(2, self.slot, value)
        return keys, values, self.masks[layer.layer_type]


class StaticStep:
    """As `Step`, compiled, for caches that `new_cache` made.

    Args:
        step: the step.
        backend: of torch.compile.
    """

    def __init__(self, step: Step, backend: str) -> None:
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
        """See `Step`."""
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


class Static:
    """Compiled steps of a model, made when first used and kept as long as this object.

    Args:
        model: the latent Gemma; it may be trained between two uses, then its steps are compiled again.
        backend: of torch.compile.
    """

    def __init__(self, model: Any, backend: str = "inductor") -> None:
        self.decoder, self.backend = model.model, backend
        self._step: StaticStep | None = None
        self._state: list[tuple[int, int]] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Think and decode by compiled steps inside a `with` block, in which the weights must not change."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def step(self) -> StaticStep:
        """The compiled step for the weights as they are."""
        state = state_of([*self.decoder.parameters(), *laid_out().values()])
        if self._step is None or state != self._state:
            self._step, self._state = StaticStep(Step(self.decoder, thinks=False), self.backend), state
        return self._step


def stepper(decoder: Any, thinks: bool) -> Step | StaticStep | None:
    """What takes one position of each row through a decoder.

    Args:
        decoder: the latent decoder.
        thinks: whether positions may be thoughts, on which adapters act.

    Returns:
        The compiled step where one is asked for; adapters on thoughts are left to the other. None for a decoder that
        only its own layers can run (`Step.fits`).
    """
    if not Step.fits(decoder):
        return None
    static = _active.get()
    if static is None or static.decoder is not decoder or (thinks and decoder.config.latent.adapter != "none"):
        return Step(decoder, thinks)
    return static.step()


def new_cache(config: PreTrainedConfig, capacity: int) -> DynamicCache:
    """A cache for decoding without gradients, with room for `capacity` positions.

    Args:
        config: the decoder's configuration.
        capacity: positions expected in all.

    Returns:
        The cache; where compiled steps are asked for, one that they take.
    """
    if _active.get() is None:
        return growing_cache(config, capacity)
    return growing_cache(config, -(-capacity // SLOTS) * SLOTS, whole=True)


class Prepared:
    """What decoding many batches of a model keeps from one to the next: weights laid out, and compiled steps.

    Args:
        model: the latent Gemma.
        compiled: compile the steps, which takes longer than many a decoding.

    Raises:
        ConfigError: if there is nothing here to compile with.
    """

    def __init__(self, model: Any, compiled: bool = False) -> None:
        if compiled and model.device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
            raise ConfigError(
                "there is no C++ compiler to compile decoding with", "install g++, or leave it uncompiled"
            )
        self.packing, self.static = Packing(model), Static(model) if compiled else None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Decode with it inside a `with` block, in which the weights must not change."""
        with self.packing.active(), nullcontext() if self.static is None else self.static.active():
            yield
