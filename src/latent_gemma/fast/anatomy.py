"""What a decoder layer is made of, the same for all families of Gemma."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaDecoderLayer, GemmaRMSNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2DecoderLayer, Gemma2RMSNorm
from transformers.models.gemma3.modeling_gemma3 import Gemma3DecoderLayer, Gemma3RMSNorm

STOCK_LAYERS = (GemmaDecoderLayer, Gemma2DecoderLayer, Gemma3DecoderLayer)
STOCK_NORMS = (GemmaRMSNorm, Gemma2RMSNorm, Gemma3RMSNorm)
#: cos and sin [B, 1, head_dim], the sine's first half negated: x cos + roll(x) sin.
Rotation = tuple[Tensor, Tensor]


def running_layers(decoder: Any) -> Any:
    """The layers that a forward goes through; an assistant that exits early goes through the first ones alone."""
    return decoder.layers[: decoder.config.num_hidden_layers]


@dataclass(frozen=True)
class Anatomy:
    """A layer's modules and settings.

    Args:
        head_dim: width of a head.
        groups: heads that share keys and values.
        scaling: of attention scores.
        softcap: of attention scores, or None.
        layer_type: "sliding_attention", "full_attention", or None where all layers are alike.
        window: positions that attention sees, or None for all.
        act: the feed-forward part's activation.
        projections: of queries, keys, values, attention's output, gate, up and down.
        norms: in front of attention, of queries and keys, behind attention, in front of the feed-forward part and
            behind it; None where the family has none.
    """

    head_dim: int
    groups: int
    scaling: float
    softcap: float | None
    layer_type: str | None
    window: int | None
    act: nn.Module
    projections: tuple[nn.Module, ...]
    norms: tuple[nn.Module | None, ...]

    @classmethod
    def of(cls, layer: Any) -> "Anatomy":
        """Of a stock layer."""
        attention, mlp = layer.self_attn, layer.mlp
        # Gemma 1 normalises only what goes into attention and feed-forward, the others what comes out as well
        sandwich = hasattr(layer, "pre_feedforward_layernorm")
        return cls(
            head_dim=attention.head_dim,
            groups=attention.num_key_value_groups,
            scaling=attention.scaling,
            # Gemma 3 carries the attribute and does not use it
            softcap=attention.attn_logit_softcapping if isinstance(layer, Gemma2DecoderLayer) else None,
            layer_type=getattr(attention, "layer_type", None),
            window=getattr(attention, "sliding_window", None),
            act=mlp.act_fn,
            projections=(
                attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
                mlp.gate_proj, mlp.up_proj, mlp.down_proj,
            ),
            norms=(
                layer.input_layernorm,
                getattr(attention, "q_norm", None),
                getattr(attention, "k_norm", None),
                layer.post_attention_layernorm if sandwich else None,
                layer.pre_feedforward_layernorm if sandwich else layer.post_attention_layernorm,
                layer.post_feedforward_layernorm if sandwich else None,
            ),
        )  # fmt: skip


class Normed(NamedTuple):
    """x / RMS(x) / sqrt(D), and RMS(x) sqrt(D), in float32."""

    unit: Tensor
    size: Tensor


class Norm:
    """x / RMS(x) * (1 + w), in float32 as Gemma has it.

    Args:
        module: a Gemma RMSNorm.
    """

    def __init__(self, module: Any) -> None:
        self.weight: Tensor = module.weight
        weight = self.weight.detach().float()
        self.root = math.sqrt(weight.numel())
        # |x| / hypot(|x|, sqrt(D eps)) is sqrt(mean(x^2) / (mean(x^2) + eps)): two operations instead of five
        self.scale, self.floor = (1.0 + weight) * self.root, weight.new_full((), self.root * math.sqrt(module.eps))

    def normed(self, x: Tensor) -> Normed:
        """Direction and size of `x`, [..., D]."""
        x = x.float()
        size = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.floor)
        return Normed(x / size, size)

    def scaled(self, normed: Normed) -> Tensor:
        """The norm's result [..., D], float32."""
        return normed.unit * self.scale

    def __call__(self, x: Tensor) -> Tensor:
        return self.scaled(self.normed(x)).to(x.dtype)

    def add_to(self, residual: Tensor, x: Normed) -> Tensor:
        """residual + norm(x)."""
        if residual.dtype == torch.float32:
            return torch.addcmul(residual, x.unit, self.scale)
        return residual + self.scaled(x).to(residual.dtype)


def norm_of(module: Any) -> Norm | None:
    """The norm of a module, or None for None."""
    return None if module is None else Norm(module)


def rotations(
    rotary: Any, layer_types: Iterable[str | None], embeds: Tensor, position_ids: Tensor
) -> dict[str | None, Rotation]:
    """How each layer type turns queries and keys.

    Args:
        rotary: a decoder's rotary embedding.
        layer_types: those of its layers.
        embeds: what tells device and dtype.
        position_ids: [B, 1] or [1, 1].
    """
    # only Gemma 3 turns its local and global layers at different rates
    if hasattr(rotary, "layer_types"):
        found = {kind: rotary(embeds, position_ids, kind) for kind in layer_types}
    else:
        found = dict.fromkeys(layer_types, rotary(embeds, position_ids))
    half = next(iter(found.values()))[0].shape[-1] // 2
    return {kind: (cos, torch.cat([-sin[..., :half], sin[..., half:]], -1)) for kind, (cos, sin) in found.items()}
