"""The faster ways of single positions behind one plug: by hand, laid out, compiled or recorded, and with gradients."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import Cache

from latent_gemma.errors import ConfigError
from latent_gemma.fast.compiled import SLOTS, CompiledForward
from latent_gemma.fast.growing import growing_cache
from latent_gemma.fast.masks import one_position_mask
from latent_gemma.fast.packing import Packing, product, state_of
from latent_gemma.fast.single import SingleForward
from latent_gemma.fast.unrolled import Unrolled
from latent_gemma.model.adapters import thought_phase
from latent_gemma.model.cache import SegmentCache
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.thinking import Step

Forward = SingleForward | CompiledForward


class CachedStep:
    """Single positions without gradients, written into a cache; a `latent_gemma.model.thinking.Step`.

    Args:
        forward: of positions on which no adapter acts.
        adapted: of the others.
        cache: the stock cache.
    """

    def __init__(self, forward: Forward, adapted: SingleForward, cache: DynamicCache) -> None:
        self.forward, self.adapted, self.cache = forward, adapted, cache
        self.fixed = isinstance(forward, CompiledForward)

    def __call__(self, embeds: Tensor, positions: Tensor, padding: Tensor | None, thinks: Tensor | None) -> Tensor:
        """See `latent_gemma.model.thinking.Step`."""
        mask = one_position_mask(padding, embeds.dtype)
        if thinks is None:
            return self.forward(embeds, positions, self.cache, mask)
        with thought_phase(thinks):
            return self.adapted(embeds, positions, self.cache, mask)

    def keys(self) -> None:
        """See `latent_gemma.model.thinking.Step`."""
        return


class FastSteps:
    """Takes single positions of a model past its layers; `model.thinking(steps=FastSteps(model))` uses it.

    What is made of the weights (layouts, compiled code) is kept as long as this object, and made again where they have
    changed.

    Args:
        model: the latent Gemma.
        packed: lay out the weights of an x86 CPU for a few rows, which takes their memory a second time.
        compiled: compile the steps on a CPU, which takes longer than many a decoding.
        recorded: record the steps' launches on a GPU, which takes no longer than a step.
        backend: of torch.compile.

    Raises:
        ConfigError: if there is nothing here to compile with.
    """

    def __init__(
        self,
        model: LatentReasoningGemmaForCausalLM,
        packed: bool = True,
        compiled: bool = False,
        recorded: bool = True,
        backend: str = "inductor",
    ) -> None:
        if compiled and model.device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
            raise ConfigError(
                "there is no C++ compiler to compile decoding with", "install g++, or leave it uncompiled"
            )
        self.decoder, self.packing = model.model, Packing(model if packed else nn.Identity())
        self.compiled, self.recorded, self.backend = compiled, recorded, backend
        self._compiled: CompiledForward | None = None
        self._state: list[tuple[int, int]] = []

    def cache(self, config: PreTrainedConfig, capacity: int) -> Cache:
        """See `latent_gemma.model.thinking.Steps`."""
        if not self._fixes:
            return growing_cache(config, capacity)
        return growing_cache(config, -(-capacity // SLOTS) * SLOTS, whole=True)

    def begin(self, decoder: Any, past: Cache, room: int) -> Step | None:
        """See `latent_gemma.model.thinking.Steps`."""
        if isinstance(past, SegmentCache):
            if not Unrolled.fits(decoder):
                return None
            return Unrolled(decoder, past.joined(), room, decoder.training and decoder.gradient_checkpointing)
        if type(past) is not DynamicCache or decoder is not self.decoder or not SingleForward.fits(decoder):
            return None
        eager = SingleForward(decoder, self.packing.layout())
        return CachedStep(self._compile(eager) if self._fixes else eager, eager, past)

    def head(self, model: LatentReasoningGemmaForCausalLM) -> Callable[[Tensor], Tensor]:
        """See `latent_gemma.model.thinking.Steps`."""
        weight, layout = model.lm_head.weight, self.packing.layout()
        if id(weight) not in layout:
            project: Callable[[Tensor], Tensor] = model.project
            return project
        multiply = product(weight, layout)
        return lambda hidden: model.capped(multiply(hidden))

    @property
    def _on_gpu(self) -> bool:
        return bool(self.decoder.embed_tokens.weight.is_cuda)

    @property
    def _fixes(self) -> bool:
        """Whether steps have a shape that does not change."""
        # what autocast casts while a graph is recorded would lie in the graph's memory
        return self.recorded and not torch.is_autocast_enabled("cuda") if self._on_gpu else self.compiled

    def _compile(self, forward: SingleForward) -> CompiledForward:
        state = state_of([*self.decoder.parameters(), *self.packing.layout().values()])
        if self._compiled is None or state != self._state:
            self._compiled = CompiledForward(forward, None if self._on_gpu else self.backend)
            self._state = state
        return self._compiled
