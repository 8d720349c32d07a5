"""A torch model's weights on their way to Tunix and back."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import torch

from latent_gemma.engines.tunix.adapter import adapted_arrays, add_adapter, give_back
from latent_gemma.engines.tunix.mesh import device_mesh
from latent_gemma.engines.tunix.weights import build_model, from_tunix, read_weights, torch_weights, tunix_config
from latent_gemma.errors import ConfigError
from latent_gemma.launch import process_count
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.training.lora import merge, with_lora
from latent_gemma.training.settings import LoraSettings, TrainSettings


class Carried:
    """A torch model that Tunix trains; it holds the weights before and after.

    In bfloat16 the frozen matrices of the layers are bfloat16, and the adapter is float32.

    Args:
        model: the torch model.
        settings: the optimisation.
        lora: the adapter; None or rank 0 trains all weights.

    Raises:
        ConfigError: for settings that this engine does not train with.
        ModelError: for a model that Tunix does not compute as transformers does.
    """

    def __init__(
        self, model: LatentReasoningGemmaForCausalLM, settings: TrainSettings, lora: LoraSettings | None
    ) -> None:
        if process_count() > 1:
            raise ConfigError("--engine tunix in several processes", "start one, which uses all devices of its machine")
        self.model = model
        self.wrapper: Any = None
        self.lora = lora if lora is not None and lora.rank else None
        if settings.precision == "bfloat16" and self.lora is None:
            raise ConfigError(
                "--precision bfloat16 with --engine tunix and --rank 0 would round every update",
                "train an adapter (--rank 16), or take --precision float32",
            )
        self.config = tunix_config(model.config, settings.checkpointing)
        if self.lora is not None:
            adapted_arrays(self.lora, self.config)
        self.mesh = device_mesh(settings.mesh, settings.batch_size)
        self.dtype = jnp.bfloat16 if settings.precision == "bfloat16" else jnp.float32
        self.state = torch_weights(model)

    def base(self) -> Any:
        """The model in Tunix, another one with each call."""
        return build_model(self.state, self.config, self.mesh, self.dtype)

    def trained(self, base: Any) -> Any:
        """What trains of a `base`: an adapter on it, or all of it."""
        if self.lora is None:
            return base
        self.wrapper = with_lora(self.model, self.lora)
        return add_adapter(base, self.wrapper, self.lora, self.mesh)

    def bring_back(self, module: Any, adapter: Path) -> None:
        """Write what has been trained into the torch model; an adapter is kept in a folder and merged."""
        if self.lora is not None:
            give_back(module, self.wrapper, self.lora)
            self.model = merge(self.wrapper, adapter)
        else:
            found = from_tunix(read_weights(module), self.config)
            weights = {name: torch.tensor(value) for name, value in found.items()}
            self.model.load_state_dict(weights | {"lm_head.weight": weights["model.embed_tokens.weight"]})
