"""What the operations of some work are and move, counted while they run; the tables of `training/speed.py` are held
to it by their test, and the rates of `sizes.py` measured by it."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Bound by arithmetic, not by what they move.
PRODUCTS = {"mm", "bmm", "addmm"}


class Counting(TorchDispatchMode):
    """Counts operations that compute (no views), and the bytes that those besides matrix products read and write."""

    operations = moved = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.split("::")[1]
        given, made = (
            [x for x in tree_leaves(part) if isinstance(x, torch.Tensor)] for part in ((args, kwargs), result)
        )
        places = {x.untyped_storage().data_ptr() for x in given}
        same = all(x.untyped_storage().data_ptr() in places for x in made)
        if not function.is_view and (not same or name.endswith("_")):
            self.operations += 1
            self.moved += 0 if name in PRODUCTS else sum(x.nbytes for x in [*given, *made])
        return result
