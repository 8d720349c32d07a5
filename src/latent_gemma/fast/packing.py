"""Weights laid out for a few rows at a time: what decoding a small batch on a CPU waits for.

A float32 matrix product of 4 to 64 rows on x86 reorders the whole weight on every call, and takes two to four times
the time of reading it. Laid out once, 5 rows cost as much as one: large weights in blocks, by oneDNN, small ones
transposed, which has no fixed cost. It needs the weights a second time in memory, so it lasts as long as an evaluation
or a vote and is left out where memory is short.
"""

from collections.abc import Callable, Iterable, Mapping

import psutil
import torch
from torch import Tensor, nn

#: Rows for which a weight laid out wins.
ROWS = range(4, 65)
#: Values from which on it is packed by oneDNN, whose fixed cost of some 70 us then does not matter; below, transposed.
LARGE = 2**20
#: Share of the free memory that weights laid out may take.
MEMORY_SHARE = 0.5

Product = Callable[[Tensor], Tensor]
#: Weights laid out, by the id of the weight: packed, or transposed [in, out].
Layout = Mapping[int, Tensor]


def _lay_out(weight: Tensor) -> Tensor:
    weight = weight.detach()
    if weight.numel() >= LARGE:
        return torch.ops.mkldnn._reorder_linear_weight(weight, ROWS.start)
    return weight.t().contiguous()


def _few(x: Tensor) -> bool:
    return ROWS.start <= x.shape[0] < ROWS.stop  # `in` is not traced


def state_of(weights: Iterable[Tensor]) -> list[tuple[int, int]]:
    """Where weights lie and how often they have changed in place: equal as long as their values are."""
    return [(weight.data_ptr(), weight._version) for weight in weights]


def product(weight: Tensor, layout: Layout) -> Product:
    """The product of rows [B, in] with a weight [out, in].

    Args:
        weight: of a Linear without bias.
        layout: the weights that are laid out.

    Returns:
        A function to [B, out], for use without gradients while the weight does not change.
    """
    plain, found = weight.detach().t(), layout.get(id(weight))
    if found is None:
        return lambda x: torch.mm(x, plain)
    other = found
    if weight.numel() >= LARGE:
        by_onednn = torch.ops.mkldnn._linear_pointwise
        return lambda x: by_onednn(x, other, None, "none", [], "") if _few(x) else torch.mm(x, plain)
    return lambda x: torch.mm(x, other if _few(x) else plain)


class Packing:
    """A model's weights laid out, made when first used and kept as long as this object.

    Args:
        model: the model; it may be trained between two uses, then its weights are laid out again.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._laid_out: dict[int, Tensor] = {}
        self._state: list[tuple[int, int]] = []

    def layout(self) -> Layout:
        """The weights laid out, for their values as they are."""
        weights = self._worth_it()
        state = state_of(weights)
        if state != self._state:
            self._laid_out, self._state = {}, []
            if 4 * sum(weight.numel() for weight in weights) <= MEMORY_SHARE * psutil.virtual_memory().available:
                self._laid_out, self._state = {id(weight): _lay_out(weight) for weight in weights}, state
        return self._laid_out

    def _worth_it(self) -> list[Tensor]:
        """The weights of float32 products on an x86 CPU."""
        if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
            return []
        weights = [module.weight for module in self.model.modules() if isinstance(module, nn.Linear)]
        return [weight for weight in weights if weight.device.type == "cpu" and weight.dtype == torch.float32]
