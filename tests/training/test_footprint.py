"""The formula behind `latent-gemma estimate`, against what a small model really keeps, computes and moves."""

from dataclasses import replace

import pytest
import torch
from counting import Counting
from timing import batch_of
from torch.utils.flop_counter import FlopCounterMode

from latent_gemma.model.sizes import Sizes, sizes_of
from latent_gemma.model.tiny import build_tiny
from latent_gemma.training.footprint import Step, needs, saved_bytes
from latent_gemma.training.frozen import hold_in_bfloat16
from latent_gemma.training.lora import with_lora
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.settings import LoraSettings
from latent_gemma.training.speed import (
    BACKWARD,
    FORWARD,
    OPERATIONS,
    Rates,
    ddp_seconds,
    fsdp_seconds,
    layer_operations,
    step_flop,
    step_seconds,
    traffic,
)

VARIANTS = [(precision, rank) for precision in ("float32", "bfloat16") for rank in (0, 8)]


def taken(precision, rank, k, checkpointing=False, layers=2):
    """A step, its model and its loss."""
    model = build_tiny(hidden_size=96, num_heads=4, intermediate_size=320, num_layers=layers).train()
    step = Step(Sizes.of(model.config), rank, k, 24, 5, 3, precision, checkpointing)
    trained = with_lora(model, LoraSettings(rank=rank)) if rank else model
    if precision == "bfloat16":
        hold_in_bfloat16(model)
    if checkpointing:
        model.activation_checkpointing_enable()
    batch = batch_of(model, step.batch_size, step.prompt, k, step.answer)

    def loss():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return latent_loss(trained, batch, 0.0).total

    return step, model, loss


def layer_counts(precision, rank, k, checkpointing=False):
    """The step of two layers, and what the second one adds: bytes forward and backward, operations likewise."""
    found = []
    for layers in (1, 2):
        step, _, loss = taken(precision, rank, k, checkpointing, layers)
        forward, backward = Counting(), Counting()
        with forward:
            value = loss()
        with backward:
            value.backward()
        found.append([forward.moved, backward.moved, forward.operations, backward.operations])
    return step, [two - one for one, two in zip(*found, strict=True)]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("k", [0, 4])
@pytest.mark.parametrize(("precision", "rank"), VARIANTS)
def test_saved_bytes_are_those_autograd_keeps(precision, rank, k, checkpointing):
    step, model, loss = taken(precision, rank, k, checkpointing)
    parameters = {x.untyped_storage().data_ptr() for x in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    counted = sum(x.untyped_storage().nbytes() for place, x in kept.items() if place not in parameters)
    logits = step.read * step.sizes.vocab * (step.width + 4)
    copies = 2 * step.sizes.embedding if precision == "bfloat16" else 0
    if precision == "bfloat16" and not checkpointing:
        copies += 2 * step.trained if rank else 2 * step.sizes.projections
    predicted = saved_bytes(step, step.calls()) + logits + copies
    if checkpointing and k:  # the cache holds these, not autograd
        positions = sum(call.positions for call in step.calls())
        predicted -= 2 * step.sizes.layers * positions * step.sizes.keys * step.width
    assert predicted == pytest.approx(counted, rel=0.1 if checkpointing else 0.05)


@pytest.mark.parametrize(("precision", "rank"), VARIANTS)
def test_a_layer_moves_what_the_tables_say(precision, rank):
    step, counted = layer_counts(precision, rank, 0)
    step = replace(step, sizes=replace(step.sizes, layers=1, projections=step.sizes.projections // 2))
    (call,), kind = step.calls(), (precision, rank > 0)
    for moved, table in zip(counted, (FORWARD, BACKWARD), strict=False):
        weights = table[kind].weights * step.sizes.projections
        assert traffic(step, call, table) + weights == pytest.approx(moved, rel=0.05)
    assert tuple(counted[2:]) == OPERATIONS[kind]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("precision", "rank"), VARIANTS)
def test_a_position_alone_starts_the_operations_of_the_table(precision, rank, checkpointing):
    started = {}
    for k in (1, 2, 4, 6):
        step, counts = layer_counts(precision, rank, k, checkpointing)
        started[k] = counts[2:]
    alone = [(more - less) / 2 for less, more in zip(started[4], started[6], strict=True)]
    first = [more - less for less, more in zip(started[1], started[2], strict=True)]
    for counted, index in ((alone, 2), (first, 1)):
        forward_operations, backward_operations = layer_operations(replace(step, k=6), index)
        assert forward_operations == counted[0]
        # of what runs again, the last operations' results are not needed, and keys and values are there already
        assert counted[1] == pytest.approx(backward_operations, abs=8 if checkpointing else 0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("rank", [0, 8])
def test_flop_are_those_counted(rank, k, checkpointing):
    step, _, loss = taken("float32", rank, k, checkpointing)
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    # the first layer of an adapter has no input to give a gradient, which counts in a model of two
    assert step_flop(step) == pytest.approx(counter.get_total_flops(), rel=0.12 if rank else 0.02)


GEMMA = Step(sizes_of("google/gemma-2-2b"), 16, 8, 256, 32, 32, "bfloat16", True)
H100 = Rates(6e14, 2.7e12, 2.7e12, 1e-5, overlaps=True)


def test_more_of_anything_needs_more():
    for name, more in (("k", 16), ("prompt", 512), ("answer", 64), ("batch_size", 64)):
        larger = replace(GEMMA, **{name: more})
        assert needs(larger).total > needs(GEMMA).total
        assert step_seconds(larger, H100) > step_seconds(GEMMA, H100)
        assert step_flop(larger) > step_flop(GEMMA)
    plain = replace(GEMMA, checkpointing=False)
    assert needs(plain).total > needs(GEMMA).total
    assert step_seconds(plain, H100) < step_seconds(GEMMA, H100)
    assert needs(replace(GEMMA, rank=0)).total > 16 * GEMMA.weights


def test_frozen_weights_are_halved_while_a_step_computes_in_bfloat16():
    shared = GEMMA.sizes.embedding
    assert needs(GEMMA).weights == 2 * GEMMA.sizes.projections + 4 * shared
    assert needs(replace(GEMMA, precision="float32")).weights == needs(replace(GEMMA, rank=0)).weights
    assert needs(GEMMA, shards=8).weights == 4 * GEMMA.weights / 8
    # a step that takes next to nothing: they were in float32 before, and are behind it
    assert needs(replace(GEMMA, k=0, batch_size=1)).weights == 4 * GEMMA.weights


def test_a_ring_sends_nothing_alone_and_at_most_twice_everything():
    assert ddp_seconds(GEMMA, 1, 1e9) == fsdp_seconds(GEMMA, 1, 1e9) == 0
    assert ddp_seconds(GEMMA, 2, 1e9) == pytest.approx(4 * GEMMA.trained / 1e9)
    assert ddp_seconds(GEMMA, 10**6, 1e9) == pytest.approx(8 * GEMMA.trained / 1e9, rel=1e-5)
