"""Adapters: on what they act, and that merging them changes nothing but their place."""

import sys

import pytest
import torch

from latent_gemma.errors import ConfigError
from latent_gemma.model import LatentConfig
from latent_gemma.model.loading import load_model
from latent_gemma.training.lora import merge, quantization, with_lora
from latent_gemma.training.settings import LoraSettings
from tests.saving import save_tiny


@pytest.fixture
def folder(tmp_path):
    return save_tiny(tmp_path / "model", latent=LatentConfig(), hidden_size=64, num_layers=2, num_heads=2)


@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_a_merged_model_says_what_the_adapted_one_said(folder, tmp_path, quantize):
    if quantize == "4bit":
        pytest.importorskip("bitsandbytes")
    settings = LoraSettings(rank=4, quantize=quantize)
    model, _ = load_model(str(folder), quantization=quantization(settings))
    assert getattr(model, "is_loaded_in_4bit", False) == (quantize == "4bit")
    wrapped = with_lora(model, settings)
    for name, parameter in wrapped.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.tensor([[2, 40, 41, 42, 43]])
    with torch.no_grad():
        adapted = wrapped(ids).logits.float()
        with wrapped.disable_adapter():
            plain = wrapped(ids).logits.float()
        merged = merge(wrapped, tmp_path / "adapter")
        after = merged(ids).logits.float()
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    moved = (adapted - plain).norm()
    assert (after - adapted).norm() < 0.05 * moved, "quantised layers compute in bfloat16"
    merged.save_pretrained(tmp_path / "merged")
    again, _ = load_model(str(_with_tokenizer(folder, tmp_path / "merged")))
    torch.testing.assert_close(again(ids).logits, after, rtol=1e-5, atol=1e-5)


def _with_tokenizer(source, target):
    for file in source.glob("tokenizer*"):
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_an_adapter_on_nothing_is_refused(make_model):
    with pytest.raises(ConfigError, match="--targets wings names no projection"):
        with_lora(make_model(), LoraSettings(rank=2, targets=("wings",)))


def test_four_bits_need_an_adapter_and_a_library(monkeypatch):
    with pytest.raises(ConfigError, match="freezes all weights"):
        LoraSettings(quantize="4bit")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="needs bitsandbytes"):
        quantization(LoraSettings(rank=4, quantize="4bit"))
