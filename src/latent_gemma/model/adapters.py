"""Weights that act on thought positions only: one set of base weights, and the phase decides what is added."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from latent_gemma.model.config import Adapter

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

    Args:
        in_features: as `nn.Linear`.
        out_features: as `nn.Linear`.
        bias: as `nn.Linear`.
        kind: "lora", scale * B A x with B = 0 at the start; "full", D x with D = 0 at the start (set by the model's
            weight initialisation, as all weights are).
        rank: rank of the "lora" update.
        alpha: its scale times its rank.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool, kind: Adapter, rank: int, alpha: float, **factory
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, **factory)
        self.scale = alpha / rank
        if kind == "lora":
            self.thought_a = nn.Parameter(torch.empty(rank, in_features, **factory))
            self.thought_b = nn.Parameter(torch.empty(out_features, rank, **factory))
        else:
            self.register_parameter("thought_a", None)
            self.thought_delta = nn.Parameter(torch.empty(out_features, in_features, **factory))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to `x`, [B, T, in_features]."""
        return self.add_update(super().forward(x), x)

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


def install_thought_adapters(layers: nn.Module, kind: Adapter, rank: int, alpha: float) -> None:
    """Replace every Linear under `layers` by a `ThoughtLinear` with the same base weight.

    Args:
        layers: the decoder's layers.
        kind: "none" leaves them as they are.
        rank: see `ThoughtLinear`.
        alpha: see `ThoughtLinear`.
    """
    if kind == "none":
        return
    for module in list(layers.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                factory = {"device": child.weight.device, "dtype": child.weight.dtype}
                linear = ThoughtLinear(
                    child.in_features, child.out_features, child.bias is not None, kind, rank, alpha, **factory
                )
                linear.weight, linear.bias = child.weight, child.bias
                setattr(module, name, linear)
