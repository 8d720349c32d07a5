"""What nobody reads of the last layer is left out: losses and gradients are those of all of it."""

import random
from contextlib import nullcontext

import pytest
import torch

from latent_gemma.fast.last_layer import last_layer_from
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import Encoded, build_row
from latent_gemma.training.curriculum import ALL_STEPS, Stage
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.step_batches import lay_out, with_places
from tests.conftest import FAMILIES, THOUGHT, weighted

ITEMS = [
    Encoded([*range(20, 20 + length)], [[31 + length], [41], [51]][:steps], [], [60, 1])
    for length, steps in ((9, 3), (4, 2), (7, 3), (2, 1))
]
#: Stage, latent settings, weights of anchors and halts.
WAYS = {
    "words": (Stage(), {}, (0.0, 0.0)),
    "none": (Stage(keeps_rest=False), {}, (0.0, 0.0)),
    "thoughts": (Stage(latent_steps=2, halt_weight=1.0), {}, (0.0, 1.0)),
    "no learnt K": (Stage(latent_steps=ALL_STEPS), {"bridge": "mlp"}, (0.0, 0.0)),
    "anchored": (Stage(latent_steps=2, p=0.5), {"p": 0.5}, (0.7, 1.0)),
    "parallel": (Stage(latent_steps=ALL_STEPS), {"recurrence": "parallel", "parallel_passes": 2}, (0.3, 1.0)),
    "pause": (Stage(latent_steps=ALL_STEPS), {"fed": "pause"}, (0.0, 1.0)),
}


def trained(model, batch, first, anchors, halts):
    """Loss and gradients, and positions that went through the last feed-forward part."""
    model.zero_grad()
    seen = []
    hook = model.model.layers[-1].mlp.register_forward_hook(lambda _, args, output: seen.append(args[0].shape[1]))
    with (
        model.thinking(columns=batch["columns"]),
        nullcontext() if first is None else last_layer_from(model.model, first),
    ):
        batch = {name: part for name, part in batch.items() if name not in ("columns", "first")}
        loss = latent_loss(model, batch, anchors, None, halts).total
    hook.remove()
    loss.backward()
    found = {name: part.grad for name, part in model.named_parameters() if part.grad is not None}
    return {"loss": loss.detach(), **found}, sum(seen)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("window", [5, 4096])
def test_loss_and_gradients_are_those_of_the_whole_layer(family, way, window, make_model, tokenizer):
    stage, latent, weights = WAYS[way]
    model = weighted(make_model(family, window, torch.float64, step_separator="", **latent)).train()
    rows = [build_row(item, stage, Frame(tokenizer, model.config.latent), random.Random(0)) for item in ITEMS]
    batch = with_places(lay_out(rows, 0, packs=way == "words"), THOUGHT, *weights)
    width = batch["input_ids"].shape[1]
    assert "position_ids" in batch or batch["first"] >= 9, "behind the longest question, where rows are not packed"
    whole, all_of_it = trained(model, batch, None, *weights)
    short, some_of_it = trained(model, batch, batch["first"], *weights)
    assert some_of_it == all_of_it - batch["first"] < all_of_it
    assert width > batch["first"]
    assert short.keys() == whole.keys()
    for name, value in whole.items():  # norms work in float32, whatever the weights are in
        torch.testing.assert_close(
            short[name], value, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )
    again, count = trained(model, batch, None, *weights)
    assert count == all_of_it, "nothing is left on the model"
    assert torch.equal(again["loss"], whole["loss"])


@pytest.mark.parametrize("latent", [{"recurrence": "sequence"}, {"adapter": "lora"}], ids=str)
def test_where_it_is_not_to_be_had_all_states_are_given(latent, make_model):
    model = make_model(**latent)
    ids = torch.arange(20, 30)[None]
    with last_layer_from(model.model, 6):
        assert torch.equal(model.model(ids).last_hidden_state, model.model(ids).last_hidden_state)
        assert model.model(ids).last_hidden_state[0].any(-1).all()
    plain = make_model()
    with last_layer_from(plain.model, 6):
        given = plain.model(ids, use_cache=False).last_hidden_state[0]
    assert given.any(-1).tolist() == [False] * 6 + [True] * 4
