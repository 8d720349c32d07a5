"""The last layer without the positions whose states nobody reads: of these it is left with keys and values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.models.gemma2.modeling_gemma2 import rotate_half

from latent_gemma.fast.anatomy import STOCK_LAYERS, running_layers
from latent_gemma.model.cache import SegmentCache
from latent_gemma.model.stock import CACHE


def _fits(decoder: Any) -> bool:
    """Whether a forward goes through the last layer once for each position, and keeps what it made."""
    latent = decoder.config.latent
    return (
        type(running_layers(decoder)[-1]) in STOCK_LAYERS
        and latent.recurrence != "sequence"
        and latent.adapter == "none"
        and not decoder.gradient_checkpointing
    )


def _before(layer: Any, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keys and values [B, heads, T, head_dim] that a stock layer makes of [B, T, D]."""
    attention, (cos, sin) = layer.self_attn, rotation
    normed = layer.input_layernorm(hidden)
    shape = (*hidden.shape[:-1], -1, attention.head_dim)
    key, value = (project(normed).view(shape).transpose(1, 2) for project in (attention.k_proj, attention.v_proj))
    if getattr(attention, "k_norm", None) is not None:
        key = attention.k_norm(key)
    return key * cos[:, None] + rotate_half(key) * sin[:, None], value


@contextmanager
def last_layer_from(decoder: Any, column: int) -> Iterator[None]:
    """Have the next forward inside a `with` block give no states before a column: those it gives there are zero.

    A question is most of a row, and of its last layer the rest needs keys and values alone: what queries, attention and
    the feed-forward part would cost is saved, half of a layer's time and more. Where that is not to be had (thoughts
    that go through the whole prompt again, adapters, checkpointing), all states are given.

    Args:
        decoder: the latent decoder; its forward begins with an empty cache or none.
        column: the first whose state is read, by the loss or as what is fed back.
    """
    if column <= 0 or not _fits(decoder):
        yield
        return
    layer = running_layers(decoder)[-1]
    cut = 0  # columns that the call in progress leaves out
    begun = False

    def shorten(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        nonlocal cut, begun
        hidden, mask, turns = args[0], kwargs["attention_mask"], kwargs["position_embeddings"]
        cache = SegmentCache.empty(decoder.config) if kwargs[CACHE] is None else kwargs[CACHE]
        known = isinstance(mask, Tensor) and isinstance(cache, SegmentCache)
        cut, begun = min(column, hidden.shape[1] - 1) if known and not begun else 0, True
        if not cut:
            return None
        cache.past[layer.self_attn.layer_idx].append(
            _before(layer, hidden[:, :cut], tuple(part[:, :cut] for part in turns))
        )
        short = {
            "attention_mask": mask[:, :, cut:], "position_embeddings": tuple(part[:, cut:] for part in turns),
            "position_ids": kwargs["position_ids"][:, cut:], CACHE: cache,
        }  # fmt: skip
        return (hidden[:, cut:], *args[1:]), {**kwargs, **short}

    def lengthen(_: Any, args: Any, output: Tensor) -> Tensor:
        return torch.nn.functional.pad(output, (0, 0, cut, 0)) if cut else output

    hooks = layer.register_forward_pre_hook(shorten, with_kwargs=True), layer.register_forward_hook(lengthen)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
