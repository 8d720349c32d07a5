"""Weights that act on thought positions only: one set of base weights, and the phase decides what is added."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.hub import get_checkpoint_shard_files

from latent_gemma.choices import Adapter

_thought_mask: ContextVar[Tensor | None] = ContextVar("thought_mask", default=None)

#: Prefix of every adapter parameter: plain Gemma loaders ignore these, freezing finds them.
PREFIX = "thought_"


def current_thought_mask() -> Tensor | None:
    """The mask of the decoder call in progress, [B, T, 1], or None outside the latent phase."""
    return _thought_mask.get()


@contextmanager
def thought_phase(mask: Tensor | None) -> Iterator[None]:
    """Run a decoder call in which the positions of `mask` ([B, T, 1], bool) are thoughts."""
    token = _thought_mask.set(mask)
    try:
        yield
    finally:
        _thought_mask.reset(token)


class ThoughtLinear(nn.Linear):
    """A Linear that adds a learned update on thought positions.

    The base weight keeps its name and place, so a checkpoint loads into plain Gemma, which ignores the update.
    """

    #: The class whose forward is added to.
    kind: ClassVar[Any] = nn.Linear
    scale: float
    thought_a: nn.Parameter | None
    thought_b: nn.Parameter
    thought_delta: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """Apply to `x`, [B, T, in_features]."""
        return self.add_update(self.kind.forward(self, x), x)

    def add_update(self, out: Tensor, x: Tensor) -> Tensor:
        """`out` [B, T, out_features] with the update for `x` on thought positions."""
        mask = current_thought_mask()
        if mask is None:
            return out
        if self.thought_a is not None:
            update = nn.functional.linear(nn.functional.linear(x, self.thought_a), self.thought_b) * self.scale
        else:
            update = nn.functional.linear(x, self.thought_delta)
        return out + update * mask.to(update.dtype)


def _thinking(kind: type[nn.Linear]) -> type:
    """The class of a Linear of some kind (4-bit, say) with an update."""
    if kind is nn.Linear:
        return ThoughtLinear
    methods = {name: getattr(ThoughtLinear, name) for name in ("forward", "add_update")}
    return type(f"Thought{kind.__name__}", (kind,), {"kind": kind, **methods})


@torch.no_grad()
def start_update(module: Any) -> None:
    """Start the update of a Linear, if it has one, at zero; transformers' functions spare weights that were loaded."""
    if isinstance(getattr(module, "thought_b", None), nn.Parameter):
        init.kaiming_uniform_(module.thought_a, a=5**0.5)
        init.zeros_(module.thought_b)
    elif isinstance(getattr(module, "thought_delta", None), nn.Parameter):
        init.zeros_(module.thought_delta)


def install_thought_adapters(layers: nn.Module, kind: Adapter, rank: int, alpha: float, dtype: torch.dtype) -> None:
    """Give every Linear under `layers` an update on thought positions; its own weight stays what it is.

    Args:
        layers: the decoder's layers.
        kind: "none" leaves them as they are; "lora", scale * B A x with B = 0 at the start; "full", D x with D = 0 at
            the start.
        rank: of the "lora" update.
        alpha: its scale times its rank.
        dtype: of the update, where the weight's own is that of a code.
    """
    if kind == "none":
        return
    linears: list[Any] = [module for module in layers.modules() if isinstance(module, nn.Linear)]
    for linear in linears:
        weight = linear.weight
        factory: dict[str, Any] = {
            "device": weight.device, "dtype": weight.dtype if weight.dtype.is_floating_point else dtype
        }  # fmt: skip
        linear.__class__ = _thinking(type(linear))
        linear.scale = alpha / rank
        if kind == "lora":
            linear.thought_a = nn.Parameter(torch.empty(rank, linear.in_features, **factory))
            linear.thought_b = nn.Parameter(torch.empty(linear.out_features, rank, **factory))
        else:
            linear.register_parameter("thought_a", None)
            linear.thought_delta = nn.Parameter(torch.empty(linear.out_features, linear.in_features, **factory))
        start_update(linear)


@torch.no_grad()
def load_updates(model: nn.Module, name: str, hub: dict[str, Any]) -> None:
    """Load the updates that a checkpoint holds into a model that has been loaded without them.

    Args:
        model: the model.
        name: directory or hub name of the checkpoint.
        hub: where on the hub, as `cached_file` takes it.
    """
    files = [cached_file(name, SAFE_WEIGHTS_NAME, _raise_exceptions_for_missing_entries=False, **hub)]
    if files[0] is None:
        index = cached_file(name, SAFE_WEIGHTS_INDEX_NAME, **hub)
        files = list(get_checkpoint_shard_files(name, index, **hub)[0])
    updates = {key: part for key, part in model.named_parameters() if key.rsplit(".", 1)[-1].startswith(PREFIX)}
    for file in files:
        with safe_open(file, "pt") as stored:
            for key in updates.keys() & set(stored.keys()):
                updates[key].copy_(stored.get_tensor(key))
