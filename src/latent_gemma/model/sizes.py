"""How large a Gemma is, from its configuration alone."""

from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, Gemma2Config, Gemma3TextConfig, GemmaConfig

from latent_gemma.errors import ModelError
from latent_gemma.model.loading import resolve_model, split_revision
from latent_gemma.model.tiny import build_tiny

#: Published dimensions, so that gated models can be estimated without an account.
_GEMMA3_270M: dict[str, Any] = {
    "vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
}  # fmt: skip
_GEMMA3_1B: dict[str, Any] = {
    "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
}  # fmt: skip
GEMMA2_2B: dict[str, Any] = {
    "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
}  # fmt: skip
_GEMMA2_9B: dict[str, Any] = {
    "vocab_size": 256000, "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
}  # fmt: skip
_GEMMA_2B: dict[str, Any] = {
    "vocab_size": 256000, "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
    "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
}  # fmt: skip
_PUBLISHED = {
    "gemma-3-270m": (Gemma3TextConfig, _GEMMA3_270M),
    "gemma-3-1b": (Gemma3TextConfig, _GEMMA3_1B),
    "gemma-2-2b": (Gemma2Config, GEMMA2_2B),
    "maths-problems-gemma-2-2b": (Gemma2Config, GEMMA2_2B),
    "gemma-2-9b": (Gemma2Config, _GEMMA2_9B),
    "gemma-2b": (GemmaConfig, _GEMMA_2B),
}


@dataclass(frozen=True)
class Sizes:
    """Dimensions that decide memory and time; counts of values, not bytes.

    Args:
        vocab: V.
        hidden: D.
        layers: decoder layers.
        heads: attention heads.
        queries: width of a position's queries, all heads.
        keys: width of its keys, and of its values.
        intermediate: width of the feed-forward layers.
        embedding: values of the embedding, shared with the head.
        projections: values of all decoder projections.
        lora_width: input plus output widths of all projections of one layer; times the rank, values of its LoRA.
    """

    vocab: int
    hidden: int
    layers: int
    heads: int
    queries: int
    keys: int
    intermediate: int
    embedding: int
    projections: int
    lora_width: int

    @classmethod
    def of(cls, config: Any) -> "Sizes":
        """Read them off a Gemma configuration."""
        d, i, h = config.hidden_size, config.intermediate_size, config.num_attention_heads
        q, kv = h * config.head_dim, config.num_key_value_heads * config.head_dim
        per_layer = d * q + 2 * d * kv + q * d + 3 * d * i
        lora = (d + q) + 2 * (d + kv) + (q + d) + 3 * (d + i)
        return cls(
            config.vocab_size, d, config.num_hidden_layers, h, q, kv, i, config.vocab_size * d,
            per_layer * config.num_hidden_layers, lora,
        )  # fmt: skip


def sizes_of(name: str) -> Sizes:
    """Sizes of a model by name.

    Args:
        name: a published Gemma (with or without owner and -it), a local model, "tiny", or a hub name that can be had.

    Returns:
        Its sizes.

    Raises:
        ModelError: if its configuration cannot be read.
    """
    if name == "tiny":
        return Sizes.of(build_tiny().config)
    short = name.rsplit("/", 1)[-1].removesuffix("-it").removesuffix("-pt")
    if short in _PUBLISHED:
        family, dimensions = _PUBLISHED[short]
        return Sizes.of(family(**dimensions))
    where, gguf = resolve_model(name)
    try:
        config = AutoConfig.from_pretrained(
            where, trust_remote_code=False, revision=split_revision(name)[1], **({"gguf_file": gguf} if gguf else {})
        )
    except OSError as error:
        raise ModelError(
            f"the configuration of {name} cannot be read", f"known without a network are {', '.join(_PUBLISHED)}"
        ) from error
    return Sizes.of(config)
