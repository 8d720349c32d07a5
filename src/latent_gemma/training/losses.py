"""The training loss: cross-entropy on the answer (and written steps), and on the anchors of thoughts."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latent_gemma.training.batches import IGNORE


@dataclass(frozen=True)
class Losses:
    """Losses of one batch, nats per token; `anchor` is 0 where nothing is anchored."""

    total: Tensor
    answer: Tensor
    anchor: Tensor


def targets_of(batch: dict[str, Tensor], anchor_weight: float) -> tuple[Tensor, Tensor]:
    """What the loss reads at each position, and which of that are answers; [B, T - 1] each, IGNORE where nothing."""
    labels, anchors = batch["labels"][:, 1:], batch["anchors"][:, 1:]
    wanted = labels if anchor_weight == 0.0 else torch.where(labels == IGNORE, anchors, labels)
    return wanted, labels != IGNORE


def positions_read(wanted: Tensor) -> Tensor:
    """Where a loss reads logits, [N] counted through the flattened batch [B * T], for targets [B, T - 1]."""
    return torch.nn.functional.pad(wanted != IGNORE, (0, 1)).flatten().nonzero()[:, 0]


def latent_loss(
    model: Any, batch: dict[str, Tensor], anchor_weight: float, counts: tuple[Tensor, Tensor] | None = None
) -> Losses:
    """Run a batch and score it.

    Args:
        model: the causal-LM model, or a wrapper of it.
        batch: `input_ids`, `attention_mask`, `labels`, `anchors`, [B, T] each; of packed rows `position_ids` too. With
            `read` (see `positions_read`) the host does not wait for the device.
        anchor_weight: weight of the anchor loss.
        counts: answer and anchor tokens to divide the sums by, 0-d, where the batch is a part of a larger one; None
            takes the batch's own.

    Returns:
        The losses. Logits are computed only at positions a loss reads: with 256k tokens they cost more than the rest.
    """
    wanted, answers = targets_of(batch, anchor_weight)
    read = batch["read"] if "read" in batch else positions_read(wanted)
    # The positions tell packed examples apart, and only where there is no mask.
    seen = {name: batch[name] for name in ("position_ids" if "position_ids" in batch else "attention_mask",)}
    logits = model(input_ids=batch["input_ids"], use_cache=False, read=read, **seen).logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets, is_answer = (torch.nn.functional.pad(part, (0, 1)).flatten()[read] for part in (wanted, answers))
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    answer_count, anchor_count = counts or (is_answer.sum(), (~is_answer).sum())
    answer = (losses * is_answer).sum() / answer_count.clamp(min=1)
    anchor = (losses * ~is_answer).sum() / anchor_count.clamp(min=1)
    return Losses(answer + anchor_weight * anchor, answer.detach(), anchor.detach())
