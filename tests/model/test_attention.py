"""Attention over keys in pieces equals the stock eager one over keys in one."""

from types import SimpleNamespace

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from latent_gemma.model.attention import Chunks, latent_eager


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("pieces", [[9], [4, 5], [6, 1, 2]])
@pytest.mark.parametrize("gradients", [True, False])
def test_pieces_and_groups_change_nothing(softcap, length, pieces, gradients):
    torch.manual_seed(0)
    module = SimpleNamespace(num_key_value_groups=3, training=False)
    query, key, value = (
        torch.randn(2, heads, size, 8, dtype=torch.double, requires_grad=True)
        for heads, size in [(6, length), (2, 9), (2, 9)]
    )
    mask = torch.where(torch.rand(2, 1, length, 9) < 0.3, torch.finfo(torch.float).min, 0.0).double()
    mask[..., 0] = 0.0
    given = [part if len(pieces) == 1 else Chunks(part.split(pieces, dim=2)) for part in (key, value)]
    with torch.set_grad_enabled(gradients):
        expected = eager_attention_forward(module, query, key, value, mask, scaling=0.3, softcap=softcap)
        found = latent_eager(module, query, *given, mask, scaling=0.3, softcap=softcap)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(expected, found, strict=True))
    if gradients:
        weight = torch.randn_like(expected[0])
        wanted = torch.autograd.grad((expected[0] * weight).sum(), [query, key, value])
        got = torch.autograd.grad((found[0] * weight).sum(), [query, key, value])
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(wanted, got, strict=True))


def test_a_step_over_a_cache_copies_no_keys(make_model):
    model = make_model("gemma3", num_thoughts=2)
    kept = set()

    def pack(tensor):
        kept.add((tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()))
        return tensor

    def saved(thoughts):
        kept.clear()
        latent = model.config.latent
        ids = torch.randint(20, 60, (1, 400))
        prompt = [latent.bot_id, *[latent.thought_id] * thoughts, latent.eot_id]
        ids[0, 380 : 380 + len(prompt)] = torch.tensor(prompt)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(ids, use_cache=False, logits_to_keep=1).logits.sum()
        loss.backward()
        return sum(size for _, size in kept)

    model.train()
    config = model.config
    keys = 2 * config.num_key_value_heads * config.head_dim * 400 * 4 * config.num_hidden_layers
    # each of 8 further steps keeps less than a tenth of the prompt's keys and values
    assert saved(10) - saved(2) < 8 * 0.1 * keys + 8 * config.num_hidden_layers * 400 * 4 * 8 * 4


def test_attention_maps_of_a_plain_prompt_can_be_asked_for(make_model):
    maps = make_model("gemma2")(torch.randint(20, 60, (1, 5)), output_attentions=True).attentions
    assert maps[0].shape[-2:] == (5, 5)
