"""The loss equals the plain one computed from all logits."""

import random

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from latent_gemma.data.example import Example
from latent_gemma.model import ThoughtRecord
from latent_gemma.model.halting import stop_margin
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import IGNORE, build_row, encode_examples, pad_rows
from latent_gemma.training.curriculum import ALL_STEPS, Stage
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.step_batches import with_places
from tests.conftest import EOT, FAMILIES, THOUGHT


def batch_of(ids, labelled, anchored):
    keep = torch.arange(ids.shape[1])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.where(keep >= ids.shape[1] - labelled, ids, IGNORE),
        "anchors": torch.where((keep > 5) & (keep < 6 + anchored + 1), torch.full_like(ids, 33), IGNORE),
    }


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_loss_equals_cross_entropy_over_all_logits(weight, make_model, prompts):
    model = make_model()
    batch = batch_of(prompts(answer=3), 3, 1)  # more answers than anchors: each sum has its own count
    logits = model(batch["input_ids"]).logits[:, :-1]
    plain = [
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[name][:, 1:].flatten(), ignore_index=IGNORE)
        for name in ("labels", "anchors")
    ]
    losses = latent_loss(model, batch, weight)
    torch.testing.assert_close(losses.answer, plain[0].detach())
    torch.testing.assert_close(losses.total, plain[0] + weight * plain[1])
    if weight:
        torch.testing.assert_close(losses.anchor, plain[1].detach())


def test_the_halting_loss_is_the_binary_cross_entropy_of_the_probability_of_eot(make_model, prompts):
    model = make_model(dtype=torch.float64)
    batch = batch_of(prompts(answer=3), 3, 1)
    steps = torch.arange(batch["input_ids"].shape[1])
    batch["halts"] = torch.where((steps > 6) & (steps < 11), (steps == 10).long(), IGNORE).expand(3, -1)
    probability = model(batch["input_ids"]).logits.softmax(-1)[..., EOT]
    # at bot, column 6, and at the first two thoughts go on; at the last, column 9, stop
    plain = -(1 - probability[:, 6:9]).log().sum() - probability[:, 9].log().sum()
    other = latent_loss(model, batch, 0.7)
    losses = latent_loss(model, batch, 0.7, halt_weight=0.3)
    torch.testing.assert_close(losses.halt, plain.detach() / 12)
    torch.testing.assert_close(losses.total, other.total + 0.3 * plain / 12)
    assert (losses.answer, losses.anchor) == (other.answer, other.anchor)
    counts = tuple(torch.tensor(count) for count in (9, 3, 24))
    torch.testing.assert_close(latent_loss(model, batch, 0.7, counts, 1.0, EOT).halt, plain.detach() / 24)
    placed = with_places(batch, THOUGHT, 0.7, 0.3)
    with model.thinking(columns=placed.pop("columns")):
        assert torch.equal(latent_loss(model, placed, 0.7, None, 0.3).total, losses.total)


@pytest.mark.parametrize("eot", [0, 3, 6])
def test_a_decision_that_is_certain_has_a_finite_loss(eot):
    logits = torch.zeros(2, 7)
    logits[0, eot], logits[1, eot] = 300.0, -300.0
    logits.requires_grad_()
    scores = stop_margin(logits, eot)
    torch.testing.assert_close(scores.detach(), torch.tensor([300.0, -300.0]) - torch.log(torch.tensor(6.0)))
    torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.tensor([0.0, 1.0])).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[:, eot].abs().min() > 0.4


def of_words_and_thoughts(model, tokenizer):
    """Batches of the same examples, their steps written and a thought for each token, and what these tokens are."""
    frame = Frame(tokenizer, model.config.latent)
    items = encode_examples(frame, [Example("2+3*4=", ("2+3=5", "5*4=0"), "0"), Example("7-5=", ("2",), "2")])
    written, latent = (
        pad_rows([build_row(item, Stage(latent_steps=steps), frame, random.Random(0)) for item in items], frame.pad_id)
        for steps in (0, ALL_STEPS)
    )
    tokens = [[token for step in item.steps for token in (*step, *item.separator)] for item in items]
    return written, latent, torch.tensor([row + [0] * (len(tokens[0]) - len(row)) for row in tokens])


