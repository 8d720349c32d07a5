"""Frozen weights held in bfloat16: the same computation, fewer bytes, and float32 weights as they came."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from latent_gemma.training.frozen import frozen_in_bfloat16, hold_in_bfloat16
from latent_gemma.training.lora import with_lora
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.settings import LoraSettings
from tests.conftest import FAMILIES

THOUGHTS = {"trains": "thoughts", "adapter": "lora", "bridge": "mlp", "p": 0.4}
#: What trains beside frozen weights: an adapter of everything, or what acts on thoughts.
FROZEN = pytest.mark.parametrize("latent", [None, THOUGHTS], ids=["lora", "thoughts"])


def adapted(make_model, latent, family="gemma2"):
    """A model whose own weights are frozen, the wrapper that trains it, and everything that trains away from zero."""
    model = make_model(family, **(latent or {})).train()
    trained = model if latent else with_lora(model, LoraSettings(rank=2))
    if latent:
        model.freeze_phases()
    for parameter in trained.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
    return model, trained


def batch_of(prompts):
    ids = prompts(thoughts=3, answer=3)
    ids[0, :2] = 0  # padding
    labels = torch.where(torch.arange(ids.shape[1]) >= ids.shape[1] - 3, ids, -100)
    mask = (ids != 0).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "anchors": torch.full_like(ids, -100)}


def loss_and_gradients(trained, batch):
    trained.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = latent_loss(trained, batch, 0.0).total
    loss.backward()
    found = {name: x.grad.clone() for name, x in trained.named_parameters() if x.grad is not None}
    return found | {"loss": loss.detach()}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@FROZEN
def test_loss_and_gradients_are_those_of_autocast(make_model, prompts, latent, family, checkpointing):
    model, trained = adapted(make_model, latent, family)
    if checkpointing:
        model.activation_checkpointing_enable()
    batch = batch_of(prompts)
    expected = loss_and_gradients(trained, batch)
    with frozen_in_bfloat16(model):
        matrix = model.model.layers[0].mlp.up_proj
        assert getattr(matrix, "base_layer", matrix).weight.dtype == torch.bfloat16
        found = loss_and_gradients(trained, batch)
    assert len(found) > 10
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.dtype == found[name].dtype == torch.float32
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize("exact", [False, True], ids=["any float32", "values of bfloat16"])
@FROZEN
def test_weights_come_back_bit_for_bit_whatever_happens(make_model, latent, exact):
    model, trained = adapted(make_model, latent)
    if exact:
        model.to(torch.bfloat16).to(torch.float32)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    halves = []

    def stopped():
        with frozen_in_bfloat16(model):
            halves.extend(name for name, x in trained.named_parameters() if x.dtype == torch.bfloat16)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(halves) == 14
    assert not any(part in name for name in halves for part in ("norm", "embed", "lora_", "thought_", "bridge"))
    for name, value in trained.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name]), name


def test_weights_that_train_are_left_alone(make_model):
    model = make_model()
    with frozen_in_bfloat16(model):
        assert {x.dtype for x in model.parameters()} == {torch.float32}


class Casts(TorchDispatchMode):
    """Counts casts of the weights of a model's layers."""

    count = 0

    def __init__(self, model):
        super().__init__()
        self.weights = {x.data_ptr() for x in model.model.layers.parameters() if x.ndim == 2}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default:
            self.count += args[0].data_ptr() in self.weights
        return function(*args, **(kwargs or {}))


def logits_and_casts(model, ids, mask, stepwise):
    """Logits under autocast, and how many weights were cast."""
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(not stepwise), Casts(model) as casts:
        return model(ids, attention_mask=mask, use_cache=False).logits, casts.count


@pytest.mark.parametrize("family", FAMILIES)
def test_thoughts_without_gradients_lose_no_more_than_training_does_and_cast_no_weight(make_model, prompts, family):
    lost = {True: 0.0, False: 0.0}
    for seed in range(6):
        model = make_model(family, seed=seed).requires_grad_(False)
        ids = prompts(thoughts=4, answer=2, seed=seed)
        # padding, a row that thinks less, and one that begins behind the others' thoughts
        ids[0, :3], ids[1, 8], ids[2, :11] = 0, 30, 0
        mask = (ids != 0).long()
        exact = model(ids, attention_mask=mask).logits
        for stepwise in (False, True):
            logits, casts = logits_and_casts(model, ids, mask, stepwise)
            assert (casts == 0) == stepwise
            lost[stepwise] += float((logits - exact)[mask == 1].square().sum())
            hold_in_bfloat16(model)
    assert lost[True] < 1.2 * lost[False]
