"""The formula behind `latent-gemma estimate`, against the bytes and the operations of a small model's step."""

from dataclasses import replace

import pytest
import torch
from timing import batch_of
from torch.utils.flop_counter import FlopCounterMode

from latent_gemma.fast.steps import FastSteps
from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny
from latent_gemma.recipes.estimate import PUBLISHED, dimensions_of
from latent_gemma.training.cost import Step, kept_bytes, memory, step_flop
from latent_gemma.training.frozen import hold_in_bfloat16
from latent_gemma.training.lora import with_lora
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.settings import LoraSettings

VARIANTS = [(precision, rank) for precision in ("float32", "bfloat16") for rank in (0, 8)]


def taken(precision, rank, k, checkpointing=False, passes=0):
    """A step, what of its model trains, and its loss."""
    latent = LatentConfig(recurrence="parallel", parallel_passes=passes) if passes else None
    model = build_tiny("gemma2", latent, hidden_size=96, num_heads=4, intermediate_size=320, num_layers=2).train()
    trained = with_lora(model, LoraSettings(rank=rank)) if rank else model
    if precision == "bfloat16":
        hold_in_bfloat16(model)
    if checkpointing:
        model.activation_checkpointing_enable()
    step = Step(model.config, rank, k, 24, 5, 3, precision, checkpointing, passes)
    batch = batch_of(model, step.batch_size, step.prompt, k, step.answer)

    def loss():
        mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
        with mixed, model.thinking(steps=FastSteps(model, packed=False)):
            return latent_loss(trained, batch, 0.0).total

    return step, trained, loss


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("k", "passes"), [(0, 0), (4, 0), (4, 3)])
@pytest.mark.parametrize(("precision", "rank"), VARIANTS)
def test_activations_are_the_bytes_autograd_keeps(precision, rank, k, passes, checkpointing):
    step, trained, loss = taken(precision, rank, k, checkpointing, passes)
    parameters = {x.untyped_storage().data_ptr() for x in trained.parameters()}
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.setdefault(x.untyped_storage().data_ptr(), x) is None or x, lambda x: x
    ):
        loss()
    counted = sum(x.untyped_storage().nbytes() for place, x in kept.items() if place not in parameters)
    predicted = kept_bytes(step)
    if checkpointing and k:  # the cache holds these, not autograd
        positions = sum(count for count, _ in step.calls())
        predicted -= 2 * step.config.num_hidden_layers * positions * step.widths[2] * step.width
    assert predicted == pytest.approx(counted, rel=0.1 if checkpointing else 0.06)
    assert memory(step).activations > predicted


@pytest.mark.parametrize(("precision", "rank"), VARIANTS)
def test_weights_gradients_and_moments_are_the_bytes_of_their_tensors(precision, rank):
    step, trained, loss = taken(precision, rank, 2)
    parameters = [x for x in trained.parameters() if x.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    loss().backward()
    optimizer.step()
    said = memory(step)
    # norms are left out of the formula, and in a model of width 96 they are 0.5 %
    assert said.weights == pytest.approx(sum(x.nbytes for x in trained.parameters()), rel=0.01)
    assert said.gradients == pytest.approx(sum(x.grad.nbytes for x in parameters), rel=0.01)
    moments = [x for state in optimizer.state.values() for name, x in state.items() if name != "step"]
    assert said.optimiser == pytest.approx(sum(x.nbytes for x in moments), rel=0.01)
    assert said.at_end == pytest.approx(4 * sum(x.numel() for x in trained.parameters()) + said.optimiser, rel=0.01)
    shared = memory(step, shards=8)
    assert shared.weights == pytest.approx(4 * step.values / 8)
    assert (shared.gradients, shared.optimiser) == (said.gradients / 8, said.optimiser / 8)
    assert shared.activations == said.activations


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("k", "passes"), [(0, 0), (3, 0), (5, 3)])
@pytest.mark.parametrize("rank", [0, 8])
def test_flop_are_those_counted(rank, k, passes, checkpointing):
    step, _, loss = taken("float32", rank, k, checkpointing, passes)
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    # the first layer of an adapter has no input to give a gradient, which counts in a model of two
    assert step_flop(step) == pytest.approx(counter.get_total_flops(), rel=0.12 if rank else 0.02)


def test_more_of_anything_needs_more():
    gemma = Step(dimensions_of("google/gemma-2-2b"), 16, 8, 256, 32, 32, "bfloat16", True)
    for name, more in (("k", 16), ("prompt", 512), ("answer", 64), ("batch_size", 64)):
        larger = replace(gemma, **{name: more})
        assert memory(larger).peak > memory(gemma).peak
        assert step_flop(larger) > step_flop(gemma)
    plain = replace(gemma, checkpointing=False)
    assert memory(plain).peak > memory(gemma).peak
    assert step_flop(plain) < step_flop(gemma)
    assert memory(replace(gemma, rank=0)).peak > 16 * gemma.values
    # a step that takes next to nothing: they were in float32 before, and are behind it
    small = memory(replace(gemma, k=0, batch_size=1))
    assert small.peak == small.at_end == 4 * gemma.values + 8 * gemma.trained


@pytest.mark.parametrize(("name", "millions"), {"gemma-3-270m": 268, "gemma-2-2b": 2614, "gemma-2-9b": 9241}.items())
def test_published_dimensions_have_the_published_values(name, millions):
    assert name in PUBLISHED
    step = Step(dimensions_of(f"google/{name}-it"), 0, 0, 1, 1, 1, "float32", False)
    assert step.values == pytest.approx(millions * 1e6, rel=2e-3)
