"""Attention masks with a bias per key: hidden questions, and thought columns that hold no position."""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

from latent_gemma.errors import ModelError
from latent_gemma.model.attention import NAME as LATENT_EAGER
from latent_gemma.model.attention import lowest

#: Attention implementations that take a mask of any shape.
TAKES_MASKS = (LATENT_EAGER, "eager", "sdpa")


def _biased_mask(
    allowed: Tensor, bias: Tensor, after_thoughts: Tensor, dtype: torch.dtype, padding: Tensor | None
) -> Tensor:
    hidden = lowest(dtype)
    if padding is not None:
        allowed = allowed & padding[:, None, :]
    added = torch.where(after_thoughts[:, :, None], bias[:, None, :], 0.0).to(dtype)
    # where() instead of a sum: two lowest values would overflow to -inf, and a row of -inf is NaN after the softmax
    return torch.where(allowed & (added > hidden), added, hidden).unsqueeze(1)


def one_position_mask(
    padding: Tensor | None, key_bias: Tensor | None, biased: Tensor | None, dtype: torch.dtype
) -> Tensor | None:
    """What to add to the attention scores of a call with one position a row, which sees every key but padding.

    Args:
        padding: [B, T_keys], 0 on padding, or None.
        key_bias: added to the scores of each key, [B, T_keys] float32, or None.
        biased: rows that the bias applies to, [B] bool; None takes all.
        dtype: of the hidden states.

    Returns:
        [B, 1, 1, T_keys], or None where there is nothing to add.
    """
    if padding is not None:
        seen = padding.bool()
    elif key_bias is not None:
        seen = torch.ones_like(key_bias, dtype=torch.bool)
    else:
        return None
    if key_bias is None:
        key_bias = torch.zeros(seen.shape, device=seen.device)
    if biased is None:
        biased = torch.ones_like(seen[:, 0])
    return _biased_mask(seen[:, None], key_bias, biased[:, None], dtype, None)


def beyond_window(mask: Tensor, position: int, window: int) -> Tensor:
    """A mask [B, 1, 1, T_keys] of one position, with the keys hidden that its window does not reach."""
    keys = torch.arange(mask.shape[-1], device=mask.device)
    return mask.masked_fill(keys <= position - window, lowest(mask.dtype))


def biased_masks(
    config: PreTrainedConfig,
    attention_mask: Tensor | None,
    cache: Cache | None,
    start: int,
    key_bias: Tensor,
    after_thoughts: Tensor,
    dtype: torch.dtype,
) -> Tensor | dict[str, Tensor]:
    """Additive masks for one decoder call in which some positions see some keys only dimly.

    Args:
        config: the decoder's configuration (attention implementation, layer types, sliding window).
        attention_mask: padding, [B, T_keys], or None.
        cache: the cache of the call, or None.
        start: column of the call's first position.
        key_bias: added to the attention logits of each key, [B, T_keys], float32; at or below `lowest(dtype)` the
            key is not seen at all.
        after_thoughts: which of the call's positions the bias applies to, [B, T_call] bool.
        dtype: of the hidden states.

    Returns:
        Masks [B, 1, T_call, T_keys'] as the decoder takes them: one, or one per layer type.

    Raises:
        ModelError: for an attention implementation that takes no additive mask.
    """
    if config._attn_implementation not in TAKES_MASKS:
        raise ModelError(
            f"attention {config._attn_implementation!r} takes no additive mask",
            'load the model with attn_implementation="eager"',
        )
    length = after_thoughts.shape[1]
    queries = torch.arange(start, start + length, device=key_bias.device)[:, None]
    layer_types = getattr(config, "layer_types", None) or ["full_attention"]
    masks: dict[str, Tensor] = {}
    for index, layer_type in enumerate(layer_types):
        if layer_type in masks:
            continue
        kv_length, offset = (start + length, 0) if cache is None else cache.get_mask_sizes(length, index)
        keys = torch.arange(offset, offset + kv_length, device=key_bias.device)[None, :]
        allowed = keys <= queries
        if layer_type == "sliding_attention":
            allowed = allowed & (keys > queries - config.sliding_window)
        # A static cache has more keys than have been seen; causality hides the rest, whatever it is filled with.
        unseen = max(0, offset + kv_length - key_bias.shape[1])
        bias = functional.pad(key_bias, (0, unseen))[:, offset : offset + kv_length]
        padding = None
        if attention_mask is not None:
            padding = functional.pad(attention_mask, (0, unseen))[:, offset : offset + kv_length].bool()
        masks[layer_type] = _biased_mask(allowed[None], bias, after_thoughts, dtype, padding)
    return masks if hasattr(config, "layer_types") else masks["full_attention"]
