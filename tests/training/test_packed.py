"""Packed rows are the batch they were packed from, in loss, gradient and what each example sees."""

import itertools
import random

import pytest
import torch

from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import IGNORE, Encoded, Row, build_row, pad_rows
from latent_gemma.training.curriculum import Stage
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.packed import pack_rows, plan_packs
from latent_gemma.training.step_batches import lay_out
from tests.conftest import FAMILIES

X = IGNORE


def text_rows(tokenizer, count=7, words_format="markers", seed=0):
    """Rows of 5 to 33 tokens."""
    rng = random.Random(seed)

    def some(most):
        return [rng.randint(12, 259) for _ in range(rng.randint(1, most))]

    frame = Frame(tokenizer, LatentConfig(words_format=words_format))
    items = [Encoded(some(9), [some(5)] * rng.randint(0, 3), [70], [*some(4), 1]) for _ in range(count)]
    return [build_row(item, Stage(), frame, rng) for item in items]


def pack(rows):
    return pack_rows(plan_packs(rows), 0)


def test_rows_are_laid_behind_each_other(tokenizer):
    frame = Frame(tokenizer, LatentConfig())
    items = [
        Encoded([20], [[31]], [], [60, 1]),
        Encoded([21, 22, 23], [[41, 42], [43]], [], [61, 62, 63, 1]),
        Encoded([24, 25], [], [], [64, 1]),
    ]
    batch = pack([build_row(item, Stage(), frame, random.Random(0)) for item in items])
    assert {name: part.tolist() for name, part in batch.items()} == {
        "input_ids": [[21, 22, 23, 7, 41, 42, 43, 9, 61, 62, 63, 1], [20, 7, 31, 9, 60, 1, 24, 25, 7, 9, 64, 1]],
        "attention_mask": [[1] * 12, [1] * 12],
        "position_ids": [list(range(12)), [*range(6), *range(6)]],
        "labels": [[X, X, X, X, 41, 42, 43, 9, 61, 62, 63, 1], [X, X, 31, 9, 60, 1, X, X, X, X, 64, 1]],
        "anchors": [[X] * 12] * 2,
        "halts": [[X, X, X, X, 0, *[X] * 7], [X, X, 0, *[X] * 6, 1, X, X]],
    }


def test_no_example_is_asked_for_from_the_one_before_it():
    # no question, so that its first token has a label, which a batch's first column leaves out
    rows = [Row([31, 32], [31, 32], [X, X], 0, [X, X]), Row([41, 42, 43, 44], [41, 42, 43, 44], [X] * 4, 0, [X] * 4)]
    assert pack([rows[0], *rows, rows[0]])["labels"].tolist() == [
        [X, 42, 43, 44],
        [X, 32, X, 32],
        [X, 32, X, X],
    ]


@pytest.mark.parametrize("seed", range(20))
def test_every_token_is_packed_once_and_rows_are_filled(tokenizer, seed):
    rows = text_rows(tokenizer, 1 + seed, seed=seed)
    batch = pack(rows)
    mask = batch["attention_mask"].bool()
    assert sorted(batch["input_ids"][mask].tolist()) == sorted(token for row in rows for token in row.ids)
    assert batch["input_ids"].shape[1] == max(len(row.ids) for row in rows)
    filled = sorted(mask.sum(-1).tolist())
    assert len(filled) < 2 or filled[0] + filled[1] > mask.shape[1], "two rows would fit into one"
    assert (batch["labels"] != X).sum() == sum(label != X for row in rows for label in row.labels)


def gradients(model, batches, counts):
    """The loss of batches that are parts of one step, and its gradients."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = latent_loss(model, batch, 0.0, counts).total
        loss.backward()
        total += loss.item()
    return total, {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("window", [4096, 4])
@pytest.mark.parametrize(
    ("family", "attention"), [*((family, "eager") for family in FAMILIES), ("gemma", "sdpa"), ("gemma3", "sdpa")]
)
def test_loss_and_gradients_are_those_of_the_examples_one_by_one(
    family, window, attention, make_model, tokenizer, true_double
):
    model = make_model(family, sliding_window=window, dtype=torch.float64)
    if attention == "sdpa":
        model.set_attn_implementation("sdpa")
    rows = text_rows(tokenizer)
    packed = lay_out(rows, 0, packs=True)
    assert packed["input_ids"].shape[0] < len(rows)
    count = torch.tensor(sum(label != X for row in rows for label in row.labels))
    found, of_packed = gradients(model, [packed], (count, torch.tensor(0)))
    # alone, a row has no padding and its positions begin at 0 too: nothing but packing differs
    expected, of_single = gradients(model, [pad_rows([row], 0) for row in rows], (count, torch.tensor(0)))
    assert found == pytest.approx(expected, rel=1e-12)
    assert of_packed.keys() == of_single.keys()
    for name, grad in of_single.items():
        torch.testing.assert_close(
            of_packed[name], grad, rtol=1e-9, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_loss_is_that_of_the_padded_batch(make_model, tokenizer):
    model, rows = make_model(), text_rows(tokenizer)
    packed, padded = (latent_loss(model, lay_out(rows, 0, packs), 0.0).total.item() for packs in (True, False))
    assert packed == pytest.approx(padded, rel=1e-5)


@pytest.mark.parametrize("window", [4096, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_example_sees_no_other_one(family, window, make_model, tokenizer):
    model = make_model(family, sliding_window=window, dtype=torch.float64)
    batch = pack(text_rows(tokenizer))
    ids, positions = batch["input_ids"], batch["position_ids"]
    row = next(i for i in range(len(ids)) if (positions[i] == 0).sum() > 1)
    starts = [*(positions[row] == 0).nonzero().flatten().tolist(), ids.shape[1]]
    with torch.no_grad():
        before = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        for start, end in itertools.pairwise(starts):
            changed = ids.clone()
            changed[row, start:end] = (changed[row, start:end] + 17) % 240 + 12
            after = model(input_ids=changed, position_ids=positions, use_cache=False).logits
            moved = (after != before).any(-1)
            assert moved[row, start:end].all()
            moved[row, start:end] = False
            assert not moved.any(), "bit for bit"


def test_rows_that_fill_their_batch_stay_as_they_are(tokenizer):
    rows = [text_rows(tokenizer)[0]] * 4
    assert "position_ids" not in lay_out(rows, 0, packs=True)
    assert "position_ids" not in lay_out(text_rows(tokenizer), 0, packs=False)
    assert "position_ids" in lay_out(text_rows(tokenizer), 0, packs=True)


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_is_laid_out_as_whichever_of_the_two_is_smaller(tokenizer, seed):
    rng = random.Random(seed)
    rows = [rng.choice(text_rows(tokenizer, seed=seed)) for _ in range(rng.randint(1, 5))]
    expected = min(pad_rows(rows, 3), pack_rows(plan_packs(rows), 3), key=lambda batch: batch["input_ids"].numel())
    found = lay_out(rows, 3, packs=True)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], part) for name, part in expected.items())
