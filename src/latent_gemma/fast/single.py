"""One position of every row through the decoder, with as few launches as eager PyTorch allows.

A single position is a few megabytes of weights to read and, in the stock layers, more than a hundred small operations a
layer: launching them takes longer than the arithmetic. Here a layer takes about forty. Adapters on thoughts act as in
the stock layers, which stay in charge of everything else: prompts, hooks, weights that are not whole. Positions with
gradients go through `latent_gemma.fast.unrolled`.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from latent_gemma.fast.anatomy import (
    STOCK_LAYERS,
    STOCK_NORMS,
    Anatomy,
    Norm,
    Rotation,
    norm_of,
    rotations,
    running_layers,
)
from latent_gemma.fast.packing import Layout, Product, product
from latent_gemma.model.adapters import ThoughtLinear


def _project(module: Any, layout: Layout) -> Product:
    """A projection of rows [B, in] to [B, out]."""
    adapted = type(module) is ThoughtLinear
    if not (adapted or type(module) is nn.Linear) or module.bias is not None:
        return lambda x: module(x[:, None])[:, 0]
    base = product(module.weight, layout)
    if not adapted:
        return base
    return lambda x: module.add_update(base(x)[:, None], x[:, None])[:, 0]


class Memory(Protocol):
    """What a step remembers of the positions before it."""

    def extend(self, layer: "Layer", key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keep one position's key and value, [B, heads, 1, head_dim].

        Returns:
            The keys and values that it sees, [B, heads, T, head_dim], and what to add to their scores.
        """
        ...


@dataclass(frozen=True)
class _Cached:
    """A stock cache, and what to add to the scores of all its keys, [B, 1, 1, T]."""

    cache: Cache
    mask: Tensor | None

    def extend(self, layer: "Layer", key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `Memory`."""
        keys, values = self.cache.update(key, value, layer.index)
        if layer.window is not None:
            keys, values = keys[:, :, -layer.window :], values[:, :, -layer.window :]
        return keys, values, None if self.mask is None else self.mask[..., -keys.shape[2] :]


class Layer:
    """What a step needs of one decoder layer.

    Args:
        layer: a stock Gemma layer.
        index: its place in the decoder.
        layout: the weights that are laid out.
    """

    def __init__(self, layer: Any, index: int, layout: Layout) -> None:
        anatomy = Anatomy.of(layer)
        self.index, self.act, self.head_dim, self.groups = index, anatomy.act, anatomy.head_dim, anatomy.groups
        self.scaling, self.softcap = anatomy.scaling, anatomy.softcap
        self.layer_type, self.window = anatomy.layer_type, anatomy.window
        self.q, self.k, self.v, self.o, self.gate, self.up, self.down = (
            _project(module, layout) for module in anatomy.projections
        )
        before, query, key, behind, middle, last = anatomy.norms
        self.norm_in, self.norm_mid = Norm(before), Norm(middle)
        self.norm_q, self.norm_k, self.norm_attention, self.norm_out = map(norm_of, (query, key, behind, last))

    def __call__(self, x: Tensor, rotation: Rotation, memory: "Memory") -> Tensor:
        """Hidden states [B, D] after this layer."""
        x = self._add(self.norm_attention, x, self.o(self._attend(self.norm_in(x), rotation, memory)))
        inner = self.norm_mid(x)
        return self._add(self.norm_out, x, self.down(self.act(self.gate(inner)) * self.up(inner)))

    @staticmethod
    def _add(norm: Norm | None, residual: Tensor, x: Tensor) -> Tensor:
        return residual + x if norm is None else norm.add_to(residual, norm.normed(x))

    def _attend(self, x: Tensor, rotation: Rotation, memory: "Memory") -> Tensor:
        batch, head_dim = len(x), self.head_dim
        query, key = self.q(x).view(batch, -1, head_dim), self.k(x).view(batch, -1, head_dim)
        value = self.v(x).view(batch, -1, 1, head_dim)
        if self.norm_q is not None and self.norm_k is not None:
            query, key = self.norm_q(query), self.norm_k(key)
        heads, (cos, sin) = query.shape[1], rotation
        both = torch.cat([query, key], dim=1)
        both = torch.addcmul(both * cos, both.roll(head_dim // 2, -1), sin)
        query, key = both[:, :heads].view(batch, -1, self.groups, head_dim), both[:, heads:, None]
        keys, values, mask = memory.extend(self, key, value)
        scores = torch.matmul(query, keys.transpose(2, 3))
        if self.softcap is None:
            scores.mul_(self.scaling)
        else:
            scores.mul_(self.scaling / self.softcap).tanh_().mul_(self.softcap)
        if mask is not None:
            scores = scores + mask  # under autocast in float32: in bfloat16 the lowest number is minus infinity
        weights = scores.softmax(-1, dtype=torch.float32).to(x.dtype)
        return torch.matmul(weights, values).view(batch, -1)


class SingleForward:
    """The decoder's forward of one position a row, without gradients, while its weights do not change.

    Args:
        decoder: a latent decoder of the Gemma family; see `fits`.
        layout: the weights that are laid out.
    """

    def __init__(self, decoder: Any, layout: Layout) -> None:
        self.decoder = decoder
        self.layers = [Layer(layer, index, layout) for index, layer in enumerate(running_layers(decoder))]
        self.norm = Norm(decoder.norm)
        self.layer_types = {layer.layer_type for layer in self.layers}

    @staticmethod
    def fits(decoder: Any) -> bool:
        """Whether the decoder is made of stock layers that nobody listens to and whose weights lie on one device."""
        home = decoder.embed_tokens.weight.device
        if home.type == "meta" or any(type(layer) not in STOCK_LAYERS for layer in decoder.layers):
            return False
        norms = (norm for layer in decoder.layers for norm in Anatomy.of(layer).norms if norm is not None)
        if any(type(norm) not in STOCK_NORMS for norm in (decoder.norm, *norms)):
            return False  # an adapter of PEFT's, say
        # hooks gather sharded or offloaded weights, and some replace `forward` itself
        for module in chain(decoder.layers.modules(), (decoder.norm,)):
            if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
                return False
            for weight in module._parameters.values():
                if weight is not None and (type(weight) is not nn.Parameter or weight.device != home):
                    return False
        return True

    def __call__(self, embeds: Tensor, position_ids: Tensor, cache: Cache, mask: Tensor | None) -> Tensor:
        """One position of each row.

        Args:
            embeds: what layer 0 sees, [B, 1, D].
            position_ids: [B, 1] or [1, 1].
            cache: extended by one position.
            mask: added to the attention scores of all keys with this one, [B, 1, 1, T_past + 1], or None.

        Returns:
            Final hidden states [B, 1, D].
        """
        return self.run(embeds[:, 0], self.rotations(embeds, position_ids), _Cached(cache, mask))[:, None]

    def rotations(self, embeds: Tensor, position_ids: Tensor) -> dict[str | None, Rotation]:
        """How each layer type turns queries and keys of these positions, [B, 1] or [1, 1]."""
        return rotations(self.decoder.rotary_emb, self.layer_types, embeds, position_ids)

    def run(self, x: Tensor, rotations: dict[str | None, Rotation], memory: Memory) -> Tensor:
        """Final hidden states [B, D] of inputs [B, D]."""
        for layer in self.layers:
            x = layer(x, rotations[layer.layer_type], memory)
        return self.norm(x)
