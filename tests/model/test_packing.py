"""Weights laid out for a few rows: the same products, only where they win."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from latent_gemma.model import packing
from latent_gemma.model.packing import Packing, laid_out, product


@pytest.fixture(autouse=True)
def needs_onednn():
    if not Packing(nn.Linear(16, 16))._worth_it():
        pytest.skip("no oneDNN for packed products here")


@pytest.fixture(params=[64, 2**20], ids=["packed", "transposed"])
def large(request, monkeypatch):
    monkeypatch.setattr(packing, "LARGE", request.param)


@pytest.mark.parametrize("rows", [1, 4, 64, 65])
def test_products_are_the_same(large, rows):
    linear, x = nn.Linear(48, 80, bias=False), torch.randn(rows, 48)
    with torch.no_grad():
        expected = x.double() @ linear.weight.double().T
        assert torch.allclose(product(linear.weight)(x).double(), expected, atol=1e-5)
        with Packing(linear).active():
            assert laid_out().keys() == {id(linear.weight)}
            assert torch.allclose(product(linear.weight)(x).double(), expected, atol=1e-5)
        assert not laid_out()


def test_what_is_laid_out_is_what_is_multiplied(large):
    """A layout that went unused would show in no product: the weight itself is spoilt here."""
    linear, x = nn.Linear(48, 80, bias=False), torch.randn(5, 48)
    with torch.no_grad(), Packing(linear).active():
        expected = x @ linear.weight.T
        multiply = product(linear.weight)
        linear.weight.zero_()
        assert torch.allclose(multiply(x), expected, atol=1e-5)
        assert not product(linear.weight)(torch.randn(65, 48)).any()


def test_a_model_thinks_and_projects_the_same(large, make_model):
    model = make_model(adapter="lora", num_thoughts=3)
    ids = torch.tensor([[7, 8, 9, *[model.config.latent.thought_id] * 3, 5]]).repeat(5, 1)
    with torch.no_grad():
        plain = model.model(ids, project=model.project).last_hidden_state[:, -1]
        expected = model.project(plain)
        with Packing(model).active():
            hidden = model.model(ids, project=model.project).last_hidden_state[:, -1]
            assert torch.allclose(hidden, plain, atol=1e-5)
            assert torch.allclose(model.project(hidden), expected, atol=1e-4)


def test_it_is_left_out_where_it_cannot_be():
    with Packing(nn.Linear(48, 80).double()).active():
        assert not laid_out()
    linear = nn.Linear(48, 80)
    with Packing(linear).active():
        linear(torch.randn(5, 48)).sum().backward()  # with gradients
    assert linear.weight.grad is not None


def test_it_takes_half_of_the_free_memory_at_most(monkeypatch):
    linear = nn.Linear(48, 80)
    for free, count in [(2 * linear.weight.nbytes - 1, 0), (2 * linear.weight.nbytes, 1)]:
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        with Packing(linear).active():
            assert len(laid_out()) == count


def test_weights_that_have_changed_are_laid_out_again(large):
    linear = nn.Linear(48, 80, bias=False)
    kept, x = Packing(linear), torch.randn(5, 48)
    with torch.no_grad():
        with kept.active():
            first = laid_out()
        with kept.active():
            assert laid_out() is first
        linear.weight.mul_(2.0)
        with kept.active():
            assert torch.allclose(product(linear.weight)(x), x @ linear.weight.T, atol=1e-5)
        linear.weight.data = torch.randn(80, 48)
        with kept.active():
            assert torch.allclose(product(linear.weight)(x), x @ linear.weight.T, atol=1e-5)
