"""States of optimisers, schedulers and random generators as JSON and safetensors: nothing is pickled."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


def write_state(stem: Path, value: Any) -> None:
    """Write a nested state.

    Args:
        stem: path without an ending; `.json` is written, and `.safetensors` if there are tensors.
        value: numbers, strings, None and tensors in lists, tuples and dictionaries.

    Raises:
        TypeError: for any other type.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(value, tensors))
    if tensors:
        save_file(tensors, str(stem) + ".safetensors")
    Path(str(stem) + ".json").write_text(text, encoding="utf-8")


def read_state(stem: Path) -> Any:
    """Read what `write_state` wrote; tensors are on the CPU."""
    values = Path(str(stem) + ".safetensors")
    tensors = load_file(values) if values.exists() else {}
    return _unpack(json.loads(Path(str(stem) + ".json").read_text(encoding="utf-8")), tensors)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        kept = value.detach().contiguous()
        # safetensors writes no two tensors of one storage, as the slices of a batch are
        shared = kept.untyped_storage().nbytes() != kept.numel() * kept.element_size()
        tensors[name] = kept.clone() if shared else kept
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_pack(item, tensors) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} has no place in a state")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        (kind, content), *_ = value.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "tuple":
            return tuple(_unpack(item, tensors) for item in content)
        return {key: _unpack(item, tensors) for key, item in content}
    return value


def random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's generators, those of the GPUs included."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set all generators to what `random_state` returned."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count() and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
