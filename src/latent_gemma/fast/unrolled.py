"""Single positions of a rollout with gradients: few operations forward, and backward by hand.

The stock layers' forward of one position is more than a hundred operations, of which autograd makes two hundred more.
Here a layer is one node of its graph:

    weights, prompt's keys -> Collect -> token -> position 1 -> token -> position 2 -> token -> Reveal -> later calls

The tokens are empty. They make backward come past the positions in reverse order and past `Collect` last, which hands
out the gradients that all positions together give the weights and the prompt's keys. The positions' own keys lie in one
buffer, and the gradients of those in another.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.activations import GELUTanh

from latent_gemma.fast.anatomy import Anatomy, Rotation, rotations, running_layers
from latent_gemma.fast.layer_vjp import Kept, UnrolledLayer
from latent_gemma.fast.masks import beyond_window, one_position_mask
from latent_gemma.fast.single import SingleForward
from latent_gemma.fast.vjp import Projection
from latent_gemma.model.cache import KeyValue


class _Collect(torch.autograd.Function):
    """Makes the first token; backward gives tensors that all positions share their gradients."""

    @staticmethod
    def forward(ctx: Any, layer: UnrolledLayer, *shared: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.layer = layer
        return layer.keys.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        ctx.layer.begin()
        with torch.autocast(ctx.layer.keys.device.type, enabled=False):
            return None, *ctx.layer.book.gradients()


class _Position(torch.autograd.Function):
    """One layer's forward of one position."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, token: Tensor, layer: UnrolledLayer, rotation: Rotation, mask: Tensor | None,
        thinks: Tensor | None, slot: int, replays: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        out, kept = layer.forward(x, rotation, mask, thinks, slot)
        ctx.layer, ctx.rotation, ctx.mask, ctx.thinks, ctx.slot = layer, rotation, mask, thinks, slot
        flat, ctx.counts = ([x], None) if replays else kept.flat()
        ctx.save_for_backward(*flat)
        return out, token.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, token: Tensor) -> Any:
        layer, rotation, thinks, slot = ctx.layer, ctx.rotation, ctx.thinks, ctx.slot
        layer.begin()
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.counts is None:
                _, kept = layer.forward(ctx.saved_tensors[0], rotation, ctx.mask, thinks, slot, again=True)
            else:
                kept = Kept.of(ctx.saved_tensors, ctx.counts)
            return layer.backward(grad, kept, rotation, thinks, slot), *[None] * 7


class _Reveal(torch.autograd.Function):
    """Keys and values of the single positions, for calls that read them; backward hands theirs to the positions."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, layer: UnrolledLayer, length: int) -> KeyValue:
        ctx.layer, ctx.length = layer, length
        return layer.keys[:, :, :length], layer.values[:, :, :length]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, keys: Tensor, values: Tensor) -> Any:
        layer, length = ctx.layer, ctx.length
        layer.begin()
        layer.key_grads[:, :, :length] += keys
        layer.value_grads[:, :, :length] += values
        return None, None, None


class Unrolled:
    """Positions that follow each other, one a call, with gradients; a `latent_gemma.model.thinking.Step`.

    Args:
        decoder: a latent decoder; see `fits`.
        past: per layer, keys and values of the positions before, [B, heads, T, head_dim] each.
        room: number of positions to come.
        replays: keep each layer's input alone, and compute the rest again in backward.
    """

    fixed = True

    def __init__(self, decoder: Any, past: list[KeyValue], room: int, replays: bool) -> None:
        self.decoder, self.replays, self.length = decoder, replays, 0
        device = decoder.embed_tokens.weight.device.type
        dtype = decoder.layers[0].self_attn.q_proj.weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False), torch.no_grad():
            self.layers = [
                UnrolledLayer(*each, room, dtype) for each in zip(running_layers(decoder), past, strict=True)
            ]
        self.start, self.layer_types = past[0][0].shape[2], {layer.layer_type for layer in self.layers}
        with torch.enable_grad():  # the first positions may be ones that backpropagation does not reach
            self.tokens: list[Tensor] = [_Collect.apply(layer, *layer.book.tensors) for layer in self.layers]

    @staticmethod
    def fits(decoder: Any) -> bool:
        """Whether nobody listens to the decoder's layers, and all of them are of the plain kind."""
        config = decoder.config
        return (
            SingleForward.fits(decoder)
            and not (decoder.training and config.attention_dropout > 0.0)
            and all(
                type(parts.act) is GELUTanh and all(map(Projection.fits, parts.projections))
                for parts in map(Anatomy.of, decoder.layers)
            )
        )

    def __call__(self, embeds: Tensor, positions: Tensor, padding: Tensor | None, thinks: Tensor | None) -> Tensor:
        """See `latent_gemma.model.thinking.Step`."""
        x, slot, dtype = embeds[:, 0], self.length, self.layers[0].dtype
        with torch.autocast(x.device.type, enabled=False):
            turns = rotations(self.decoder.rotary_emb, self.layer_types, embeds, positions)
            masks = self._masks(one_position_mask(padding, embeds.dtype), embeds)
            rows = None if thinks is None else thinks[:, 0].to(dtype)
            for index, layer in enumerate(self.layers):
                x, token = _Position.apply(
                    x, self.tokens[index], layer, turns[layer.layer_type], masks[layer.window], rows, slot,
                    self.replays,
                )  # fmt: skip
                if torch.is_grad_enabled():
                    self.tokens[index] = token
        self.length += 1
        return self.decoder.norm(x)[:, None]

    def _masks(self, mask: Tensor | None, embeds: Tensor) -> dict[int | None, Tensor | None]:
        """The mask for layers of each window."""
        end = self.start + self.length + 1
        masks: dict[int | None, Tensor | None] = dict.fromkeys((layer.window for layer in self.layers), mask)
        for window in masks:
            if window is not None and end > window:
                added = embeds.new_zeros(1, 1, 1, end) if mask is None else mask
                masks[window] = beyond_window(added, end - 1, window)
        return masks

    def keys(self) -> list[KeyValue]:
        """See `latent_gemma.model.thinking.Step`."""
        return [_Reveal.apply(token, layer, self.length) for token, layer in zip(self.tokens, self.layers, strict=True)]
