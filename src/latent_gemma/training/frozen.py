"""Frozen weights in bfloat16 while training computes in bfloat16: no casts, half the memory, and back as they came."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def _frozen_matrices(model: Any) -> list[Tensor]:
    """What does not train of the weights of the decoder layers' Linears, in float32 (quantised ones are not)."""
    weights = [module.weight for module in model.model.layers.modules() if isinstance(module, nn.Linear)]
    return [weight for weight in weights if not weight.requires_grad and weight.dtype == torch.float32]


def hold_in_bfloat16(model: Any) -> None:
    """Replace the frozen float32 matrices of the decoder's layers by their bfloat16 copies.

    Autocast would make these copies in each decoder call, and autograd would keep those of every call: remembered are
    only copies of weights that train. Norms, embedding, head, bridge and adapters stay in float32, and so does the
    residual stream: what is computed under autocast is the same, bit for bit.

    Args:
        model: a latent Gemma, changed in place; from now on for use under autocast.
    """
    for weight in _frozen_matrices(model):
        weight.data = weight.data.to(torch.bfloat16)


@contextmanager
def frozen_in_bfloat16(model: Any) -> Iterator[None]:
    """Train under autocast inside a `with` block as `hold_in_bfloat16` has it; behind it frozen weights are as before.

    Values that bfloat16 can hold, such as those of the published Gemmas, come back from it; of other matrices the
    float32 values wait on the CPU.

    Args:
        model: a latent Gemma, with PEFT's adapter on it or without; what trains is settled before.
    """
    held: list[tuple[Tensor, Tensor | None]] = []
    try:
        for weight in _frozen_matrices(model):
            held.append((weight, _beyond_bfloat16(weight.data)))
            weight.data = weight.data.to(torch.bfloat16)
        yield
    finally:
        for weight, original in held:
            weight.data = weight.data.float() if original is None else original.to(weight.device)


def _beyond_bfloat16(weight: Tensor) -> Tensor | None:
    return None if torch.equal(weight.to(torch.bfloat16).float(), weight) else weight.cpu()
