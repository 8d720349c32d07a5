"""GGUF files: parsed once and kept as safetensors, and how Gemma's weights are named and stored in them."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from huggingface_hub import constants
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from latent_gemma.errors import ModelError
from latent_gemma.files import whole_folder
from latent_gemma.model.config import LATENT_CONFIGS
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM

#: Keys of the files that `export` writes: Gemma's configuration, the latent part in it, and how answers are generated.
#: What llama.cpp reads of a file says less: not Gemma 2's softcaps to transformers, say, nor a question's system text.
CONFIG, GENERATION = "latent_gemma.config", "latent_gemma.generation_config"
#: What a parsed file was like; another one of its name is parsed anew.
SOURCE = "source.json"


def gguf_package() -> Any:
    """The package that reads and writes GGUF.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise ModelError("GGUF files need the package gguf", 'pip install "latent-gemma[gguf]"') from error
    return gguf


def gguf_names(names: Iterable[str], config: PreTrainedConfig) -> dict[str, str]:
    """What a stock Gemma's weights are called in a GGUF file.

    Args:
        names: of weights.
        config: the model's.

    Returns:
        Their names there, each with its own; a tied head has none.

    Raises:
        ModelError: if the format has no place for one.
    """
    gguf = gguf_package()
    wanted = architecture(config)
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == wanted)
    known = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    found = {}
    for name in names:
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stored = known.get_name(name, try_suffixes=(".weight",))
        if stored is None:
            raise ModelError(f"GGUF has no place for {name} of a {config.model_type} model")
        found[stored] = name
    return found


def architecture(config: PreTrainedConfig) -> str:
    """The name of a plain Gemma's architecture in a GGUF file."""
    return str(config.model_type).removesuffix("_text")


def is_norm(stored: str) -> bool:
    """Whether it is the weight of a norm, by its name there: such a file holds it with 1 added."""
    return stored.endswith("norm.weight")


def parsed(file: Path) -> Path:
    """The model of a GGUF file as a directory of safetensors, in float32; parsed when there is none of this file yet.

    Args:
        file: the file. Another size, time of change, or version of transformers makes it another one.

    Returns:
        The directory, in the cache of Hugging Face (`HF_HOME`).

    Raises:
        ModelError: if the package gguf is missing, or the cache cannot be written.
    """
    file = file.resolve()
    status = file.stat()
    source = {"file": str(file), "size": status.st_size, "changed": status.st_mtime_ns}
    source |= {"transformers": transformers.__version__}
    name = f"{file.stem[:100]}-{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    folder = Path(constants.HF_HOME) / "latent-gemma" / "gguf" / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{name}.lock")):  # processes of one run ask for it at the same time
            if not _is_of(folder, source):
                _parse(file, folder, source)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{file.name} cannot be kept as safetensors in {folder.parent}, {error}",
            "set HF_HOME to a folder that can be written, with four bytes of room for each weight",
        ) from error
    return folder


def _is_of(folder: Path, source: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((folder / SOURCE).read_text(encoding="utf-8")) == source)
    except (OSError, ValueError):
        return False


def _parse(file: Path, folder: Path, source: dict[str, Any]) -> None:
    gguf = gguf_package()
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    reader = gguf.GGUFReader(file)
    with whole_folder(folder) as partial:
        if reader.get_field(CONFIG):
            _own(reader).save_pretrained(partial)
            # AutoTokenizer would look for a configuration, which it finds in no file of a Gemma 1
            tokenizer = PreTrainedTokenizerFast.from_pretrained(**where)
        else:
            # an adapter that lies beside the file is passed over
            beside: dict[str, Any] = {"adapter_kwargs": {"subfolder": "no-adapter"}}
            base = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, **beside)
            # in a class of its own, for transformers saves none that came from a GGUF file
            LatentReasoningGemmaForCausalLM.from_base(base).save_plain(partial, keeps_latent=False)
            tokenizer = AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
        tokenizer.save_pretrained(partial)
        (partial / SOURCE).write_text(json.dumps(source), encoding="utf-8")


def _own(reader: Any) -> PreTrainedModel:
    """The model of a file that `export` wrote."""
    gguf = gguf_package()
    fields = json.loads(reader.get_field(CONFIG).contents())
    if fields["model_type"] not in LATENT_CONFIGS:
        raise ValueError(f"type {fields['model_type']!r}")
    config = CONFIG_MAPPING[fields["model_type"]](**fields)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    names, weights = gguf_names(model.state_dict(), config), {}
    for tensor in reader.tensors:
        values = Tensor(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        weights[names[tensor.name]] = values - 1 if is_norm(tensor.name) else values
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig.from_dict(json.loads(reader.get_field(GENERATION).contents()))
    return model
