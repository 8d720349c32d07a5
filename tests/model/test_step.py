"""A position that goes through alone: the stock layers' result, in a few operations."""

import pytest
import torch
from transformers import DynamicCache

from latent_gemma.fast.growing import GrowingLayer, growing_cache
from latent_gemma.fast.single import SingleForward
from latent_gemma.fast.steps import FastSteps
from tests.conftest import FAMILIES, every_kind, keep_double, own_and_stock, weighted


@torch.no_grad()
def both_ways(model, ids, monkeypatch, **settings):
    """Final hidden states by steps, and by the stock layers, with the number of steps taken."""
    return own_and_stock(
        SingleForward, model, lambda: model.model(ids, project=model.project, **settings).last_hidden_state, monkeypatch
    )


@pytest.mark.parametrize("family", FAMILIES)
@every_kind
@pytest.mark.parametrize("window", [5, 4096])
@torch.no_grad()
def test_thoughts_are_those_of_the_stock_layers(make_model, prompts, monkeypatch, family, latent, window):
    model = weighted(make_model(family, sliding_window=window, num_layers=7, **latent))
    ids = prompts(thoughts=5, answer=3)
    ids[0, :4] = 0  # padding
    ids[1, 7] = 30  # a row that thinks less
    mask = (ids != 0).long()
    at = (mask.cumsum(-1) - 1).clamp(min=0)
    own, stock, steps = both_ways(model, ids, monkeypatch, attention_mask=mask, position_ids=at)
    assert steps == 4  # the last thought goes with the answer
    with monkeypatch.context() as patch:
        keep_double(patch)
        exact = model.double().model(
            ids, attention_mask=mask, position_ids=at, project=model.project
        ).last_hidden_state  # fmt: skip
    # without norms behind its layers Gemma 1 amplifies rounding, by either way
    assert (own - exact)[mask == 1].norm() < 1.5 * (stock - exact)[mask == 1].norm()
    assert (stock - exact)[mask == 1].norm() < 1e-3 * exact[mask == 1].norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_loses_no_more_than_the_stock_layers_do(make_model, prompts, monkeypatch, family):
    ids = prompts(thoughts=4)
    exact, _, _ = both_ways(weighted(make_model(family)), ids, monkeypatch)
    own, stock, steps = both_ways(weighted(make_model(family)).to(torch.bfloat16), ids, monkeypatch)
    assert steps == 3
    assert own.dtype == torch.bfloat16
    assert (own - exact).norm() < 1.2 * (stock - exact).norm()


def test_what_listens_to_a_layer_hears_every_position(make_model, prompts):
    model = make_model()
    assert SingleForward.fits(model.model)
    for place in (model.model.layers[0], model.model.layers[1].mlp.up_proj, model.model.norm):
        handle = place.register_forward_hook(lambda *_: None)
        assert not SingleForward.fits(model.model)
        handle.remove()
    assert SingleForward.fits(model.model)
    assert not SingleForward.fits(model.model.to("meta"))


@pytest.mark.parametrize("use_cache", [False, True])
def test_gradients_take_other_ways(make_model, prompts, monkeypatch, use_cache):
    monkeypatch.setattr(SingleForward, "__call__", lambda *args: pytest.fail("a step with gradients"))
    model = make_model(backprop_steps=2)  # the first thoughts have none
    with model.thinking(steps=FastSteps(model)):
        model(prompts(thoughts=4), use_cache=use_cache).logits.sum().backward()
    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("capacity", [1, 6, 64])
def test_a_cache_that_grows_in_place_holds_what_a_stock_one_holds(make_model, capacity):
    model = make_model("gemma3", sliding_window=5, num_layers=7)
    stock, growing = DynamicCache(config=model.config), growing_cache(model.config, capacity)
    assert sum(type(layer) is GrowingLayer for layer in growing.layers) == (7 if capacity <= 5 else 1)
    generator = torch.Generator().manual_seed(0)
    batch = 4
    for step, length in enumerate([3, 1, 1, 4, 1, 1, 1]):
        if step == 3:
            kept = torch.tensor([2, 0, 2])
            stock.reorder_cache(kept), growing.reorder_cache(kept)
            batch = 3
        keys, values = torch.randn(2, batch, 1, length, 8, generator=generator)
        for index in range(7):
            expected, found = stock.update(keys, values, index), growing.update(keys, values, index)
            for a, b in zip(expected, found, strict=True):
                assert torch.equal(a, b[:, :, -a.shape[2] :])
        assert stock.get_seq_length() == growing.get_seq_length()


def test_room_is_used_before_more_is_taken():
    layer = GrowingLayer(8)
    layer.update(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))
    place = layer.keys.data_ptr()
    layer.update(torch.ones(1, 1, 5, 2), torch.ones(1, 1, 5, 2))
    assert layer.keys.data_ptr() == place
    layer.update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    assert layer.keys.data_ptr() != place
    assert layer.keys.shape == (1, 1, 9, 2)
    assert layer.keys.eq(1).all()