def test_a_thought_a_token_that_is_fed_the_token_is_the_words_model(make_model, tokenizer, true_double):
    model = make_model(dtype=torch.float64, c_thought="tokens", step_separator=";", p=1.0)
    written, latent, tokens = of_words_and_thoughts(model, tokenizer)
    assert (latent["input_ids"] == THOUGHT).sum(-1).tolist() == [12, 2]
    logits = model(written["input_ids"], attention_mask=written["attention_mask"]).logits[:, :-1]
    said = torch.where(latent["anchors"] != IGNORE, written["labels"], IGNORE)
    assert torch.equal(said, latent["anchors"])
    # what p = 1 feeds back of a model that is certain of its words
    with model.thinking(forced=model.model.embed_tokens(tokens)):
        losses = latent_loss(model, latent, 1.0, halt_weight=1.0)
    for found, labels in ((losses.answer, latent["labels"]), (losses.anchor, said)):
        plain = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels[:, 1:], ignore_index=IGNORE)
        torch.testing.assert_close(found, plain.detach(), rtol=0.0, atol=1e-9)
    # and it stops where the words end
    decides, ends = latent["halts"][:, 1:] != IGNORE, written["input_ids"][:, 1:] == EOT
    eot = logits.softmax(-1)[..., EOT]
    plain = -torch.where(ends, eot, 1 - eot)[decides].log().mean()
    torch.testing.assert_close(losses.halt, plain.detach(), rtol=0.0, atol=1e-9)


def test_p_one_feeds_back_the_words_of_a_model_that_is_certain_of_them(make_model, tokenizer):
    model = make_model(c_thought="tokens", step_separator=";", p=1.0)
    written, latent, tokens = of_words_and_thoughts(model, tokenizer)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        latent_loss(model, written, 0.0).total.backward()
        optimizer.step()
    record = ThoughtRecord()
    with torch.no_grad(), model.thinking(record=record):
        losses = latent_loss(model, latent, 1.0, halt_weight=1.0)
    for row, length in enumerate((12, 2)):
        assert torch.equal(torch.stack(record.tokens, 1)[row, :length], tokens[row, :length])
    assert max(losses.anchor, losses.answer, losses.halt) < 0.05


def test_logits_are_computed_only_where_a_loss_reads_them(make_model, prompts):
    model = make_model()
    seen = []
    model.lm_head.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[:-1].numel()))
    latent_loss(model, batch_of(prompts(batch=4, answer=3), 3, 2), 0.0)
    assert seen == [4 * 3]


def test_all_labels_masked_gives_zero_not_nan(make_model, prompts):
    losses = latent_loss(make_model(), batch_of(prompts(), 0, 0), 0.0)
    assert losses.total.item() == 0.0


def asks_for_no_value(model, batch):
    """Take a step on tensors that have shapes and no values: what the host would wait for raises an error."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = {name: mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for name, x in batch.items()}
        with model.thinking(columns=fake.pop("columns", None)):
            loss = latent_loss(model, fake, 0.5, None, 1.0).total
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return [x for x in torch.autograd.grad(loss, weights, allow_unused=True) if x is not None]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("thoughts", [0, 1, 4])
def test_the_host_waits_for_nothing_in_a_step(family, checkpointing, thoughts, make_model, prompts):
    model = make_model(family, adapter="lora", bridge="mlp", p=0.3).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    batch = batch_of(prompts(thoughts=thoughts, answer=3), 3, 1)
    batch["halts"] = torch.where(batch["anchors"] == IGNORE, IGNORE, 1)
    batch = with_places(batch, THOUGHT, 0.5, 1.0)
    assert batch["columns"] == tuple(range(7, 7 + thoughts))
    assert len(asks_for_no_value(model, batch)) >= 20
    del batch["columns"]
    with pytest.raises(DataDependentOutputException):
        asks_for_no_value(model, batch)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_places_change_nothing(weight, make_model, prompts):
    model, batch = make_model(), batch_of(prompts(batch=4, answer=3), 3, 1)
    batch["input_ids"][1, 8] = 30  # a row that thinks less
    placed = with_places(batch, THOUGHT, weight)
    with model.thinking(columns=placed.pop("columns")):
        found = latent_loss(model, placed, weight)
    expected = latent_loss(model, batch, weight)
    assert torch.equal(found.total, expected.total)
    assert torch.equal(found.answer, expected.answer)
