"""Weights laid out for a few rows: the same products, only where they win."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from latent_gemma.fast import packing
from latent_gemma.fast.packing import Packing, product
from latent_gemma.fast.steps import FastSteps


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
        assert torch.allclose(product(linear.weight, {})(x).double(), expected, atol=1e-5)
        layout = Packing(linear).layout()
        assert layout.keys() == {id(linear.weight)}
        assert torch.allclose(product(linear.weight, layout)(x).double(), expected, atol=1e-5)


def test_what_is_laid_out_is_what_is_multiplied(large):
    """A layout that went unused would show in no product: the weight itself is spoilt here."""
    linear, x = nn.Linear(48, 80, bias=False), torch.randn(5, 48)
    with torch.no_grad():
        expected = x @ linear.weight.T
        multiply = product(linear.weight, Packing(linear).layout())
        linear.weight.zero_()
        assert torch.allclose(multiply(x), expected, atol=1e-5)
        assert not multiply(torch.randn(65, 48)).any()


def test_a_model_thinks_and_projects_the_same(large, make_model):
    model = make_model(adapter="lora", num_thoughts=3)
    ids = torch.tensor([[7, 8, 9, *[model.config.latent.thought_id] * 3, 5]]).repeat(5, 1)
    steps = FastSteps(model)
    with torch.no_grad():
        plain = model.model(ids, project=model.project).last_hidden_state[:, -1]
        with model.thinking(steps=steps):
            hidden = model.model(ids, project=model.project).last_hidden_state[:, -1]
        assert torch.allclose(hidden, plain, atol=1e-5)
        assert id(model.lm_head.weight) in steps.packing.layout()
        assert torch.allclose(steps.head(model)(hidden), model.project(plain), atol=1e-4)


def test_it_is_left_out_where_it_cannot_be(make_model):
    assert not Packing(nn.Linear(48, 80).double()).layout()
    model = make_model()
    assert FastSteps(model, packed=False).head(model) == model.project


def test_it_takes_half_of_the_free_memory_at_most(monkeypatch):
    linear = nn.Linear(48, 80)
    for free, count in [(2 * linear.weight.nbytes - 1, 0), (2 * linear.weight.nbytes, 1)]:
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        assert len(Packing(linear).layout()) == count


def test_weights_that_have_changed_are_laid_out_again(large):
    linear = nn.Linear(48, 80, bias=False)
    kept, x = Packing(linear), torch.randn(5, 48)
    with torch.no_grad():
        first = kept.layout()
        assert kept.layout() is first
        linear.weight.mul_(2.0)
        assert torch.allclose(product(linear.weight, kept.layout())(x), x @ linear.weight.T, atol=1e-5)
        linear.weight.data = torch.randn(80, 48)
        assert torch.allclose(product(linear.weight, kept.layout())(x), x @ linear.weight.T, atol=1e-5)
