"""GGUF files: written as llama.cpp's converter does, read back by us and by others, and parsed once."""

import json
import os

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from latent_gemma.cli import main
from latent_gemma.errors import ModelError
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.model import LatentConfig, gguf_files
from latent_gemma.model.loading import latent_of, load_model
from latent_gemma.model.prompt import Frame
from latent_gemma.model.tiny import _SPECIAL, build_tiny
from latent_gemma.recipes.gguf_export import write_gguf
from tests.conftest import every_family, weighted
from tests.saving import save_tiny

gguf = pytest.importorskip("gguf")
LATENT = LatentConfig(num_thoughts=0, trained_for="words", system="Think.", step_separator=" ; ")
TEXTS = ["1 plus 2", " a  b\n\nthe  theme", "東京は<unused0>", "<start_of_turn>user\nthe<end_of_turn>\n", "\t<b>é"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n"
    "{% endfor %}<start_of_turn>model\n"
)


def gemma_tokenizer():
    """A tokenizer of Gemma's kind: SentencePiece pairs in the order of their ids, bytes for all that is unknown."""
    pieces = ["▁▁", "th", "the", "▁the", "me", "pl", "us", "plus", "12"]
    letters = sorted({letter for piece in pieces for letter in piece} | set("0123456789+-=;ab\n"))
    vocab = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    merges = [("▁", "▁"), ("t", "h"), ("th", "e"), ("▁", "the"), ("m", "e"), ("p", "l"), ("u", "s"), ("pl", "us")]
    tokenizer = Tokenizer(
        models.BPE({token: i for i, token in enumerate(vocab)}, [*merges, ("1", "2")], unk_token="<unk>",
                   fuse_unk=True, byte_fallback=True)
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_tokens([AddedToken(f"<unused{i}>", normalized=False) for i in range(3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"], chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def write(tmp_path):
    """Write a file: write(family, kind) gives it, the model in it with its matrices as the file holds them, and its
    tokenizer."""

    def make(family="gemma2", kind="f16", keeps_latent=True, **sizes):
        tokenizer = gemma_tokenizer()
        sizes = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 96, **sizes}
        model = weighted(build_tiny(family, LATENT, vocab_size=len(tokenizer) + 3, **sizes)).eval()
        path = tmp_path / "file" / "model.gguf"
        path.parent.mkdir(exist_ok=True)
        model.generation_config.suppress_tokens = [8]
        write_gguf(path, model, tokenizer, kind, keeps_latent)
        if kind == "f16":
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.data = parameter.data.half().float()
        return path, model, tokenizer

    return make


def same_weights(one, two):
    """A norm is kept with 1 added, which costs its last bits; all else is the same bit for bit."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=2e-7 if "norm" in name else 0, msg=name)


@every_family
def test_a_file_read_again_is_the_model_that_was_written(family, write):
    path, model, tokenizer = write(family)
    again, read = load_model(str(path))
    same_weights(model.state_dict(), again.state_dict())
    assert again.config.latent == model.config.latent == latent_of(str(path))
    assert again.generation_config.suppress_tokens == [8]
    asked = ["1 plus 2", "the theme"]
    answers = [
        answer_batch(one, Frame(of, one.config.latent), asked, "words", 0, max_new_tokens=12).answers
        for one, of in ((model, tokenizer), (again, read))
    ]
    assert answers[0] == answers[1]
    assert any(answer.tokens > 1 for answer in answers[0])


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
@pytest.mark.parametrize("family", ["gemma2", "gemma3"])  # transformers reads no GGUF file of a Gemma 1
def test_transformers_finds_the_same_weights_and_tokens(family, kind, write):
    path, model, tokenizer = write(family, kind)
    stock = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    ours, _ = load_model(str(path))
    same_weights(ours.state_dict(), stock.state_dict())
    if kind == "f16":
        same_weights(model.state_dict(), stock.state_dict())
    read = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in TEXTS:
        assert read(text, add_special_tokens=False).input_ids == tokenizer(text, add_special_tokens=False).input_ids
    assert read.chat_template == TEMPLATE
    assert (read.bos_token, read.eos_token, read.pad_token) == ("<bos>", "<eos>", "<pad>")


def test_a_gemma_1_is_stored_as_others_read_it(write):
    path, model, _ = write("gemma")
    reader = gguf.GGUFReader(path)
    stored = {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    layer = model.model.layers[1]
    for name, own in {
        "token_embd": model.model.embed_tokens.weight,
        "output_norm": model.model.norm.weight + 1,
        "blk.1.attn_norm": layer.input_layernorm.weight + 1,
        "blk.1.ffn_norm": layer.post_attention_layernorm.weight + 1,
        "blk.1.attn_k": layer.self_attn.k_proj.weight,
        "blk.1.attn_output": layer.self_attn.o_proj.weight,
        "blk.1.ffn_down": layer.mlp.down_proj.weight,
    }.items():
        assert torch.equal(torch.tensor(stored[f"{name}.weight"]), own), name
    assert len(stored) == 2 + 2 * 9
    assert reader.get_field("general.architecture").contents() == "gemma"
    assert reader.get_field("tokenizer.ggml.eot_token_id").contents() == 11
    assert reader.get_field("gemma.attention.head_count_kv").contents() == 1


def test_eight_bits_are_as_near_as_they_can_be(write):
    path, model, _ = write(kind="q8_0")
    again, _ = load_model(str(path))
    weight, near = model.model.layers[0].mlp.up_proj.weight, again.model.layers[0].mlp.up_proj.weight
    blocks, errors = weight.reshape(-1, 32), (near - weight).reshape(-1, 32).abs()
    # half a step, and what rounding the step to half precision adds at 127 of them
    assert (errors <= blocks.abs().amax(-1, keepdim=True) / 127 * (0.5 + 127 * 2**-11)).all()
    assert errors.max() > 0
    assert path.stat().st_size < write(kind="f16")[0].stat().st_size


def test_a_file_is_parsed_once(write, monkeypatch):
    path, model, _ = write()
    calls, parse = [], gguf_files._parse
    monkeypatch.setattr(gguf_files, "_parse", lambda *args: calls.append(args) or parse(*args))
    first, _ = load_model(str(path))
    second, _ = load_model(str(path))
    assert len(calls) == 1
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    model.model.norm.weight.data += 1
    write_gguf(path, model, gemma_tokenizer(), "f16", keeps_latent=True)
    os.utime(path, (1, 1))
    third, _ = load_model(str(path))
    assert len(calls) == 2
    torch.testing.assert_close(third.model.norm.weight, first.model.norm.weight + 1)


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
def test_a_file_of_others_is_read_by_transformers_and_kept_too(family, kind, write, monkeypatch):
    monkeypatch.setattr("latent_gemma.recipes.gguf_export.CONFIG", "somebody.config")
    path, model, tokenizer = write(family, kind)
    again, read = load_model(str(path))
    assert again.config.latent.trained_for == latent_of(str(path)).trained_for == "unknown"
    assert again.dtype == torch.float32
    assert not hasattr(again.config, "quantization_config")
    assert read(TEXTS[0]).input_ids[-3:] == tokenizer(TEXTS[0]).input_ids[-3:]
    if kind == "f16":
        same_weights(model.state_dict(), again.state_dict())
    monkeypatch.setattr(gguf_files, "_parse", None)
    kept, _ = load_model(str(path))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), kept.parameters(), strict=True))


def test_a_plain_file_has_no_latent_part(write):
    path, _, _ = write(keeps_latent=False)
    assert load_model(str(path))[0].config.latent.trained_for == "unknown"


def test_what_cannot_be_written_is_told_in_one_line(tmp_path, capsys, write):
    save_tiny(tmp_path / "m", latent=LATENT, hidden_size=32, num_layers=2, num_heads=2)
    assert main(["export", str(tmp_path / "m"), "--to", str(tmp_path / "out"), "--format", "gguf"]) == 2
    assert "its tokenizer is none of Gemma's kind" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    model = build_tiny("gemma2", LATENT, hidden_size=32, num_layers=2, num_heads=2)
    model.config.query_pre_attn_scalar = 7
    with pytest.raises(ModelError, match="query_pre_attn_scalar 7"):
        write_gguf(tmp_path / "x.gguf", model, gemma_tokenizer(), "f16", keeps_latent=True)
    model.config.attn_logit_softcapping = None
    with pytest.raises(ModelError, match="attn_logit_softcapping None"):
        write_gguf(tmp_path / "x.gguf", model, gemma_tokenizer(), "f16", keeps_latent=True)


def test_a_cache_that_cannot_be_written_and_a_broken_file_get_one_line(write, tmp_path, monkeypatch):
    path, _, _ = write()
    (tmp_path / "taken").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "taken"))
        with pytest.raises(ModelError, match="set HF_HOME"):
            load_model(str(path))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="damaged or not a Gemma"):
        load_model(str(path))


def test_the_written_configuration_is_json(write):
    path, model, _ = write()
    config = json.loads(gguf.GGUFReader(path).get_field(gguf_files.CONFIG).contents())
    assert config["model_type"] == "gemma2"
    assert LatentConfig.from_value(config["latent"]) == model.config.latent
