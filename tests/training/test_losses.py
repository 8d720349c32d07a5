"""The loss equals the plain one computed from all logits."""

import pytest
import torch

from latent_gemma.training.batches import IGNORE
from latent_gemma.training.losses import latent_loss


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


def test_logits_are_computed_only_where_a_loss_reads_them(make_model, prompts):
    model = make_model()
    seen = []
    model.lm_head.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[:-1].numel()))
    latent_loss(model, batch_of(prompts(batch=4, answer=3), 3, 2), 0.0)
    assert seen == [4 * 3]


def test_all_labels_masked_gives_zero_not_nan(make_model, prompts):
    losses = latent_loss(make_model(), batch_of(prompts(), 0, 0), 0.0)
    assert losses.total.item() == 0.0
