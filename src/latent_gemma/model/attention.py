"""Gemma's eager attention with a mask that float32 can hold."""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

#: Name of the implementation, as `attn_implementation` knows it.
NAME = "latent_eager"
#: Attention implementations that take a mask of any shape.
TAKES_MASKS = (NAME, "eager", "sdpa")


def lowest(dtype: torch.dtype) -> float:
    """What hides a key when added to its score: finite in float32 too, in which the softmax runs whatever the dtype."""
    return max(torch.finfo(dtype).min, torch.finfo(torch.float32).min)


def latent_mask(dtype: torch.dtype = torch.float32, **kwargs: Any) -> Tensor | None:
    """The mask of the stock eager attention, whose float64 one is -inf in float32 and makes padding NaN."""
    mask: Tensor | None = eager_mask(dtype=dtype, **kwargs)
    return mask.clamp(min=lowest(dtype)) if mask is not None and dtype == torch.float64 else mask


AttentionInterface.register(NAME, eager_attention_forward)
AttentionMaskInterface.register(NAME, latent_mask)
