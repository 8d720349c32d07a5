"""Fixtures that several rooms share: tiny models of every family, and their tokenizer."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import pytest
import torch
from torch import nn
from transformers.utils import logging

from latent_gemma.fast.steps import FastSteps
from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny, build_tokenizer

logging.disable_progress_bar()
FAMILIES = ("gemma", "gemma2", "gemma3")
RECURRENCES = ("append", "sequence", "parallel")
BOT, THOUGHT, EOT = 7, 8, 9
every_family = pytest.mark.parametrize("family", FAMILIES)


def weighted(model, std=0.1):
    """The model with weights that no norm, adapter or bridge starts with."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.model.layers.parameters():
        parameter.data += std * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def hesitant(model, scale=12.0):
    """The model with a head that prefers `eot` now and then; a random one hardly ever does."""
    # a head of its own, so that what is fed back stays what it is
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    row = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        model.lm_head.weight[EOT] = row / model.config.hidden_size**0.5 * scale
    return model


#: Latent parts that take different ways through a position.
every_kind = pytest.mark.parametrize(
    "latent",
    [{}, {"adapter": "lora", "p": 0.4}, {"adapter": "full"}],
    ids=lambda latent: "-".join(latent) or "plain",
)


def own_and_stock(way, model, work, monkeypatch):
    """What some work gives by a way of ours, and through the stock layers, with how often that way was taken."""
    taken, call = [], way.__call__
    with monkeypatch.context() as patch:
        patch.setattr(way, "__call__", lambda *args: taken.append(1) or call(*args))
        with model.thinking(steps=FastSteps(model)):
            own = work()
        count = len(taken)
        stock = work()
        assert len(taken) == count
    return own, stock, count


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def make_model():
    """Build a small model in evaluation mode: make_model(family, **latent settings)."""

    def build(family="gemma2", sliding_window=4096, dtype=torch.float32, num_layers=2, seed=0, **latent):
        model = build_tiny(
            family,
            LatentConfig(**latent),
            hidden_size=32,
            num_layers=num_layers,
            num_heads=2,
            sliding_window=sliding_window,
            seed=seed,
        )
        return model.to(dtype).eval()

    return build


@pytest.fixture
def prompts():
    """Random question ids and, behind them, `bot, thought x K, eot`: prompts(B, T, K)."""

    def build(batch=3, length=6, thoughts=3, seed=1, answer=0):
        generator = torch.Generator().manual_seed(seed)
        question = torch.randint(12, 260, (batch, length), generator=generator)
        tail = torch.tensor([BOT, *[THOUGHT] * thoughts, EOT]).expand(batch, -1)
        after = torch.randint(12, 260, (batch, answer), generator=generator)
        return torch.cat([question, tail, after], dim=1)

    return build


def keep_double(patch):
    """Keep float64 where the stock code drops to float32 (RMSNorm, softmax, rotary angles)."""
    to_float, softmax = torch.Tensor.float, nn.functional.softmax
    patch.setattr(torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else to_float(x))
    patch.setattr(
        nn.functional,
        "softmax",
        lambda x, dim, dtype=None: softmax(x, dim=dim, dtype=x.dtype if x.dtype == torch.float64 else dtype),
    )


@pytest.fixture
def true_double(monkeypatch):
    """Keep float64 where the stock code drops to float32."""
    keep_double(monkeypatch)
