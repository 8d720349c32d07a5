"""A Gemma 1 or 2 in Tunix is that of transformers, with an adapter and without."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from transformers import Gemma2Config, Gemma2ForCausalLM, GemmaConfig, GemmaForCausalLM

from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.training.lora import with_lora
from latent_gemma.training.settings import LoraSettings

from .conftest import needs_tunix

pytestmark = needs_tunix


def gemma2(heads=4, kv_heads=2, head_dim=8, layers=2, window=16, **options):
    torch.manual_seed(heads * 10 + kv_heads)
    config = Gemma2Config(
        vocab_size=80, hidden_size=8 * heads, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=head_dim, sliding_window=window, max_position_embeddings=128,
        **{"query_pre_attn_scalar": head_dim, "initializer_range": 0.2, "attn_implementation": "eager", **options},
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def gemma1(kv_heads):
    torch.manual_seed(kv_heads)
    config = GemmaConfig(
        vocab_size=80, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=kv_heads, head_dim=8, max_position_embeddings=128, initializer_range=0.2,
        attn_implementation="eager",
    )  # fmt: skip
    model = GemmaForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def built(model, tunix_sft):
    import jax
    import jax.numpy as jnp

    from latent_gemma.engines.tunix.mesh import device_mesh
    from latent_gemma.engines.tunix.weights import build_model, torch_weights, tunix_config

    config = tunix_config(model.config)
    mesh = device_mesh(f"1,{jax.device_count()}", 1)
    return build_model(torch_weights(model), config, mesh, jnp.float32), config, mesh


def logits(module, ids):
    import jax.numpy as jnp
    from flax import nnx
    from tunix.sft import utils

    mask = jnp.ones(ids.shape, bool)
    positions, seen = utils.build_positions_from_mask(mask), utils.make_causal_attn_mask(mask)
    forward = nnx.jit(lambda module, ids: module(ids, positions, None, seen)[0])
    return np.asarray(forward(module, jnp.array(ids)))


@settings(max_examples=25, deadline=None)
@given(
    kv_heads=strategies.integers(1, 3), groups=strategies.integers(1, 3), head_dim=strategies.sampled_from([2, 6, 8])
)
def test_weights_come_back_bit_for_bit(tunix_sft, kv_heads, groups, head_dim):
    from latent_gemma.engines.tunix.weights import from_tunix, to_tunix, torch_weights, tunix_config

    model = gemma2(kv_heads * groups, kv_heads, head_dim)
    state, config = torch_weights(model), tunix_config(model.config)
    back = from_tunix(to_tunix(state, config), config)
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize(("family", "kv_heads"), [("gemma2", 1), ("gemma2", 2), ("gemma2", 4), ("gemma", 1)])
def test_logits_are_those_of_transformers(tunix_sft, family, kv_heads):
    from latent_gemma.engines.tunix.weights import from_tunix, read_weights, torch_weights

    model = gemma2(4, kv_heads) if family == "gemma2" else gemma1(kv_heads)
    module, config, _ = built(model, tunix_sft)
    ids = np.random.default_rng(0).integers(3, 80, (2, 40))  # beyond the window
    with torch.no_grad():
        expected = model(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(logits(module, ids), expected, atol=1e-5)
    back, state = from_tunix(read_weights(module), config), torch_weights(model)
    assert all(np.array_equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("kv_heads", "targets"),
    [(2, LoraSettings.targets), (4, LoraSettings.targets), (2, ("q_proj", "down_proj")), (1, ("k_proj", "v_proj"))],
)
def test_an_adapter_merged_in_torch_is_the_adapter_in_tunix(tunix_sft, kv_heads, targets):
    import jax
    from flax import nnx

    from latent_gemma.engines.tunix.adapter import add_adapter, give_back

    lora = LoraSettings(rank=3, alpha=7, targets=targets)
    model = gemma2(4, kv_heads)
    module, _, mesh = built(model, tunix_sft)
    ids = np.random.default_rng(0).integers(3, 80, (2, 24))
    before = logits(module, ids)
    wrapper = with_lora(model, lora)
    adapted = add_adapter(module, wrapper, lora, mesh)
    np.testing.assert_array_equal(logits(adapted, ids), before)
    keys = iter(jax.random.split(jax.random.key(1), 100))
    factors = nnx.state(adapted, nnx.LoRAParam)
    drawn = jax.tree.map(lambda factor: 0.15 * jax.random.normal(next(keys), factor.shape), factors)
    nnx.update(adapted, drawn)
    moved = logits(adapted, ids)
    assert np.abs(moved - before).max() > 0.1
    give_back(adapted, wrapper, lora)
    with torch.no_grad():
        np.testing.assert_allclose(wrapper.merge_and_unload()(torch.tensor(ids)).logits.numpy(), moved, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"query_pre_attn_scalar": 12}, "query scale"),  # as Gemma 2 27B has it
        ({"rms_norm_eps": 1e-5}, "epsilon"),
        ({"hidden_activation": "relu"}, "activation"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}, "rotary base"),
        ({"attention_bias": True}, "bias"),
        ({"tie_word_embeddings": False}, "tied"),
    ],
)
def test_what_tunix_computes_otherwise_is_refused(tunix_sft, options, said):
    from latent_gemma.engines.tunix.weights import tunix_config

    with pytest.raises(ModelError, match=f"{said}.*--engine torch"):
        tunix_config(gemma2(**options).config)


def test_gemma_3_is_refused(tunix_sft, make_model):
    from latent_gemma.engines.tunix.weights import tunix_config

    with pytest.raises(ModelError, match=r"Gemma 1 and 2.*--engine torch"):
        tunix_config(make_model("gemma3").config)


def test_a_latent_model_is_refused(tunix_sft, make_model):
    from latent_gemma.engines.tunix.weights import torch_weights

    with pytest.raises(ModelError, match=r"latent model.*--engine torch"):
        torch_weights(make_model(bridge="linear"))


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (LoraSettings(rank=2, dropout=0.1), "--dropout"),
        (LoraSettings(rank=2, targets=("k_proj",)), "k_proj, v_proj in one"),
        (LoraSettings(rank=2, targets=("q_proj", "embed_tokens")), "embed_tokens"),
    ],
)
def test_adapters_that_tunix_does_not_train_are_refused(tunix_sft, lora, said):
    from latent_gemma.engines.tunix.adapter import adapted_arrays
    from latent_gemma.engines.tunix.weights import tunix_config

    with pytest.raises(ConfigError, match=said):
        adapted_arrays(lora, tunix_config(gemma2().config))
