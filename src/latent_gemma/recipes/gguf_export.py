"""A Gemma as a GGUF file, as llama.cpp's own converter writes it."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from latent_gemma.errors import ModelError
from latent_gemma.model.config import as_plain_config
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM, is_latent_parameter
from latent_gemma.model.gguf_files import CONFIG, GENERATION, architecture, gguf_names, gguf_package, is_norm
from latent_gemma.options.tools import GgufKind

_BYTE = re.compile("<0x[0-9A-F]{2}>")


def write_gguf(
    path: Path, model: LatentReasoningGemmaForCausalLM, tokenizer: Any, kind: GgufKind, keeps_latent: bool
) -> None:
    """Write the stock Gemma in a latent model, and its tokenizer.

    Args:
        path: the file.
        model: the model.
        tokenizer: its tokenizer.
        kind: of the matrices; norms stay in float32, and a matrix whose rows are no multiple of 32 in half precision.
        keeps_latent: keep the latent part of the configuration, for this package's loader.

    Raises:
        ModelError: if the format has no place for this model or its tokenizer.
        OSError: if it cannot be written.
    """
    gguf = gguf_package()
    config = as_plain_config(model.config, keeps_latent)
    _refuse_other(config)
    state = {name: value for name, value in model.state_dict().items() if not is_latent_parameter(name)}
    names = gguf_names(state, config)
    writer = gguf.GGUFWriter(path, architecture(config))
    try:
        file_type = gguf.LlamaFileType.MOSTLY_F16 if kind == "f16" else gguf.LlamaFileType.MOSTLY_Q8_0
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_dimensions(writer, config)
        _add_tokenizer(writer, tokenizer, config.vocab_size)
        writer.add_string(CONFIG, json.dumps(config.to_dict()))
        writer.add_string(GENERATION, json.dumps(model.generation_config.to_dict()))
        for stored, name in names.items():
            values = state[name].detach().to("cpu", torch.float32).numpy()
            wanted = gguf.GGMLQuantizationType[kind.upper() if values.shape[-1] % 32 == 0 else "F16"]
            if values.ndim == 1:
                wanted, values = gguf.GGMLQuantizationType.F32, values + 1 if is_norm(stored) else values
            writer.add_tensor(stored, gguf.quantize(values, wanted), raw_dtype=wanted)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _refuse_other(config: Any) -> None:
    """llama.cpp works some dimensions out by itself; a model in which they are others would answer otherwise there."""
    layers = getattr(config, "layer_types", None)
    usual = type(config)(num_hidden_layers=config.num_hidden_layers)
    if layers != getattr(usual, "layer_types", None):
        raise ModelError("GGUF has no place for this order of sliding and full attention layers")
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if (getattr(config, name, None) is not None) != (config.model_type == "gemma2"):
            raise ModelError(f"GGUF has no place for {name} {getattr(config, name, None)} of a {config.model_type}")
    scale = getattr(config, "query_pre_attn_scalar", config.head_dim)
    if scale not in (config.head_dim, config.hidden_size // config.num_attention_heads):
        raise ModelError(f"GGUF has no place for query_pre_attn_scalar {scale}")


def _add_dimensions(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    rope = config.rope_parameters
    full = rope.get("full_attention", rope)
    writer.add_rope_freq_base(full["rope_theta"])
    if full["rope_type"] != "default":
        raise ModelError(f"rotary embeddings of type {full['rope_type']} cannot be written as GGUF yet")
    if config.model_type != "gemma":
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _add_tokenizer(writer: Any, tokenizer: Any, size: int) -> None:
    gguf = gguf_package()
    kinds, stored = gguf.TokenType, json.loads(tokenizer.backend_tokenizer.to_str())
    model, normalizer = stored["model"], stored.get("normalizer") or {}
    if not (model.get("type") == "BPE" and model.get("byte_fallback") and normalizer.get("content") == "▁"):
        raise ModelError(
            "its tokenizer is none of Gemma's kind (SentencePiece pairs with bytes to fall back on), the only one that "
            "can be written as GGUF",
            "export it with --format plain",
        )
    tokens, types = [f"[PAD{i}]" for i in range(size)], [kinds.UNUSED] * size
    for token, i in model["vocab"].items():
        tokens[i], types[i] = token, kinds.BYTE if _BYTE.fullmatch(token) else kinds.NORMAL
    for added in stored["added_tokens"]:
        i = added["id"]
        types[i] = kinds.CONTROL if added["special"] else kinds.USER_DEFINED
        # such tokens are looked for in the text as it is
        tokens[i] = added["content"] if added["special"] else added["content"].replace("▁", " ")
    if tokenizer.unk_token_id is not None:
        types[tokenizer.unk_token_id] = kinds.UNKNOWN
    # The pair with the highest score is merged first, as the first one in the list is here.
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(model["merges"]):
        ranks.setdefault("".join(pair.split(" ") if isinstance(pair, str) else pair), rank)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(ranks.get(token, len(ranks))) for token in tokens])
    writer.add_token_types(types)
    for name, i in (
        ("bos", tokenizer.bos_token_id), ("eos", tokenizer.eos_token_id), ("unk", tokenizer.unk_token_id),
        ("pad", tokenizer.pad_token_id), ("eot", model["vocab"].get("<end_of_turn>")),
    ):  # fmt: skip
        if i is not None:
            getattr(writer, f"add_{name}_token_id")(i)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
