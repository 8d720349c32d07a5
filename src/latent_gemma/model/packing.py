"""Weights laid out for a few rows at a time: what decoding a small batch on a CPU waits for.

A float32 matrix product of 4 to 64 rows on x86 reorders the whole weight on every call, and takes two to three times
the time of reading it. Laid out once, 5 rows cost as much as one. It needs the weights a second time in memory, so it
lasts as long as an evaluation or a vote and is left out where memory is short.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: Rows for which the packed product wins, and values from which on its fixed cost of some 70 us does not matter.
ROWS = range(4, 65)
SMALLEST = 2**20
#: Share of the free memory that packed weights may take.
MEMORY_SHARE = 0.5


class _PackedLinears(TorchFunctionMode):
    """Send linear products with a packed weight, found by the weight's id, to oneDNN."""

    def __init__(self, weights: dict[int, Tensor]) -> None:
        super().__init__()
        self.weights = weights

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # what is compiled lays its weights out by itself
        if func is nn.functional.linear and not (kwargs or torch.is_grad_enabled() or torch.compiler.is_compiling()):
            x, weight, *bias = args
            packed = self.weights.get(id(weight))
            if packed is not None and x.numel() // x.shape[-1] in ROWS:
                return torch.ops.mkldnn._linear_pointwise(x, packed, bias[0] if bias else None, "none", [], "")
        return func(*args, **(kwargs or {}))


class Packing:
    """A model's packed weights, made when first used and kept as long as this object.

    Args:
        model: the model; it may be trained between two uses, then its weights are packed again.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._packed: dict[int, Tensor] = {}
        self._state: list[tuple[int, int]] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Decode with packed weights inside a `with` block, in which they must not change."""
        weights = self._worth_packing()
        # the version counts changes in place
        state = [(weight.data_ptr(), weight._version) for weight in weights]
        if state != self._state:
            self._packed, self._state = {}, []
            if 4 * sum(weight.numel() for weight in weights) <= MEMORY_SHARE * psutil.virtual_memory().available:
                self._packed = {
                    id(weight): torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 8) for weight in weights
                }
                self._state = state
        with _PackedLinears(self._packed) if self._packed else nullcontext():
            yield

    def _worth_packing(self) -> list[Tensor]:
        """The weights of large float32 products on an x86 CPU."""
        if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
            return []
        weights = [module.weight for module in self.model.modules() if isinstance(module, nn.Linear)]
        return [
            weight
            for weight in weights
            if weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= SMALLEST
        ]
