"""A low-rank adapter in Tunix's model: its numbers come from PEFT's adapter of the torch model, and go back to it."""

from typing import Any

import jax
import numpy as np
import qwix
import torch
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from tunix.models.gemma import model as gemma

from latent_gemma.engines.tunix.mesh import laid_over
from latent_gemma.engines.tunix.weights import Path, read_weights
from latent_gemma.errors import ConfigError
from latent_gemma.training.settings import LoraSettings

_MLP = ("gate_proj", "up_proj", "down_proj")


def _holders(config: gemma.ModelConfig) -> dict[str, tuple[str, ...]]:
    """Tunix's arrays -> the projections each holds, in its order."""
    held: dict[str, tuple[str, ...]] = {"attn_vec_einsum": ("o_proj",)}
    held.update({part: (part,) for part in _MLP})
    if config.num_heads == config.num_kv_heads:
        return held | {"qkv_einsum": ("q_proj", "k_proj", "v_proj")}
    return held | {"q_einsum": ("q_proj",), "kv_einsum": ("k_proj", "v_proj")}


def adapted_arrays(lora: LoraSettings, config: gemma.ModelConfig) -> dict[str, tuple[str, ...]]:
    """Tunix's arrays that an adapter acts on.

    Args:
        lora: the adapter.
        config: Tunix's configuration.

    Returns:
        Array -> the projections it holds.

    Raises:
        ConfigError: if the adapter is none that Tunix trains.
    """
    if lora.dropout:
        raise ConfigError(f"--dropout {lora.dropout} with --engine tunix", "leave it out, or train with --engine torch")
    chosen = {}
    for array, parts in _holders(config).items():
        named = [part for part in parts if part in lora.targets]
        if named and len(named) < len(parts):
            raise ConfigError(
                f"--targets {' '.join(lora.targets)}: Tunix holds {', '.join(parts)} in one array",
                "name all of these or none",
            )
        if named:
            chosen[array] = parts
    unknown = [target for target in lora.targets if not any(target in parts for parts in chosen.values())]
    if unknown or not chosen:
        raise ConfigError(
            f"--targets {' '.join(unknown)} names nothing that Tunix adapts", "q_proj or down_proj is one"
        )
    return chosen


def add_adapter(module: Any, wrapper: Any, lora: LoraSettings, mesh: jax.sharding.Mesh) -> Any:
    """Put an adapter on Tunix's model that starts as the torch model's.

    Args:
        module: the model in Tunix.
        wrapper: PEFT's wrapper of the same model.
        lora: the adapter.
        mesh: the devices.

    Returns:
        The adapted `nnx.Module`. Its factors are float32. Keys and values (with as many heads of both: queries too)
        share the factor that reads their common input, which PEFT has once for each; it starts as the first one's.
    """
    arrays = adapted_arrays(lora, module.config)
    provider = qwix.LoraProvider(module_path=".*(" + "|".join(arrays) + ")", rank=lora.rank, alpha=lora.alpha)
    adapted = qwix.apply_lora_to_model(module, provider, rngs=nnx.Rngs(0), **module.get_model_input())
    factors = nnx.state(adapted, nnx.LoRAParam)
    with laid_over(mesh):
        places = flatten_dict(nnx.to_pure_dict(nnx.get_named_sharding(factors, mesh)))
    starts = {
        path: jax.device_put(_from_peft(path, factor.shape, wrapper, arrays), places[path])
        for path, factor in flatten_dict(nnx.to_pure_dict(factors)).items()
    }
    nnx.replace_by_pure_dict(factors, unflatten_dict(starts))
    nnx.update(adapted, factors)
    return adapted


def _places(path: Path, arrays: dict[str, tuple[str, ...]]) -> list[str]:
    """Names, within the torch model, of the projections that a factor belongs to."""
    layer, block, array = path[1], path[2], str(path[3])
    return [f"model.layers.{layer}.{'mlp' if block == 'mlp' else 'self_attn'}.{part}" for part in arrays[array]]


def _factor(wrapper: Any, place: str, which: str) -> Any:
    return wrapper.get_base_model().get_submodule(place).get_submodule(f"lora_{which}")["default"].weight


def _from_peft(path: Path, shape: tuple[int, ...], wrapper: Any, arrays: dict[str, tuple[str, ...]]) -> np.ndarray:
    places = _places(path, arrays)
    if str(path[-1]).endswith("lora_a"):  # [r, in] -> [*in, r]
        return _factor(wrapper, places[0], "A").detach().float().cpu().numpy().T.reshape(shape)
    # [out, r] -> [r, *out], of several projections stacked behind r
    parts = [_factor(wrapper, place, "B").detach().float().cpu().numpy().T for place in places]
    return np.stack(parts, axis=1).reshape(shape)


def give_back(module: Any, wrapper: Any, lora: LoraSettings) -> None:
    """Write the factors of Tunix's adapter into PEFT's, which computes the same from then on.

    Args:
        module: the adapted model in Tunix.
        wrapper: PEFT's wrapper of the torch model.
        lora: the adapter.
    """
    arrays = adapted_arrays(lora, module.config)
    for path, value in read_weights(module, nnx.LoRAParam).items():
        places = _places(path, arrays)
        if str(path[-1]).endswith("lora_a"):
            parts = [value.reshape(-1, lora.rank).T] * len(places)
        else:
            parts = [part.T for part in value.reshape(lora.rank, len(places), -1).swapaxes(0, 1)]
        for place, part in zip(places, parts, strict=True):
            weight = _factor(wrapper, place, str(path[-1])[-1].upper())
            weight.data.copy_(torch.from_numpy(np.ascontiguousarray(part)))
