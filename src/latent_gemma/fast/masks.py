"""What to add to the attention scores of a call with one position a row."""

import torch
from torch import Tensor

from latent_gemma.model.attention import lowest


def one_position_mask(padding: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask of one position a row, which sees every key but padding.

    Args:
        padding: [B, T_keys], 0 on padding, or None.
        dtype: of the hidden states.

    Returns:
        [B, 1, 1, T_keys], or None where there is nothing to add.
    """
    if padding is None:
        return None
    hidden = torch.zeros(padding.shape, dtype=dtype, device=padding.device)
    return hidden.masked_fill_(padding == 0, lowest(dtype))[:, None, None]


def beyond_window(mask: Tensor, position: int, window: int) -> Tensor:
    """A mask [B, 1, 1, T_keys] of one position, with the keys hidden that its window does not reach."""
    keys = torch.arange(mask.shape[-1], device=mask.device)
    return mask.masked_fill(keys <= position - window, lowest(mask.dtype))
