"""A tiny Gemma and its tokenizer, built in place: no download, any text in any language."""

from collections.abc import Sequence
from typing import Literal

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import Gemma2Config, Gemma3TextConfig, GemmaConfig, PreTrainedTokenizerFast

from latent_gemma.model.config import LatentConfig, as_latent_config
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM

Family = Literal["gemma", "gemma2", "gemma3"]

_CONFIGS = {"gemma": GemmaConfig, "gemma2": Gemma2Config, "gemma3": Gemma3TextConfig}
#: The same ids as in Gemma 2's vocabulary, so that the defaults of the marker ids hold.
_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<2mass>", "[@BOS@]", "<unused0>", "<unused1>", "<unused2>"]
_SPECIAL += ["<start_of_turn>", "<end_of_turn>"]


def build_tokenizer(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with Gemma's special tokens: 268 entries, one token a byte.

    Args:
        words: texts that are one further token each, such as tags.

    Returns:
        The tokenizer.
    """
    vocab = {token: index for index, token in enumerate(_SPECIAL)}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[symbol] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>", "<unused0>", "<unused1>", "<unused2>"],
        clean_up_tokenization_spaces=False,
    )


def build_tiny(
    family: Family = "gemma2",
    latent: LatentConfig | None = None,
    hidden_size: int = 128,
    num_layers: int = 4,
    num_heads: int = 4,
    intermediate_size: int = 512,
    sliding_window: int = 4096,
    vocab_size: int = 268,
    seed: int = 0,
) -> LatentReasoningGemmaForCausalLM:
    """A small Gemma with random weights.

    Args:
        family: "gemma", "gemma2" or "gemma3".
        latent: its latent part; None takes the defaults.
        hidden_size: D.
        num_layers: decoder layers.
        num_heads: attention heads; half as many key/value heads.
        intermediate_size: width of the feed-forward layers.
        sliding_window: window of the sliding layers, positions (Gemma 2 and 3).
        vocab_size: V.
        seed: of the weights.

    Returns:
        The model, in eager attention and float32.
    """
    options: dict = (
        {}
        if family == "gemma"
        else {"sliding_window": sliding_window, "query_pre_attn_scalar": hidden_size // num_heads}
    )
    base = _CONFIGS[family](
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=max(1, num_heads // 2),
        head_dim=hidden_size // num_heads,
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        # The published 0.02 is for 2,304 dimensions; narrow models learn faster from the usual 1 / sqrt(D).
        initializer_range=hidden_size**-0.5,
        attn_implementation="eager",
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LatentReasoningGemmaForCausalLM(as_latent_config(base, latent or LatentConfig()))
    model.model.calibrate()
    return model
