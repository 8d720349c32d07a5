"""Packed weights: the same products, only where they win."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from latent_gemma.model import packing
from latent_gemma.model.packing import Packing


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(packing, "SMALLEST", 64)
    if not Packing(nn.Linear(16, 16))._worth_packing():
        pytest.skip("no oneDNN for packed products here")


def packed_products(monkeypatch):
    seen, stock = [], torch.ops.mkldnn._linear_pointwise
    spy = lambda x, *args: seen.append(x.shape) or stock(x, *args)  # noqa: E731
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", spy)
    return seen


@pytest.mark.parametrize("bias", [True, False])
def test_products_are_the_same(monkeypatch, bias):
    linear, seen = nn.Linear(48, 80, bias=bias), packed_products(monkeypatch)
    with torch.no_grad(), Packing(linear).active():
        for shape in [(5, 48), (2, 4, 48), (64, 48)]:
            x = torch.randn(shape)
            assert torch.allclose(linear(x), x @ linear.weight.T + (linear.bias if bias else 0.0), atol=1e-5)
    assert seen == [(5, 48), (2, 4, 48), (64, 48)]


def test_a_model_decodes_the_same_and_the_tied_head_is_packed_too(monkeypatch, make_model):
    model, seen = make_model(adapter="lora", num_thoughts=2), packed_products(monkeypatch)
    ids = torch.randint(10, 60, (5, 7))
    with torch.no_grad():
        plain = model(ids).logits
        assert not seen
        with Packing(model).active():
            assert torch.allclose(model(ids[:, :1]).logits, plain[:, :1], atol=1e-5)
    assert len(seen) == 7 * model.config.num_hidden_layers + 1


def test_it_is_left_out_where_it_cannot_be(monkeypatch):
    linear, seen = nn.Linear(48, 80), packed_products(monkeypatch)
    with Packing(linear).active():
        linear(torch.randn(5, 48)).sum().backward()  # with gradients
        with torch.no_grad():
            linear(torch.randn(3, 48)), linear(torch.randn(65, 48))  # too few rows, too many
    with torch.no_grad(), Packing(nn.Linear(48, 80).double()).active():
        linear(torch.randn(5, 48))  # another's weights
    assert not seen
    assert linear.weight.grad is not None


def test_it_takes_half_of_the_free_memory_at_most(monkeypatch):
    linear, seen = nn.Linear(48, 80), packed_products(monkeypatch)
    needed = linear.weight.nbytes
    with torch.no_grad():
        for free, products in [(2 * needed - 1, 0), (2 * needed, 1)]:
            monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
            with Packing(linear).active():
                linear(torch.randn(5, 48))
            assert len(seen) == products


def test_weights_that_have_changed_are_packed_again():
    linear = nn.Linear(48, 80, bias=False)
    kept, x = Packing(linear), torch.randn(5, 48)
    with torch.no_grad():
        with kept.active():
            linear(x)
        first = kept._packed
        with kept.active():
            assert kept._packed is first
        linear.weight.mul_(2.0)
        with kept.active():
            assert torch.allclose(linear(x), x @ linear.weight.T, atol=1e-5)
        linear.weight.data = torch.randn(80, 48)
        with kept.active():
            assert torch.allclose(linear(x), x @ linear.weight.T, atol=1e-5)
