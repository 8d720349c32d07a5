import shutil
import sys

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.evaluation.metrics.bertscore import bertscore_f1

bert_score = pytest.importorskip("bert_score")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "mat", "dog", "東", "京", "都", "."]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Directory of a random BERT of three layers that reads 16 tokens; its tokenizer does not say so."""
    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_equals_the_package(encoder, num_layers, tmp_path):
    # The package itself cannot use a tokenizer that does not know its length.
    whole = str(shutil.copytree(encoder, tmp_path / "whole"))
    AutoTokenizer.from_pretrained(encoder, model_max_length=16).save_pretrained(whole)
    predictions, references = ["the cat sat .", "東京都", "the mat"], ["the dog sat .", "東京", "the mat"]
    result = bertscore_f1(predictions, references, encoder, num_layers)
    expected = bert_score.score(predictions, references, model_type=whole, num_layers=num_layers, device="cpu")[2]
    assert result.items == pytest.approx(expected.tolist(), abs=1e-5)
    assert result.mean_f1 == pytest.approx(expected.mean().item(), abs=1e-5)
    assert result.items[2] == pytest.approx(1, abs=1e-5)
    assert (result.encoder, result.num_layers) == (encoder, num_layers)


def test_empty_texts_score_0_and_leave_the_others_alone(encoder):
    result = bertscore_f1(["", " \n", "the cat", "the cat"], ["the", "the", "", "the cat"], encoder)
    assert result.items == pytest.approx((0, 0, 0, 1), abs=1e-5)
    assert result.mean_f1 == pytest.approx(0.25, abs=1e-5)
    assert bertscore_f1([""], ["the"], encoder).mean_f1 == 0


def test_the_closest_reference_counts(encoder):
    several = bertscore_f1(["the cat"], [["東京 .", "the cat", ""]], encoder)
    assert several.items == pytest.approx((1,), abs=1e-5)
    assert bertscore_f1(["the cat"], ["東京 ."], encoder).mean_f1 < 0.99


def test_the_last_layer_is_the_default_of_an_unknown_encoder(encoder):
    assert bertscore_f1(["the cat"], ["the dog"], encoder).num_layers == 3


def test_texts_longer_than_the_encoder_are_cut(encoder):
    assert bertscore_f1(["the cat " * 50], ["the cat " * 60], encoder).mean_f1 == pytest.approx(1, abs=1e-5)
    assert bertscore_f1(["the cat" * 2**18], ["the cat"], encoder).mean_f1 < 1


@pytest.mark.parametrize("text", ["\ud800 cat", "\x00", "\u200b"])
def test_odd_characters_leave_the_other_items_alone(encoder, text):
    result = bertscore_f1([text, "the cat", "the dog"], ["the mat", text, "the dog"], encoder)
    assert all(-1 <= score <= 1 for score in result.items)
    assert result.items[2] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("num_layers", [0, 4, -1])
def test_a_layer_the_encoder_has_not(encoder, num_layers):
    with pytest.raises(ConfigError, match=f"no layer {num_layers}: give one of 1 to 3"):
        bertscore_f1(["a"], ["a"], encoder, num_layers)


def test_an_encoder_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded: name an encoder"):
        bertscore_f1(["a"], ["a"], "nobody/has-this-encoder")
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ModelError, match="holds no safetensors weights"):
        bertscore_f1(["a"], ["a"], str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be loaded"):
        bertscore_f1(["a"], ["a"], str(tmp_path))


def test_the_extra_is_named_where_it_is_missing(monkeypatch, encoder):
    monkeypatch.setitem(sys.modules, "bert_score.utils", None)
    with pytest.raises(ConfigError, match=r"not installed: pip install 'latent-gemma\[bertscore\]'"):
        bertscore_f1(["a"], ["a"], encoder)
