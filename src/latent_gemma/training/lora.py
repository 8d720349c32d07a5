"""Low-rank adapters of the whole model: put on before training, kept beside the merged weights after it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from latent_gemma.errors import ConfigError
from latent_gemma.launch import is_main_process
from latent_gemma.model.gemma import is_latent_parameter
from latent_gemma.training.settings import LoraSettings


def quantization(settings: LoraSettings) -> Any:
    """How the frozen weights are loaded.

    Args:
        settings: the adapter's settings.

    Returns:
        transformers' configuration of 4-bit NormalFloat weights with double quantisation, or None.

    Raises:
        ConfigError: if bitsandbytes is missing.

    Source: Dettmers et al. 2023 (QLoRA, arXiv 2305.14314), section 3.
    """
    if settings.quantize == "none":
        return None
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ConfigError("--quantize 4bit needs bitsandbytes", "pip install bitsandbytes") from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        # the head is the tied embedding, and what maps thoughts trains
        llm_int8_skip_modules=["lm_head", "bridge"],
    )


def lora_config(model: Any, settings: LoraSettings) -> Any:
    """PEFT's configuration of an adapter.

    Args:
        model: what it is for.
        settings: the adapter.

    Returns:
        The configuration.

    Raises:
        ConfigError: if the model has nothing that the adapter would act on, or it could not be merged.
    """
    from peft import LoraConfig

    _check_targets(model, settings.targets)
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        task_type="CAUSAL_LM",
    )


def _check_targets(model: Any, targets: Sequence[str]) -> None:
    """Each target has to be a matrix of its own: what is written into a tied one acts in both places."""
    shared = model.get_input_embeddings().weight
    for target in targets:
        found = [part for name, part in model.named_modules() if name == target or name.endswith(f".{target}")]
        if not target or not found:
            raise ConfigError(f"--targets {target} names no projection of this model", "q_proj or down_proj is one")
        if model.config.tie_word_embeddings and any(getattr(part, "weight", None) is shared for part in found):
            raise ConfigError(
                f"--targets {target}: this model's head is its embedding, and merging would change both",
                "choose projections of its layers, such as q_proj, or train all weights with --rank 0",
            )
        if not all(isinstance(part, torch.nn.Linear) for part in found):
            raise ConfigError(f"--targets {target} is no projection", "q_proj or down_proj is one")


def with_lora(model: Any, settings: LoraSettings) -> Any:
    """Put an adapter on a model.

    Args:
        model: the model; its own weights are frozen, but for those that only thoughts see.
        settings: the adapter.

    Returns:
        The PEFT wrapper.

    Raises:
        ConfigError: if the adapter finds nothing to act on.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if settings.quantize == "4bit":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    wrapped = get_peft_model(model, lora_config(model, settings))
    for name, parameter in wrapped.named_parameters():
        if is_latent_parameter(name):
            parameter.requires_grad_(True)
    return wrapped


def merge(trained: Any, folder: Path) -> Any:
    """Keep an adapter and fold it into its model.

    Args:
        trained: the PEFT wrapper.
        folder: where the adapter is written.

    Returns:
        The merged model. 4-bit weights are dequantised first, so that what is saved is an ordinary model.
    """
    # no embedding is ever resized, about which PEFT would ask the hub
    trained.save_pretrained(folder, is_main_process=is_main_process(), save_embedding_layers=False)
    if getattr(trained.get_base_model(), "is_loaded_in_4bit", False):
        # The adapter's layers are made for the kind of weights they stand on: take it off and put it on again.
        base = trained.unload().dequantize()
        trained = PeftModel.from_pretrained(base, str(folder))
    return trained.merge_and_unload()
