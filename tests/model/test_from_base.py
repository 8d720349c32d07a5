"""A plain Gemma in memory becomes a latent one."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from latent_gemma.model import LatentReasoningGemmaForCausalLM


def plain():
    config = Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16,
    )  # fmt: skip
    return Gemma2ForCausalLM(config)


def test_weights_are_shared_and_a_gguf_mark_is_dropped():
    base = plain().eval()
    base.config.quantization_config = {"quant_method": "gguf"}
    model = LatentReasoningGemmaForCausalLM.from_base(base, {"bridge": "linear"})
    assert not hasattr(model.config, "quantization_config")
    assert model.model.embed_tokens.weight.data_ptr() == base.model.embed_tokens.weight.data_ptr()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training
    assert model.config.latent.embed_rms > 0
    ids = torch.tensor([[20, 21, 22]])
    torch.testing.assert_close(model(ids).logits, base(ids).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_thoughts_it_is_the_base_bit_for_bit(dtype):
    """Also where `to` has rounded what no file keeps."""
    base = plain().to(dtype)
    ids = torch.randint(12, 64, (3, 30))
    assert torch.equal(LatentReasoningGemmaForCausalLM.from_base(base)(ids).logits, base(ids).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_what_a_base_lacks_computes_with_it(dtype):
    base = plain().to(dtype)
    model = LatentReasoningGemmaForCausalLM.from_base(base, {"bridge": "mlp", "adapter": "lora"})
    model(torch.tensor([[20, 21, 7, 8, 8, 9, 22]])).logits.sum().backward()
    assert model.model.bridge is not None
    assert all(part.grad is not None for part in model.model.bridge.parameters())


def test_a_bridge_in_double_precision_is_read_as_it_was_saved(tmp_path):
    model = LatentReasoningGemmaForCausalLM.from_base(plain().double(), {"bridge": "mlp"})
    for part in model.model.bridge.parameters():
        part.data += 1e-12 * torch.randn_like(part)  # more than single precision holds
    model.save_pretrained(tmp_path)
    read = LatentReasoningGemmaForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    for saved, found in zip(model.model.bridge.parameters(), read.model.bridge.parameters(), strict=True):
        assert torch.equal(found, saved)
