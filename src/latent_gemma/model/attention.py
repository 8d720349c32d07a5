"""Eager attention that reads keys where they lie: not repeated for grouped heads, not joined for every latent step.

The stock eager attention copies keys and values once to join the cache, and again for each head of a group. A decode
step spends more time on those copies than on attention, and in training K latent steps keep K copies of the prompt's
keys for backward. Here the heads of a group are rows of one product, and a product runs over each chunk of keys.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

#: Name of the implementation, as `attn_implementation` knows it.
NAME = "latent_eager"


def lowest(dtype: torch.dtype) -> float:
    """What hides a key when added to its score: finite in float32 too, in which the softmax runs whatever the dtype."""
    return max(torch.finfo(dtype).min, torch.finfo(torch.float32).min)


def latent_mask(dtype: torch.dtype = torch.float32, **kwargs: Any) -> Tensor | None:
    """The mask of the stock eager attention, whose float64 one is -inf in float32 and makes padding NaN."""
    mask: Tensor | None = eager_mask(dtype=dtype, **kwargs)
    return mask.clamp(min=lowest(dtype)) if mask is not None and dtype == torch.float64 else mask


class Chunks(tuple[Tensor, ...]):
    """Keys or values of one attention in several pieces, in order, [B, heads, T_chunk, head_dim] each."""


def latent_eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor | Chunks,
    value: Tensor | Chunks,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention as Gemma's eager one, which itself runs (bit for bit) wherever a prompt is read in one piece.

    Args:
        module: the attention layer.
        query: [B, H, T, head_dim].
        key: [B, H_kv, S, head_dim], or the same in pieces.
        value: as `key`.
        attention_mask: added to the scores, [B, 1, T, S], or None.
        dropout: on the attention's weights.
        scaling: of the scores; None takes 1 / sqrt(head_dim).
        softcap: of the scores, or None.
        **kwargs: what other implementations take.

    Returns:
        Output [B, T, H, head_dim] and weights [B, H, T, S].
    """
    one_step = query.shape[2] == 1 and not torch.is_grad_enabled()
    if isinstance(key, Tensor) and isinstance(value, Tensor) and not one_step:
        return eager_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, softcap=softcap
        )
    keys, values = (part if isinstance(part, Chunks) else Chunks((part,)) for part in (key, value))
    batch, heads, length, head_dim = query.shape
    groups = keys[0].shape[1]
    # head h reads the keys of group h // (heads / groups)
    grouped = query.reshape(batch, groups, heads // groups * length, head_dim)
    parts = [torch.matmul(grouped, chunk.transpose(2, 3)) for chunk in keys]
    scores = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)) * (scaling or head_dim**-0.5)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(batch, heads, length, -1)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    shares = weights.view(batch, groups, heads // groups * length, -1).split([part.shape[2] for part in values], -1)
    output = torch.matmul(shares[0], values[0])
    for share, chunk in zip(shares[1:], values[1:], strict=True):
        output = output + torch.matmul(share, chunk)
    return output.view(batch, heads, length, head_dim).transpose(1, 2).contiguous(), weights


AttentionInterface.register(NAME, latent_eager)
AttentionMaskInterface.register(NAME, latent_mask)
